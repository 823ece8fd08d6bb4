"""`drba bench` (speed) and `drba bench quality`: their arguments. Nothing else is imported before one of them runs."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = {"480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080), "1440p": (2560, 1440), "2160p": (3840, 2160)}
MAX_SIDE = 16384
INTERRUPTED = 1  # exit status
PICTURES = 8


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure the speed of in-between frames, by model, engine and size, or their quality",
        description="Measure how many in-between frames a second this machine draws, by model, engine and size. Beside it "
        "stands the least time that the model's operations and bytes could take here (the floor). 24 -> 60 frames a second "
        "needs 48. Ctrl+C prints what is done.",
    )
    parser.add_argument(
        "--model", action="append", metavar="NAME", help="may be repeated (default: all that are installed)"
    )
    parser.add_argument(
        "--engine", action="append", metavar="NAME", help="may be repeated (default: all that work here)"
    )
    parser.add_argument(
        "--size",
        type=_size,
        action="append",
        metavar="SIZE",
        help=f"{', '.join(SIZES)} or WIDTHxHEIGHT; may be repeated (default: all)",
    )
    parser.add_argument(
        "--pixel-format", default="yuv420p", metavar="NAME", help="FFmpeg's name (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=_number("seconds", 0.1, 3600),
        default=3.0,
        metavar="N",
        help="length of a measurement; two for each model, engine and size (default: 3)",
    )
    parser.add_argument(
        "--limit",
        type=_number("seconds", 0.1, 3600),
        default=60.0,
        metavar="N",
        help="give one model, engine and size up after so many seconds (default: 60)",
    )
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="time networks that are not installed too, with weights of no meaning",
    )
    parser.add_argument("--chart", type=Path, metavar="FILE", help="write a PNG chart (needs drba-player[bench])")
    _add_common(parser)
    parser.set_defaults(run=run_speed)
    quality = parser.add_subparsers(metavar="[quality]").add_parser(
        "quality",
        help="leave out every second frame of a clip, restore it and compare",
        description="Leave out every second frame of a clip, draw it from its neighbours and compare it with the original: "
        "PSNR in dB and SSIM, beside repeating a frame and blending two.",
    )
    quality.add_argument("clip", metavar="CLIP", help="video file or URL")
    quality.add_argument(
        "--no-drm", action="store_true", help="leave out the run with distance ratio maps (docs/drm.md)"
    )
    quality.add_argument("--frames", type=_count, metavar="N", help="use the first N frames of the clip only")
    quality.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help=f"write PNGs of the {PICTURES} frames with the most motion and the least gain",
    )
    quality.add_argument("--model", default="flow", metavar="NAME", help="(default: %(default)s)")
    quality.add_argument("--engine", default="auto", metavar="NAME", help="(default: %(default)s)")
    _add_common(quality)
    quality.set_defaults(run=run_quality)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scale",
        type=_number("a number", 0.25, 4),
        default=1.0,
        metavar="N",
        help="as --scale of the player (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 3:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 3")
    return int(text)


def _number(what: str, least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {what} from {least:g} to {most:g}")
        return value

    return number


def _size(text: str) -> tuple[int, int]:
    if text in SIZES:
        return SIZES[text]
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    width, height = (int(side) for side in match.groups()) if match else (0, 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise argparse.ArgumentTypeError(f"{text!r}: expected {', '.join(SIZES)} or WIDTHxHEIGHT, sides to {MAX_SIDE}")
    return width, height


def run_quality(arguments: argparse.Namespace) -> int:
    from .report import measure_quality, quality_tables

    return _show(measure_quality(arguments), quality_tables, arguments.json)


def run_speed(arguments: argparse.Namespace) -> int:
    from drba.models import find, models
    from drba.pixels import pixel_format
    from drba.weights import is_installed
    from server.priority import default_workers

    from .cell import Settings
    from .chart import check_chart, write_chart
    from .engines import named
    from .matrix import Matrix, measure_all
    from .table import WIDTH, matrix_tables

    everything = [model for model in models() if arguments.random_weights or is_installed(model)]
    matrix = Matrix(
        models=list(dict.fromkeys(map(find, arguments.model))) if arguments.model else everything,
        engines=named(arguments.engine or ()),
        engines_named=bool(arguments.engine),
        sizes=list(dict.fromkeys(arguments.size or SIZES.values())),
        random_weights=arguments.random_weights,
    )
    settings = Settings(
        pixel_format=pixel_format(arguments.pixel_format).name,
        scale=arguments.scale,
        seconds=arguments.seconds,
        limit_s=arguments.limit,
        threads=default_workers(),
    )
    if arguments.chart is not None:
        check_chart(arguments.chart)
    result = measure_all(matrix, settings)
    _show(result, matrix_tables, arguments.json, WIDTH)
    if arguments.chart is not None and result["cells"]:
        write_chart(result, arguments.chart)
    return INTERRUPTED if result["interrupted"] else 0


def _show(result: dict[str, Any], tables: Callable[[dict[str, Any]], list[Any]], as_json: bool, width: int = 80) -> int:
    """Prints; tables at least `width` columns wide."""
    if as_json:
        print(json.dumps(result))
        return 0
    from rich.console import Console

    console = Console(width=max(width, Console().width))
    for part in tables(result):
        console.print(part)
    return 0

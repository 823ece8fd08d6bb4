"""`drba bench quality` and `drba bench speed`: their arguments. Nothing else is imported before one of them runs."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEFAULT_SIZES = ((854, 480), (1280, 720), (1920, 1080))
MAX_SIDE = 16384
PICTURES = 8


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("bench", help="measure the quality and the speed of in-between frames")
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    quality = kinds.add_parser("quality", help="leave out every second frame of a clip, restore it and compare")
    quality.add_argument("clip", metavar="CLIP", help="video file or URL")
    quality.add_argument("--no-drm", action="store_true", help="measure the model without distance ratio maps only")
    quality.add_argument("--frames", type=_count, metavar="N", help="use the first N frames of the clip only")
    quality.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help=f"write PNGs of the {PICTURES} frames with the most motion and the least gain",
    )
    quality.set_defaults(run=run_quality)
    defaults = ", ".join(f"{width}x{height}" for width, height in DEFAULT_SIZES)
    speed = kinds.add_parser("speed", help="in-between frames per second on generated moving pictures")
    speed.add_argument("--size", type=_size, action="append", metavar="WxH", help=f"repeatable (default: {defaults})")
    speed.add_argument("--pixel-format", default="yuv420p", metavar="NAME", help="FFmpeg's name (default: %(default)s)")
    speed.add_argument(
        "--seconds", type=_seconds, default=5.0, metavar="N", help="length of each measurement (default: %(default)g)"
    )
    speed.set_defaults(run=run_speed)
    for kind in (quality, speed):
        kind.add_argument("--model", default="flow", metavar="NAME", help="(default: %(default)s)")
        kind.add_argument("--engine", default="auto", metavar="NAME", help="(default: %(default)s)")
        kind.add_argument("--scale", type=_scale, default=1.0, metavar="N", help="flow scale (default: %(default)g)")
        kind.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 3:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 3")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds from 0.1 to 3600")
    return value


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.25 <= value <= 4:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0.25 to 4")
    return value


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    width, height = (int(side) for side in match.groups()) if match else (0, 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT such as 1280x720, sides to {MAX_SIDE}")
    return width, height


def run_quality(arguments: argparse.Namespace) -> int:
    from .bench_report import measure_quality, quality_tables

    return _show(measure_quality(arguments), quality_tables, arguments.json)


def run_speed(arguments: argparse.Namespace) -> int:
    from .bench_report import measure_speed, speed_tables

    return _show(measure_speed(arguments), speed_tables, arguments.json)


def _show(result: dict[str, Any], tables: Callable[[dict[str, Any]], list[Any]], as_json: bool) -> int:
    if as_json:
        print(json.dumps(result))
        return 0
    from rich.console import Console

    for part in tables(result):
        Console().print(part)
    return 0

"""What `drba bench quality` prints: the measurements of quality.py as JSON-ready data and as tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from drba.errors import InputError
from drba.models import find
from engines import ENGINES, Renderer, StreamSpec, open_renderer
from server.main import default_workers

from ..source import VideoSource, check_input, matrix_name
from .command import PICTURES
from .pictures import StripPainter, choose, write_strips
from .probe import machine_info
from .quality import Gap, Picture, Restorer, gaps, most_moving, score_all, summarise

TITLES = {
    "repeat": "frame before, repeated",
    "blend": "blend",
    "symmetric": "DIS, symmetric warp",
    "model": "{model} with DRM",
    "model_no_drm": "{model} without DRM",
    "model_reference": "{model}, reference mode",
}


def measure_quality(arguments: argparse.Namespace) -> dict[str, Any]:
    """InputError, MediaError and ModelError where clip or model cannot be measured."""
    check_input(arguments.clip)
    with ExitStack() as cleanup:
        source = cleanup.enter_context(closing(VideoSource(arguments.clip)))
        spec = _stream_spec(source, arguments)
        renderers = _renderers(spec, arguments.no_drm)
        for renderer in renderers.values():
            cleanup.callback(renderer.close)
        restorer = Restorer(spec.layout, renderers, spec.scale)
        scores, cuts, held = score_all(restorer, _gaps(source, spec, arguments.frames), default_workers())
        if not scores:
            raise InputError(f"{arguments.clip}: no frame to restore; give a clip with 3 frames of a scene or more")
        moving, method = most_moving(scores), next(iter(renderers))
        pictures: list[Path] = []
        if arguments.pictures is not None:
            wanted = set(choose(scores, PICTURES, method))
            painter = StripPainter(source.info, restorer, method, spec.scale)
            chosen = (gap for gap in _gaps(source, spec, arguments.frames) if gap.wanted.number in wanted)
            pictures = write_strips(arguments.pictures, chosen, painter.paint)
    return {
        "clip": arguments.clip,
        "size": f"{spec.layout.width}x{spec.layout.height}",
        "pixel_format": spec.layout.format.name,
        "model": renderers[method].model,
        "engine": renderers[method].engine,
        "frames": len(scores),
        "frames_held": held,
        "frames_left_out_at_cuts": cuts,
        "moving_from_px": moving[-1].motion_px,
        "methods": {
            name: {"all": asdict(summarise(scores, name)), "moving": asdict(summarise(moving, name))}
            for name in restorer.methods
        },
        "pictures": [str(path) for path in pictures],
        "machine": machine_info(),
    }


def _stream_spec(source: VideoSource, arguments: argparse.Namespace) -> StreamSpec:
    return StreamSpec(
        source.info.layout,
        matrix=matrix_name(source.info),
        full_range=bool(source.info.colour.full_range),
        model=arguments.model,
        engine=arguments.engine,
        scale=arguments.scale,
    )


def _renderers(spec: StreamSpec, no_drm: bool) -> dict[str, Renderer]:
    """The model as played; without DRM where that can be had (the flow model); in reference mode where that differs."""
    renderers: dict[str, Renderer] = {"model": open_renderer(spec)}
    played = find(renderers["model"].model)
    if played.fast_differs:
        from engines.network import NetworkRenderer

        device = next(engine.device for engine in ENGINES if engine.name == renderers["model"].engine)
        renderers["model_reference"] = NetworkRenderer(spec, played, device, mode="reference")
    if renderers["model"].model == "flow":
        from engines.flow import FlowRenderer

        renderers["model_no_drm"] = FlowRenderer(spec, use_drm=False)
    if no_drm:
        renderers.pop("model").close()
        if not renderers:
            raise InputError(f"--no-drm: the model {spec.model!r} cannot run without DRM; only 'flow' can")
    return renderers


def _gaps(source: VideoSource, spec: StreamSpec, frames: int | None) -> Iterator[Gap]:
    def pictures() -> Iterator[Picture]:
        for number, frame in enumerate(islice(source.frames_from(source.info.start_s), frames)):
            planes = spec.layout.views(bytearray(spec.layout.frame_bytes))
            for plane, decoded in zip(planes, frame.planes(), strict=True):
                np.copyto(plane, decoded)
            yield Picture(number, frame.time_s, planes)

    return gaps(pictures(), spec.layout, spec.matrix, spec.full_range)


def quality_tables(result: dict[str, Any]) -> list[Any]:
    tables: list[Any] = []
    for part, words in (("all", "all {} restored frames"), ("moving", "the {} of them with the most motion")):
        frames = result["methods"]["blend"][part]["frames"]
        table = Table(title=f"{Path(result['clip']).name}, luma, {words.format(frames)}", title_justify="left")
        table.add_column("method")
        for heading in ("PSNR dB", "over blend", "of mean MSE", "SSIM", "over blend"):
            table.add_column(heading, justify="right")
        for method, parts in result["methods"].items():
            score = parts[part]
            numbers = [
                f"{score['psnr_db']:.2f}",
                f"{score['psnr_gain_db']:+.2f}",
                f"{score['psnr_of_mean_mse_db']:.2f}",
            ]
            numbers += [f"{score['ssim']:.4f}", f"{score['ssim_gain']:+.4f}"]
            table.add_row(TITLES[method].format(model=result["model"]), *numbers)
        tables.append(table)
    note = (
        f"Most motion: mean flow between the kept frames of {result['moving_from_px']:.1f} pixels or more. "
        f"Left out: {result['frames_left_out_at_cuts']} frames across cuts. "
        f"Held drawings, repeated as in play: {result['frames_held']}."
    )
    return [*tables, Text(note), *[Text(path) for path in result["pictures"]]]

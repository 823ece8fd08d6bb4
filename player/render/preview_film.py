"""`drba-render --preview T`: what the job will make around one time, as a PNG to look at before hours of work."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from drba.errors import InputError
from engines import open_renderer

from ..pictures import write_png
from ..source import VideoSource
from .choose_encoder import HDR_TRANSFERS
from .job import RenderJob
from .pipeline import described
from .preview import PreviewFrame, frames_around, make_preview
from .preview_picture import PreviewPainter
from .settled import settled

#: Decoding begins so much before the time asked for: `preview.REACH` frames are there unless it is a slide show.
LEAD_S = 1
#: A film's last frame stands for so much time after it.
BEYOND_END_S = 1


def write_preview(job: RenderJob, source: VideoSource, time_s: Fraction, path: Path) -> None:
    """Write the picture. `time_s` is on a player's clock, where the file begins at 0 s.

    InputError where the film has no such time or the picture cannot be written, ModelError where the model cannot be had.
    """
    info = source.info
    zero_s = job.start_s - source.file_start_s
    clock_s = time_s - zero_s
    frames = frames_around(_frames(job, source, clock_s), clock_s)
    last_s = float(frames[-1].time_s + zero_s) if frames else 0.0
    if not frames or last_s + BEYOND_END_S < time_s:
        raise InputError(f"{job.path}: no frame at {float(time_s):g} s; the last one is at {last_s:.3f} s")
    spec = job.spec(info)
    renderer = settled(open_renderer(spec), spec)
    preview = make_preview(frames, clock_s, job.clock, renderer, info.layout)
    motion, motion_of = renderer.motion(preview.triplet), renderer.model
    if motion is None:
        flow = open_renderer(replace(spec, model="flow", engine="auto"))
        motion, motion_of = flow.motion(preview.triplet), f"flow ({renderer.model} has none)"
    assert motion is not None  # the flow model has motion
    source_rate = f"{float(info.average_rate):.6g} -> " if info.average_rate else ""
    hdr = "   HDR, shown without tone mapping" if info.colour.transfer in HDR_TRANSFERS else ""
    title = (
        f"{os.path.basename(job.path)}   around {float(time_s):.3f} s   {source_rate}{float(job.rate):.6g} fps   "
        f"{renderer.model}, scale {job.scale:g}{hdr}"
    )
    write_png(path, PreviewPainter(preview, motion, info, title, motion_of, zero_s).paint())


def _frames(job: RenderJob, source: VideoSource, clock_s: Fraction) -> Iterator[PreviewFrame]:
    first = max(0, math.floor((clock_s - LEAD_S) * job.rate))
    for number, (frame, _) in enumerate(described(job, source, first)):
        if frame is not None:
            yield PreviewFrame(number, frame.time_s, frame.planes, frame.to_previous)

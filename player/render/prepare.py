"""From what the user asked for to a job: the source is looked at, the rate, the encoder and the model are settled."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from fractions import Fraction

from drba.errors import InputError
from drba.timeline import exact_rate

from ..rates import output_rate
from ..relations import SceneOptions
from ..source import VideoSource
from .choose_encoder import EncoderWishes, choose_encoder
from .chroma import chroma_location
from .job import ASSUMED_RATE, RenderJob
from .segments import SEGMENT_FRAMES


@dataclass(frozen=True)
class RenderRequest:
    """What the user asks for. `fps` as the player's option (auto is twice the film's rate), `range_s` begin and end on a
    player's clock, where the file begins at 0 s."""

    path: str
    fps: str = "auto"
    model: str = "auto"
    engine: str = "auto"
    scale: float = 1.0
    scene: SceneOptions = field(default_factory=SceneOptions)
    encoder: EncoderWishes = field(default_factory=EncoderWishes)
    range_s: tuple[Fraction | None, Fraction | None] = (None, None)
    segment_frames: int = SEGMENT_FRAMES


def make_job(request: RenderRequest, source: VideoSource) -> tuple[RenderJob, list[str]]:
    """The job, its model and engine as asked for, and lines that the user should read. InputError for what cannot be."""
    info = source.info
    source_rate = exact_rate(info.average_rate or ASSUMED_RATE)
    rate = output_rate(request.fps, source_rate, 0.0)
    encoder, notes = choose_encoder(request.encoder, info, rate, chroma_location(request.path, source.stream_index))
    if source_rate.denominator == 1001 and rate.denominator == 1:
        ntsc = rate * Fraction(1000, 1001)
        notes.append(
            f"{float(source_rate):.3f} -> {rate} fps: few source frames fall on output times; "
            f"--fps {float(ntsc):.2f} would keep them unchanged"
        )
    start_s = source.first_s
    first, end = _range(request, source, start_s, rate)
    job = RenderJob(
        path=os.path.abspath(request.path),
        stream=source.stream_index,
        start_s=start_s,
        rate=rate,
        encoder=encoder,
        model=request.model,
        engine=request.engine,
        scale=request.scale,
        scene=request.scene,
        first=first,
        end=end,
        segment_frames=request.segment_frames,
    )
    return job, notes


def _range(request: RenderRequest, source: VideoSource, start_s: Fraction, rate: Fraction) -> tuple[int, int | None]:
    begin_s, end_s = request.range_s
    zero_s = source.file_start_s

    def frame_at(time_s: Fraction) -> int:
        return max(0, math.ceil((time_s + zero_s - start_s) * rate))

    first = 0 if begin_s is None else frame_at(begin_s)
    end = None if end_s is None else frame_at(end_s)
    length = source.info.end_s - start_s
    if source.info.duration_known and first >= length * rate:
        raise InputError(f"--range begins at {float(begin_s or 0):g} s; the film ends at {float(length):g} s")
    if end is not None and end <= first:
        raise InputError("--range holds no frame; expected BEGIN-END in seconds or H:MM:SS, such as 60-90 or 1:00-1:30")
    return first, end

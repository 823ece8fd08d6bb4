"""All that determines the frames of a render. Every process that has the job and the source makes the same segments."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from drba.timeline import OutputClock, exact_rate
from engines.base import StreamSpec

from ..relations import SceneOptions
from ..source import DecodedFrame, StreamInfo, VideoSource, matrix_name
from .encoder import EncoderSettings
from .segments import SEGMENT_FRAMES

#: Times in files are rounded, in Matroska to a millisecond.
ROUNDING_S = Fraction(1, 1000)
ASSUMED_RATE = Fraction(24)


@dataclass(frozen=True)
class RenderJob:
    """`stream` is the container's index of the video stream; output frame k is shown at `start_s` + k / `rate` of the file.

    Rendered are the output frames `first` <= k < `end` (None: to the end of the film), in segments of `segment_frames` or
    more. `model` and `engine` are resolved names, never "auto".
    """

    path: str
    stream: int
    start_s: Fraction
    rate: Fraction
    encoder: EncoderSettings
    model: str = "flow"
    engine: str = "cpu"
    scale: float = 1.0
    scene: SceneOptions = field(default_factory=SceneOptions)
    first: int = 0
    end: int | None = None
    segment_frames: int = SEGMENT_FRAMES

    @property
    def clock(self) -> OutputClock:
        return OutputClock(self.rate)

    def spec(self, info: StreamInfo) -> StreamSpec:
        """What the engine is prepared for."""
        return StreamSpec(
            layout=info.layout,
            matrix=matrix_name(info),
            full_range=bool(info.colour.full_range),
            model=self.model,
            engine=self.engine,
            scale=self.scale,
        )

    def open_source(self) -> VideoSource:
        return VideoSource(self.path, stream=self.stream)

    def film_end(self, last: DecodedFrame, info: StreamInfo) -> int:
        """First output frame after the film, whose last source frame is `last`: frames that begin before its end are shown."""
        film_end = max(1, math.ceil(_end_s(last, self.start_s, info) * self.rate))
        return film_end if self.end is None else min(film_end, self.end)

    def expected_end(self, info: StreamInfo) -> int:
        """What `film_end` will be if the container's duration is right: for progress only."""
        end = self.clock.frames_until(info.end_s - self.start_s)
        return end if self.end is None else min(end, self.end)

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> RenderJob:
        """ValueError, KeyError or TypeError where it is not what `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        data["start_s"], data["rate"] = Fraction(data["start_s"]), Fraction(data["rate"])
        data["encoder"] = EncoderSettings.from_dict(data["encoder"])
        data["scene"] = SceneOptions(**data["scene"])
        return cls(**data)


def _end_s(last: DecodedFrame, start_s: Fraction, info: StreamInfo) -> Fraction:
    """When the film ends, counted from `start_s`, its first frame: exactly, where its frames have the rate that it states.

    Files round times, and a rounded end would show one frame too many or too few.
    """
    rate = exact_rate(info.average_rate or ASSUMED_RATE)
    last_s = last.time_s - start_s
    stated_s = last.duration_s or 1 / rate
    number = round(last_s * rate)
    if abs(last_s - number / rate) <= ROUNDING_S and abs(stated_s - 1 / rate) <= ROUNDING_S:
        return (number + 1) / rate
    return last_s + stated_s - ROUNDING_S

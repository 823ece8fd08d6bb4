"""All that determines the frames of a render. Every process that has the job and the source makes the same segments."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from drba.timeline import OutputClock
from engines.base import StreamSpec

from ..relations import SceneOptions
from ..source import DecodedFrame, StreamInfo, VideoSource, matrix_name
from .encoder import EncoderSettings
from .segments import SEGMENT_FRAMES

#: Times in files are rounded (Matroska: to a millisecond), both where the film begins and where it ends.
END_TOLERANCE_S = Fraction(2, 1000)
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
        end_s = last.time_s - self.start_s + _duration_s(last, info)
        tolerance_s = min(END_TOLERANCE_S, 1 / (2 * self.rate))
        film_end = max(1, math.ceil((end_s - tolerance_s) * self.rate))
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


def _duration_s(last: DecodedFrame, info: StreamInfo) -> Fraction:
    """How long the last frame is shown: what the file says, exactly where that is the film's rate but for rounding."""
    nominal = 1 / (info.average_rate or ASSUMED_RATE)
    stated = last.duration_s
    return nominal if not stated or abs(stated - nominal) <= Fraction(1, 1000) else stated

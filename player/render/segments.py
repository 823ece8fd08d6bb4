"""Where the output is divided: pure, so that a resumed or distributed render divides as an uninterrupted one does."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from drba.timeline import SAME_TIME_S

#: Output frames of a segment at least; at most twice as many. What a killed render loses is one segment.
SEGMENT_FRAMES = 400


@dataclass(frozen=True, order=True)
class Segment:
    """Output frames `first` <= k < `end`."""

    first: int
    end: int

    @property
    def frames(self) -> int:
        return self.end - self.first

    @property
    def file_name(self) -> str:
        return f"{self.first:09}-{self.end:09}.mp4"

    @classmethod
    def parse(cls, file_name: str) -> Segment | None:
        """The segment whose file has this name; None for other files."""
        stem, dot, suffix = file_name.partition(".")
        numbers = stem.split("-")
        if dot and suffix == "mp4" and len(numbers) == 2 and all(part.isdigit() for part in numbers):
            return cls(int(numbers[0]), int(numbers[1]))
        return None


def scene_start(rate: Fraction, cut_s: Fraction) -> int:
    """The first output frame that shows the scene that begins with a source frame `cut_s` after output frame 0."""
    return max(0, math.ceil((cut_s - SAME_TIME_S) * rate))


def begins_segment(number: int, start: int, least: int, *, scene_begins: bool) -> bool:
    """Whether output frame `number` begins the segment after the one that began at `start`.

    The rule: at the first scene after `least` frames, else after twice as many.
    """
    frames = number - start
    return frames >= 2 * least or (frames >= least and scene_begins)


def split(first: int, end: int, scene_starts: Sequence[int], least: int = SEGMENT_FRAMES) -> list[Segment]:
    """All segments of output frames `first` <= k < `end`; `scene_starts` ascending. The same rule, for a known film."""
    segments = []
    start = first
    while start < end:
        index = bisect_left(scene_starts, start + least)
        stop = start + 2 * least
        if index < len(scene_starts):
            stop = min(stop, scene_starts[index])
        segments.append(Segment(start, min(stop, end)))
        start = stop
    return segments


def contiguous(segments: Iterable[Segment], first: int) -> list[Segment]:
    """Those that follow each other without a gap from output frame `first` on."""
    by_first = {segment.first: segment for segment in sorted(segments)}
    chain: list[Segment] = []
    while (segment := by_first.get(first)) is not None and segment.end > first:
        chain.append(segment)
        first = segment.end
    return chain

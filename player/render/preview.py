"""What a render will do around one time: source frames, their in-betweens, and the motion that the model sees there.

The in-betweens come from the same triplets as in play and in a render, so they are the very frames that would be written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from drba.pixels import FrameLayout, Plane
from drba.timeline import SAME_TIME_S, OutputClock
from engines.base import Renderer, SourceFrame, Triplet

from ..plan import Kind, PlannedOutput, Relation
from ..triplets import PlannedTriplet, TripletWalk

#: Frames needed on either side of the middle one: its neighbours' triplets reach one frame further.
REACH = 2


@dataclass(frozen=True)
class PreviewFrame:
    """A source frame, its time on the output clock and its relation to the one before it."""

    number: int
    time_s: Fraction
    planes: Sequence[Plane]
    to_previous: Relation


@dataclass(frozen=True)
class PreviewOutput:
    """An output frame as it would be written."""

    plan: PlannedOutput
    time_s: Fraction
    planes: Sequence[Plane]


@dataclass(frozen=True)
class Interval:
    """Two source frames, how they belong together, and what is written strictly between them."""

    first: PreviewFrame
    second: PreviewFrame
    outputs: tuple[PreviewOutput, ...]

    @property
    def relation(self) -> Relation:
        return self.second.to_previous


@dataclass(frozen=True)
class Preview:
    """The intervals before and after the source frame `middle`; one is missing at the film's ends.

    `written` are the times of the source frames that fall on output times; `triplet` is the middle frame's, as an engine gets it.
    """

    middle: PreviewFrame
    intervals: tuple[Interval, ...]
    written: frozenset[Fraction]
    triplet: Triplet


def frames_around(frames: Iterable[PreviewFrame], time_s: Fraction) -> list[PreviewFrame]:
    """Of `frames` in order, the one nearest to `time_s` and REACH to either side; fewer at the film's ends. Takes no more
    frames than it needs."""
    window: deque[PreviewFrame] = deque(maxlen=2 * REACH + 1)
    nearest: PreviewFrame | None = None
    after = 0  # frames that follow the nearest one
    for frame in frames:
        if nearest is None or abs(frame.time_s - time_s) < abs(nearest.time_s - time_s):
            nearest, after = frame, 0
        else:
            after += 1
        window.append(frame)
        if after == REACH:
            break
    return list(window)[-(REACH + 1 + after) :]


def make_preview(
    frames: Sequence[PreviewFrame], time_s: Fraction, clock: OutputClock, renderer: Renderer, layout: FrameLayout
) -> Preview:
    """Render what lies around the frame nearest to `time_s` of `frames_around`, of which there is at least one."""
    at = min(range(len(frames)), key=lambda i: abs(frames[i].time_s - time_s))
    low, high = max(0, at - 1), min(len(frames) - 1, at + 1)
    first = clock.frames_until((frames[low - 1].time_s + frames[low].time_s) / 2) if low else 0
    end = clock.frames_until(frames[high].time_s + SAME_TIME_S)
    walk: TripletWalk[PreviewFrame] = TripletWalk(clock, first)
    walked = [walk.feed(frame, end) for frame in (*frames, None)]
    triplets = {triplet.middle.number: triplet for triplet in walked if triplet is not None}
    outputs = [o for triplet in triplets.values() for o in _rendered(triplet, clock, renderer, layout)]
    return Preview(
        middle=frames[at],
        intervals=tuple(_interval(frames[i], frames[i + 1], outputs) for i in range(low, high)),
        written=frozenset(_nearest(frames, output.time_s) for output in outputs if output.plan.kind is Kind.SOURCE),
        triplet=_for_engine(triplets[frames[at].number]),
    )


def _rendered(
    triplet: PlannedTriplet[PreviewFrame], clock: OutputClock, renderer: Renderer, layout: FrameLayout
) -> list[PreviewOutput]:
    times = [plan.time for plan in triplet.outputs if plan.time is not None]
    drawn = [layout.views(bytearray(layout.frame_bytes)) for _ in times]
    if times:
        renderer.render(_for_engine(triplet), times, drawn)
    waiting = iter(drawn)
    return [
        PreviewOutput(
            plan,
            clock.time_s(plan.number),
            next(waiting) if plan.time is not None else triplet.shown(plan).planes,
        )
        for plan in triplet.outputs
    ]


def _for_engine(triplet: PlannedTriplet[PreviewFrame]) -> Triplet:
    before, middle, after = (
        SourceFrame(frame.number, frame.planes) if frame else None
        for frame in (triplet.before, triplet.middle, triplet.after)
    )
    assert middle is not None
    return Triplet(before, middle, after, triplet.interval_before, triplet.interval_after)


def _interval(first: PreviewFrame, second: PreviewFrame, outputs: Sequence[PreviewOutput]) -> Interval:
    begin, end = first.time_s + SAME_TIME_S, second.time_s - SAME_TIME_S
    return Interval(first, second, tuple(output for output in outputs if begin < output.time_s < end))


def _nearest(frames: Sequence[PreviewFrame], time_s: Fraction) -> Fraction:
    return min((frame.time_s for frame in frames), key=lambda frame_s: abs(frame_s - time_s))

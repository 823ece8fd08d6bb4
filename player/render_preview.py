"""What a render will do around one time: source frames, their in-betweens, and the motion that the model sees there.

The in-betweens come from the same triplets as in play and in a render, so they are the very frames that would be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from drba.pixels import FrameLayout, Plane
from drba.timeline import SAME_TIME_S, OutputClock
from engines.base import Motion, Renderer, SourceFrame, Triplet

from .plan import Kind, Neighbour, PlannedOutput, Relation, plan_triplet

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

    `written` are the times of the source frames that fall on output times; `motion` is seen from `middle`, None where the model
    has no optical flow.
    """

    middle: PreviewFrame
    intervals: tuple[Interval, ...]
    written: frozenset[Fraction]
    motion: Motion | None


def frames_around(frames: Iterable[PreviewFrame], time_s: Fraction) -> list[PreviewFrame]:
    """Of `frames` in order, the one nearest to `time_s` and REACH to either side; fewer at the film's ends. Takes no more
    frames than it needs."""
    window: list[PreviewFrame] = []
    nearest: PreviewFrame | None = None
    after = 0
    for frame in frames:
        if nearest is None or abs(frame.time_s - time_s) < abs(nearest.time_s - time_s):
            nearest, after = frame, 0
        else:
            after += 1
        window = [*window[-2 * REACH :], frame]
        if after == REACH:
            break
    return window[-(REACH + 1 + after) :]


def make_preview(
    frames: Sequence[PreviewFrame], time_s: Fraction, clock: OutputClock, renderer: Renderer, layout: FrameLayout
) -> Preview:
    """Render what lies around the frame nearest to `time_s` of `frames_around`, of which there is at least one."""
    at = min(range(len(frames)), key=lambda i: abs(frames[i].time_s - time_s))
    low, high = max(0, at - 1), min(len(frames) - 1, at + 1)
    outputs: list[PreviewOutput] = []
    number = _first_output(clock, frames, low)
    end = clock.frames_until(frames[high].time_s + SAME_TIME_S)
    for i in range(low, high + 1):
        previous = frames[i - 1] if i else None
        following = frames[i + 1] if i + 1 < len(frames) else None
        planned = plan_triplet(
            clock,
            number,
            end,
            Neighbour(previous.time_s, frames[i].to_previous) if previous else None,
            frames[i].time_s,
            Neighbour(following.time_s, following.to_previous) if following else None,
        )
        number += len(planned)
        outputs += _rendered(planned, previous, frames[i], following, clock, renderer, layout)
    previous = frames[at - 1] if at else None
    following = frames[at + 1] if at + 1 < len(frames) else None
    return Preview(
        middle=frames[at],
        intervals=tuple(_interval(frames[i], frames[i + 1], outputs) for i in range(low, high)),
        written=frozenset(_nearest_source(output, frames) for output in outputs if output.plan.kind is Kind.SOURCE),
        motion=renderer.motion(_triplet(previous, frames[at], following)),
    )


def _first_output(clock: OutputClock, frames: Sequence[PreviewFrame], i: int) -> int:
    """The first output frame of frame i's triplet."""
    return clock.frames_until((frames[i - 1].time_s + frames[i].time_s) / 2) if i else 0


def _rendered(
    planned: Sequence[PlannedOutput],
    previous: PreviewFrame | None,
    middle: PreviewFrame,
    following: PreviewFrame | None,
    clock: OutputClock,
    renderer: Renderer,
    layout: FrameLayout,
) -> list[PreviewOutput]:
    times = [plan.time for plan in planned if plan.time is not None]
    drawn = [layout.views(bytearray(layout.frame_bytes)) for _ in times]
    if times:
        renderer.render(_triplet(previous, middle, following), times, drawn)
    waiting = iter(drawn)
    outputs = []
    for plan in planned:
        source = previous if plan.show < 0 and previous else middle
        planes = next(waiting) if plan.time is not None else source.planes
        outputs.append(PreviewOutput(plan, clock.time_s(plan.number), planes))
    return outputs


def _triplet(previous: PreviewFrame | None, middle: PreviewFrame, following: PreviewFrame | None) -> Triplet:
    """Without what lies beyond a cut."""
    before = previous if previous and middle.to_previous is not Relation.CUT else None
    after = following if following and following.to_previous is not Relation.CUT else None
    return Triplet(
        SourceFrame(before.number, before.planes) if before else None,
        SourceFrame(middle.number, middle.planes),
        SourceFrame(after.number, after.planes) if after else None,
        float(middle.time_s - before.time_s) if before else 1.0,
        float(after.time_s - middle.time_s) if after else 1.0,
    )


def _interval(first: PreviewFrame, second: PreviewFrame, outputs: Sequence[PreviewOutput]) -> Interval:
    between = (output for output in outputs if first.time_s + SAME_TIME_S < output.time_s < second.time_s - SAME_TIME_S)
    return Interval(first, second, tuple(between))


def _nearest_source(output: PreviewOutput, frames: Sequence[PreviewFrame]) -> Fraction:
    return min((frame.time_s for frame in frames), key=lambda time_s: abs(time_s - output.time_s))

"""Walking through a film frame by frame, each in turn the middle one of a triplet: pure, for playing and rendering alike."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

from drba.timeline import OutputClock

from .plan import Drawn, Neighbour, PlannedOutput, Relation, plan_triplet


class Described(Protocol):
    """A source frame: its time on the output clock and its relation to the frame before it."""

    @property
    def time_s(self) -> Fraction: ...
    @property
    def to_previous(self) -> Relation: ...


F = TypeVar("F", bound=Described)


@dataclass(frozen=True)
class PlannedTriplet(Generic[F]):
    """Three neighbouring source frames and the output frames nearest to the middle one, in order."""

    previous: F | None
    middle: F
    following: F | None
    outputs: list[PlannedOutput]

    @property
    def before(self) -> F | None:
        """The previous frame where the middle one belongs to its scene: what an engine may use."""
        return self.previous if self.middle.to_previous is not Relation.CUT else None

    @property
    def after(self) -> F | None:
        """The following frame where it belongs to the middle one's scene."""
        return self.following if self.following and self.following.to_previous is not Relation.CUT else None

    @property
    def moving(self) -> bool:
        """Whether there are in-betweens on both sides of the middle frame."""
        relations = [self.middle.to_previous, self.following.to_previous if self.following else Relation.CUT]
        return self.previous is not None and relations == [Relation.MOTION, Relation.MOTION]

    @property
    def interval_before(self) -> float:
        """Seconds from `before` to the middle frame; 1 where there is none."""
        return float(self.middle.time_s - self.before.time_s) if self.before else 1.0

    @property
    def interval_after(self) -> float:
        return float(self.after.time_s - self.middle.time_s) if self.after else 1.0

    def shown(self, plan: PlannedOutput) -> F:
        """The source frame that stands for an output frame."""
        return self.previous if plan.show < 0 and self.previous is not None else self.middle


class TripletWalk(Generic[F]):
    """Feed it the source frames in order, from the one before the one shown at output frame `first` on."""

    def __init__(self, clock: OutputClock, first: int) -> None:
        self.number = first  # the next output frame to plan
        self.middle: F | None = None
        self._clock = clock
        self._previous: F | None = None

    def feed(self, following: F | None, end: int, drawn: Drawn = Drawn.ALL) -> PlannedTriplet[F] | None:
        """The triplet whose last frame is `following`, with output frames before `end`; None before there is a middle one.

        Without a following frame (None: the film ends) all remaining output frames before `end` show the middle one.
        """
        previous, middle = self._previous, self.middle
        self._previous, self.middle = middle, following
        if middle is None:
            return None
        outputs = plan_triplet(
            self._clock,
            self.number,
            end,
            Neighbour(previous.time_s, middle.to_previous) if previous else None,
            middle.time_s,
            Neighbour(following.time_s, following.to_previous) if following else None,
            drawn,
        )
        self.number += len(outputs)
        return PlannedTriplet(previous, middle, following, outputs)

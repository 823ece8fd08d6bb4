"""What each output frame shows: pure planning over three neighbouring source frames."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fractions import Fraction

from drba.timeline import SAME_TIME_S, OutputClock

#: Frames further apart than this are a slide show, not motion: nothing is drawn between them.
MAX_INTERVAL_S = Fraction(1, 4)


class Relation(enum.Enum):
    """How two consecutive source frames belong together."""

    MOTION = "motion"
    HELD = "held"  # the same drawing
    CUT = "cut"  # a scene ends between them, or too much time passes


class Kind(enum.Enum):
    """What an output frame is."""

    SOURCE = "source"  # a source frame at its own time
    HELD = "held"
    CUT = "cut"
    INTERPOLATED = "interpolated"
    REDUCED = "reduced"  # a source frame where the level draws no in-between of its own


class Drawn(enum.Enum):
    """Which in-betweens are drawn. The output frames and their times are the same with all of them."""

    ALL = "all"
    DOUBLED = "2x"  # one halfway between two source frames, shown until the later one: the film at twice its rate
    NONE = "none"  # each source frame is shown until the next one, as without DRBA


@dataclass(frozen=True)
class Neighbour:
    """A source frame beside the middle one: its time on the player's clock and its relation to the middle frame."""

    time_s: Fraction
    relation: Relation


@dataclass(frozen=True)
class PlannedOutput:
    """Output frame `number`. `show` is -1, 0 or 1: the source frame before, at or after the middle that stands for it.

    For Kind.INTERPOLATED `time` is the triplet's time (0 previous, 1 middle, 2 following) and `show` what replaces it when it is
    late: the nearest source frame. With Drawn.DOUBLED several output frames show the in-between of one time.
    """

    number: int
    kind: Kind
    show: int
    time: float | None = None


def plan_triplet(
    clock: OutputClock,
    first: int,
    end: int,
    previous: Neighbour | None,
    middle_s: Fraction,
    following: Neighbour | None,
    drawn: Drawn = Drawn.ALL,
) -> list[PlannedOutput]:
    """Plan output frames `first` <= k < `end` that lie nearest to the middle frame, in order.

    An output time halfway between two source frames belongs to the later one's triplet. Without a following frame every
    remaining output frame shows the middle one.
    """
    planned = []
    number = first
    # Rounded timestamps must not keep the one in-between back for another output frame.
    early_s = SAME_TIME_S if drawn is Drawn.DOUBLED else 0
    while number < end:
        time_s = clock.time_s(number)
        if following is not None and 2 * (time_s + early_s) >= middle_s + following.time_s:
            break
        planned.append(_plan_one(number, time_s, previous, middle_s, following, drawn))
        number += 1
    return planned


def _plan_one(
    number: int,
    time_s: Fraction,
    previous: Neighbour | None,
    middle_s: Fraction,
    following: Neighbour | None,
    drawn: Drawn,
) -> PlannedOutput:
    if abs(time_s - middle_s) <= SAME_TIME_S:
        return PlannedOutput(number, Kind.SOURCE, 0)
    before = time_s < middle_s
    neighbour = previous if before else following
    if neighbour is None:
        return PlannedOutput(number, Kind.SOURCE, 0)
    if neighbour.relation is Relation.HELD:
        return PlannedOutput(number, Kind.HELD, 0)
    if neighbour.relation is Relation.CUT:
        # As without DRBA: the old picture stands until the new one's own time.
        return PlannedOutput(number, Kind.CUT, -1 if before else 0)
    if drawn is Drawn.NONE:
        return PlannedOutput(number, Kind.REDUCED, -1 if before else 0)
    if drawn is Drawn.DOUBLED:
        return PlannedOutput(number, Kind.INTERPOLATED, 0, 0.5) if before else PlannedOutput(number, Kind.REDUCED, 0)
    fraction = (time_s - middle_s) / abs(neighbour.time_s - middle_s)
    return PlannedOutput(number, Kind.INTERPOLATED, 0, float(1 + fraction))


def relation(interval_s: Fraction, *, cut: bool, held: bool) -> Relation:
    """Relation of two consecutive frames that are `interval_s` apart."""
    if held:
        return Relation.HELD
    return Relation.CUT if cut or interval_s > MAX_INTERVAL_S else Relation.MOTION

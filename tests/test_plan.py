"""What every output frame shows: tables of source times, cuts and held drawings."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from drba.timeline import OutputClock, exact_rate
from player.plan import Drawn, Kind, Neighbour, PlannedOutput, Relation, plan_triplet, relation
from player.playhead import START_GRACE_S, Playhead

DATA = Path(__file__).with_name("data")


def plan_film(
    source_s: list[Fraction],
    clock: OutputClock,
    frames: int,
    relations: dict[int, Relation] | None = None,
    drawn: Drawn = Drawn.ALL,
) -> list[PlannedOutput]:
    """Plan a whole film; `relations[i]` is that of source frame i to the one before it."""
    relations = relations or {}
    planned: list[PlannedOutput] = []
    for i, middle in enumerate(source_s):
        before = Neighbour(source_s[i - 1], relations.get(i, Relation.MOTION)) if i else None
        after = Neighbour(source_s[i + 1], relations.get(i + 1, Relation.MOTION)) if i + 1 < len(source_s) else None
        planned += plan_triplet(clock, len(planned), frames, before, middle, after, drawn)
    return planned


def film(rate: Fraction, count: int) -> list[Fraction]:
    return [k / rate for k in range(count)]


@pytest.mark.parametrize(("rates", "expected"), json.loads((DATA / "timestamps.json").read_text()).items())
def test_output_times_belong_to_the_same_triplets_as_in_the_reference(rates: str, expected: list[list[float]]) -> None:
    source, output = (exact_rate(Fraction(text)) for text in rates.split("->"))
    start_s = 600 / output  # the reference counts from before the first frame; here the film goes on before it
    number = 590
    for middle in range(-5, len(expected)):
        at = [start_s + (middle + k) / source for k in (-1, 0, 1)]
        neighbours = [Neighbour(time_s, Relation.MOTION) for time_s in (at[0], at[2])]
        clock = OutputClock(output)
        planned = plan_triplet(clock, number, 10_000, neighbours[0], at[1], neighbours[1])
        number += len(planned)
        if middle >= 0:
            times = [float((clock.time_s(plan.number) - start_s) * source) for plan in planned]
            assert times == pytest.approx(expected[middle], abs=1e-9)


@pytest.mark.parametrize("source", [Fraction(24), Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("output", [Fraction(48), Fraction(60), Fraction(60000, 1001), Fraction(144)])
def test_every_output_frame_is_planned_once(source: Fraction, output: Fraction) -> None:
    planned = plan_film(film(source, 100), OutputClock(output), 200)
    assert [plan.number for plan in planned] == list(range(200))
    assert all(plan.time is None or 0.5 <= plan.time < 1.5 for plan in planned)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_whole_multiples_show_every_source_frame(factor: int) -> None:
    planned = plan_film(film(Fraction(24), 12), OutputClock(Fraction(24 * factor)), 12 * factor)
    assert [output.number for output in planned] == list(range(12 * factor))
    shown = [output.number for output in planned if output.kind is Kind.SOURCE and output.number <= 11 * factor]
    assert shown == [k * factor for k in range(12)]
    assert {output.kind for output in planned if output.number % factor and output.number < 11 * factor} == {
        Kind.INTERPOLATED
    }


def test_times_count_from_the_previous_frame() -> None:
    planned = plan_film(film(Fraction(24), 3), OutputClock(Fraction(60)), 6)
    assert [output.time for output in planned] == [
        None,
        pytest.approx(1.4),
        pytest.approx(0.8),
        pytest.approx(1.2),
        pytest.approx(0.6),
        None,
    ]


def test_rounded_timestamps_still_are_source_frames() -> None:
    rounded = [Fraction(round(k * 1001 / 24), 1000) for k in range(200)]
    planned = plan_film(rounded, OutputClock(Fraction(48000, 1001)), 398)
    assert all(output.kind is Kind.SOURCE for output in planned if output.number % 2 == 0)


def test_variable_frame_rate_interpolates_by_timestamps() -> None:
    source = [Fraction(k) for k in (0, 1, 3, 4)]
    planned = plan_film([time / 24 for time in source], OutputClock(Fraction(48)), 9)
    assert [output.time for output in planned] == [
        None, 0.5, None, 1.25, 0.5, 0.75, None, 0.5, None,
    ]  # fmt: skip


def test_no_picture_crosses_a_cut() -> None:
    planned = plan_film(film(Fraction(24), 4), OutputClock(Fraction(96)), 13, {2: Relation.CUT})
    between = [output for output in planned if 4 < output.number < 8]
    assert [output.kind for output in between] == [Kind.CUT] * 3
    assert [output.show for output in between] == [0, -1, -1]  # the old picture until the new one's own time


def test_held_drawings_cost_nothing() -> None:
    planned = plan_film(film(Fraction(24), 3), OutputClock(Fraction(48)), 5, {1: Relation.HELD})
    assert [output.kind for output in planned] == [Kind.SOURCE, Kind.HELD, Kind.SOURCE, Kind.INTERPOLATED, Kind.SOURCE]


def test_slide_shows_are_not_motion() -> None:
    assert relation(Fraction(1, 24), cut=False, held=False) is Relation.MOTION
    assert relation(Fraction(1), cut=False, held=False) is Relation.CUT
    assert relation(Fraction(1), cut=False, held=True) is Relation.HELD


def test_the_first_frame_stands_before_its_time_and_the_last_after() -> None:
    planned = plan_triplet(OutputClock(Fraction(48)), 0, 8, None, Fraction(1, 12), None)
    assert [output.kind for output in planned] == [Kind.SOURCE] * 8


def pictures(planned: list[PlannedOutput], source_s: list[Fraction], clock: OutputClock) -> list[Fraction]:
    """Time of the picture that each output frame shows, drawn or not."""
    shown = []
    for plan in planned:
        at = clock.time_s(plan.number)
        middle = min(range(len(source_s)), key=lambda i: (abs(source_s[i] - at), -i))
        if plan.kind is Kind.INTERPOLATED:
            assert plan.time == 0.5
            shown.append((source_s[middle - 1] + source_s[middle]) / 2)
        else:
            shown.append(source_s[middle + plan.show])
    return shown


@pytest.mark.parametrize("output", [48, 60, 72, 96, 120, 144])
def test_the_film_at_twice_its_rate_shows_each_picture_until_the_next_one(output: int) -> None:
    """24 -> 60 as 48: with t in 48ths, output frames at 0, 0.8, 1.6, 2.4, ... show the pictures 0, 0, 1, 2, ..."""
    source_s = film(Fraction(24), 30)
    clock = OutputClock(Fraction(output))
    planned = plan_film(source_s, clock, output, drawn=Drawn.DOUBLED)
    expected = [Fraction(int(clock.time_s(number) * 48), 48) for number in range(output)]
    assert pictures(planned, source_s, clock) == expected


def test_without_in_betweens_each_source_frame_stays_until_the_next_one() -> None:
    source_s = film(Fraction(24), 30)
    clock = OutputClock(Fraction(60))
    planned = plan_film(source_s, clock, 60, drawn=Drawn.NONE)
    assert {plan.kind for plan in planned} == {Kind.SOURCE, Kind.REDUCED}
    assert pictures(planned, source_s, clock) == [Fraction(int(clock.time_s(k) * 24), 24) for k in range(60)]


def test_rounded_timestamps_do_not_keep_the_doubled_in_between_back() -> None:
    rounded = [Fraction(round(k * 1001 / 24), 1000) for k in range(120)]
    clock = OutputClock(Fraction(96000, 1001))
    planned = plan_film(rounded, clock, 460, drawn=Drawn.DOUBLED)
    for k in range(0, 456, 4):
        kinds = [plan.kind for plan in planned[k : k + 4]]
        assert kinds == [Kind.SOURCE, Kind.REDUCED, Kind.INTERPOLATED, Kind.INTERPOLATED], k


def test_the_doubled_film_respects_cuts_and_held_drawings() -> None:
    relations = {2: Relation.CUT, 3: Relation.HELD}
    planned = plan_film(film(Fraction(24), 5), OutputClock(Fraction(96)), 15, relations, Drawn.DOUBLED)
    assert [(plan.kind.value, plan.show) for plan in planned[5:12]] == [
        ("cut", 0), ("cut", -1), ("cut", -1), ("source", 0), ("held", 0), ("held", 0), ("held", 0),
    ]  # fmt: skip


class Now:
    def __init__(self) -> None:
        self.time_s = 100.0

    def __call__(self) -> float:
        return self.time_s


def test_nothing_is_due_without_a_player_or_while_it_is_paused() -> None:
    playhead = Playhead(Now())
    assert playhead.seconds_until(5.0, 0.0, 100.0) == float("inf")
    playhead.observe(1.0)
    playhead.paused = True
    assert playhead.seconds_until(5.0, 0.0, 100.0) == float("inf")


def test_the_position_moves_on_at_the_players_speed() -> None:
    now = Now()
    playhead = Playhead(now, speed=2.0)
    now.time_s += 10
    playhead.observe(20.0)
    now.time_s += 1
    assert playhead.seconds_until(24.0, 0.0, 100.0) == pytest.approx(1.0)


def test_a_new_stream_starts_to_play_shortly_after_it_was_opened() -> None:
    now = Now()
    playhead = Playhead(now)
    playhead.observe(3.0)  # the place that was left
    assert playhead.seconds_until(60.5, 60.0, 100.0) == pytest.approx(0.5)
    now.time_s += START_GRACE_S + 0.2
    assert playhead.seconds_until(60.5, 60.0, 100.0) == pytest.approx(0.3)

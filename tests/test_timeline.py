"""Output times and rates: exact."""

from __future__ import annotations

from fractions import Fraction

import pytest

from drba.errors import InputError
from drba.timeline import OutputClock, exact_rate, parse_rate

NTSC_FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60", Fraction(60)),
        ("59.94", 2 * NTSC),
        ("23.976", NTSC_FILM),
        ("23.98", Fraction(1199, 50)),
        ("60000/1001", 2 * NTSC),
        ("119.88", Fraction(120000, 1001)),
        ("48", Fraction(48)),
    ],
)
def test_rates(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0", "-24", "1/0", "5000", "nan", "24/"])
def test_malformed_rates_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="frame rate") as caught:
        parse_rate(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shown", "rate"), [(59.951, Fraction(59951, 1000)), (60.0, Fraction(60)), (59.94006, 2 * NTSC)]
)
def test_display_rates(shown: float, rate: Fraction) -> None:
    assert exact_rate(Fraction(shown).limit_denominator(1_000_000)) == rate


def test_times_do_not_drift_over_two_hours() -> None:
    clock = OutputClock(2 * NTSC)
    frame = 2 * 3600 * 60
    assert clock.time_s(frame) == frame * Fraction(1001, 60000)


def test_an_aligned_clock_meets_source_frames_that_begin_late() -> None:
    start = Fraction(83, 1000)
    clock = OutputClock.aligned(Fraction(48), start)
    times = [clock.time_s(k) for k in range(20)]
    assert times[0] == 0
    assert times == sorted(set(times))
    assert {start + Fraction(k, 24) for k in range(5)} <= set(times)


@pytest.mark.parametrize("phase", [Fraction(0), Fraction(1, 100)])
def test_frames_until(phase: Fraction) -> None:
    clock = OutputClock(Fraction(48), phase)
    frames = clock.frames_until(Fraction(10))
    assert clock.time_s(frames - 1) < 10 <= clock.time_s(frames)
    assert clock.frames_until(Fraction(-5)) == 1

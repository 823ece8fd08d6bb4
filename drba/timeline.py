"""Which output frame shows what: exact arithmetic between source timestamps and output times.

Output frame k is shown at k / rate seconds on the player's clock. Times are `fractions.Fraction` seconds throughout, so
24000/1001 stays what it is over hours; nothing is derived from a nominal source rate, so variable frame rate needs no case of its
own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from .errors import InputError

#: An output time this close to a source frame shows that frame itself: half of Matroska's millisecond rounding.
SAME_TIME_S = Fraction(1, 2000)
MAX_RATE = Fraction(1000)


def parse_rate(text: str) -> Fraction:
    """A positive frame rate: `60`, `59.94`, `60000/1001`. The NTSC decimals mean the exact NTSC rates."""
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise InputError(f"frame rate {text!r}: expected a number or a fraction such as 60 or 60000/1001") from None
    rate = exact_rate(rate)
    if not 1 <= rate <= MAX_RATE:
        raise InputError(f"frame rate {text!r}: expected something from 1 to {MAX_RATE}")
    return rate


def exact_rate(rate: Fraction) -> Fraction:
    """Map what displays and files round (23.976, 29.97, 59.94006) to n*1000/1001; leave every other rate as it is."""
    nearest = round(rate * Fraction(1001, 1000))
    ntsc = Fraction(nearest * 1000, 1001)
    if nearest and rate.denominator != 1 and abs(rate - ntsc) < ntsc * Fraction(2, 100_000):
        return ntsc
    whole = round(rate)
    if whole and abs(rate - whole) < Fraction(whole, 100_000):
        return Fraction(whole)
    return rate


@dataclass(frozen=True)
class OutputClock:
    """Output frame numbers and their times; frame 0 is shown at 0 s."""

    rate: Fraction

    def time_s(self, frame: int) -> Fraction:
        return frame / self.rate

    def first_at_or_after(self, time_s: Fraction) -> int:
        return math.ceil(time_s * self.rate)

    def frames_until(self, end_s: Fraction) -> int:
        """Number of frames shown before `end_s`, at least 1."""
        return max(1, math.ceil(end_s * self.rate))


@dataclass(frozen=True)
class Placement:
    """Where one output frame lies between two neighbouring source frames.

    `on_source` is 0 (the earlier frame), 1 (the later) or None; `fraction` 0..1 from the earlier to the later frame.
    """

    fraction: Fraction
    on_source: int | None

    @property
    def nearest(self) -> int:
        """0 or 1: the source frame to show where nothing can be interpolated; halfway counts as the earlier one."""
        return 0 if self.fraction <= Fraction(1, 2) else 1


def place(time_s: Fraction, earlier_s: Fraction, later_s: Fraction) -> Placement:
    """Place `time_s` in [earlier_s, later_s]; outside it is clamped to the nearer frame."""
    if time_s - earlier_s < SAME_TIME_S:
        return Placement(Fraction(0), 0)
    if later_s - time_s < SAME_TIME_S:
        return Placement(Fraction(1), 1)
    return Placement((time_s - earlier_s) / (later_s - earlier_s), None)


def triplet_times(source_rate: Fraction, output_rate: Fraction, middle: int) -> list[Fraction]:
    """Output times from halfway before to halfway after source frame `middle`, at constant rates, in source frames.

    Half-open [middle - 1/2, middle + 1/2): every output time belongs to exactly one triplet.
    """
    step = source_rate / output_rate
    first = math.ceil((middle - Fraction(1, 2)) / step)
    end = math.ceil((middle + Fraction(1, 2)) / step)
    return [k * step for k in range(first, end)]

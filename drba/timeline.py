"""Which output frame shows what: exact arithmetic between source timestamps and output times.

Output frames are shown at equal distances on the player's clock. Times are `fractions.Fraction` seconds throughout, so
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
    """Output frame numbers and their times in seconds.

    Frame 0 is shown at 0 s, the others at `phase_s` + n / rate: with the time of the first source frame as phase, source frames
    fall on output times also where the film's picture begins a little after its sound.
    """

    rate: Fraction
    phase_s: Fraction = Fraction(0)

    @classmethod
    def aligned(cls, rate: Fraction, first_source_s: Fraction) -> OutputClock:
        """The clock on which a source frame at `first_source_s` falls on an output time."""
        return cls(rate, first_source_s % (1 / rate))

    def time_s(self, frame: int) -> Fraction:
        """When frame `frame` >= 0 is shown."""
        if self.phase_s and frame:
            return self.phase_s + (frame - 1) / self.rate
        return frame / self.rate

    def frames_until(self, end_s: Fraction) -> int:
        """Number of frames shown before `end_s`, at least 1."""
        frames = math.ceil((end_s - self.phase_s) * self.rate) + (1 if self.phase_s else 0)
        return max(1, frames)

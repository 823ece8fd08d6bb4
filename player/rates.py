"""Which output rate a user's words mean for a film."""

from __future__ import annotations

from fractions import Fraction

from drba.errors import InputError
from drba.timeline import MAX_RATE, exact_rate, parse_rate

#: Below this an added frame is not worth its cost, and rounding of display rates begins.
MIN_RATE_GAIN = Fraction(11, 10)


def output_rate(wanted: str, source_rate: Fraction, display_fps: float) -> Fraction:
    """Frames a second to show, exactly; InputError where the film has as many already or `wanted` is malformed."""
    wanted = wanted.strip().lower()
    if wanted == "auto":
        wanted = "display" if display_fps > 0 else "2x"
    if wanted == "display":
        if display_fps <= 0:
            raise InputError("the display's rate is not known; choose --fps 2x or a number")
        rate = exact_rate(Fraction(display_fps).limit_denominator(1_000_000))
    elif wanted.endswith("x"):
        try:
            rate = source_rate * Fraction(wanted[:-1])
        except (ValueError, ZeroDivisionError):
            raise InputError(f"frame rate {wanted!r}: expected auto, display, 2x or a number such as 60") from None
    else:
        rate = parse_rate(wanted)
    if rate < source_rate * MIN_RATE_GAIN:
        raise InputError(
            f"the film has {float(source_rate):.6g} frames a second already, {float(rate):.6g} were asked for"
        )
    if rate > MAX_RATE:
        raise InputError(
            f"the film has {float(source_rate):.6g} frames a second, {float(rate):.6g} were asked for, "
            f"at most {MAX_RATE} are shown"
        )
    return rate

"""Whether a film goes on as it began: what the added track, with its one size and one clock, can follow."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .source import DecodedFrame, VideoSource

#: mpv takes times further apart than this for those of another film and goes on at once; in a broadcast, where the sound's
#: times jump as well, sooner.
MAX_GAP_S = Fraction(60)
MAX_BROADCAST_GAP_S = Fraction(5)


@dataclass(frozen=True)
class Lost:
    """Why and when, on the player's clock, a film can be followed no further; `again`: it can be opened anew from there on."""

    why: str
    time_s: Fraction
    again: bool = True


def why_lost(source: VideoSource, last: DecodedFrame | None, frame: DecodedFrame) -> str:
    """Why `frame`, which comes after `last`, cannot be shown on the track of that film; empty where it can."""
    if frame.shape != source.info.shape:
        return f"the picture changes from {source.info.shape} to {frame.shape}"
    gap_s = MAX_BROADCAST_GAP_S if source.is_broadcast else MAX_GAP_S
    if last is not None and frame.time_s - last.time_s > gap_s:
        return f"the film's times jump by {float(frame.time_s - last.time_s):.0f} s"
    return ""

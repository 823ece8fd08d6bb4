"""Where a film is other than it was when it was opened: what the added track, with its one size and one clock, cannot show."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from fractions import Fraction

from .source import DecodedFrame, StreamInfo

#: mpv takes times further apart than this for those of another film and goes on at once; in a broadcast, where the sound's
#: times jump as well, sooner.
MAX_GAP_S = Fraction(60)
MAX_BROADCAST_GAP_S = Fraction(5)


@dataclass(frozen=True)
class Stretch:
    """Of the film, from `begin_s` to `end_s`, and why the track cannot show it. `again`: it can be opened anew behind that."""

    why: str
    begin_s: Fraction
    end_s: Fraction | float
    again: bool = True


class Follower:
    """The stretches that decoding has come across so far. Times in seconds, on any one clock. Thread-safe."""

    def __init__(self, info: StreamInfo) -> None:
        self._info = info
        self._frame_s = 1 / (info.average_rate or Fraction(24))
        self._lock = threading.Lock()
        self._stretches: list[Stretch] = []

    def decoded(self, last: DecodedFrame | None, frame: DecodedFrame, offset_s: Fraction) -> None:
        """`frame` comes after `last` in the film; `offset_s` is what their times are later by than those of `at`."""
        begin_s = frame.time_s - offset_s
        gap_s = MAX_BROADCAST_GAP_S if self._info.is_broadcast else MAX_GAP_S
        if frame.shape != self._info.shape:
            why = f"the picture changes from {self._info.shape} to {frame.shape}"
            self._add(Stretch(why, begin_s, begin_s + self._frame_s))
        elif last is not None and frame.time_s - last.time_s > gap_s:
            why = f"the film's times jump by {float(frame.time_s - last.time_s):.0f} s"
            self._add(Stretch(why, last.time_s - offset_s + self._frame_s, begin_s))

    def jumped_back(self, last: DecodedFrame, offset_s: Fraction) -> None:
        """The film's times go back after `last`."""
        begin_s = last.time_s - offset_s + self._frame_s
        self._add(Stretch("the film's times jump back", begin_s, math.inf, again=False))

    def _add(self, new: Stretch) -> None:
        with self._lock:
            for number, old in enumerate(self._stretches):
                if old.why == new.why and old.begin_s <= new.begin_s <= old.end_s + self._frame_s:
                    self._stretches[number] = replace(old, end_s=max(old.end_s, new.end_s))
                    return
            self._stretches.append(new)

    def at(self, position_s: float, early_s: float = 0.0) -> Stretch | None:
        """The stretch that is played at `position_s`, or soon."""
        with self._lock:
            reached = (s for s in self._stretches if s.begin_s - early_s <= position_s < s.end_s)
            return next(reached, None)

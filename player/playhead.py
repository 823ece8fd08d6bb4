"""Where mpv is, and so when an output frame is due."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

#: mpv has a first frame on screen about this long after it asked for it; from then on the clock runs.
START_GRACE_S = 0.1


@dataclass
class Playhead:
    """mpv's position, from its property changes; between them it moves on at `speed`. Times in seconds."""

    clock: Callable[[], float] = time.monotonic
    paused: bool = False
    seeking: bool = False
    speed: float = 1.0
    known: bool = False  # whether there is a player at all: without one nothing is ever due
    _position_s: float = 0.0
    _seen_at: float = -math.inf

    def observe(self, position_s: float) -> None:
        """mpv reported a position."""
        self.known = True
        self._position_s = position_s
        self._seen_at = self.clock()

    def lead_s(self, time_s: float, stream_start_s: float, stream_opened_at: float) -> float:
        """Seconds of film between where mpv is and `time_s`; infinite without a player.

        Until mpv has reported a position after `stream_opened_at` (a time of `clock`), it is taken to start playing the
        stream at its beginning, `stream_start_s`.
        """
        if not self.known:
            return math.inf
        now = self.clock()
        moves = 0.0 if self.paused else self.speed
        if self.seeking or self._seen_at < stream_opened_at + START_GRACE_S:
            position = stream_start_s + max(0.0, now - stream_opened_at - START_GRACE_S) * moves
        else:
            position = self._position_s + (now - self._seen_at) * moves
        return time_s - position

    def seconds_until(self, time_s: float, stream_start_s: float, stream_opened_at: float) -> float:
        """Wall-clock seconds until the output frame at `time_s` is shown; infinite while nothing moves."""
        if not self.known or self.paused or self.speed <= 0:
            return math.inf
        return self.lead_s(time_s, stream_start_s, stream_opened_at) / self.speed

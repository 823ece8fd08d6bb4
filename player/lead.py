"""How much of the film mpv has ahead of what it shows: the buffer that a busy machine eats up first."""

from __future__ import annotations

import math

#: A frame must be at mpv this long before it is shown: it still has to travel and pass mpv's own queues.
DELIVERY_S = 0.05
#: Share of the fullest buffer seen that is kept for mpv: a frame that would take it below that is late. Handing frames over at
#: the last moment would leave mpv nothing to smooth over what the rest of the machine does.
RESERVE = 0.5
FULL, FALLING = 0.9, 0.7  # of the fullest: above the one it holds, below the other it is being eaten up
SMALLEST_S = 0.2  # a buffer that never got larger says nothing by shrinking


class Lead:
    """Seconds of film between mpv's position and the newest frame handed over, of one stream."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.fullest_s = 0.0

    def observe(self, lead_s: float) -> None:
        """At every frame handed over; infinite without a player, which says nothing."""
        if math.isfinite(lead_s):
            self.now_s = lead_s
            self.fullest_s = max(self.fullest_s, lead_s)

    @property
    def reserve_s(self) -> float:
        return max(DELIVERY_S, RESERVE * self.fullest_s)

    @property
    def full(self) -> bool:
        return self.now_s >= FULL * self.fullest_s

    @property
    def falling(self) -> bool:
        return self.fullest_s > SMALLEST_S and self.now_s < FALLING * self.fullest_s

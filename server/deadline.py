"""One point in time that several waits share, so that their timeouts do not add up."""

from __future__ import annotations

import time


class Deadline:
    """`timeout_s` from now, on the monotonic clock; None means never."""

    def __init__(self, timeout_s: float | None) -> None:
        self._end_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 when it has passed; infinite for a deadline that never comes."""
        return max(0.0, self._end_s - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.remaining_s == 0.0

    def at_most(self, timeout_s: float) -> float:
        """The shorter of `timeout_s` and what is left, for one wait among several."""
        return min(timeout_s, self.remaining_s)

"""Named stretches of rendering, for whoever measures where the time goes: `with stage("network"): ...`.

Names in use: `upload` (planes to RGB on the device), `network`, `drm` (distance ratio maps and their splatting), `download`
(RGB to planes), `flow` and `warp` (the flow-only model). A stretch inside another counts for itself only. Nobody measures
while playing: then a stage is one comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol


class Clock(Protocol):
    """What measures. It need not know threads: whoever measures renders in one."""

    def entered(self, name: str) -> AbstractContextManager[None]:
        """Called at the beginning of a stage, left at its end."""


_NOTHING = nullcontext()
_clock: Clock | None = None


def stage(name: str) -> AbstractContextManager[None]:
    return _NOTHING if _clock is None else _clock.entered(name)


@contextmanager
def measured_by(clock: Clock) -> Iterator[None]:
    """Every stage of this process reports to `clock`; one at a time."""
    global _clock
    _clock = clock
    try:
        yield
    finally:
        _clock = None

"""How many renderings run at once, and that everything else on the machine comes before them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NICENESS = 5


def default_workers() -> int:
    """Two threads keep a renderer busy while a frame is handed over; more would compete with mpv's decoder."""
    return min(2, os.cpu_count() or 1)


def give_way() -> None:
    """Let mpv's own threads come first: a late in-between costs quality, a late picture is a stutter.

    Linux may schedule sessions as groups of equal weight (autogroup), and then niceness counts within a session only: a server in
    a session of its own would take as much of the processor as mpv and all that the viewer runs beside it.
    """
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    if os.getsid(0) == os.getpid():  # else the group is a shell's, or mpv's own
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))

"""What a process holds: resident memory, open files, threads; and whether its memory grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

WINDOW_S = 10.0  # memory moves with every frame: what is fitted are medians of this long
FRAMES = "memfd:drba-frames"
MPV_WORKER = "mpv/worker"
FEWEST_WINDOWS = 30  # five minutes: in less, buffers that fill look like a leak


@dataclass(frozen=True)
class Held:
    """Open files, without memory for frames, and threads of a process."""

    handles: int
    threads: int


def held(pid: int) -> Held:
    return Held(sum(FRAMES not in name for name in handles_of(pid)), len(threads_of(pid)))


def frame_memories(pid: int) -> int:
    """How many shared memories for frames a process has open: the bridge one a film, the server one a session."""
    return sum(FRAMES in name for name in handles_of(pid))


def handles_of(pid: int) -> list[str]:
    """What each open file is."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return sorted(found)


def threads_of(pid: int) -> list[str]:
    """The name of each thread, but for mpv's workers: one is started by many a command, and ends when idle for ten seconds."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found.append((task / "comm").read_text().strip())
        except OSError:
            continue
    return sorted(name for name in found if name != MPV_WORKER)


def resident_mib(pid: int) -> float:
    """Resident memory (VmRSS), that shared with others included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)  # it has ended and waits to be collected


def slope_mib_per_minute(samples: Sequence[tuple[float, float]], window_s: float = WINDOW_S) -> float | None:
    """Growth of (seconds, MiB) samples: the median of the slopes between all pairs of window medians (Theil 1950, Sen 1968),
    which up to 29 % of outliers do not move. None for too few windows."""
    windows: dict[int, list[tuple[float, float]]] = {}
    for at_s, mib in samples:
        windows.setdefault(int(at_s // window_s), []).append((at_s, mib))
    if len(windows) < FEWEST_WINDOWS:
        return None
    points = [(median(t for t, _ in window), median(m for _, m in window)) for _, window in sorted(windows.items())]
    at, size = np.array(points).T
    first, second = np.triu_indices(len(points), 1)
    return float(np.median((size[second] - size[first]) / (at[second] - at[first])) * 60)

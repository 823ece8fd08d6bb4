"""Which request is rendered next: one bounded queue a session, fair shares between sessions, generations that cancel.

Pure bookkeeping, without threads or clocks; workers.py calls it under its lock.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
J = TypeVar("J")

FIRST_ESTIMATE_MS = 10.0  # cost of a lane's first job, until one has been measured
ESTIMATE_WEIGHT = 0.25  # of the newest job in a lane's average cost


class Submitted(enum.Enum):
    """What became of a submitted job."""

    QUEUED = "queued"
    CANCELLED = "cancelled"  # its generation has been cancelled already
    FULL = "full"  # the lane's queue is at its limit


@dataclass
class _Lane(Generic[J]):
    queue: deque[tuple[int, J]] = field(default_factory=deque)  # (generation, job)
    generation: int = 0  # jobs of older ones are cancelled
    running: int = 0
    retired: bool = False
    used_ms: float = 0.0  # virtual time: what the lane has been charged, comparable between lanes
    estimate_ms: float = FIRST_ESTIMATE_MS
    charges_ms: deque[float] = field(default_factory=deque)  # what the running jobs were charged when taken
    turn: int = 0  # when it was last served; breaks ties, so equal lanes take turns


class Scheduler(Generic[K, J]):
    """Lanes share the workers by time, not by requests: a 2160p session does not slow a 720p one down to its own pace.

    The lane that has used least is served first (start-time fair queueing). A job is charged its lane's average cost
    when taken, and corrected when finished, so that several workers do not all serve one lane. A lane that was idle
    starts at the level of the busy ones: it earns no credit by waiting.
    """

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._lanes: dict[K, _Lane[J]] = {}
        self._turns = 0

    def add_lane(self, key: K) -> None:
        if key in self._lanes:
            raise ValueError(f"lane {key!r} exists")
        self._lanes[key] = _Lane()

    def submit(self, key: K, generation: int, job: J) -> Submitted:
        """Queue a job at the end of its lane; KeyError without that lane."""
        lane = self._lanes[key]
        if lane.retired or generation < lane.generation:
            return Submitted.CANCELLED
        if len(lane.queue) >= self._max_queued:
            return Submitted.FULL
        if not lane.queue and not lane.running:
            lane.used_ms = max(lane.used_ms, self._level_ms())
        lane.queue.append((generation, job))
        return Submitted.QUEUED

    def _level_ms(self) -> float:
        """What the busy lane that has used least has used; 0 when all are idle."""
        return min((lane.used_ms for lane in self._lanes.values() if lane.queue or lane.running), default=0.0)

    def cancel(self, key: K, generation: int) -> list[J]:
        """Take the queued jobs of generations below `generation` out, and refuse such jobs from now on."""
        lane = self._lanes[key]
        lane.generation = max(lane.generation, generation)
        dropped = [job for made, job in lane.queue if made < lane.generation]
        lane.queue = deque(item for item in lane.queue if item[0] >= lane.generation)
        return dropped

    def retire(self, key: K) -> tuple[list[J], bool]:
        """Take all queued jobs out and accept no more; also whether the lane is gone (nothing of it is running)."""
        lane = self._lanes[key]
        lane.retired = True
        dropped = [job for _, job in lane.queue]
        lane.queue.clear()
        if not lane.running:
            del self._lanes[key]
        return dropped, not lane.running

    def take(self) -> tuple[K, J] | None:
        """The next job to run, or None when none waits. `finished` must be called for it."""
        waiting = [(lane.used_ms, lane.turn, key) for key, lane in self._lanes.items() if lane.queue]
        if not waiting:
            return None
        key = min(waiting, key=lambda item: item[:2])[2]
        lane = self._lanes[key]
        self._turns += 1
        lane.turn = self._turns
        lane.running += 1
        lane.used_ms += lane.estimate_ms
        lane.charges_ms.append(lane.estimate_ms)
        return key, lane.queue.popleft()[1]

    def finished(self, key: K, cost_ms: float) -> bool:
        """Account for a job; True if its lane was retired and is gone with it."""
        lane = self._lanes[key]
        lane.running -= 1
        lane.used_ms += cost_ms - lane.charges_ms.popleft()
        lane.estimate_ms += (cost_ms - lane.estimate_ms) * ESTIMATE_WEIGHT
        if lane.retired and not lane.running:
            del self._lanes[key]
            return True
        return False

    def queued(self, key: K) -> int:
        return len(self._lanes[key].queue) if key in self._lanes else 0

    @property
    def waiting(self) -> bool:
        """Whether `take` has something to give."""
        return any(lane.queue for lane in self._lanes.values())

    @property
    def busy(self) -> bool:
        """Whether any job is queued or running."""
        return any(lane.queue or lane.running for lane in self._lanes.values())

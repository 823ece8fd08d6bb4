"""Clocks for `drba.stages`: seconds by stage, of one thread's work, on the processor or on a CUDA device."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: What belongs to no stage: waiting, Python between the stages, gaps on the device.
OTHER = "other"


class HostClock:
    """Seconds by stage by `time.perf_counter`. Every moment counts for the innermost stage that it lies in."""

    def __init__(self) -> None:
        self._names = [OTHER]
        self._marks: list[tuple[Any, str]] = [(self._now(), OTHER)]  # (when, what goes on from then)

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        self._names.append(name)
        self._marks.append((self._now(), name))
        try:
            yield
        finally:
            self._names.pop()
            self._marks.append((self._now(), self._names[-1]))

    def seconds(self) -> dict[str, float]:
        """By stage, since the clock was made."""
        self._marks.append((self._now(), OTHER))
        self._finish()
        spent: defaultdict[str, float] = defaultdict(float)
        for (begin, name), (end, _) in zip(self._marks, self._marks[1:], strict=False):
            spent[name] += self._between(begin, end)
        return dict(spent)

    def _now(self) -> Any:
        return time.perf_counter()

    def _between(self, begin: Any, end: Any) -> float:
        return float(end - begin)

    def _finish(self) -> None:
        pass


class CudaClock(HostClock):
    """The same by events on the current stream of the calling thread: when the device got there, not the program.

    Work on other streams counts where the current stream waits for it. Stages inside a CUDA graph do not exist for a
    replay: the graph counts for the stage it is launched in.
    """

    def _now(self) -> Any:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end)) / 1000

    def _finish(self) -> None:
        import torch

        torch.cuda.synchronize()

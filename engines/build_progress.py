"""How far a build is, from phases within phases that say how many steps they have. Pure; no clock, no builder in it."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """Phases by name, as TensorRT's IProgressMonitor reports them; several threads may report at once.

    A phase within another one counts as a part of the step that its parent is at. The fraction never goes back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = _Phase(parent, max(steps, 1))

    def step(self, name: str, step: int) -> float:
        """Step number `step` (from 0) of a phase is complete; the fraction 0..1 of everything."""
        with self._lock:
            if name in self._phases:
                phase = self._phases[name]
                phase.done = min(max(phase.done, step + 1), phase.steps)
            roots = [key for key, phase in self._phases.items() if phase.parent not in self._phases]
            done = sum(self._done(root) for root in roots) / max(len(roots), 1)
            self._fraction = max(self._fraction, done)
            return self._fraction

    def finish(self, name: str) -> None:
        """Ended or cancelled. Its parent's own step counts from here on."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None and phase.parent in self._phases:
                del self._phases[name]

    def _done(self, name: str) -> float:
        phase = self._phases[name]
        inner = [self._done(key) for key, child in self._phases.items() if child.parent == name]
        part = sum(inner) / len(inner) if inner else 0.0
        return min((phase.done + part) / phase.steps, 1.0)

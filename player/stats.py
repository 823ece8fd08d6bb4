"""Counts of what the viewer was shown; the report and the statistics page read them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from .plan import Kind

GRAPH = 60  # newest in-betweens whose times are told, for a small graph


@dataclass
class Stats:
    """Output frames by kind and by level since the film was opened, and milliseconds of the newest in-betweens.

    `late` frames should have been interpolated and count as source.
    """

    source: int = 0
    interpolated: int = 0
    held: int = 0
    cut: int = 0
    reduced: int = 0
    late: int = 0
    by_level: Counter[str] = field(default_factory=Counter)
    _render_ms: deque[float] = field(default_factory=lambda: deque(maxlen=240))

    def count(self, kind: Kind, level: str) -> None:
        setattr(self, kind.value, getattr(self, kind.value) + 1)
        self.by_level[level] += 1

    def rendered(self, render_ms: float) -> None:
        self._render_ms.append(render_ms)

    def as_dict(self) -> dict[str, Any]:
        output = self.source + self.interpolated + self.held + self.cut + self.reduced
        return {
            "output_frames": output,
            "source_frames": self.source - self.late,
            "interpolated_frames": self.interpolated,
            "held_frames": self.held,
            "cut_frames": self.cut,
            "reduced_frames": self.reduced,
            "late_frames": self.late,
            "level_frames": dict(self.by_level),
            "render_ms_median": round(median(self._render_ms), 2) if self._render_ms else None,
            "render_ms": [
                round(value, 1) for value in islice(self._render_ms, max(0, len(self._render_ms) - GRAPH), None)
            ],
        }

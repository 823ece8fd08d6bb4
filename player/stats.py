"""Counts of what the viewer was shown; the report and the statistics page read them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .plan import Kind


@dataclass
class Stats:
    """Output frames by kind since the film was opened. `late` frames should have been interpolated and count as source."""

    source: int = 0
    interpolated: int = 0
    held: int = 0
    cut: int = 0
    late: int = 0
    _render_ms: deque[float] = field(default_factory=lambda: deque(maxlen=240))

    def count(self, kind: Kind) -> None:
        setattr(self, kind.value, getattr(self, kind.value) + 1)

    def rendered(self, render_ms: float) -> None:
        self._render_ms.append(render_ms)

    def as_dict(self) -> dict[str, Any]:
        output = self.source + self.interpolated + self.held + self.cut
        return {
            "output_frames": output,
            "source_frames": self.source - self.late,
            "interpolated_frames": self.interpolated,
            "held_frames": self.held,
            "cut_frames": self.cut,
            "late_frames": self.late,
            "render_ms_median": round(median(self._render_ms), 2) if self._render_ms else None,
        }

"""What happened while a film was played: counts from the bridge, timing from mpv; written as JSON at the end."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

_SUMMED = (
    "output_frames",
    "source_frames",
    "interpolated_frames",
    "held_frames",
    "cut_frames",
    "reduced_frames",
    "late_frames",
)
_LATEST = ("source_fps", "output_fps", "model", "engine", "server_restarts", "render_ms_median")


class Report:
    """Collects events from mpv's threads. All times in milliseconds unless named otherwise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._films: dict[str, dict[str, Any]] = {}
        self._av_ms: list[float] = []
        self._seeks_ms: list[float] = []
        self._toggles_ms: list[float] = []
        self._dropped: dict[str, int] = {}
        self._seek_began: float | None = None
        self._toggle_began: float | None = None

    def stats(self, text: str) -> None:
        """The bridge's `drba-stats` message."""
        data = json.loads(text)
        with self._lock:
            self._films[str(data.get("id"))] = data

    def track_switched(self) -> None:
        with self._lock:
            self._toggle_began = time.monotonic()

    def seek_began(self) -> None:
        with self._lock:
            self._seek_began = time.monotonic()

    def restarted(self) -> None:
        """mpv shows pictures again after a seek or a change of tracks."""
        with self._lock:
            now = time.monotonic()
            if self._toggle_began is not None:
                self._toggles_ms.append((now - self._toggle_began) * 1000)
            elif self._seek_began is not None:
                self._seeks_ms.append((now - self._seek_began) * 1000)
            self._toggle_began = self._seek_began = None

    def sample(self, av_difference_s: float | None, dropped: dict[str, int | None]) -> None:
        """Called a few times a second while the film plays."""
        with self._lock:
            if av_difference_s is not None and self._seek_began is None and self._toggle_began is None:
                self._av_ms.append(abs(av_difference_s) * 1000)
            for name, value in dropped.items():
                if value is not None:
                    self._dropped[name] = max(self._dropped.get(name, 0), value)

    def as_dict(self) -> dict[str, Any]:
        with self._lock:
            films = list(self._films.values())
            latest = films[-1] if films else {}
            return {
                **{name: latest.get(name) for name in _LATEST},
                **{name: sum(film.get(name, 0) for film in films) for name in _SUMMED},
                "level_shares": _shares([film.get("level_frames", {}) for film in films]),
                "levels": [
                    {"film": name, "time_s": time_s, "level": level, "why": why}
                    for name, film in self._films.items()
                    for time_s, level, why in film.get("levels", [])
                ],
                "mpv_dropped_frames": sum(self._dropped.values()),
                "mpv_dropped_by_output": self._dropped.get("vo", 0),
                "mpv_dropped_by_decoder": self._dropped.get("decoder", 0),
                "av_difference_ms": {
                    "median": _rounded(median(self._av_ms)) if self._av_ms else None,
                    "p95": _rounded(percentile(self._av_ms, 95)),
                    "max": _rounded(max(self._av_ms, default=None)),
                    "samples": len(self._av_ms),
                },
                "seeks_ms": [_rounded(value) for value in self._seeks_ms],
                "toggles_ms": [_rounded(value) for value in self._toggles_ms],
            }

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")

    def summary(self) -> str:
        """A few lines for a terminal."""
        data = self.as_dict()
        if not data["output_frames"]:
            return "DRBA showed no frames."
        av = data["av_difference_ms"]
        difference = (
            f"median {av['median']} ms, p95 {av['p95']} ms" if av["samples"] else "unknown (no sound was played)"
        )
        lines = (
            f"{data['source_fps']:.3f} -> {data['output_fps']:.3f} fps with {data['model']} on {data['engine']}: "
            f"{data['output_frames']} frames, {data['interpolated_frames']} interpolated, {data['held_frames']} held, "
            f"{data['cut_frames']} at cuts, {data['late_frames']} late.\n"
            f"mpv dropped {data['mpv_dropped_frames']}; A/V difference {difference}."
        )
        shares = data["level_shares"]
        if len(shares) > 1:
            lines += "\nLevels: " + ", ".join(f"{level} {share:.0%}" for level, share in shares.items()) + "."
        return lines


def _shares(by_film: Sequence[dict[str, int]]) -> dict[str, float]:
    """Share of all frames (0..1) that were shown at each level."""
    frames: Counter[str] = Counter()
    for counted in by_film:
        frames.update(counted)
    return {level: round(count / frames.total(), 4) for level, count in frames.most_common()}


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of the values do not exceed; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)

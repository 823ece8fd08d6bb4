"""What worked on this machine: the level that a kind of film was played at longest, and what in-betweens cost at best."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from drba.kept import KeptFacts
from drba.pixels import FrameLayout

from .levels import ModelAtScale

log = logging.getLogger(__name__)

KINDS = 200  # of film, newest last; more are forgotten


@dataclass(frozen=True)
class Remembered:
    """`level` by name, empty where nothing is remembered; milliseconds by renderer; use of the time by level."""

    level: str = ""
    calm_ms: Mapping[ModelAtScale, float] = field(default_factory=dict)
    worked: Mapping[str, float] = field(default_factory=dict)


def film_kind(renderer: ModelAtScale, source: Fraction, output: Fraction, layout: FrameLayout, server: str = "") -> str:
    """What a memory is of: this machine and the one that renders, the best renderer, the picture's size and both rates."""
    size = f"{layout.width}x{layout.height}/{layout.format.name}"
    rates = f"{float(source):.3f}-{float(output):.3f}"
    at = f"@{server}" if server else ""
    return f"{platform.node()}{at}/{os.cpu_count()}/{renderer.model}/{renderer.scale:g}/{size}/{rates}"


class LevelMemory:
    """A small JSON file beside the calibration; one that cannot be read or written, or is damaged, only means that films begin
    at the best level."""

    def __init__(self) -> None:
        self.facts = KeptFacts("levels.json")

    def recall(self, kind: str) -> Remembered:
        entry = self.facts.read().get(kind, {})
        try:
            calm_ms = {ModelAtScale(str(model), float(scale)): float(ms) for model, scale, ms in entry["calm_ms"]}
            worked = {str(level): float(use) for level, use in entry["worked"].items()}
            return Remembered(str(entry["level"]), calm_ms, worked)
        except (AttributeError, KeyError, TypeError, ValueError):
            return Remembered()

    def keep(self, kind: str, what: Remembered) -> None:
        entries: dict[str, Any] = self.facts.read()
        entries.pop(kind, None)
        calm_ms = [[renderer.model, renderer.scale, round(ms, 2)] for renderer, ms in what.calm_ms.items()]
        worked = {level: round(use, 3) for level, use in what.worked.items()}
        entries[kind] = {"level": what.level, "calm_ms": calm_ms, "worked": worked}
        self.facts.write(dict(list(entries.items())[-KINDS:]))

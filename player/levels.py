"""The levels of quality that a film can be played at, from the best down to its source frames: data, made once for a film."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from drba.errors import InputError
from drba.pixels import FrameLayout

from .plan import Drawn

#: Processor milliseconds of the flow-only model for one in-between (docs/performance.md): analysis, which depends on the flow
#: scale, and warping a million samples of luma. Only their relation matters here.
FLOW_ANALYSIS_MS, FLOW_WARP_MS = 6.5, 14.5
#: A level that is not at least this much cheaper than the one above it is none.
WORTHWHILE = 0.85


class Mode(enum.Enum):
    """Who chooses the level: the controller (auto), or the viewer, who fixes one."""

    AUTO = "auto"
    QUALITY = "quality"  # the best
    BALANCED = "balanced"  # the one below the best
    FAST = "fast"  # the cheapest that still interpolates
    SOURCE = "source"  # source frames


@dataclass(frozen=True)
class ModelAtScale:
    """What a session at the server is opened for: a model and its optical flow scale."""

    model: str
    scale: float


@dataclass(frozen=True)
class Level:
    """`renderer` draws the in-betweens that `drawn` says, `per_s` of them in a second of moving film, `workers` at once."""

    name: str
    drawn: Drawn
    renderer: ModelAtScale | None = None  # None: source frames only
    per_s: float = 0.0
    workers: int = 1

    def use(self, cost_ms: float, speed: float = 1.0) -> float:
        """Share of the time that rendering takes where one in-between costs `cost_ms`; above 1 it falls behind."""
        return self.per_s * speed * cost_ms / 1000 / self.workers


SOURCE_LEVEL = Level("source", Drawn.NONE)


def ladder(
    model: str, scale: float, source_rate: Fraction, output_rate: Fraction, layout: FrameLayout, workers: int
) -> tuple[Level, ...]:
    """The levels of a film whose best one is `model` at `scale`, best first; the last is source frames only.

    `workers`: how many in-betweens the flow-only model renders at once. A network has the device to itself.
    """
    every_s, doubled_s = in_betweens_per_s(source_rate, output_rate), float(source_rate)
    fewer = doubled_s <= WORTHWHILE * every_s
    levels: list[Level] = []
    flow_scale = scale
    if model != "flow":
        best = ModelAtScale(model, scale)
        levels.append(Level(model, Drawn.ALL, best, every_s))
        if fewer:
            levels.append(Level(f"{model} at 2x", Drawn.DOUBLED, best, doubled_s))
        levels.append(Level(f"{model}, coarse flow", Drawn.ALL, ModelAtScale(model, scale / 2), every_s))
        flow_scale = 1.0
    flow = ModelAtScale("flow", flow_scale)
    levels.append(Level("flow", Drawn.ALL, flow, every_s, workers))
    if flow_cost(layout, flow_scale / 2) <= WORTHWHILE * flow_cost(layout, flow_scale):
        levels.append(Level("flow, coarse", Drawn.ALL, ModelAtScale("flow", flow_scale / 2), every_s, workers))
    if fewer:
        levels.append(Level("flow at 2x", Drawn.DOUBLED, flow, doubled_s, workers))
    return (*levels, SOURCE_LEVEL)


def in_betweens_per_s(source_rate: Fraction, output_rate: Fraction) -> float:
    """Output frames a second that do not fall on a source frame: with output / source = p / q, all but one of p."""
    return float(output_rate * (1 - Fraction(1, (output_rate / source_rate).numerator)))


def flow_cost(layout: FrameLayout, scale: float) -> float:
    """Of an in-between by the flow-only model, for comparing scales."""
    return FLOW_ANALYSIS_MS * scale**2 + FLOW_WARP_MS * layout.width * layout.height / 1e6


def parse_mode(text: str) -> Mode:
    """InputError names what there is."""
    try:
        return Mode(text)
    except ValueError:
        modes = ", ".join(mode.value for mode in Mode)
        raise InputError(f"quality is {text!r}; expected one of {modes}") from None


def level_for(mode: Mode, levels: Sequence[Level]) -> int:
    """Place of the level that a mode fixes; 0, the best, for Mode.AUTO to begin with."""
    drawing = len(levels) - 1
    if mode is Mode.SOURCE:
        return drawing
    if mode is Mode.FAST:
        return drawing - 1
    if mode is Mode.BALANCED:
        return min(1, drawing - 1)
    return 0

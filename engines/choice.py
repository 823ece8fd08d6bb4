"""Which model plays when nobody named one: the best installed one that is fast enough, as measured on this machine.

An engine that can run a model but not fast enough passes it on to the next engine, and then to the next model.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from drba import weights
from drba.errors import DrbaError
from drba.models import ModelSpec, find

from .base import LocalRenderer, StreamSpec
from .calibration import Calibration, limit_ms
from .registry import Engine

log = logging.getLogger(__name__)

#: Best first. GMFSS is for study and rendering: no card plays it. The last is in the package: there is always one.
CANDIDATES = (
    "rife-4.26.heavy",
    "rife-4.26",
    "rife-4.25",
    "distil-drba-v1",
    "rife-4.25.lite",
    "distil-drba-v2-lite",
    "rife-4.6",
    "drba-small",
)
#: Milliseconds of one core for a million pixels that no network of PyTorch gets below on a processor: a quarter of what
#: drba-small, the lightest, takes on an AMD EPYC (300 to 380 ms of one core at 1280x720).
LEAST_CORE_MS = 80.0


@dataclass(frozen=True)
class FastEnough:
    """A model with what plays it, and the better engine that would have to be built for it, if there is one."""

    model: ModelSpec
    renderer: LocalRenderer
    to_build: Engine | None


def choose(
    spec: StreamSpec, usable: Callable[[ModelSpec], Iterable[Engine]], *, measure: bool = True
) -> FastEnough | str | None:
    """The best model that is fast enough on one of its `usable` engines (best first), or else in one line why the
    flow-only interpolator is the best there is. None where that has to be measured yet and `measure` is False.

    Nothing is imported or measured where no candidate is installed, or none can be fast enough. An engine that would have to
    be built first does not count: how fast it will be is not known, and a build of minutes may be for nothing.
    """
    installed = [model for model in map(find, CANDIDATES) if weights.is_installed(model)]
    if not installed:
        return f"no network is installed: drba models fetch {CANDIDATES[0]}"
    why_not = ""
    for model in installed:
        to_build: Engine | None = None
        for engine in usable(model):
            if reason := never_fast(spec, engine):
                why_not = why_not or f"{model.name} on {engine.name} {reason}"  # a card's own figure says more
                continue
            try:
                found = open_if_fast(spec, model, engine, measure=measure)
            except DrbaError as error:
                log.warning("%s on %s: %s", model.name, engine.name, error)
                why_not = str(error)
                continue
            if found == "unmeasured":
                return None
            if isinstance(found, float):
                why_not = f"{model.name} on {engine.name} takes {found:.0f} ms, expected {limit_ms():.0f} or less"
            elif found is None:
                to_build = to_build or engine
            else:
                return FastEnough(model, found, to_build)
    return why_not


def never_fast(spec: StreamSpec, engine: Engine) -> str:
    """Why no network can be fast enough on an engine, without trying; empty where one may be."""
    if engine.name != "torch-cpu":
        return ""
    pixels, cores = spec.layout.width * spec.layout.height * min(1.0, spec.scale) ** 2, os.cpu_count() or 1
    least_ms = LEAST_CORE_MS * pixels / 1e6 / cores
    if least_ms <= limit_ms():
        return ""
    return f"takes more than {least_ms:.0f} ms with {cores} cores, expected {limit_ms():.0f} or less"


def open_if_fast(
    spec: StreamSpec, model: ModelSpec, engine: Engine, *, measure: bool = True
) -> LocalRenderer | float | Literal["unmeasured"] | None:
    """The renderer, or its milliseconds an in-between where that is too slow for playing, or None where the engine has to
    be built first. What was too slow before is not even opened. Where `measure` is False, neither is what has not been
    measured yet, unless it opens fast, as what was built and what needs no torch does: that is measured on the way.
    """
    calibration = Calibration()
    milliseconds = calibration.known_ms(spec, model, engine)
    if milliseconds is not None and milliseconds > limit_ms():
        return milliseconds
    if milliseconds is None and not measure and engine.build is None and engine.name != "cpu":
        return "unmeasured"
    renderer = engine.open(spec, model)
    if renderer is None:
        return None
    if milliseconds is None:
        milliseconds = calibration.measure(spec, model, engine, renderer)
    if milliseconds <= limit_ms():
        return renderer
    renderer.close()
    return milliseconds

"""Which model `auto` means: the best one that is installed and, measured on this machine, fast enough."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from drba import weights
from drba.errors import DrbaError
from drba.models import ModelSpec, find

from .base import LocalRenderer, StreamSpec
from .calibration import Calibration, limit_ms
from .registry import Engine

log = logging.getLogger(__name__)

#: Best first. GMFSS is for study and rendering: no card plays it.
CANDIDATES = (
    "rife-4.26.heavy",
    "rife-4.26",
    "rife-4.25",
    "distil-drba-v1",
    "rife-4.25.lite",
    "distil-drba-v2-lite",
    "rife-4.6",
)


@dataclass(frozen=True)
class FastEnough:
    """A model with what plays it, and the better engine that would have to be built for it, if there is one."""

    model: ModelSpec
    renderer: LocalRenderer
    to_build: Engine | None


def choose(spec: StreamSpec, usable: Callable[[ModelSpec], Iterable[Engine]]) -> FastEnough | str:
    """The best model that is fast enough on one of its `usable` engines (best first), or else in one line why the
    flow-only interpolator is the best there is.

    Nothing is imported or measured where no candidate is installed. An engine that would have to be built first does not
    count: how fast it will be is not known, and a build of minutes may be for nothing.
    """
    installed = [model for model in map(find, CANDIDATES) if weights.is_installed(model)]
    if not installed:
        return f"no network is installed: drba models fetch {CANDIDATES[0]}"
    why_not = ""
    for model in installed:
        to_build: Engine | None = None
        for engine in usable(model):
            try:
                found = open_if_fast(spec, model, engine)
            except DrbaError as error:
                log.warning("%s on %s: %s", model.name, engine.name, error)
                why_not = str(error)
                continue
            if isinstance(found, float):
                why_not = f"{model.name} on {engine.name} takes {found:.0f} ms, expected {limit_ms():.0f} or less"
            elif found is None:
                to_build = to_build or engine
            else:
                return FastEnough(model, found, to_build)
    return why_not


def open_if_fast(spec: StreamSpec, model: ModelSpec, engine: Engine) -> LocalRenderer | float | None:
    """The renderer, or its milliseconds an in-between where that is too slow for playing, or None where the engine has to
    be built first. What was too slow before is not even opened.
    """
    calibration = Calibration()
    milliseconds = calibration.known_ms(spec, model, engine)
    if milliseconds is not None and milliseconds > limit_ms():
        return milliseconds
    renderer = engine.open(spec, model)
    if renderer is None:
        return None
    if milliseconds is None:
        milliseconds = calibration.measure(spec, model, engine, renderer)
    if milliseconds <= limit_ms():
        return renderer
    renderer.close()
    return milliseconds

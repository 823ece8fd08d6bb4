"""From a stream's specification to its renderer: on which engine, why not on a better one, and what plays meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from drba.errors import DrbaError, EngineError, InputError
from drba.models import ModelSpec, find

from .base import LocalRenderer, StreamSpec
from .calibration import warm_up
from .choice import choose, open_if_fast
from .registry import AUTO, ENGINES, Engine, check_engine, open_flow
from .swap import SwappingRenderer

log = logging.getLogger(__name__)


def open_renderer(spec: StreamSpec, engines: Sequence[Engine] = ENGINES) -> SwappingRenderer:
    """Make the renderer of a stream; `engines` is the registry.

    InputError where the engine does not exist or cannot run here or with this model; ModelError where the model does not
    exist, its weights are missing or do not fit.
    """
    check_engine(spec.engine, engines)
    if spec.model != AUTO:
        return _open_model(spec, find(spec.model), engines)
    chosen = choose(spec, lambda model: usable(spec, model, engines)[0])
    if isinstance(chosen, str):
        return SwappingRenderer(open_flow(spec), _described("flow", "cpu", chosen))
    _, reasons = usable(spec, chosen.model, engines)
    return _begin(chosen.renderer, spec, chosen.model, reasons, chosen.to_build)


def _open_model(spec: StreamSpec, model: ModelSpec, engines: Sequence[Engine]) -> SwappingRenderer:
    fitting, reasons = usable(spec, model, engines)
    if not fitting:
        raise InputError(f"model {model.name}: {_joined(reasons)}; or use --engine auto")
    for engine in fitting:
        try:
            renderer = engine.open(spec, model)
            if renderer is not None:
                return _begin(renderer, spec, model, reasons)
            return _begin(_meanwhile(spec, model, engine, engines), spec, model, reasons, engine)
        except DrbaError as error:
            if engine is fitting[-1]:
                raise
            log.warning("%s on %s: %s", model.name, engine.name, error)
            reasons[engine.name] = str(error)
    raise AssertionError("the last engine returns or raises")


def usable(spec: StreamSpec, model: ModelSpec, engines: Sequence[Engine]) -> tuple[list[Engine], dict[str, str]]:
    """The engines that can run a model here, best first, and why those that would be better than the first one cannot.

    Where `spec` names an engine there are no others.
    """
    fitting: list[Engine] = []
    reasons: dict[str, str] = {}
    for engine in engines:
        if spec.engine not in (AUTO, engine.name):
            continue
        reason = engine.supports(model, spec) or engine.missing()
        if not reason:
            fitting.append(engine)
        elif not fitting:
            reasons[engine.name] = reason
    return fitting, reasons


def _meanwhile(spec: StreamSpec, model: ModelSpec, to_build: Engine, engines: Sequence[Engine]) -> LocalRenderer:
    """What plays until an engine is built: the model itself on another engine of the same device if that is fast enough,
    else the flow-only interpolator."""
    for engine in engines:
        if engine is to_build or engine.device != to_build.device or engine.supports(model, spec) or engine.missing():
            continue
        try:
            found = open_if_fast(spec, model, engine)
        except DrbaError as error:
            log.warning("%s on %s: %s", model.name, engine.name, error)
            continue
        if found is not None and not isinstance(found, float):
            return found
    return open_flow(spec)


def _begin(
    renderer: LocalRenderer,
    spec: StreamSpec,
    model: ModelSpec,
    reasons: Mapping[str, str],
    to_build: Engine | None = None,
) -> SwappingRenderer:
    why_not = "" if model.family == "flow" else _joined(reasons)
    stream = SwappingRenderer(renderer, _described(renderer.model, renderer.engine, why_not))
    log.info("%s", stream.state.note)
    if to_build is not None and to_build.build is not None:
        engine = to_build

        def open_built() -> LocalRenderer:
            built = engine.open(spec, model)
            if built is None:
                raise EngineError(f"{model.name} for {engine.name} is not in the engine cache, although it was built")
            warm_up(built, spec.layout)  # before the film needs it
            return built

        stream.replace_when_built(to_build.build(spec, model), open_built)
    return stream


def _described(model: str, engine: str, why_not: str) -> str:
    return f"{model} on {engine}" + (f" ({why_not})" if why_not else "")


def _joined(reasons: Mapping[str, str]) -> str:
    """`tensorrt, torch-cuda: no NVIDIA driver is installed; ...`: each reason once."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(engines)}: {reason}" for reason, engines in names.items())

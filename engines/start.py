"""From a stream's specification to its renderer: on which engine, why not on a better one, and what plays meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from drba.errors import DrbaError, EngineError, InputError
from drba.models import ModelSpec, find

from .base import LocalRenderer, StreamSpec
from .calibration import warm_up
from .choice import choose, open_if_fast
from .measuring import Measurement, measure_in_background
from .registry import AUTO, ENGINES, Engine, check_engine, open_flow
from .swap import SwappingRenderer

log = logging.getLogger(__name__)


def open_renderer(spec: StreamSpec, engines: Sequence[Engine] = ENGINES, *, at_once: bool = False) -> SwappingRenderer:
    """Make the renderer of a stream; `engines` is the registry. Where it has to be measured first which model is fast enough,
    that is done first, or with `at_once` while the flow-only interpolator plays.

    InputError where the engine does not exist or cannot run here or with this model; ModelError where the model does not
    exist, its weights are missing or do not fit.
    """
    check_engine(spec.engine, engines)
    if spec.model != AUTO:
        return _open_model(spec, find(spec.model), engines)
    chosen = choose(spec, lambda model: usable(spec, model, engines)[0], measure=not at_once)
    if chosen is None:
        return _flow_until_measured(spec, engines)
    if isinstance(chosen, str):
        return SwappingRenderer(open_flow(spec), _described("flow", "cpu", chosen))
    _, reasons = usable(spec, chosen.model, engines)
    return _begin(chosen.renderer, spec, chosen.model, reasons, chosen.to_build)


def _flow_until_measured(spec: StreamSpec, engines: Sequence[Engine]) -> SwappingRenderer:
    stream = SwappingRenderer(open_flow(spec), _described("flow", "cpu", Measurement.message))
    log.info("%s", stream.state.note)
    to_build: list[tuple[Engine, ModelSpec]] = []

    def open_chosen() -> LocalRenderer | str:
        chosen = choose(spec, lambda model: usable(spec, model, engines)[0], measure=False)
        if chosen is None or isinstance(chosen, str):
            return _described("flow", "cpu", chosen or "how fast the networks are could not be measured; see drba logs")
        if chosen.to_build is not None:
            to_build.append((chosen.to_build, chosen.model))
        warm_up(chosen.renderer, spec.layout)  # before the film needs it
        return chosen.renderer

    def build() -> None:
        for engine, model in to_build:
            _build(stream, spec, model, engine)

    stream.replace_when_built(measure_in_background(spec), open_chosen, build)
    return stream


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
        if found is not None and not isinstance(found, (float, str)):
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
    if to_build is not None:
        _build(stream, spec, model, to_build)
    return stream


def _build(stream: SwappingRenderer, spec: StreamSpec, model: ModelSpec, engine: Engine) -> None:
    """Begin to build an engine, which takes over when it is ready."""
    if engine.build is None:
        return

    def open_built() -> LocalRenderer:
        built = engine.open(spec, model)
        if built is None:
            raise EngineError(f"{model.name} for {engine.name} is not in the engine cache, although it was built")
        warm_up(built, spec.layout)  # before the film needs it
        return built

    stream.replace_when_built(engine.build(spec, model), open_built)


def _described(model: str, engine: str, why_not: str) -> str:
    return f"{model} on {engine}" + (f" ({why_not})" if why_not else "")


def _joined(reasons: Mapping[str, str]) -> str:
    """`tensorrt, torch-cuda: no NVIDIA driver is installed; ...`: each reason once."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(engines)}: {reason}" for reason, engines in names.items())

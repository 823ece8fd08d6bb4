"""Which engines of the registry a model is measured on, and opening one: built first where it has to be."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from drba.errors import DrbaError, InputError
from drba.models import ModelSpec
from drba.pixels import FrameLayout, pixel_format
from engines import ENGINES, Engine, Renderer, StreamSpec


def named(names: Sequence[str]) -> list[Engine]:
    """The engines of these names, all where none is named; InputError for a name that does not exist."""
    known = {engine.name: engine for engine in ENGINES}
    for name in names:
        if name not in known:
            raise InputError(f"engine {name!r} does not exist; expected one of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] or list(ENGINES)


_ANY = StreamSpec(FrameLayout(1280, 720, pixel_format("yuv420p")))  # no engine asks for more than the model so far


def supports(engine: Engine, model: ModelSpec) -> bool:
    return not engine.supports(model, _ANY)


def why_not(engine: Engine, model: ModelSpec) -> str:
    """In one line why an engine cannot run a model here; empty where it can."""
    return engine.supports(model, _ANY) or engine.missing()


def open_engine(engine: Engine, spec: StreamSpec, model: ModelSpec) -> Renderer:
    """Without the stand-ins that playing has: what is measured is this engine. DrbaError where it cannot be built."""
    renderer = engine.open(spec, model)
    if renderer is None and engine.build is not None:
        build, changed = engine.build(spec, model), threading.Event()
        build.watch(changed.set)
        while build.state not in ("done", "failed", "cancelled"):
            changed.wait()
            changed.clear()
        if build.state != "done":
            raise DrbaError(f"engine {engine.name}: {build.message}")
        renderer = engine.open(spec, model)
    if renderer is None:
        raise DrbaError(f"engine {engine.name}: {model.name} is not in the engine cache, although it was built")
    return renderer

"""Engines that are built before they play: which are missing on this machine, and building them while somebody watches."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from drba.models import ModelSpec
from drba.pixels import FrameLayout, pixel_format
from engines import ENGINES, Engine, StreamSpec
from engines.shared_builds import ENDED
from engines.start import usable

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
LOOK_S = 0.5


def stream_spec(size: str, model: str = "auto") -> StreamSpec:
    """What most films of that size are: 8 bit, 4:2:0."""
    return StreamSpec(FrameLayout(*SIZES[size], pixel_format("yuv420p")), "bt709", model=model)


def missing_builds(
    models: Iterable[ModelSpec], engines: Sequence[Engine] = ENGINES
) -> list[tuple[ModelSpec, str, Engine]]:
    """(model, size, engine) where the best engine for a model here has to be built first and is not."""
    missing = []
    for model in models:
        for size in SIZES:
            spec = stream_spec(size, model.name)
            best = next(iter(usable(spec, model, engines)[0]), None)
            if best is not None and best.build is not None and not _is_built(best, spec, model):
                missing.append((model, size, best))
    return missing


def _is_built(engine: Engine, spec: StreamSpec, model: ModelSpec) -> bool:
    """It opens where it is."""
    renderer = engine.open(spec, model)
    if renderer is not None:
        renderer.close()
    return renderer is not None


def build(model: ModelSpec, size: str, engine: Engine) -> str:
    """Build one of `missing_builds`, with its progress on a terminal; empty, or in a line why it failed."""
    from rich.console import Console

    assert engine.build is not None
    running = engine.build(stream_spec(size, model.name), model)
    changed = threading.Event()
    running.watch(changed.set)
    try:
        with Console(stderr=True).status(running.message) as status:
            while running.state not in ENDED:
                changed.wait(LOOK_S)
                changed.clear()
                status.update(f"{running.message} ({running.progress:.0%})")
    except KeyboardInterrupt:
        running.cancel()
        raise
    return "" if running.state == "done" else running.message

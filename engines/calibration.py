"""How long an engine takes for an in-between on this machine: measured once, then remembered."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterator

import numpy as np

from drba.kept import KeptFacts
from drba.models import ModelSpec
from drba.pixels import FrameLayout

from .base import Renderer, SourceFrame, StreamSpec, Triplet
from .cards import find_cards
from .registry import Engine

log = logging.getLogger(__name__)

#: In-betweens a second that playing needs: 24 -> 60 fps asks for 48, and decoding and hand-over want their share.
NEEDED_PER_SECOND = 60
WARM_UP, MEASURED = 2, 3  # triplets
IN_BETWEENS = 2  # a triplet
HOPELESS = 20  # times too slow: more than one measurement would only hold the viewer up


def limit_ms() -> float:
    """The longest an in-between may take in play."""
    return 1000 / NEEDED_PER_SECOND


class Calibration:
    """Milliseconds by machine, device, engine, model and size in a small JSON file; a file that cannot be read or written
    only costs a new measurement."""

    def __init__(self) -> None:
        self._kept = KeptFacts("calibration.json")

    def known_ms(self, spec: StreamSpec, model: ModelSpec, engine: Engine) -> float | None:
        """None where it was not measured yet."""
        value = self._kept.read().get(_key(spec, model, engine))
        return value if isinstance(value, float) else None

    def measure(self, spec: StreamSpec, model: ModelSpec, engine: Engine, renderer: Renderer) -> float:
        """Measure a renderer, and remember it."""
        milliseconds = round(measure_ms(renderer, spec.layout), 2)
        key = _key(spec, model, engine)
        log.info("%.1f ms an in-between: %s", milliseconds, key)
        self._kept.write({**self._kept.read(), key: milliseconds})
        return milliseconds


def _key(spec: StreamSpec, model: ModelSpec, engine: Engine) -> str:
    device = f"{os.cpu_count()} cores"
    if engine.device == "cuda" and (cards := find_cards()[0]):
        device = cards[0].name or f"card {cards[0].pin}"
    size = f"{spec.layout.width}x{spec.layout.height}"
    return f"{platform.node()}/{device}/{engine.name}/{model.name}/{size}/{spec.scale:g}"


def measure_ms(renderer: Renderer, layout: FrameLayout) -> float:
    """Milliseconds an in-between of generated moving frames, two a triplet; stops early where it is hopeless. The least of
    several triplets: what else the machine does at the moment, such as playing the film, must not be held against the
    model for good, while a level that turns out too slow is left within a second."""
    took_ms = []
    for took_s in _timed(renderer, layout, WARM_UP + MEASURED):
        took_ms.append(took_s * 1000 / IN_BETWEENS)
        # not after the first one, which may have loaded and captured what it needs
        if len(took_ms) > 1 and took_ms[-1] > HOPELESS * limit_ms():
            return took_ms[-1]
    return min(took_ms[WARM_UP:])


def warm_up(renderer: Renderer, layout: FrameLayout) -> None:
    """Have it load and capture what the first triplets need."""
    for _ in _timed(renderer, layout, WARM_UP):
        pass


def _timed(renderer: Renderer, layout: FrameLayout, triplets: int) -> Iterator[float]:
    """Render triplets of generated frames one after the other; the seconds that each took."""
    rng = np.random.default_rng(1)
    texture = rng.integers(0, layout.format.max_value + 1, (layout.height + 64, layout.width + 64))
    frames = []
    for number in range(triplets + 2):
        planes = layout.views(bytearray(layout.frame_bytes))
        for plane in planes:
            plane[:] = texture[number : number + plane.shape[0], : plane.shape[1]]
        # Numbers that no stream has: what a renderer keeps of these frames must never stand for a film's.
        frames.append(SourceFrame(number - 1000, planes))
    outputs = [layout.views(bytearray(layout.frame_bytes)) for _ in range(IN_BETWEENS)]
    for k in range(triplets):
        began = time.perf_counter()
        renderer.render(Triplet(frames[k], frames[k + 1], frames[k + 2]), (0.75, 1.25), outputs)
        yield time.perf_counter() - began

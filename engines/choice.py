"""Which model `auto` means: the best one that is installed and, measured on this machine, fast enough."""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import platformdirs

from drba import weights
from drba.errors import DrbaError
from drba.models import ModelSpec, find
from drba.pixels import FrameLayout

from .base import Renderer, SourceFrame, StreamSpec, Triplet

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
#: In-betweens a second that playing needs: 24 -> 60 fps asks for 48, and decoding and hand-over want their share.
NEEDED_PER_SECOND = 60
WARM_UP, MEASURED = 2, 3
CACHE_DIR_ENV = "DRBA_CACHE_DIR"

Open = Callable[[StreamSpec, ModelSpec], Renderer]


def choose(spec: StreamSpec, open_network: Open) -> Renderer | None:
    """The renderer of the best fast enough model, or None where the flow-only interpolator is the best there is.

    Nothing is imported or measured where no candidate is installed. Measurements are kept by machine, model and size.
    """
    installed = [model for model in map(find, CANDIDATES) if weights.is_installed(model)]
    cache = _Cache()
    for model in installed:
        key = f"{platform.node()}/{os.cpu_count()}/{model.name}/{spec.layout.width}x{spec.layout.height}/{spec.scale:g}"
        known_ms = cache.get(key)
        if known_ms is not None and known_ms > 1000 / NEEDED_PER_SECOND:
            continue
        try:
            renderer = open_network(spec, model)
            if known_ms is None:
                known_ms = measure_ms(renderer, spec.layout)
                cache.put(key, known_ms)
                log.info("%s on %s: %.1f ms an in-between at %s", model.name, renderer.engine, known_ms, key)
        except DrbaError as error:
            log.warning("%s", error)
            continue
        if known_ms <= 1000 / NEEDED_PER_SECOND:
            return renderer
        renderer.close()
    return None


def measure_ms(renderer: Renderer, layout: FrameLayout) -> float:
    """Median milliseconds an in-between of generated moving frames, two a triplet; stops early where it is hopeless."""
    rng = np.random.default_rng(1)
    texture = rng.integers(0, layout.format.max_value + 1, (layout.height + 64, layout.width + 64))
    frames = []
    for number in range(WARM_UP + MEASURED + 2):
        planes = layout.views(bytearray(layout.frame_bytes))
        for plane in planes:
            plane[:] = texture[number : number + plane.shape[0], : plane.shape[1]]
        frames.append(SourceFrame(number, planes))
    outputs = [layout.views(bytearray(layout.frame_bytes)) for _ in range(2)]
    took_ms = []
    for k in range(WARM_UP + MEASURED):
        began = time.perf_counter()
        renderer.render(Triplet(frames[k], frames[k + 1], frames[k + 2]), (0.75, 1.25), outputs)
        took_ms.append((time.perf_counter() - began) * 1000 / len(outputs))
        if took_ms[-1] > 20 * 1000 / NEEDED_PER_SECOND:
            return took_ms[-1]
    return median(took_ms[WARM_UP:])


class _Cache:
    """Milliseconds by key in a small JSON file; a file that cannot be read or written only costs a new measurement."""

    def __init__(self) -> None:
        folder = os.environ.get(CACHE_DIR_ENV) or platformdirs.user_cache_dir("drba-player", appauthor=False)
        self._path = Path(folder) / "calibration.json"

    def get(self, key: str) -> float | None:
        value = self._read().get(key)
        return value if isinstance(value, float) else None

    def put(self, key: str, value: float) -> None:
        data = {**self._read(), key: round(value, 2)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                json.dump(data, file, indent=1)
            os.replace(file.name, self._path)
        except OSError as error:
            log.warning("the calibration cannot be kept in %s: %s", self._path, error.strerror)

    def _read(self) -> dict[str, object]:
        try:
            data = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

"""A drba-server whose renderers fail as the file $DRBA_TEST_FAULT says, at every request anew; empty: they do not.

`raise`; `memory`: as PyTorch does where a card has none left; `hang`: until the file says something else; `size`: frames of
other sizes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import engines
from drba.pixels import Plane
from engines.base import StreamSpec, Triplet
from server.main import main

FAULT = Path(os.environ["DRBA_TEST_FAULT"])


class OutOfMemoryError(RuntimeError):
    """By its name and text PyTorch's."""


def fault() -> str:
    return FAULT.read_text() if FAULT.exists() else ""


class FaultyRenderer:
    """Between the server and a stream's renderer."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def watch(self, changed: Callable[[], None]) -> None:
        self._inner.watch(changed)

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        match fault():
            case "raise":
                raise RuntimeError("the device is on fire")
            case "memory":
                raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            case "hang":
                while fault() == "hang":
                    time.sleep(0.01)
            case "size":
                for planes in outputs:
                    for plane in planes:
                        plane[:] = np.zeros((plane.shape[0] + 2, plane.shape[1]), plane.dtype)
        self._inner.render(triplet, times, outputs)


def open_faulty(spec: StreamSpec) -> Any:
    return FaultyRenderer(engines.open_renderer(spec, at_once=True))


if __name__ == "__main__":
    sys.exit(main(open_renderer=open_faulty))

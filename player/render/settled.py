"""Waiting until a renderer stays what it is: a player goes over to a better engine when that is built, a render must not.

All frames of a film come from one model on one engine, so that a resumed render, and one on several machines, has the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from drba.errors import EngineError
from drba.models import find
from engines import EngineState, Renderer, StreamSpec
from engines.base import MEASURING
from engines.registry import AUTO

POLL_S = 0.1  # how soon the end of a build, and Ctrl+C, are noticed

R = TypeVar("R", bound="Stateful")
Say = Callable[[str], None]


class Stateful(Renderer, Protocol):
    """A renderer that says what is being built for it."""

    @property
    def state(self) -> EngineState: ...


def settled(renderer: R, spec: StreamSpec, say: Say = lambda text: None, stop: threading.Event | None = None) -> R:
    """The renderer, just opened for `spec`, when nothing is built for it any more. `stop` gives the waiting up.

    EngineError, and it is closed, where the model that was asked for is not what renders in the end.
    """
    stop = stop or threading.Event()
    building = renderer.state.building
    if building == MEASURING:
        say("measuring which network is fast enough first")
    elif building:
        say(f"building {building} for films of this size first; that takes minutes, once")
    while renderer.state.building and not stop.wait(POLL_S):
        pass
    if spec.model != AUTO and renderer.model != find(spec.model).name and not stop.is_set():
        note = renderer.state.note
        renderer.close()
        raise EngineError(f"{spec.model} cannot render: {note}; choose another --engine or --model")
    return renderer

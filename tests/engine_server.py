"""A drba-server with an engine that is built step by step, as the test writes lines into a pipe: `STATE PROGRESS TEXT`.

`first` mixes the neighbours (see fake_server.py), `built` writes the negative of that, so that a picture says which engine
made it. The pipe is $DRBA_TEST_BUILD; a server opens it with its first build, and `build N`, `cancelled N` and `closed NAME`
are appended to $DRBA_TEST_BUILD.log.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence

from fake_server import mix

import engines
from drba.models import ModelSpec
from drba.pixels import Plane
from engines import Engine, StreamRenderer, StreamSpec, Triplet
from engines.base import LocalRenderer, Motion, SharedBuild
from engines.registry import open_flow
from engines.shared_builds import SharedBuilds
from server import card_process
from server.main import main

PIPE = os.environ["DRBA_TEST_BUILD"]
#: What the two are called; pictures of the documentation call them by names that viewers see.
FIRST_NAME, BUILT_NAME = os.environ.get("DRBA_TEST_ENGINES", "first,built").split(",")


def note(line: str) -> None:
    with open(f"{PIPE}.log", "a") as file:
        file.write(f"{line}\n")


class MixRenderer:
    def __init__(self, spec: StreamSpec, model: ModelSpec, engine: str) -> None:
        self.model, self.engine = model.name, engine
        self._top = spec.layout.format.max_value

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        for at, planes in zip(times, outputs, strict=True):
            mix(triplet, at, planes)
            if self.engine == BUILT_NAME:
                for plane in planes:
                    plane[:] = self._top - plane

    def motion(self, triplet: Triplet) -> Motion | None:
        return None

    def close(self) -> None:
        note(f"closed {self.engine}")


class PipeBuild:
    """A build that the lines in the pipe take further."""

    name = BUILT_NAME

    def __init__(self) -> None:
        self.state, self.progress, self.message = "waiting", 0.0, "waits for its turn"
        self._changed: Callable[[], None] = lambda: None
        note("build")
        threading.Thread(target=self._read, daemon=True).start()

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def cancel(self) -> None:
        note("cancelled")
        self.state = "cancelled"
        self._changed()

    def _read(self) -> None:
        with open(os.open(PIPE, os.O_RDWR)) as pipe:
            while self.state not in ("done", "failed", "cancelled"):
                state, progress, text = pipe.readline().strip().split(" ", 2)
                if state == "done":
                    BUILT.set()
                self.state, self.progress, self.message = state, float(progress), text
                self._changed()


BUILDS = SharedBuilds()
BUILT = threading.Event()


def build(spec: StreamSpec, model: ModelSpec) -> SharedBuild:
    return BUILDS.join((model.name, spec.layout), PipeBuild)


def networks(model: ModelSpec, spec: StreamSpec) -> str:
    return "networks only" if model.family == "flow" else ""


def opener(name: str) -> Callable[[StreamSpec, ModelSpec], LocalRenderer]:
    return lambda spec, model: MixRenderer(spec, model, name)


def open_built(spec: StreamSpec, model: ModelSpec) -> LocalRenderer | None:
    return opener(BUILT_NAME)(spec, model) if BUILT.is_set() else None


ENGINES = (
    Engine(BUILT_NAME, "cpu", str, networks, open_built, build),
    Engine(FIRST_NAME, "cpu", str, networks, opener(FIRST_NAME)),
    Engine("cpu", "cpu", str, lambda model, spec: "" if model.family == "flow" else "no", open_flow),
)


def open_renderer(spec: StreamSpec) -> StreamRenderer:
    return engines.open_renderer(spec, ENGINES)


if __name__ == "__main__":
    if sys.argv[1:2] == ["card"]:
        card_process.main(sys.argv[2:], open_renderer=open_renderer)
    with open(os.environ["DRBA_TEST_START_LOG"], "a") as file:
        file.write(f"{os.getpid()}\n")
    sys.exit(main(open_renderer=open_renderer, card_command=[sys.executable, __file__, "card"]))

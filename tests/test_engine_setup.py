"""Building engines from `drba setup`: which are missing, waiting for them, and a build that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from drba.models import ModelSpec, find
from engines import Engine, StreamSpec
from engines.base import LocalRenderer
from engines.registry import open_flow
from player.setup.engines import build, missing_builds

MODEL = find("rife-4.26")
DEADLINE_S = 10.0


class StepwiseBuild:
    """A build in a thread, which takes the steps it is given and ends in the last one."""

    name = "built"

    def __init__(self, *states: str) -> None:
        self.state, self.progress, self.message = "waiting", 0.0, "built: waits"
        self.cancelled = False
        self._changed: Callable[[], None] = lambda: None
        self._states = states
        self._thread = threading.Thread(target=self._run)

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._thread.start()

    def _run(self) -> None:
        for number, state in enumerate(self._states, 1):
            self.progress, self.message, self.state = number / len(self._states), f"built: {state} it", state
            self._changed()

    def cancel(self) -> None:
        self.cancelled = True

    leave = cancel


def engine(name: str = "built", missing: str = "", ready: tuple[int, ...] = ()) -> Engine:
    """One that has to be built, but for heights that are `ready`."""

    def supports(model: ModelSpec, spec: StreamSpec) -> str:
        return ""

    def open_built(spec: StreamSpec, model: ModelSpec) -> LocalRenderer | None:
        return open_flow(spec) if spec.layout.height in ready else None

    return Engine(name, "cuda", lambda: missing, supports, open_built, lambda spec, model: StepwiseBuild("done"))


PLAIN = Engine("plain", "cuda", lambda: "", lambda model, spec: "", open_flow)


@pytest.mark.parametrize(
    ("engines", "expected"),
    [
        ([engine(), PLAIN], ["720p", "1080p"]),
        ([engine(ready=(720,)), PLAIN], ["1080p"]),
        ([engine(ready=(720, 1080)), PLAIN], []),
        ([engine(missing="no card"), PLAIN], []),
        ([PLAIN, engine()], []),
    ],
)
def test_only_the_best_engine_that_works_is_built(engines: list[Engine], expected: list[str]) -> None:
    found = missing_builds([MODEL], engines)
    assert [(model.name, size, engine.name) for model, size, engine in found] == [
        ("rife-4.26", size, "built") for size in expected
    ]


@pytest.mark.parametrize(
    ("states", "failure"),
    [
        (("building", "verifying", "done"), ""),
        (("building", "failed"), "built: failed it"),
        (("cancelled",), "built: cancelled it"),
    ],
)
def test_a_build_is_waited_for(states: tuple[str, ...], failure: str) -> None:
    asked: list[tuple[int, str]] = []

    def start(spec: StreamSpec, model: ModelSpec) -> StepwiseBuild:
        asked.append((spec.layout.height, spec.model))
        return StepwiseBuild(*states)

    assert build(MODEL, "1080p", replace(engine(), build=start)) == failure
    assert asked == [(1080, "rife-4.26")]

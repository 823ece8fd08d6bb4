"""A renderer that is replaced while it renders: nothing is lost, the old one is closed after its last job, failures stay."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from drba.errors import ModelError
from drba.models import ModelSpec
from drba.pixels import FrameLayout, Plane, pixel_format
from engines import Engine, EngineState, Renderer, SourceFrame, StreamSpec, Triplet, open_renderer
from engines.registry import open_flow
from engines.swap import SwappingRenderer

LAYOUT = FrameLayout(32, 32, pixel_format("gray"))
FRAMES = [SourceFrame(n, LAYOUT.views(bytearray(LAYOUT.frame_bytes))) for n in range(3)]
TRIPLET = Triplet(*FRAMES)
DEADLINE_S = 10.0


class Marking:
    """Writes its mark; a call says that it has come (`arrivals`) and waits at `gate`, which is open by default."""

    model = "rife-4.26"

    def __init__(self, engine: str, mark: int) -> None:
        self.engine = engine
        self._mark = mark
        self.arrivals = threading.Semaphore(0)
        self.gate, self.closed = threading.Event(), threading.Event()
        self.gate.set()

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        assert not self.closed.is_set(), "it is used after it was closed"
        self.arrivals.release()
        assert self.gate.wait(DEADLINE_S)
        for planes in outputs:
            planes[0][:] = self._mark

    def close(self) -> None:
        assert not self.closed.is_set(), "it is closed twice"
        self.closed.set()


class SteppedBuild:
    """A build that the test takes step by step."""

    name = "built"

    def __init__(self) -> None:
        self.state, self.progress, self.message = "waiting", 0.0, "waits for its turn"
        self.left = self.cancelled = False
        self._changed: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def step(self, state: str, progress: float = 0.0, message: str = "") -> None:
        self.state, self.progress, self.message = state, progress, message
        self._changed()

    def cancel(self) -> None:
        self.cancelled = True
        self.step("cancelled", self.progress, "cancelled by a viewer")

    def leave(self) -> None:
        self.left = True


class Stage:
    """A stream that plays with `first` while `build` is built."""

    def __init__(self, open_built: Callable[[], Renderer] | None = None) -> None:
        self.first, self.second, self.build = Marking("first", 1), Marking("built", 2), SteppedBuild()
        self.stream = SwappingRenderer(self.first, "rife-4.26 on first")
        self.told: list[EngineState] = []
        self._settled = threading.Event()
        self.stream.watch(self._changed)
        self.stream.replace_when_built(self.build, open_built or (lambda: self.second))

    def _changed(self) -> None:
        self.told.append(self.stream.state)
        if not self.stream.state.building:
            self._settled.set()

    def settle(self) -> None:
        """Until nothing is being built any more."""
        assert self._settled.wait(DEADLINE_S)

    def mark(self) -> int:
        output = LAYOUT.views(bytearray(LAYOUT.frame_bytes))
        self.stream.render(TRIPLET, [0.5], [output])
        assert output[0].min() == output[0].max()
        return int(output[0][0, 0])


def test_what_was_built_at_once_is_being_built_until_it_plays() -> None:
    gate, opened, settled = threading.Event(), Marking("built", 2), threading.Event()
    build = SteppedBuild()
    build.step("done", 1.0)

    def open_built() -> Renderer:
        assert gate.wait(DEADLINE_S)
        return opened

    stream = SwappingRenderer(Marking("first", 1), "rife-4.26 on first")
    stream.watch(settled.set)
    stream.replace_when_built(build, open_built)
    assert stream.state.building == "built"
    gate.set()
    assert settled.wait(DEADLINE_S) and (stream.state.engine, stream.state.building) == ("built", "")
    stream.close()


def test_it_renders_with_the_first_until_the_build_is_done_and_then_with_the_built_one() -> None:
    stage = Stage()
    assert stage.mark() == 1
    stage.build.step("building", 0.4, "part render, 4 of 10")
    assert stage.stream.state == EngineState("rife-4.26", "first", "part render, 4 of 10", "built", 0.4)
    assert stage.mark() == 1
    stage.build.step("done", 1.0)
    stage.settle()
    assert stage.mark() == 2
    assert stage.first.closed.wait(DEADLINE_S) and not stage.second.closed.is_set()
    assert stage.stream.state == EngineState("rife-4.26", "built", "rife-4.26 on built from here on")
    stage.stream.close()
    assert stage.second.closed.is_set()


def test_a_request_that_is_being_rendered_ends_with_the_renderer_it_began_with() -> None:
    stage = Stage()
    stage.first.gate.clear()
    with ThreadPoolExecutor() as pool:
        under_way = [pool.submit(stage.mark) for _ in range(2)]
        assert all(stage.first.arrivals.acquire(timeout=DEADLINE_S) for _ in under_way)
        stage.build.step("done", 1.0)
        stage.settle()
        assert stage.mark() == 2, "a new one does not wait for them"
        assert not stage.first.closed.is_set()
        stage.first.gate.set()
        assert [answer.result(DEADLINE_S) for answer in under_way] == [1, 1]
        assert stage.first.closed.wait(DEADLINE_S)
    stage.stream.close()


def test_many_threads_render_across_the_swap_and_none_fails() -> None:
    stage = Stage()
    half_way = threading.Barrier(5)

    def play() -> list[int]:
        before = [stage.mark() for _ in range(100)]
        half_way.wait(DEADLINE_S)
        return before + [stage.mark() for _ in range(2000)]

    with ThreadPoolExecutor(4) as pool:
        players = [pool.submit(play) for _ in range(4)]
        half_way.wait(DEADLINE_S)
        stage.build.step("done", 1.0)
        for player in players:
            marks = player.result(DEADLINE_S)
            assert marks == sorted(marks) and marks[0] == 1, "never back to the first one"
    stage.settle()
    assert stage.mark() == 2
    stage.stream.close()


def fails() -> Renderer:
    raise ModelError("the engine file is damaged")


@pytest.mark.parametrize(
    ("last", "open_built", "note"),
    [
        (("failed", "38.2 dB of PyTorch's picture, expected 45"), None, "(38.2 dB of PyTorch's picture, expected 45)"),
        (("cancelled", "cancelled"), None, "the built engine is not used (cancelled)"),
        (("done", ""), fails, "the built engine cannot be opened (the engine file is damaged)"),
    ],
    ids=["refused or failed", "cancelled", "cannot be opened"],
)
def test_what_does_not_end_well_changes_nothing_but_a_line(
    last: tuple[str, str], open_built: Callable[[], Renderer] | None, note: str
) -> None:
    stage = Stage(open_built)
    stage.build.step("building", 0.9)
    stage.build.step(last[0], 0.9, last[1])
    stage.settle()
    state = stage.stream.state
    assert (state.engine, state.building, stage.mark()) == ("first", "", 1)
    assert note in state.note and state.note.endswith("; rife-4.26 on first goes on") and "\n" not in state.note
    stage.stream.close()


def test_cancelling_is_passed_on_and_leaving_is_not_cancelling() -> None:
    stage = Stage()
    stage.stream.cancel_build()
    assert stage.build.cancelled and stage.stream.state.building == ""
    stage.stream.cancel_build()  # nothing is built any more
    stage.stream.close()
    other = Stage()
    other.stream.close()
    assert other.build.left and not other.build.cancelled and other.first.closed.is_set()


def test_a_build_that_ends_after_the_stream_has_closes_what_it_opened() -> None:
    opening, opened = threading.Event(), threading.Event()
    second = Marking("built", 2)

    def open_built() -> Renderer:
        opening.set()
        assert opened.wait(DEADLINE_S)
        return second

    stage = Stage(open_built)
    stage.build.step("done", 1.0)
    assert opening.wait(DEADLINE_S)
    stage.stream.close()
    opened.set()
    assert second.closed.wait(DEADLINE_S) and stage.first.closed.is_set()


def test_watchers_hear_of_whole_percents_only() -> None:
    stage = Stage()
    stage.told.clear()
    for thousandth in range(1, 1000):
        stage.build.step("building", thousandth / 1000, f"layer {thousandth}")
    assert [state.progress for state in stage.told] == [percent / 100 for percent in range(1, 100)]
    stage.stream.close()


# --- what plays meanwhile ---------------------------------------------------------------------------------------------


def engine(name: str, renderer: Callable[[], Renderer], build: SteppedBuild | None = None) -> Engine:
    def supports(model: ModelSpec, spec: StreamSpec) -> str:
        return "flow only on cpu" if model.family == "flow" else ""

    def open_it(spec: StreamSpec, model: ModelSpec) -> Renderer | None:
        return renderer() if build is None or build.state == "done" else None

    made = Engine(name, "cuda", lambda: "", supports, open_it)  # type: ignore[arg-type]
    return made if build is None else replace(made, build=lambda spec, model: build)


CPU = Engine("cpu", "cpu", lambda: "", lambda model, spec: "" if model.family == "flow" else "no", open_flow)


@pytest.mark.parametrize(("milliseconds", "meanwhile"), [(5.0, "first"), (50.0, "cpu")])
@pytest.mark.parametrize("asked", ["auto", "built"])
def test_while_an_engine_is_built_the_next_one_plays_or_flow_where_that_is_too_slow(
    asked: str,
    milliseconds: float,
    meanwhile: str,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("engines.calibration.measure_ms", lambda *_: milliseconds)
    build, second, swapped = SteppedBuild(), Marking("built", 2), threading.Event()
    engines = [engine("built", lambda: second, build), engine("first", lambda: Marking("first", 1)), CPU]
    stream = open_renderer(StreamSpec(LAYOUT, model="rife-4.26", engine=asked), engines)
    stream.watch(lambda: stream.state.building or swapped.set())  # type: ignore[func-returns-value]
    assert (stream.engine, stream.state.building) == (meanwhile, "built")
    output = np.zeros((32, 32), np.uint8)
    stream.render(TRIPLET, [0.5], [[output]])
    build.step("done", 1.0)
    assert swapped.wait(DEADLINE_S)
    assert second.arrivals.acquire(blocking=False), "it was warmed up before the film needs it"
    stream.render(TRIPLET, [0.5], [[output]])
    assert (stream.engine, output[0, 0]) == ("built", 2)
    stream.close()
    again = open_renderer(StreamSpec(LAYOUT, model="rife-4.26"), [engine("built", lambda: Marking("built", 2), build)])
    assert (again.engine, again.state.building) == ("built", ""), "the next film begins with it"

"""Which engine a stream gets, and in which words it says why: the registry, `auto`, and cards without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import netweights
import numpy as np
import pytest
import torch
from new_process import opened

from drba.errors import InputError, ModelError
from drba.models import ModelSpec
from drba.pixels import FrameLayout, Plane, pixel_format
from engines import ENGINES, Engine, SourceFrame, StreamSpec, Triplet, cards, check_engine, choice, open_renderer
from engines.cards import Card, visible
from engines.registry import open_flow

LAYOUT = FrameLayout(64, 64, pixel_format("yuv420p"))


@dataclass
class Stub:
    """A renderer that remembers what it was asked to render."""

    model: str
    engine: str
    closed: bool = False
    rendered: list[int] = field(default_factory=list)

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        self.rendered.append(triplet.middle.number)

    def close(self) -> None:
        self.closed = True


def works(model: ModelSpec, spec: StreamSpec) -> str:
    return "the flow model runs on the engine cpu" if model.family == "flow" else ""


def stub_engine(name: str, missing: str = "", opening: Callable[[], None] = lambda: None) -> Engine:
    def open_stub(spec: StreamSpec, model: ModelSpec) -> Stub:
        opening()
        return Stub(model.name, name)

    return Engine(name, "cuda", lambda: missing, works, open_stub)


CPU = Engine("cpu", "cpu", lambda: "", lambda model, spec: "" if model.family == "flow" else "no", open_flow)


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


# --- a model that is named --------------------------------------------------------------------------------------------

NO_CARD, NOT_INSTALLED = "no NVIDIA driver is installed", "TensorRT is not installed; pip install it"
FAST, SLOW = "fast-engine", "slow-engine"


@pytest.mark.parametrize(
    ("engines", "chosen", "note"),
    [
        ([stub_engine(FAST), stub_engine(SLOW)], FAST, "rife-4.26 on fast-engine"),
        (
            [stub_engine(FAST, NOT_INSTALLED), stub_engine(SLOW)],
            SLOW,
            f"rife-4.26 on slow-engine (fast-engine: {NOT_INSTALLED})",
        ),
        (
            [stub_engine("best", NO_CARD), stub_engine(FAST, NO_CARD), stub_engine(SLOW)],
            SLOW,
            f"rife-4.26 on slow-engine (best, fast-engine: {NO_CARD})",
        ),
        (
            [stub_engine(FAST, opening=raising(ModelError("out of device memory"))), stub_engine(SLOW)],
            SLOW,
            "rife-4.26 on slow-engine (fast-engine: out of device memory)",
        ),
    ],
    ids=["the best works", "it is not installed", "two have one reason", "it fails when opened"],
)
def test_auto_takes_the_best_engine_that_works_and_says_why_not_a_better_one(
    engines: list[Engine], chosen: str, note: str
) -> None:
    renderer = open_renderer(StreamSpec(LAYOUT, model="rife-4.26"), [*engines, CPU])
    assert (renderer.model, renderer.engine, renderer.state.note) == ("rife-4.26", chosen, note)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (StreamSpec(LAYOUT, engine="abacus"), "engine 'abacus' does not exist; expected one of auto, fast-engine, cpu"),
        (
            StreamSpec(LAYOUT, model="rife-4.26", engine=FAST),
            f"engine fast-engine: {NO_CARD}; or use --engine auto",
        ),
        (StreamSpec(LAYOUT, model="auto", engine=FAST), f"engine fast-engine: {NO_CARD}"),
        (StreamSpec(LAYOUT, model="rife-4.26", engine="cpu"), "model rife-4.26: cpu: no; or use --engine auto"),
    ],
    ids=["unknown", "no card", "no card, whatever the model", "does not run this model"],
)
def test_an_engine_that_was_asked_for_and_cannot_run_is_an_error_of_one_line(spec: StreamSpec, words: str) -> None:
    with pytest.raises(InputError) as caught:
        open_renderer(spec, [stub_engine(FAST, NO_CARD), CPU])
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_an_engine_that_was_asked_for_and_fails_is_not_replaced() -> None:
    engines = [stub_engine(FAST, opening=raising(ModelError("out of device memory"))), stub_engine(SLOW), CPU]
    with pytest.raises(ModelError, match="out of device memory"):
        open_renderer(StreamSpec(LAYOUT, model="rife-4.26", engine=FAST), engines)


def test_the_flow_model_says_nothing_of_engines_that_are_not_for_it() -> None:
    renderer = open_renderer(StreamSpec(LAYOUT, model="flow"), [stub_engine(FAST, NO_CARD), CPU])
    assert (renderer.engine, renderer.state.note) == ("cpu", "flow on cpu")
    with pytest.raises(InputError, match="the flow model runs on the engine cpu; or use --engine auto"):
        open_renderer(StreamSpec(LAYOUT, model="flow", engine=FAST), [stub_engine(FAST), CPU])


# --- the model `auto` -------------------------------------------------------------------------------------------------


def test_auto_model_without_a_network_says_how_to_get_one(own_folders: Path) -> None:
    renderer = open_renderer(StreamSpec(LAYOUT, model="auto"), [stub_engine(FAST), CPU])
    assert renderer.state.note == "flow on cpu (no network is installed: drba models fetch rife-4.26.heavy)"


def test_auto_model_says_how_slow_the_networks_are(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netweights.install("rife-4.6")
    monkeypatch.setattr("engines.calibration.measure_ms", lambda *_: 123.4)
    renderer = open_renderer(StreamSpec(LAYOUT, model="auto"), [stub_engine(FAST), CPU])
    assert renderer.state.note == "flow on cpu (rife-4.6 on fast-engine takes 123 ms, expected 17 or less)"


def test_a_measurement_counts_for_its_engine_and_card_only(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netweights.install("rife-4.6")
    measured: list[str] = []

    def measure(renderer: Stub, layout: FrameLayout) -> float:
        measured.append(renderer.engine)
        return 100.0 if renderer.engine == FAST else 1.0

    monkeypatch.setattr("engines.calibration.measure_ms", measure)
    spec, engines = StreamSpec(LAYOUT, model="auto"), [stub_engine(FAST), stub_engine(SLOW), CPU]
    for _ in range(2):
        assert open_renderer(spec, engines).engine == SLOW
    assert measured == [FAST, SLOW], "each once"
    monkeypatch.setattr("engines.calibration.find_cards", lambda: ((Card("NVIDIA Other", "GPU-1"),), ""))
    open_renderer(spec, engines)
    assert measured == [FAST, SLOW] * 2, "another card is another measurement"
    open_renderer(replace(spec, layout=FrameLayout(96, 64, LAYOUT.format)), engines)
    assert measured == [FAST, SLOW] * 3, "another size too"


def test_what_was_measured_with_leaves_no_trace_in_the_film(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renderer keeps frames by their number: those that were made up for measuring must not come back as the film's."""
    netweights.install("rife-4.6")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only get in each other's way at this size
    rng = np.random.default_rng(0)
    frames = [SourceFrame(n, [rng.integers(16, 235, s, np.uint8) for s in LAYOUT.plane_shapes]) for n in range(8)]

    def in_between(middle: int) -> bytes:
        renderer = open_renderer(StreamSpec(LAYOUT, "bt709", model="auto"))
        assert renderer.model == "rife-4.6"
        buffer = bytearray(LAYOUT.frame_bytes)
        renderer.render(Triplet(*frames[middle - 1 : middle + 2]), [1.5], [LAYOUT.views(buffer)])
        return bytes(buffer)

    monkeypatch.setattr("engines.calibration.NEEDED_PER_SECOND", 0.01)
    assert in_between(4) == in_between(4), "measured at first, remembered then"
    torch.set_num_threads(threads)


# --- cards ------------------------------------------------------------------------------------------------------------

H200 = [Card("NVIDIA H200", f"GPU-{letter}000") for letter in "abcd"]
MIXED = [Card("NVIDIA H200", "GPU-a000"), Card("NVIDIA T4", "GPU-b000")]


@pytest.mark.parametrize(
    ("installed", "chosen", "left"),
    [
        (H200, "0,2", [("NVIDIA H200", "0"), ("NVIDIA H200", "2")]),
        (MIXED, "1", [("", "1")]),
        (MIXED, "GPU-b", [("NVIDIA T4", "GPU-b000")]),
        (H200, "GPU-c000, GPU-a", [("NVIDIA H200", "GPU-c000"), ("NVIDIA H200", "GPU-a000")]),
        (H200, "1,9,2", [("NVIDIA H200", "1")]),
        (H200, "-1", []),
        (H200, "", []),
        (H200, "NoDevFiles", []),
    ],
)
def test_cards_are_those_that_cuda_would_show(installed: list[Card], chosen: str, left: list[tuple[str, str]]) -> None:
    assert [(card.name, card.pin) for card in visible(installed, chosen)] == left


@pytest.mark.skipif(bool(cards.find_cards()[0]), reason="this machine has an NVIDIA card")
@pytest.mark.parametrize("name", [engine.name for engine in ENGINES if engine.device == "cuda"])
def test_without_a_card_the_engines_that_need_one_say_so(name: str) -> None:
    with pytest.raises(InputError, match=rf"engine {name}: .*NVIDIA.*; or use --engine auto"):
        check_engine(name)


def test_choosing_flow_imports_no_torch_and_listing_engines_no_opencv() -> None:
    listed = "[engine.missing() for engine in ENGINES]; assert 'cv2' not in sys.modules"
    assert opened(64, 64, before=listed) == ["flow"]


def test_every_name_in_the_choice_is_a_model() -> None:
    assert all(choice.find(name).name == name for name in choice.CANDIDATES)

"""Weights that come in the package: what `drba models` says of them, what an import does, what `auto` makes of them."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import netweights
import pytest
import torch
from new_process import opened
from safetensors.torch import load_file, save_file
from test_swap import CPU, Marking, SteppedBuild, engine

import drba
from drba import weights
from drba.errors import ModelError
from drba.integrity import verify
from drba.models import find
from drba.networks.build import empty_parts
from drba.networks.shipping import CARD, MAX_BYTES, read_card, ship
from drba.pixels import FrameLayout, pixel_format
from engines import ENGINES, EngineState, Renderer, StreamSpec, choice, measuring, open_renderer
from engines.base import MEASURING
from engines.calibration import Calibration
from engines.swap import SwappingRenderer
from player.bridge import Bridge
from player.cli import main
from player.render.settled import settled
from player.setup.check_models import check_auto, check_weights

SMALL = find("drba-small")
REAL = Path(weights.__file__).with_name("networks") / "shipped"
DEADLINE_S = 60.0
CARD_OF_RULE = {"model": "drba-small", "licence": "MIT", "command": "weights by rule", "data": "none"}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATA", "CACHE", "SHIPPED"):
        monkeypatch.setenv(f"DRBA_{name}_DIR", str(tmp_path / name.lower()))
    return tmp_path


def rule_state(factor: float = 1.0) -> dict[str, torch.Tensor]:
    (network,) = empty_parts(SMALL).values()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return {name: factor * torch.from_numpy(netweights.rule_tensor(name, shape)) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as that in the package, with weights by rule."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRBA_SHIPPED_DIR", str(tmp_path_factory.mktemp("package")))
        return ship(SMALL, rule_state(), CARD_OF_RULE).parent


@pytest.fixture
def shipped(package: Path, folders: Path) -> Path:
    shutil.copytree(package, folders / "shipped")
    return weights.shipped_path(SMALL)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkpoint of the same network with other values."""
    path = tmp_path / "mine.safetensors"
    save_file(rule_state(0.5), path)
    return path


def says(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["models", *arguments]) == status
    out, err = capsys.readouterr()
    return out + err


def row(capsys: pytest.CaptureFixture[str]) -> str:
    return next(line for line in says(capsys, "list").splitlines() if line.startswith("drba-small"))


# --- storing ----------------------------------------------------------------------------------------------------------


def test_stored_weights_are_half_precision_and_say_where_they_come_from(shipped: Path) -> None:
    assert shipped.stat().st_size <= MAX_BYTES and read_card(shipped) == CARD_OF_RULE
    state, stored = rule_state(), load_file(shipped)
    assert all(torch.equal(stored[name], tensor.half()) for name, tensor in state.items())
    network = drba.load("drba-small").network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_the_same_weights_are_the_same_bytes_in_another_process(shipped: Path, folders: Path) -> None:
    code = f"import test_shipped as t; t.ship(t.SMALL, t.rule_state(), dict(reversed({CARD_OF_RULE}.items())))"
    before = shipped.read_bytes()
    shipped.unlink()
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
    assert shipped.read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state, card: card.pop("licence"), "its card lacks licence"),
        (lambda state, card: state.pop(next(iter(state))), "tensors are missing"),
        (lambda state, card: next(iter(state.values())).fill_(1e6), "not finite in half precision"),
    ],
    ids=["no licence", "a tensor less", "too large for half precision"],
)
def test_what_cannot_be_shipped_is_refused(
    spoil: Callable[[dict[str, torch.Tensor], dict[str, str]], object], words: str
) -> None:
    state, card = rule_state(), dict(CARD_OF_RULE)
    spoil(state, card)
    with pytest.raises(ModelError, match=words):
        ship(SMALL, state, card)
    assert not weights.is_installed(SMALL)


# --- drba models ------------------------------------------------------------------------------------------------------


def test_what_is_in_the_package_needs_nothing(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "in the package" in row(capsys) and "1.4 MB" in row(capsys)
    assert "is in the package, there is nothing to fetch (sha256:" in says(capsys, "fetch", "drba-small")
    assert "drba-small: flownet ok (sha256:" in says(capsys, "verify")
    assert says(capsys, "path", "drba-small").strip() == str(shipped.parent)
    assert ("weights:drba-small", "ok") in {(check.name, check.state) for check in check_weights()}
    assert "drba-small, flow" in next(check_auto()).found


def test_a_damaged_file_in_the_package_is_found(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped.write_bytes(shipped.read_bytes()[:-1] + b"?")
    assert "changed: expected sha256:" in says(capsys, "verify", status=1)
    said = says(capsys, "fetch", "drba-small", status=2)
    assert "has changed" in said and "install drba-player again" in said and said.count("\n") == 1
    (check,) = check_weights()
    assert (check.state, check.remedy) == ("problem", "install drba-player again")


def test_a_build_without_the_file_is_whole_but_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert "not in this build" in row(capsys)
    assert "is not in this build" in says(capsys, "fetch", "drba-small", status=2)
    assert "missing; install drba-player again" in says(capsys, "verify", "drba-small", status=1)
    with pytest.raises(ModelError, match="not in this build"):
        drba.load("drba-small")


def test_an_import_in_its_place_has_to_be_forced_and_can_be_undone(
    shipped: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "add --force to replace it" in says(capsys, "import", str(own), status=2)
    assert weights.find_file(SMALL, "flownet") == shipped
    says(capsys, "import", str(own), "--force")
    mine = weights.find_own_file(SMALL, "flownet")
    assert mine is not None and weights.find_file(SMALL, "flownet") == mine
    assert "imported" in row(capsys) and "as recorded here" in says(capsys, "verify")
    assert "installed already" in says(capsys, "fetch", "drba-small") and mine.exists()
    assert "that of the package again" in says(capsys, "fetch", "drba-small", "--force")
    assert weights.find_file(SMALL, "flownet") == shipped and [part.state for part in verify(SMALL)] == ["ok"]


def test_a_damaged_import_gives_way_to_the_package(
    shipped: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says(capsys, "import", str(own), "--force")
    mine = weights.find_own_file(SMALL, "flownet")
    assert mine is not None
    mine.write_bytes(b"")
    assert "run `drba models fetch drba-small`" in says(capsys, "verify", status=1)
    assert "that of the package again" in says(capsys, "fetch", "drba-small")
    assert weights.find_file(SMALL, "flownet") == shipped


# --- the model `auto` -------------------------------------------------------------------------------------------------

SPEC = StreamSpec(FrameLayout(64, 64, pixel_format("yuv420p")), "bt709", model="auto")
LARGE = replace(SPEC, layout=FrameLayout(1280, 720, SPEC.layout.format))


def until(stream: SwappingRenderer, reached: Callable[[EngineState], bool]) -> None:
    """Wait for a state."""
    there = threading.Event()

    def changed() -> None:
        if reached(stream.state):
            there.set()

    stream.watch(changed)
    changed()
    assert there.wait(DEADLINE_S), stream.state


def settle(stream: SwappingRenderer) -> None:
    """Until nothing is measured or built any more."""
    until(stream, lambda state: not state.building)


def test_a_film_begins_with_flow_and_goes_over_to_the_network_once_it_is_measured(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, one_thread: None
) -> None:
    monkeypatch.setattr("engines.calibration.NEEDED_PER_SECOND", 0.01)  # here; the other process only measures
    stream = open_renderer(SPEC, at_once=True)
    assert (stream.model, stream.state.building) == ("flow", MEASURING)
    settle(stream)
    assert (stream.model, stream.state.note) == ("drba-small", "drba-small on torch-cpu from here on")
    assert not caplog.records, "the process ended well"
    stream.close()
    again = open_renderer(SPEC, at_once=True)
    assert (again.model, again.state.building) == ("drba-small", ""), "it was remembered"
    again.close()


def test_flow_goes_on_where_no_network_is_fast_enough(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_cpu = next(engine for engine in ENGINES if engine.name == "torch-cpu")

    def measured(self: measuring.Measurement) -> str:
        Calibration().measure(SPEC, SMALL, torch_cpu, Renderer)  # type: ignore[arg-type]
        return ""

    monkeypatch.setattr("engines.calibration.measure_ms", lambda *_: 150.0)
    monkeypatch.setattr(measuring.Measurement, "_measured", measured)
    stream = open_renderer(SPEC, at_once=True)
    settle(stream)
    assert stream.state.note == "flow on cpu (drba-small on torch-cpu takes 150 ms, expected 17 or less)"


def test_what_was_measured_plays_until_the_better_engine_is_built(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = SteppedBuild()
    first = engine("first", lambda: Marking("first", 1))
    engines = [engine("built", lambda: Marking("built", 2), build), first, CPU]

    def measured(self: measuring.Measurement) -> str:
        Calibration().measure(SPEC, SMALL, first, Renderer)  # type: ignore[arg-type]
        return ""

    monkeypatch.setattr("engines.calibration.measure_ms", lambda *_: 5.0)
    monkeypatch.setattr(measuring.Measurement, "_measured", measured)
    stream = open_renderer(SPEC, engines, at_once=True)
    assert stream.model == "flow"
    until(stream, lambda state: (state.engine, state.building) == ("first", "built"))
    build.step("done", 1.0)
    until(stream, lambda state: (state.engine, state.building) == ("built", ""))
    stream.close()


def test_a_render_waits_for_the_measurement_and_the_viewer_is_not_told(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, said = threading.Event(), []

    def measured(self: measuring.Measurement) -> str:
        return "" if gate.wait(DEADLINE_S) else "nobody opened the gate"

    def say(line: str) -> None:
        said.append(line)
        gate.set()

    monkeypatch.setattr(measuring.Measurement, "_measured", measured)
    stream = open_renderer(SPEC, at_once=True)
    sent: list[tuple[str, ...]] = []
    bridge = SimpleNamespace(_ipc=SimpleNamespace(send=lambda *message: sent.append(message)))
    Bridge._engine_is(bridge, "film", stream.state)  # type: ignore[arg-type]
    assert json.loads(sent[0][2])["building"] == ""
    assert settled(stream, SPEC, say) is stream and said == ["measuring which network is fast enough first"]
    assert not stream.state.building


@pytest.mark.parametrize(
    "code",
    ["raise SystemExit('torch cannot be imported')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
    ids=["fails", "is killed"],
)
def test_flow_goes_on_where_measuring_fails(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    command = [sys.executable, "-c", code]
    monkeypatch.setattr(
        "engines.start.measure_in_background",
        lambda spec: measuring._running.join(spec, lambda: measuring.Measurement(spec, command)),
    )
    stream = open_renderer(SPEC, at_once=True)
    until(stream, lambda state: "could not be measured" in state.note)  # it may have failed before it was waited for
    assert stream.model == "flow" and not stream.state.building
    assert "could not be measured: exit status" in caplog.text


def test_closing_the_film_leaves_the_measurement_to_the_next_one(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, began = threading.Event(), []

    def measured(self: measuring.Measurement) -> str:
        began.append(self)
        return "" if gate.wait(DEADLINE_S) else "nobody opened the gate"

    monkeypatch.setattr(measuring.Measurement, "_measured", measured)
    open_renderer(SPEC, at_once=True).close()
    second = open_renderer(SPEC, at_once=True)
    gate.set()
    settle(second)
    assert len(began) == 1


def test_the_measuring_process_ends_when_nobody_waits_any_more() -> None:
    process = subprocess.Popen(measuring.COMMAND, stdin=subprocess.PIPE, cwd=measuring.ROOT)
    process.communicate(pickle.dumps(SPEC), timeout=DEADLINE_S)  # and close its standard input, as an ended server does
    assert process.returncode == 1


def test_nothing_is_measured_where_no_network_can_be_fast(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for at_once in (True, False):
        stream = open_renderer(LARGE, at_once=at_once)
        assert (stream.model, stream.state.building) == ("flow", "")
        assert stream.state.note.startswith("flow on cpu (drba-small on torch-cpu takes more than 37 ms with 2 cores")
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert not choice.never_fast(LARGE, next(engine for engine in ENGINES if engine.name == "torch-cpu"))


def test_deciding_for_flow_imports_no_torch_with_a_network_in_the_package(shipped: Path) -> None:
    assert opened(1280, 720, before="import os; os.cpu_count = lambda: 2", at_once=True) == ["flow"]


# --- the real file ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (REAL / "drba-small.safetensors").exists(), reason="this build has no drba-small yet")
def test_the_weights_of_this_build_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRBA_SHIPPED_DIR")
    assert [part.state for part in verify(SMALL)] == ["ok"]
    path = weights.shipped_path(SMALL)
    assert path.stat().st_size <= MAX_BYTES
    card = read_card(path)
    assert all(card[name] for name in CARD) and (card["model"], card["licence"]) == ("drba-small", "MIT")
    network = drba.load("drba-small")
    first, second, third = netweights.moving_frames(64, 96)
    (between,) = network.pair(first, third, [0.5])
    assert (between - second).abs().mean() < ((first + third) / 2 - second).abs().mean(), "better than a blend"


def test_every_shipped_model_is_of_one_part_and_has_no_address() -> None:
    for spec in drba.models():
        assert all(bool(part.url) != spec.shipped for part in spec.parts)
        assert not spec.shipped or len(spec.parts) == 1

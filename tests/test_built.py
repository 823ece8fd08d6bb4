"""A film begins on PyTorch while ONNX Runtime's engines are really built, verified and then used; or refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import netweights
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from ort_builder import OnnxRuntimeBuilder

from drba.pixels import FrameLayout, pixel_format
from engines import ENGINES, Engine, SourceFrame, StreamRenderer, StreamSpec, Triplet, open_renderer
from engines.built import BuiltEngine

MODEL = "rife-4.15.lite"
LAYOUT = FrameLayout(96, 64, pixel_format("yuv420p"))
SPEC = StreamSpec(LAYOUT, "bt709", model=MODEL)
DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("engines.calibration.NEEDED_PER_SECOND", 0.01)  # the network is fast enough here
    netweights.install(MODEL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def engines(builder: OnnxRuntimeBuilder) -> list[Engine]:
    """The registry of a machine without a card, with ONNX Runtime in TensorRT's place."""
    by_name = {engine.name: engine for engine in ENGINES}
    built = BuiltEngine("onnxruntime", "cpu", lambda: builder, ("fp16",))
    first = Engine("onnxruntime", "cpu", str, by_name["tensorrt"].supports, built.open, built.build)
    return [first, by_name["torch-cpu"], by_name["cpu"]]


def frames(count: int) -> list[SourceFrame]:
    rng = np.random.default_rng(3)
    small = torch.from_numpy(rng.random((1, 1, 10, 20), dtype=np.float32))
    texture = torch.nn.functional.interpolate(small, scale_factor=8, mode="bicubic")[0, 0].clamp(0, 1) * 219 + 16
    made = []
    for number in range(count):
        planes = LAYOUT.views(bytearray(LAYOUT.frame_bytes))
        for plane in planes:
            plane[:] = texture[: plane.shape[0], 2 * number : 2 * number + plane.shape[1]].numpy().astype(np.uint8)
        made.append(SourceFrame(number, planes))
    return made


FILM = frames(8)


def in_between(renderer: StreamRenderer, middle: int) -> np.ndarray:
    buffer = bytearray(LAYOUT.frame_bytes)
    renderer.render(Triplet(*FILM[middle - 1 : middle + 2]), [1.4], [LAYOUT.views(buffer)])
    return np.frombuffer(buffer, np.uint8).astype(float)


def settled(renderer: StreamRenderer) -> threading.Event:
    """Set when nothing is being built any more."""
    event = threading.Event()

    def look() -> None:
        if not renderer.state.building:
            event.set()

    renderer.watch(look)
    look()
    return event


def test_a_film_begins_on_pytorch_and_goes_over_to_what_was_built(tmp_path: Path) -> None:
    builder = OnnxRuntimeBuilder()
    builder.gate = threading.Event()
    registry = engines(builder)
    renderer = open_renderer(SPEC, registry)
    assert (renderer.engine, renderer.state.building) == ("torch-cpu", "onnxruntime")
    assert builder.begun.wait(DEADLINE_S)
    expected = [in_between(renderer, middle) for middle in (1, 2)]
    builder.gate.set()
    assert settled(renderer).wait(DEADLINE_S)
    assert renderer.state.note == f"{MODEL} on onnxruntime from here on"
    for middle, torch_picture in enumerate(expected, 1):
        error = float(((in_between(renderer, middle) - torch_picture) ** 2).mean())
        assert 10 * np.log10(255**2 / max(error, 1e-9)) > 40
    renderer.close()
    builds = len(builder.builds)
    again = open_renderer(SPEC, registry)
    assert (again.engine, again.state.building, len(builder.builds)) == ("onnxruntime", "", builds)
    again.close()


class WrongBuilder(OnnxRuntimeBuilder):
    """Its engines warp by 20 % too far."""

    def alter(self, model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(1.2, np.float32), "factor"))
        for i, node in enumerate([node for node in model.graph.node if node.op_type == "GridSample"]):
            grid, node.input[1] = node.input[1], f"longer{i}"
            place = list(model.graph.node).index(node)
            model.graph.node.insert(place, onnx.helper.make_node("Mul", [grid, "factor"], [f"longer{i}"]))


def test_a_refused_engine_is_never_used_and_the_next_film_says_why() -> None:
    builder = WrongBuilder()
    registry = engines(builder)
    renderer = open_renderer(SPEC, registry)
    assert settled(renderer).wait(DEADLINE_S)
    assert renderer.engine == "torch-cpu" and "differ from PyTorch" in renderer.state.note
    renderer.close()
    builds = len(builder.builds)
    again = open_renderer(SPEC, registry)
    assert (again.engine, again.state.building, len(builder.builds)) == ("torch-cpu", "", builds)
    assert again.state.note.startswith(f"{MODEL} on torch-cpu (onnxruntime: engines of {MODEL}")
    again.close()


def test_a_viewer_who_cancels_goes_on_with_pytorch() -> None:
    builder = OnnxRuntimeBuilder()
    builder.gate = threading.Event()
    renderer = open_renderer(SPEC, engines(builder))
    done = settled(renderer)
    assert builder.begun.wait(DEADLINE_S)
    renderer.cancel_build()
    assert done.wait(DEADLINE_S) and "cancelled" in renderer.state.note
    builder.gate.set()
    in_between(renderer, 1)
    assert renderer.engine == "torch-cpu"
    renderer.close()

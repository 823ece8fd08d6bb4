"""Building, verifying, refusing and loading engines through the code that TensorRT goes through, with a real other builder."""

from __future__ import annotations

import logging
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from netweights import moving_frames, rule_weights
from onnx import numpy_helper
from ort_builder import OnnxRuntimeBuilder

import drba
from drba.networks.interpolator import Interpolator
from drba.networks.parts import NetworkPart, Precision
from engines.build import EngineBuild, EngineRefused, EngineRequest, Engines, cached_engines
from engines.build_progress import Phases
from engines.engine_cache import EngineCache
from engines.onnx_export import export_part
from engines.verification import Difference, difference, moving_triplet, render_test

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = "rife-4.15.lite"
HEIGHT, WIDTH = 64, 96
PRECISIONS = ("fp16", "fp16-fp32-warps", "fp32")  # what an ONNX Runtime on the CPU does well
END_S = 100


@lru_cache(maxsize=8)
def load(dtype: torch.dtype, model: str = MODEL) -> Interpolator:
    return drba.load(model, weights=rule_weights(model), device="cpu", mode="fast", dtype=dtype)


@pytest.fixture(autouse=True)
def _each_graph_is_exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of each build is the export of the same few graphs."""

    def export_once(part: NetworkPart, precision: Precision, device: torch.device) -> bytes:
        weights = next(part.module.parameters()).data_ptr()  # `load` keeps them
        key = (weights, part.name, part.inputs, precision)
        if key not in EXPORTED:
            EXPORTED[key] = export_part(part, precision, device)
        return EXPORTED[key]

    monkeypatch.setattr("engines.build.export_part", export_once)


EXPORTED: dict[object, bytes] = {}
REQUEST = EngineRequest(MODEL, HEIGHT, WIDTH, 1.0, load)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def built(builder: OnnxRuntimeBuilder, cache: EngineCache, request: EngineRequest = REQUEST) -> EngineBuild:
    build = EngineBuild(request, builder, cache, PRECISIONS)
    build.wait(END_S)
    return build


def kinds(cache: EngineCache) -> list[str]:
    return sorted(entry.key["kind"] for entry in cache.entries())


class AlteredBuilder(OnnxRuntimeBuilder):
    """Makes engines that compute something else: flows by 3 % too long in the precisions named."""

    altered_types: tuple[int, ...] = (onnx.TensorProto.FLOAT16,)

    def alter(self, model: onnx.ModelProto) -> None:
        samplers = [node for node in model.graph.node if node.op_type == "GridSample"]
        if not samplers or model.graph.input[1].type.tensor_type.elem_type not in self.altered_types:
            return
        model.graph.initializer.append(numpy_helper.from_array(np.array(1.03, np.float32), "factor"))
        for i, node in enumerate(samplers):
            grid, longer = node.input[1], f"longer{i}"
            node.input[1] = longer
            place = list(model.graph.node).index(node)
            model.graph.node.insert(place, onnx.helper.make_node("Mul", [grid, "factor"], [longer]))


def test_a_built_engine_renders_what_pytorch_renders(cache: EngineCache) -> None:
    build = built(OnnxRuntimeBuilder(), cache)
    assert (build.state, build.progress, build.message) == ("done", 1.0, f"onnxruntime: {MODEL} 96x64 fp16 is ready")
    assert build.engines is not None and build.engines.precision == "fp16"
    exact, frames = load(torch.float32), moving_frames(HEIGHT, WIDTH)
    ours = build.engines.attach(load(torch.float16)).triplet(*frames, [0.6, 1.4])[0]
    found = difference(torch.cat(ours), torch.cat(exact.triplet(*frames, [0.6, 1.4])[0]))
    assert found.acceptable, found


def test_progress_goes_up_through_all_parts_and_says_which(cache: EngineCache) -> None:
    builder = OnnxRuntimeBuilder()
    builder.gate = threading.Event()
    build = EngineBuild(REQUEST, builder, cache, PRECISIONS)
    seen: list[tuple[str, float, str]] = []
    build.watch(lambda: seen.append((build.state, build.progress, build.message)))
    builder.gate.set()
    assert build.wait(END_S) == "done"
    assert [progress for _, progress, _ in seen] == sorted(progress for _, progress, _ in seen)
    states = [state for state, _, _ in seen]
    assert states == sorted(states, key=["waiting", "building", "verifying", "done"].index)
    parts = [message.split(", ")[1] for _, _, message in seen if "%" in message]
    assert parts[0] == "layers 0%" and "coarse 50%" in parts and "render 100%" in parts
    assert len({progress for _, progress, _ in seen}) > 8


def test_what_was_built_is_loaded_without_building(cache: EngineCache) -> None:
    first = OnnxRuntimeBuilder()
    assert cached_engines(REQUEST, first, cache, PRECISIONS) is None
    built(first, cache)
    again = OnnxRuntimeBuilder()
    engines = cached_engines(REQUEST, again, cache, PRECISIONS)
    assert isinstance(engines, Engines) and engines.precision == "fp16" and not again.builds
    assert built(again, cache).state == "done" and not again.builds
    assert first.timings == [None, b"t", b"tt"]  # each build was given the timings of the one before


@pytest.mark.parametrize(
    ("request_", "version"),
    [
        (EngineRequest(MODEL, HEIGHT, WIDTH + 32, 1.0, load), "1"),
        (EngineRequest("rife-4.15", HEIGHT, WIDTH, 1.0, lambda dtype: load(dtype, "rife-4.15")), "1"),
        (REQUEST, "2"),
    ],
    ids=["another size", "another model", "a newer compiler"],
)
def test_engines_of_something_else_are_not_used(cache: EngineCache, request_: EngineRequest, version: str) -> None:
    built(OnnxRuntimeBuilder("1"), cache)
    assert cached_engines(REQUEST, OnnxRuntimeBuilder("1"), cache, PRECISIONS)
    assert cached_engines(request_, OnnxRuntimeBuilder(version), cache, PRECISIONS) is None


def test_engines_of_other_weights_are_not_used(cache: EngineCache) -> None:
    def other_weights(dtype: torch.dtype) -> Interpolator:
        weights = {part: dict(state) for part, state in rule_weights(MODEL).items()}
        weights["flownet"]["block3.lastconv.0.bias"] = weights["flownet"]["block3.lastconv.0.bias"] + 1e-3
        return drba.load(MODEL, weights=weights, device="cpu", mode="fast", dtype=dtype)

    built(OnnxRuntimeBuilder(), cache)
    request = EngineRequest(MODEL, HEIGHT, WIDTH, 1.0, other_weights)
    assert cached_engines(request, OnnxRuntimeBuilder(), cache, PRECISIONS) is None


@pytest.mark.parametrize("damage", [b"", b"no engine at all"])
def test_a_damaged_engine_is_built_again_and_verified_again(cache: EngineCache, damage: bytes) -> None:
    built(OnnxRuntimeBuilder(), cache)
    (render,) = [entry for entry in cache.entries() if entry.key.get("part") == "render"]
    render.content.write_bytes(damage)
    builder = OnnxRuntimeBuilder()
    assert cached_engines(REQUEST, builder, cache, PRECISIONS) is None
    assert built(builder, cache).state == "done" and len(builder.builds) == 1
    assert cached_engines(REQUEST, builder, cache, PRECISIONS)


def test_an_engine_that_computes_something_else_is_refused_and_the_next_precision_tried(cache: EngineCache) -> None:
    build = built(AlteredBuilder(), cache)
    assert build.state == "done" and build.engines is not None and build.engines.precision == "fp16-fp32-warps"
    again = AlteredBuilder()
    engines = cached_engines(REQUEST, again, cache, PRECISIONS)
    assert engines is not None and engines.precision == "fp16-fp32-warps" and not again.builds


def test_sampling_the_nearest_pixel_is_refused(cache: EngineCache) -> None:
    """What TensorRT makes of GridSample from opset 20 on, without a word."""

    class Nearest(OnnxRuntimeBuilder):
        def alter(self, model: onnx.ModelProto) -> None:
            for node in model.graph.node:
                for attribute in node.attribute:
                    if node.op_type == "GridSample" and attribute.name == "mode":
                        attribute.s = b"nearest"

    assert built(Nearest(), cache).refused


def test_where_no_precision_agrees_the_refusal_is_remembered(cache: EngineCache) -> None:
    class AlwaysAltered(AlteredBuilder):
        altered_types = (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)

    builder = AlwaysAltered()
    build = built(builder, cache)
    assert (build.state, build.refused, build.engines) == ("failed", True, None)
    assert "differ from PyTorch (fp16: " in build.message and "\n" not in build.message
    assert kinds(cache) == ["timings", "verdict", "verdict", "verdict"]  # engines that nobody may use are not kept
    again = AlwaysAltered()
    with pytest.raises(EngineRefused, match=r"samples off by more than 0\.02"):
        cached_engines(REQUEST, again, cache, PRECISIONS)
    assert built(again, cache).refused and not again.builds


def test_a_builder_that_fails_is_one_line_and_nothing_is_kept(cache: EngineCache) -> None:
    builder = OnnxRuntimeBuilder()
    builder.fails = "out of memory"
    build = built(builder, cache)
    assert (build.state, build.refused, build.message) == ("failed", False, "onnxruntime: out of memory")
    assert not cache.entries()


def test_an_unexpected_error_ends_the_build_and_not_the_process(
    cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(OnnxRuntimeBuilder):
        def alter(self, model: onnx.ModelProto) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    caplog.set_level(logging.CRITICAL)
    build = built(Broken(), cache)
    assert build.state == "failed"
    assert build.message == (
        "onnxruntime: failed with RuntimeError: CUDA error: an illegal memory access was encountered"
    )


def test_a_build_is_cancelled_in_the_middle_and_goes_on_with_what_was_finished(cache: EngineCache) -> None:
    class SlowLast(OnnxRuntimeBuilder):
        def build(self, graph: bytes, *rest: object) -> tuple[bytes, bytes | None]:  # type: ignore[override]
            if len(self.builds) == 2:
                reached.set()
                self.gate = gate
            return super().build(graph, *rest)  # type: ignore[arg-type]

    reached, gate = threading.Event(), threading.Event()
    build = EngineBuild(REQUEST, SlowLast(), cache, PRECISIONS)
    assert reached.wait(END_S)
    build.cancel()
    gate.set()
    assert build.wait(END_S) == "cancelled" and build.engines is None
    assert kinds(cache) == ["engine", "engine", "timings"]
    builder = OnnxRuntimeBuilder()
    assert built(builder, cache).state == "done" and len(builder.builds) == 1


def test_one_build_at_a_time_and_the_second_one_can_be_cancelled_while_it_waits(cache: EngineCache) -> None:
    slow = OnnxRuntimeBuilder()
    slow.gate = threading.Event()
    first = EngineBuild(REQUEST, slow, cache, PRECISIONS)
    assert slow.begun.wait(END_S)
    second = EngineBuild(REQUEST, OnnxRuntimeBuilder(), cache, PRECISIONS)
    third_builder = OnnxRuntimeBuilder()
    third = EngineBuild(REQUEST, third_builder, cache, PRECISIONS)
    assert (second.state, second.message) == ("waiting", f"onnxruntime: {MODEL} 96x64 waits for another build")
    second.cancel()
    assert second.wait(END_S) == "cancelled"
    slow.gate.set()
    assert first.wait(END_S) == "done" and third.wait(END_S) == "done"
    assert not third_builder.builds  # the first had made it


def test_parts_without_weights_stay_with_pytorch(cache: EngineCache) -> None:
    builder = OnnxRuntimeBuilder()
    request = EngineRequest("rife-4.6", HEIGHT, WIDTH, 1.0, lambda dtype: load(dtype, "rife-4.6"))
    build = EngineBuild(request, builder, cache, ("fp32",))
    assert build.wait(END_S) == "done", build.message
    assert len(builder.builds) == 2 and build.engines is not None
    assert sorted(build.engines.parts) == ["coarse", "layers", "render"]


def test_a_model_without_parts_is_one_line(cache: EngineCache) -> None:
    request = EngineRequest("flow", HEIGHT, WIDTH, 1.0, lambda dtype: drba.load("flow", mode="fast"))
    build = EngineBuild(request, OnnxRuntimeBuilder(), cache)
    assert build.wait(END_S) == "failed" and "flow has no parts to build" in build.message


# Verification


@pytest.mark.parametrize(
    ("share", "by", "acceptable"),
    [(1.0, 0.004, True), (1.0, 0.007, False), (0.009, 0.03, True), (0.011, 0.03, False), (0.009, 0.2, False)],
)
def test_what_is_acceptable(share: float, by: float, acceptable: bool) -> None:
    """45 dB are 0.0056 everywhere; more than 0.02 may be off in 1 % of the samples, as long as 45 dB are kept."""
    exact = torch.full((1, 3, 100, 100), 0.5)
    ours = exact.clone()
    ours.view(-1)[: round(share * exact.numel())] += by
    assert difference(ours, exact).acceptable == acceptable


def test_nothing_is_acceptable_that_is_not_a_number() -> None:
    exact = torch.zeros(1, 3, 10, 10)
    assert not difference(exact * float("nan"), exact).acceptable
    assert not Difference(float("nan"), float("nan")).acceptable


def test_the_test_triplet_moves_and_is_always_the_same() -> None:
    frames = moving_triplet(HEIGHT, WIDTH)
    assert all(frame.shape == (1, 3, HEIGHT, WIDTH) and frame.min() >= 0 and frame.max() <= 1 for frame in frames)
    assert (frames[0] - frames[1]).abs().mean() > 0.005 and (frames[1] - frames[2]).abs().mean() > 0.005
    assert all(torch.equal(a, b) for a, b in zip(frames, moving_triplet(HEIGHT, WIDTH), strict=True))
    assert render_test(load(torch.float32), HEIGHT, WIDTH).shape == (3, 3, HEIGHT, WIDTH)


# Progress


def test_phases_within_phases_make_one_fraction() -> None:
    phases = Phases()
    phases.start("all", None, 2)
    phases.start("graph", "all", 4)
    assert [phases.step("graph", i) for i in range(4)] == [0.125, 0.25, 0.375, 0.5]
    phases.finish("graph")
    assert phases.step("all", 0) == 0.5
    phases.start("tactics", "all", 10)
    phases.start("timing", "tactics", 2)
    assert phases.step("timing", 0) == pytest.approx(0.525)
    phases.finish("timing")
    assert phases.step("tactics", 4) == pytest.approx(0.75)
    assert phases.step("nobody announced this", 3) == pytest.approx(0.75)
    phases.finish("tactics")
    assert phases.step("all", 1) == 1.0

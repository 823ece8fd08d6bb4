"""Parts exported to ONNX: what the graphs must be for TensorRT, and that ONNX Runtime computes with them what PyTorch does."""

from __future__ import annotations

from functools import lru_cache

import onnx
import pytest
import torch
from netweights import moving_frames, rule_weights
from onnx import TensorProto, helper, shape_inference
from ort_builder import OnnxRuntimeBuilder

import drba
from drba.errors import EngineError
from drba.networks.interpolator import Interpolator
from drba.networks.parts import PRECISIONS, NetworkPart, PartFunction
from engines.onnx_export import check_graph, export_part

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MODELS = (
    "rife-4.26.heavy",
    "rife-4.6",
    "rife-4.15.lite",
    "rife-4.25.lite",
    "drba-small",
    "distil-drba-v1",
    "distil-drba-v2-lite",
)
HALF_MODELS = ("drba-small", "rife-4.26.heavy", "distil-drba-v2-lite")
HEIGHT, WIDTH = 128, 192
TOLERANCE = 1e-3


@lru_cache(maxsize=2)
def interpolator(model: str, scale: float, dtype: torch.dtype) -> Interpolator:
    return drba.load(model, weights=rule_weights(model), device="cpu", mode="fast", scale=scale, dtype=dtype)


def described(model: str, precision: str, scale: float = 1.0) -> list[NetworkPart]:
    exact = PRECISIONS[precision]
    network = interpolator(model, scale, exact.weights)
    parts = network.network_parts(*network.padded_size(HEIGHT, WIDTH), exact)
    return [part for part in parts if part.has_weights]


@lru_cache(maxsize=64)
def graph(model: str, precision: str, part: str, scale: float = 1.0) -> bytes:
    (found,) = [item for item in described(model, precision, scale) if item.name == part]
    return export_part(found, PRECISIONS[precision], CPU)


def in_onnx_runtime(part: NetworkPart, content: bytes) -> PartFunction:
    return OnnxRuntimeBuilder().load(content, part)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).double().pow(2).mean()))


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("model", MODELS)
def test_every_part_agrees_with_pytorch(model: str, scale: float) -> None:
    """Each part alone, on what it is really given: the parts before it run in PyTorch."""
    network = interpolator(model, scale, torch.float32)
    checked = []

    def both(part: NetworkPart) -> PartFunction:
        other = in_onnx_runtime(part, graph(model, "fp32", part.name, scale))

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs = part.module(*inputs)
            for ours, theirs in zip(other(*inputs), outputs, strict=True):
                torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)
            checked.append(part.name)
            return outputs

        return run

    parts = described(model, "fp32", scale)
    split = network.with_parts({part.name: both(part) for part in parts}, batch=1)
    split.triplet(*moving_frames(HEIGHT, WIDTH), [0.7, 1.4])
    assert set(checked) == {part.name for part in parts}


@pytest.mark.parametrize("precision", ["fp16", "fp16-fp32-warps", "fp16-all"])
@pytest.mark.parametrize("model", HALF_MODELS)
def test_half_precision_graphs_come_near_float32(model: str, precision: str) -> None:
    """Whole triplets against PyTorch in float32. A part alone cannot be held to 1e-3: one rounding of a feature of size 8
    is 4e-3. ONNX Runtime's CPU kernels compute in float32 between float16 tensors, so this shows the graph's types and
    roundings at tensors, not those inside a convolution."""
    frames = moving_frames(HEIGHT, WIDTH)
    exact = interpolator(model, 1.0, torch.float32).triplet(*frames, [0.7, 1.4])[0]
    network = interpolator(model, 1.0, torch.float16)
    every = network.network_parts(*network.padded_size(HEIGHT, WIDTH), PRECISIONS[precision])
    functions: dict[str, PartFunction] = {part.name: part.module for part in every}
    for part in described(model, precision):
        functions[part.name] = in_onnx_runtime(part, graph(model, precision, part.name))
    half = network.with_parts(functions, batch=1).triplet(*frames, [0.7, 1.4])[0]
    # Coordinates in float16 are a sixteenth of a pixel apart at this width, which weights by rule make much of.
    limit = 33 if precision == "fp16-all" else 45
    assert min(psnr(ours, theirs) for ours, theirs in zip(half, exact, strict=True)) > limit


@pytest.mark.parametrize("precision", ["fp16", "fp16-fp32-warps", "fp16-all", "fp32"])
@pytest.mark.parametrize("model", HALF_MODELS)
def test_graphs_are_what_tensorrt_needs(model: str, precision: str) -> None:
    """Read from the file with ONNX's own library, not by the check that the export makes."""
    for part in described(model, precision):
        content = onnx.load_model_from_string(graph(model, precision, part.name))
        assert [(entry.domain, entry.version) for entry in content.opset_import] == [("", 17)]
        inferred = shape_inference.infer_shapes(content, strict_mode=True, data_prop=True).graph
        values = {v.name: v.type.tensor_type for v in (*inferred.input, *inferred.value_info, *inferred.output)}
        assert all(dim.HasField("dim_value") for value in values.values() for dim in value.shape.dim)
        samplers = [node for node in inferred.node if node.op_type == "GridSample"]
        assert bool(samplers) == (part.name == "render")
        coordinates = TensorProto.FLOAT16 if precision == "fp16-all" else TensorProto.FLOAT
        for node in samplers:
            assert {a.name: helper.get_attribute_value(a) for a in node.attribute} == {
                "mode": b"bilinear",
                "padding_mode": b"border",
                "align_corners": 1,
            }
            assert values[node.input[1]].elem_type == coordinates
        weights = {tensor.name: tensor.data_type for tensor in inferred.initializer}
        convolutions = [weights[node.input[1]] for node in inferred.node if "Conv" in node.op_type]
        half = TensorProto.FLOAT if precision == "fp32" else TensorProto.FLOAT16
        exact = 11 if model.startswith("rife") and part.name in ("coarse", "render") else 0  # the coarsest block
        assert convolutions == [TensorProto.FLOAT] * exact + [half] * (len(convolutions) - exact)


def _nearest(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "GridSample" and attribute.name == "mode":
                attribute.s = b"nearest"


def _opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 20


def _dynamic(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


@pytest.mark.parametrize(
    ("precision", "spoil", "message"),
    [
        ("fp32", _nearest, "expected mode bilinear"),
        ("fp32", _opset, "expected ONNX's own in 16 to 19"),
        ("fp32", _dynamic, "has tensors"),
        ("fp16-all", None, "in another precision than torch.float32"),
    ],
    ids=["nearest", "opset 20", "dynamic", "half coordinates"],
)
def test_a_graph_that_is_not_is_refused(precision: str, spoil: object, message: str) -> None:
    model = onnx.load_model_from_string(graph("rife-4.15.lite", precision, "render"))
    if callable(spoil):
        spoil(model)
    expected = PRECISIONS["fp16" if precision == "fp16-all" else precision]
    (part,) = [item for item in described("rife-4.15.lite", expected.name) if item.name == "render"]
    with pytest.raises(EngineError, match=message) as caught:
        check_graph(model.SerializeToString(), part, expected)
    assert "\n" not in str(caught.value)

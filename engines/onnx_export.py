"""Network parts as ONNX graphs, as TensorRT wants them: static shapes, precision in the graph itself, opset 17.

Every graph is checked after its export, because two of its properties fail silently elsewhere: from opset 20 on TensorRT
reads "linear" GridSample as nearest, and sampling coordinates in float16 are wrong by up to half a pixel.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnx import TensorProto, shape_inference

from drba.errors import EngineError
from drba.networks.parts import NetworkPart, Precision

OPSET = 17  # GridSample exists from 16 on, and its "bilinear" is called so up to 19
OPSETS = range(16, 20)
#: Part of every engine's key: raise it with any change of the networks or of this file that changes a graph.
EXPORTER_VERSION = 1

_TYPES = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16}


def export_part(part: NetworkPart, precision: Precision, device: torch.device) -> bytes:
    """The part as a checked ONNX model. `device` is where its weights are; it is run twice there.

    EngineError where the graph is not what it must be.
    """
    inputs = tuple(torch.zeros(spec.shape, dtype=spec.dtype, device=device) for spec in part.inputs)
    with TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        path = Path(folder) / "part.onnx"
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no onnxscript is the older one
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # sizes are meant to become constants
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.onnx")
        part.module(*inputs)  # fills the caches of coordinates, which are constants in the graph then
        torch.onnx.export(
            part.module,
            inputs,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[spec.name for spec in part.inputs],
            output_names=[spec.name for spec in part.outputs],
        )
        content = path.read_bytes()
    check_graph(content, part, precision)
    return content


def check_graph(content: bytes, part: NetworkPart, precision: Precision) -> None:
    """EngineError where an ONNX model is not the part in that precision with static shapes and float32 flow."""
    model = onnx.load_model_from_string(content)
    problem = _problem(model, part, precision)
    if problem:
        raise EngineError(f"ONNX graph of {part.name} ({precision.name}) {problem}; report this with `pip list`")


def _problem(model: onnx.ModelProto, part: NetworkPart, precision: Precision) -> str:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.keys() != {""} or opsets[""] not in OPSETS:
        return f"uses operator sets {opsets}, expected ONNX's own in {OPSETS.start} to {OPSETS.stop - 1}"
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    for specs, values in ((part.inputs, inferred.input), (part.outputs, inferred.output)):
        found = [_spec(value) for value in values]
        expected = [(spec.name, spec.shape, _TYPES.get(spec.dtype)) for spec in specs]
        if found != expected:
            return f"has tensors {found}, expected {expected}"
    known = {value.name: value for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    for value in known.values():
        if 0 in _spec(value)[1]:
            return f"has a tensor {value.name} without a static shape"
    for node in inferred.node:
        if node.op_type == "GridSample":
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if attributes.get("mode") != b"bilinear" or attributes.get("align_corners") != 1:
                return f"samples with {attributes}, expected mode bilinear, corners aligned"
            for name in node.input:
                if known[name].type.tensor_type.elem_type != _TYPES[precision.sampling]:
                    return f"samples {name} in another precision than {precision.sampling}"
    return ""


def _spec(value: onnx.ValueInfoProto) -> tuple[str, tuple[int, ...], int]:
    """(name, shape with 0 for what is not known, type)."""
    tensor = value.type.tensor_type
    return value.name, tuple(dim.dim_value for dim in tensor.shape.dim), tensor.elem_type

"""A second real builder beside TensorRT: ONNX Runtime on the CPU. "Building" is its own optimisation of the graph."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch

from drba.errors import EngineError
from drba.networks.parts import NetworkPart, PartFunction
from engines.build import BuildCancelled, Report
from engines.build_progress import Phases

onnxruntime.set_default_logger_severity(3)


class OnnxRuntimeBuilder:
    """See `engines.build.Builder`. `alter` changes graphs before they are built; `gate`, where given, is waited for
    between steps, so that a test can act in the middle of a build; `builds` counts."""

    name = "onnxruntime"
    device = torch.device("cpu")

    def __init__(self, version: str = onnxruntime.__version__) -> None:
        self.version = version
        self.builds: list[bytes] = []
        self.timings: list[bytes | None] = []
        self.begun = threading.Event()
        self.gate: threading.Event | None = None
        self.fails = ""

    def fingerprint(self) -> str:
        return f"ONNX Runtime {self.version}"

    def alter(self, model: onnx.ModelProto) -> None:
        """For subclasses."""

    def build(self, graph: bytes, report: Report, timings: bytes | None) -> tuple[bytes, bytes | None]:
        self.builds.append(graph)
        self.timings.append(timings)
        if self.fails:
            raise EngineError(self.fails)
        phases = Phases()
        phases.start("build", None, 2)
        phases.start("optimise", "build", 2)
        self._step(report, phases.step("optimise", 0))
        model = onnx.load_model_from_string(graph)
        self.alter(model)
        self._step(report, phases.step("optimise", 1))
        phases.finish("optimise")
        self._step(report, phases.step("build", 0))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "engine.onnx"
            options = _options()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.optimized_model_filepath = str(path)
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            engine = path.read_bytes()
        self._step(report, phases.step("build", 1))
        return engine, (timings or b"") + b"t"

    def load(self, engine: bytes, part: NetworkPart) -> PartFunction:
        try:
            session = onnxruntime.InferenceSession(engine, _options(), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"ONNX Runtime cannot load {part.name}: {error}") from error
        names = [spec.name for spec in part.outputs]

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given = {spec.name: tensor.numpy() for spec, tensor in zip(part.inputs, inputs, strict=True)}
            return tuple(torch.from_numpy(np.asarray(output)) for output in session.run(names, given))

        return run

    def _step(self, report: Report, fraction: float) -> None:
        self.begun.set()
        if self.gate is not None:
            assert self.gate.wait(60)
        if not report(fraction):
            raise BuildCancelled


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return options

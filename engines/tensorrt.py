"""TensorRT as a builder of network parts, versions 10.13 to 11.x: thin, from NVIDIA's documentation.

`tensorrt` is imported when a builder is made. tests/test_tensorrt_names.py compares every name used here with the published
bindings, so variables that hold TensorRT's objects keep the names that it knows (builder, network, parser, ...).
"""

from __future__ import annotations

import logging
import threading
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from drba.errors import EngineError, InputError
from drba.networks.parts import NetworkPart, PartFunction

from .build import BuildCancelled, Report
from .build_progress import Phases

log = logging.getLogger(__name__)

PACKAGES = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")
VERSIONS = ((10, 13), (12, 0))  # from, to before
WORKSPACE_BYTES = 4 << 30  # scratch memory that a layer may use; at most half of what is free


def missing() -> str:
    """Why TensorRT cannot be used here and what to do about it; empty where it can."""
    if not torch.cuda.is_available():
        return "TensorRT needs an NVIDIA card and a PyTorch with CUDA; this PyTorch finds none"
    for module, name in (("tensorrt", "TensorRT"), ("onnx", "onnx, which TensorRT needs,")):
        if find_spec(module) is None:
            return f"{name} is not installed; {_install()}"
    for package in PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        if not VERSIONS[0] <= tuple(map(int, found.split(".")[:2])) < VERSIONS[1]:
            return f"TensorRT is {found}, expected 10.13 or later and below 12; {_install()}"
    return ""


def _install() -> str:
    """TensorRT and PyTorch must be for the same major version of CUDA."""
    extra = "nvidia-cu12" if (torch.version.cuda or "").startswith("12.") else "nvidia"
    return f"pip install 'drba-player[{extra}]'"


class TensorRtBuilder:
    """See `engines.build.Builder`."""

    name = "tensorrt"

    def __init__(self, device: torch.device | None = None) -> None:
        """InputError where `missing()` says so; EngineError where the libraries cannot be loaded."""
        reason = missing()
        if reason:
            raise InputError(reason)
        try:
            import tensorrt as trt
        except Exception as error:  # its loader raises what it likes about missing libraries
            raise EngineError(f"TensorRT cannot be loaded ({error}); {_install()} again") from error
        self.device = device or torch.device("cuda", torch.cuda.current_device())
        self._trt: Any = trt
        self._log = _logger(trt)
        with torch.cuda.device(self.device):
            self._runtime = trt.Runtime(self._log)
        self._monitor: Any = None

    def fingerprint(self) -> str:
        card = torch.cuda.get_device_properties(self.device)
        return f"TensorRT {self._trt.__version__}, {card.name}, compute capability {card.major}.{card.minor}"

    def build(self, graph: bytes, report: Report, timings: bytes | None) -> tuple[bytes, bytes | None]:
        trt = self._trt
        monitor = self._monitor = _monitor(trt, report)  # must outlive what reports to it
        with torch.cuda.device(self.device):
            builder = trt.Builder(self._log)
            # Versions before 11 choose precisions by themselves without the flag; 11 takes it and has nothing else.
            network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
            parser = trt.OnnxParser(network, self._log)
            if not parser.parse(graph):
                errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
                raise EngineError(f"TensorRT does not take the graph: {errors}")
            config = builder.create_builder_config()
            workspace = min(WORKSPACE_BYTES, torch.cuda.mem_get_info(self.device)[0] // 2)
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
            config.clear_flag(trt.BuilderFlag.TF32)  # what is float32 in the graph is so for a reason
            config.progress_monitor = monitor
            timing_cache = config.create_timing_cache(timings or b"")
            if not config.set_timing_cache(timing_cache, False):
                config.set_timing_cache(config.create_timing_cache(b""), False)
            serialized = builder.build_serialized_network(network, config)
            if monitor.cancelled:
                raise BuildCancelled
            if serialized is None:
                raise EngineError(f"TensorRT cannot build the engine: {self._log.last_error or 'it gives no reason'}")
            return bytes(serialized), bytes(config.get_timing_cache().serialize())

    def load(self, engine: bytes, part: NetworkPart) -> PartFunction:
        with torch.cuda.device(self.device):
            loaded = self._runtime.deserialize_cuda_engine(engine)
            if loaded is None:
                raise EngineError(
                    f"TensorRT cannot load the engine of {part.name}: {self._log.last_error or 'it gives no reason'}; "
                    "remove it with `drba engines clean`"
                )
            return TensorRtPart(loaded, part, self.device)


class TensorRtPart:
    """A `PartFunction` (see `networks.parts`): enqueues the engine on the current stream. After its first call nothing in
    it waits, and only PyTorch's allocator is asked for memory, so that it can be captured in a CUDA graph. An engine has
    one execution context: calls on several streams at once are not allowed."""

    def __init__(self, engine: Any, part: NetworkPart, device: torch.device) -> None:
        self._engine = engine  # the context needs it to live
        self._part, self._device = part, device
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        for spec in (*part.inputs, *part.outputs):
            if spec.name not in names or tuple(engine.get_tensor_shape(spec.name)) != spec.shape:
                raise EngineError(f"engine of {part.name} has no tensor {spec.name} {spec.shape}; build it again")
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(f"TensorRT cannot run the engine of {part.name}: not enough device memory")
        self._context = context
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for spec, tensor in zip(self._part.inputs, inputs, strict=True):
            if tensor.shape != spec.shape or tensor.dtype != spec.dtype or not tensor.is_contiguous():
                found = f"{tensor.dtype} {tuple(tensor.shape)}"
                raise EngineError(
                    f"{self._part.name}: {spec.name} is {found}; expected {spec.dtype} {spec.shape} contiguous"
                )
        outputs = tuple(torch.empty(spec.shape, dtype=spec.dtype, device=self._device) for spec in self._part.outputs)
        context = self._context
        with self._lock:
            for specs, tensors in ((self._part.inputs, inputs), (self._part.outputs, outputs)):
                for spec, tensor in zip(specs, tensors, strict=True):
                    context.set_tensor_address(spec.name, tensor.data_ptr())
            if not context.execute_async_v3(torch.cuda.current_stream(self._device).cuda_stream):
                raise EngineError(f"TensorRT cannot run {self._part.name} on {self._device}")
        return outputs


def _logger(trt: Any) -> Any:
    """TensorRT's messages in ours, and the last error for the exceptions, where TensorRT only says that it failed."""
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.DEBUG,
        trt.ILogger.Severity.VERBOSE: logging.NOTSET,
    }

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            level = levels[severity]
            if level >= logging.ERROR:
                self.last_error = message.strip().splitlines()[0]
            if level:
                log.log(level, "TensorRT: %s", message)

    return Logger()


def _monitor(trt: Any, report: Report) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Called by several of TensorRT's threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self._phases = Phases()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if not report(self._phases.step(phase_name, step)):
                self.cancelled = True
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            self._phases.finish(phase_name)

    return Monitor()

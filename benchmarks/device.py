"""What the benchmarks of the device path share: which device, how time is taken on it, pictures that move."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import torch

from drba.networks import kernels
from drba.pixels import FrameLayout
from engines import SourceFrame

WARM_UP, MEASURED = 3, 15


def chosen() -> torch.device:
    """The card, or the processor with a warning: there the benchmarks are only tried out."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    print("No CUDA device here: this only tries the benchmark out, on the processor. The numbers mean nothing.\n")
    return torch.device("cpu")


def described(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{platform.processor() or platform.machine()}, PyTorch {torch.__version__}"
    properties = torch.cuda.get_device_properties(device)
    return (
        f"{properties.name}, {properties.total_memory >> 30} GiB, compute capability {properties.major}."
        f"{properties.minor}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"{kernels.missing() or 'kernels by CuPy'}"
    )


def microseconds(calls: Sequence[Callable[[], object]], device: torch.device) -> float:
    """Median time of one call. The calls do the same with different memory, so that no cache holds all of it; on a card
    they are recorded as one CUDA graph, so that what is measured is the device and not the launching."""
    with torch.no_grad():
        for _ in range(WARM_UP):
            for call in calls:
                call()
        if device.type != "cuda":
            took = []
            for _ in range(MEASURED):
                began = time.perf_counter()
                for call in calls:
                    call()
                took.append((time.perf_counter() - began) * 1e6 / len(calls))
            return median(took)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        graph.replay()
        took = []
        for _ in range(MEASURED):
            began_at, ended_at = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began_at.record()
            graph.replay()
            ended_at.record()
            ended_at.synchronize()
            took.append(began_at.elapsed_time(ended_at) * 1e3 / len(calls))
        return median(took)


def film(layout: FrameLayout, count: int) -> list[SourceFrame]:
    """Smooth texture and noise that move by a few pixels a frame."""
    rng = np.random.default_rng(1)
    height, width = layout.height + 8, layout.width + 8 * count
    small = torch.from_numpy(rng.random((1, 1, height // 16 + 2, width // 16 + 2), dtype=np.float32))
    texture = torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic")[0, 0].clamp(0, 1).numpy()
    texture = (texture * 0.9 + rng.random((height, width), dtype=np.float32) * 0.05) * layout.format.max_value
    frames = []
    for number in range(count):
        planes = layout.views(bytearray(layout.frame_bytes))
        for plane in planes:
            plane[:] = texture[: plane.shape[0], 6 * number : 6 * number + plane.shape[1]].astype(plane.dtype)
        frames.append(SourceFrame(number, planes))
    return frames


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, for docs/performance.md."""
    lines = [f"\n{title}\n", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])

"""What this machine reaches at best, measured: operations of a large matrix product, bytes of a large copy.

They are the denominators of the floor (`drba.networks.cost`), so that a ratio to it is honest on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

# Large enough that starting costs nothing and no cache holds the copy; small enough to take a second on two cores.
_CPU_SIZES = (2048, 1 << 28)  # side of the matrices, bytes copied
_CUDA_SIZES = (8192, 1 << 30)
_WARM_UP, _LEAST_RUNS = 2, 3


@dataclass(frozen=True)
class Peaks:
    """Best of several runs. `operations` by dtype name: additions and multiplications a second of a matrix product of
    that dtype; `bytes` a second of a copy, read and written bytes added up."""

    device: str
    operations: dict[str, float]
    bytes: float


def measure_peaks(device: torch.device, seconds: float = 2.0) -> Peaks:
    """Each is tried for `seconds` at least, so that some runs are not disturbed by what else goes on.

    float32 counts as TF32 where the card has it, as PyTorch's convolutions use it there; float16 is measured on CUDA only,
    where it is used.
    """
    cuda = device.type == "cuda"
    torch.set_float32_matmul_precision("high")
    side, copied_bytes = _CUDA_SIZES if cuda else _CPU_SIZES
    operations = {}
    for dtype in (torch.float32, torch.float16) if cuda else (torch.float32,):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        seconds = _best_s(device, partial(torch.mm, a, b, out=out), seconds)
        operations[str(dtype).removeprefix("torch.")] = 2 * side**3 / seconds
    source = torch.zeros(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    return Peaks(name, operations, 2 * copied_bytes / _best_s(device, partial(target.copy_, source), seconds))


def _best_s(device: torch.device, run: Callable[[], object], seconds: float) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < _WARM_UP + _LEAST_RUNS or time.perf_counter() < until:
        wait()
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    return min(times[_WARM_UP:])

"""RIFE's two modes and half precision on this machine, with weights made by rule: `python benchmarks/network_modes.py`.

Times are seconds per in-between frame at 1280x720, two a triplet, modes taken in turn; memory is the process's peak at 1920x1080.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import netweights  # noqa: E402
import torch  # noqa: E402

import drba  # noqa: E402

MODEL = "rife-4.26.heavy"
TIMES = [0.75, 1.25]
ROUNDS = 3


def frames(height: int, width: int, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(1, 3, height // 8 + 2, width // 8 + 8, generator=generator)
    texture = torch.nn.functional.interpolate(small, scale_factor=8, mode="bicubic").clamp(0, 1)
    return [texture[..., :height, 4 * k : 4 * k + width].contiguous() for k in range(count)]


def speed() -> dict[str, float]:
    weights = netweights.rule_weights(MODEL)
    models = {mode: drba.load(MODEL, weights=weights, mode=mode) for mode in ("fast", "reference")}
    took: dict[str, list[float]] = {mode: [] for mode in models}
    shown = frames(720, 1280, ROUNDS + 3)
    states = {}
    for k in range(ROUNDS + 1):
        for mode, model in models.items():
            began = time.perf_counter()
            _, states[mode] = model.triplet(*shown[k : k + 3], TIMES, states.get(mode))
            if k:  # the first round warms up
                took[mode].append((time.perf_counter() - began) / len(TIMES))
    result = {f"{mode}_s": round(median(values), 3) for mode, values in took.items()}
    result["ratio"] = round(result["reference_s"] / result["fast_s"], 2)
    return result


def memory_mib(queue: multiprocessing.Queue[float]) -> None:
    model = drba.load(MODEL, weights=netweights.rule_weights(MODEL), mode="fast")
    shown = frames(1080, 1920)
    model.triplet(shown[0], shown[1], shown[2], TIMES)
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def half_precision_db() -> dict[str, float]:
    shown = frames(128, 192)
    found = {}
    for name in netweights.MANIFESTS:
        weights = netweights.rule_weights(name)
        full = drba.load(name, weights=weights).triplet(shown[0], shown[1], shown[2], TIMES)[0]
        half = drba.load(name, weights=weights, dtype="bfloat16").triplet(shown[0], shown[1], shown[2], TIMES)[0]
        error = max(float(((a - b) ** 2).mean()) for a, b in zip(full, half, strict=True))
        found[name] = round(-10 * torch.log10(torch.tensor(max(error, 1e-12))).item(), 1)
    return found


def main() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=memory_mib, args=(queue,))
    process.start()
    peak = queue.get()
    process.join()
    result = {"speed_720p": speed(), "fast_peak_mib_1080p": round(peak), "bfloat16_psnr_db": half_precision_db()}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

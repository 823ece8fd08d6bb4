"""What each lever of the device path gives, planes in to planes out: `python benchmarks/device_levers.py`.

Every row adds one lever to those above it. Milliseconds are wall time over in-between frames, two a triplet; p99 is over
the calls of `render`, by frame. PSNR is against float32 on the processor in the same mode. Weights are those installed,
or made by rule, which makes no difference to the time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import device as shared  # noqa: E402
import netweights  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import drba  # noqa: E402
from drba import weights  # noqa: E402
from drba.models import find  # noqa: E402
from drba.networks import kernels  # noqa: E402
from drba.networks.levers import Levers, with_levers  # noqa: E402
from drba.pixels import FrameLayout, Plane, pixel_format  # noqa: E402
from engines import SourceFrame, StreamSpec, Triplet  # noqa: E402
from engines.network import NetworkRenderer  # noqa: E402

SIZES = [(1920, 1080, 1.0), (3840, 2160, 0.5)]  # and flow scale
TIMES = (0.75, 1.25)
DISTINCT_FRAMES = 12
WARM_UP = 24  # triplets: every set of frame buffers comes round three times


PLAIN = Levers()


@dataclass(frozen=True)
class Rung:
    name: str
    mode: str = "fast"
    levers: Levers = PLAIN
    kernels: bool = False
    graphs: bool = False
    threads: int = 1
    compiled: bool = False


TOGETHER, SUMS = Levers(together=True), Levers(together=True, sums=True)
RUNGS = (
    Rung("reference, eager", mode="reference"),
    Rung("fast, eager"),
    Rung("+ layers together", levers=TOGETHER),
    Rung("+ sums in the weights", levers=SUMS),
    Rung("+ kernels", levers=SUMS, kernels=True),
    Rung("+ CUDA graphs", levers=SUMS, kernels=True, graphs=True),
    Rung("+ two threads (the default)", levers=SUMS, kernels=True, graphs=True, threads=2),
    Rung("+ three threads", levers=SUMS, kernels=True, graphs=True, threads=3),
    Rung("default + shuffles", levers=Levers(True, True, True), kernels=True, graphs=True, threads=2),
)
COMPILED = Rung("render part by torch.compile, no kernels", levers=SUMS, graphs=True, threads=2, compiled=True)


@dataclass(frozen=True)
class Measured:
    rung: str
    model: str
    size: str
    ms: float
    median_ms: float
    p99_ms: float
    device_mib: float
    grown_mib: float
    psnr_db: float


def opened(rung: Rung, spec: StreamSpec, device: torch.device) -> NetworkRenderer:
    """Half precision on a card whatever the mode."""
    renderer = NetworkRenderer(spec, find(spec.model), device.type, levers=rung.levers, graphs=rung.graphs)
    network = renderer.interpolator
    if rung.mode == "reference":
        dtype = torch.float16 if device.type == "cuda" else None
        network = drba.load(spec.model, device=device, dtype=dtype, scale=spec.scale, mode="reference")
        renderer.use(network)
    elif rung.compiled:
        network = with_levers(network, rung.levers)
        compiled = torch.compile(network.parts["render"], mode="max-autotune-no-cudagraphs", dynamic=False)
        renderer.use(network.with_parts({"render": compiled}))
    return renderer


def measured(rung: Rung, spec: StreamSpec, device: torch.device, triplets: int, expected: list[Plane]) -> Measured:
    card = device.type == "cuda"
    if card:
        kernels.LAUNCHERS.pop("cuda", None)
        if not rung.kernels:
            kernels.LAUNCHERS["cuda"] = None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    frames = shared.film(spec.layout, DISTINCT_FRAMES)
    renderer = opened(rung, spec, device)
    first = _outputs(spec.layout)
    renderer.render(Triplet(*frames[:3]), TIMES, first)

    def shown(number: int) -> SourceFrame:
        return SourceFrame(100 + number, frames[number % DISTINCT_FRAMES].planes)  # a new frame for the renderer

    def one(number: int) -> float:
        began = time.perf_counter()
        asked = Triplet(shown(number), shown(number + 1), shown(number + 2))
        renderer.render(asked, TIMES, _outputs(spec.layout))
        return (time.perf_counter() - began) * 1e3 / len(TIMES)

    with ThreadPoolExecutor(rung.threads) as threads:
        warm_up = WARM_UP if card else 2
        list(threads.map(one, range(warm_up)))
        before = torch.cuda.memory_reserved() if card else 0
        began = time.perf_counter()
        took = list(threads.map(one, range(warm_up, warm_up + triplets)))
        ms = (time.perf_counter() - began) * 1e3 / (triplets * len(TIMES))
        grown = (torch.cuda.memory_reserved() - before) if card else 0
    peak = torch.cuda.max_memory_reserved() if card else 0
    renderer.close()
    kernels.LAUNCHERS.pop("cuda", None)
    return Measured(
        rung=rung.name,
        model=spec.model,
        size=f"{spec.layout.width}x{spec.layout.height}",
        ms=ms,
        median_ms=float(np.median(took)),
        p99_ms=float(np.quantile(took, 0.99)),
        device_mib=peak / 2**20,
        grown_mib=grown / 2**20,
        psnr_db=_psnr([plane for planes in first for plane in planes], expected, spec.layout.format.max_value),
    )


def expected_planes(spec: StreamSpec, mode: str) -> list[Plane]:
    """What float32 on the processor makes of the first triplet."""
    renderer = NetworkRenderer(spec, find(spec.model), "cpu", mode=mode)
    outputs = _outputs(spec.layout)
    renderer.render(Triplet(*shared.film(spec.layout, DISTINCT_FRAMES)[:3]), TIMES, outputs)
    renderer.close()
    return [plane for planes in outputs for plane in planes]


def _outputs(layout: FrameLayout) -> list[list[Plane]]:
    return [layout.views(bytearray(layout.frame_bytes)) for _ in TIMES]


def _psnr(found: Sequence[Plane], expected: Sequence[Plane], top: int) -> float:
    squares = [np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(found, expected, strict=True)]
    return 10 * math.log10(top**2 / max(float(np.mean(squares)), 1e-9))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="rife-4.26.heavy")
    parser.add_argument("--size", metavar="WxH", help="default: 1920x1080, and 3840x2160 at flow scale 0.5")
    parser.add_argument("--scale", type=float, default=1.0, help="flow scale for --size (default: %(default)g)")
    parser.add_argument("--pixel-format", default="yuv420p")
    parser.add_argument("--triplets", type=int, default=300, help="measured for each row (default: %(default)d)")
    parser.add_argument("--rungs", type=int, nargs="*", help="numbers of the rows, from 0 (default: all)")
    parser.add_argument("--compile", action="store_true", help="add a row for torch.compile (minutes)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    chosen = parser.parse_args(arguments)
    device = shared.chosen()
    sizes = SIZES if device.type == "cuda" else [(96, 64, 1.0)]
    if chosen.size:
        width, height = map(int, chosen.size.split("x"))
        sizes = [(width, height, chosen.scale)]
    rungs = [RUNGS[i] for i in chosen.rungs] if chosen.rungs else list(RUNGS)
    rungs += [COMPILED] if chosen.compile else []
    results = []
    with tempfile.TemporaryDirectory() as folder:
        if not weights.is_installed(find(chosen.model)):
            os.environ["DRBA_DATA_DIR"] = folder
            netweights.install(chosen.model)
        print(shared.described(device))
        for width, height, scale in sizes:
            layout = FrameLayout(width, height, pixel_format(chosen.pixel_format))
            spec = StreamSpec(layout, "bt709", model=chosen.model, scale=scale)
            expected = {mode: expected_planes(spec, mode) for mode in {rung.mode for rung in rungs}}
            found = [measured(rung, spec, device, chosen.triplets, expected[rung.mode]) for rung in rungs]
            results += found
            print(shared.table(f"{chosen.model}, {width}x{height}, flow scale {scale:g}", HEADS, rows(found)))
    if chosen.json:
        content = {"device": shared.described(device), "rows": [asdict(result) for result in results]}
        chosen.json.write_text(json.dumps(content, indent=1))


HEADS = ["", "ms a frame", "times the first", "call median, p99 / 2", "device MiB", "grown MiB", "PSNR dB"]


def rows(results: Sequence[Measured]) -> list[list[str]]:
    return [
        [
            result.rung,
            f"{result.ms:.2f}",
            f"{results[0].ms / result.ms:.1f}",
            f"{result.median_ms:.2f}, {result.p99_ms:.2f}",
            f"{result.device_mib:.0f}",
            f"{result.grown_mib:.0f}",
            f"{result.psnr_db:.1f}",
        ]
        for result in results
    ]


if __name__ == "__main__":
    main()

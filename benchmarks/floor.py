"""The least that an in-between frame takes by operations and bytes, for every model: `python benchmarks/floor.py`.

Nothing is measured: counts by `drba.networks.cost` (the formulas), times by the cards' published peaks. Prints Markdown.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from drba.floor import Cost
from drba.models import models
from drba.networks.cost import cost
from drba.pixels import FrameLayout, pixel_format

SIZES = {"1080p": (1920, 1080, 1.0), "2160p": (3840, 2160, 1.0), "2160p at flow scale 0.5": (3840, 2160, 0.5)}
#: Dense operations a second in float16 with float32 sums and in TF32, and bytes a second. Data sheets of the H100 and H200
#: (SXM); "NVIDIA Ada GPU Architecture", appendix A, for the RTX 4090.
CARDS = {
    "H200": ({"float16": 989.4e12, "float32": 494.7e12}, 4.8e12),
    "H100": ({"float16": 989.4e12, "float32": 494.7e12}, 3.35e12),
    "RTX 4090": ({"float16": 165.2e12, "float32": 82.6e12}, 1.008e12),
}


def row(found: Cost) -> str:
    """Operations, bytes, and for each card the floor and the time where each layer goes through memory, in ms."""
    half, single = (found.operations.get(dtype, 0.0) / 1e9 for dtype in ("float16", "float32"))
    cells = [f"{half:,.1f}", f"{single:,.1f}", f"{found.moved_bytes / 1e6:,.0f}", f"{found.layer_bytes / 1e6:,.0f}"]
    for operations, bandwidth in CARDS.values():
        each_layer = max(found.floor_s(operations, bandwidth), (found.moved_bytes + found.layer_bytes) / bandwidth)
        cells.append(f"{1e3 * found.floor_s(operations, bandwidth):.3f} / {1e3 * each_layer:.3f}")
    return " | ".join(cells)


def main() -> None:
    for size, (width, height, scale) in SIZES.items():
        layout = FrameLayout(width, height, pixel_format("yuv420p"))
        print(f"\n| {size} | GFLOP half | GFLOP single | MB moved | MB of layers | {' | '.join(CARDS)} |")
        print("|---" * (5 + len(CARDS)) + "|")
        names: dict[str, list[str]] = {}  # some versions differ in their weights only
        for model in models():
            names.setdefault(row(cost(model, layout, torch.float16, scale)), []).append(model.name)
        for cells, equal in names.items():
            print(f"| {', '.join(equal)} | {cells} |")


if __name__ == "__main__":
    main()

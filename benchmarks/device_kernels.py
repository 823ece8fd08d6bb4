"""The device path's own kernels against the bytes that they must move: `python benchmarks/device_kernels.py`.

Each is compared with the time in which the card copies as many bytes, and with plain torch. "Bytes" are each input read
once and each output written once; sums of splatting are cleared, added to and read once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import device as shared  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from drba.networks import kernels  # noqa: E402
from drba.networks.warp import backward_warp, backward_warp_reduced, corner_means, splat  # noqa: E402
from drba.pixels import FrameLayout, pixel_format  # noqa: E402
from engines.colour import ColourConverter  # noqa: E402

SIZES = [(1920, 1080), (3840, 2160)]
SETS = 6  # of inputs, so that a card's cache does not hold all
LAYERS = 19  # channels of a frame of RIFE 4.26.heavy
COPIED_BYTES = 1 << 28

Case = tuple[str, int, list[Callable[[], object]]]


def cases(width: int, height: int, device: torch.device) -> Iterator[Case]:
    """(name, bytes, calls that do it)."""
    half = torch.float16 if device.type == "cuda" else torch.float32
    pixels = width * height
    for name in ("yuv420p", "yuv420p10le"):
        layout = FrameLayout(width, height, pixel_format(name))
        converter = ColourConverter(layout, "bt709", False, device)
        planes = [torch.randint(0, 200, (layout.frame_bytes,), dtype=torch.uint8, device=device) for _ in range(SETS)]
        frames = [torch.rand(1, 3, height, width, device=device) for _ in range(SETS)]
        moved = layout.frame_bytes + 12 * pixels
        yield f"{name} to RGB", moved, _each(converter.to_rgb, planes, frames)
        yield f"RGB to {name}", moved, _each(converter.to_planes, frames, planes)
    for reduction, channels, dtype in ((1, 3, torch.float32), (1, LAYERS, half), (2, LAYERS, half), (8, LAYERS, half)):
        rows, columns = height // reduction, width // reduction
        flows = [8 * torch.randn(1, 2, rows // 8 + 1, columns // 8 + 1, device=device) for _ in range(SETS)]
        flows = [torch.nn.functional.interpolate(flow, size=(rows, columns), mode="bilinear") for flow in flows]
        images = [torch.rand(1, channels, height, width, device=device).to(dtype) for _ in range(SETS)]
        size = torch.finfo(dtype).bits // 8
        read = min(pixels, 4 * rows * columns) * channels * size
        moved = read + rows * columns * (8 + channels * size)
        for form, memory in (("planes", torch.contiguous_format), ("together", torch.channels_last)):
            laid = [image.to(memory_format=memory) for image in images]
            name = f"warp, {channels} channels, {8 * size} bits, {form}, 1/{reduction} of the size"
            if reduction == 1:
                yield name, moved, _each(backward_warp, laid, flows)
            else:
                corners = [corner_means(image) for image in laid]
                yield name, moved, _each(backward_warp_reduced, laid, corners, flows)
    for reduction in (1, 16):
        rows, columns = max(1, height // reduction), max(1, width // reduction)
        values = [torch.rand(1, 2, rows, columns, device=device) for _ in range(SETS)]
        flows = [4 * torch.randn(1, 2, rows, columns, device=device) for _ in range(SETS)]
        # values, flow, result; three sums: cleared, four additions (read and written), read
        moved = rows * columns * 4 * (2 + 2 + 2 + 3 * (1 + 2 + 1))
        yield f"splat, 2 channels, 1/{reduction} of the size", moved, _each(splat, values, flows)


def _each(function: Callable[..., object], *arguments: list[Tensor]) -> list[Callable[[], object]]:
    return [lambda given=given: function(*given) for given in zip(*arguments, strict=True)]  # type: ignore[misc]


def copy_bytes_a_second(device: torch.device, copied: int) -> float:
    """Bytes read plus bytes written."""
    pairs = [(torch.rand(copied // 4, device=device), torch.empty(copied // 4, device=device)) for _ in range(2)]
    calls = [lambda a=a, b=b: b.copy_(a) for a, b in pairs]  # type: ignore[misc]
    return 2 * copied / (shared.microseconds(calls, device) * 1e-6)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", metavar="WxH", action="append", help="default: 1920x1080 and 3840x2160")
    chosen = parser.parse_args(arguments)
    device = shared.chosen()
    card = device.type == "cuda"
    sizes = [tuple(map(int, size.split("x"))) for size in chosen.size or ()] or (SIZES if card else [(64, 48)])
    rate = copy_bytes_a_second(device, COPIED_BYTES if card else 1 << 20)
    print(f"{shared.described(device)}; copies {rate / 1e9:.0f} GB/s")
    for width, height in sizes:
        rows = []
        for name, moved, calls in cases(width, height, device):
            kernel = shared.microseconds(calls, device) if card and not kernels.missing() else None
            launcher = kernels.LAUNCHERS.get(device.type)
            kernels.LAUNCHERS[device.type] = None
            plain = shared.microseconds(calls, device)
            kernels.LAUNCHERS[device.type] = launcher
            floor = moved / rate * 1e6
            ours = ["-", "-"] if kernel is None else [f"{kernel:.1f}", f"{floor / kernel:.0%}"]
            rows.append([name, f"{moved / 1e6:.1f}", f"{floor:.1f}", *ours, f"{plain:.1f}"])
        heads = ["what", "MB", "copy us", "kernel us", "of the copy's rate", "torch us"]
        print(shared.table(f"{width}x{height}", heads, rows))


if __name__ == "__main__":
    main()

"""The device path on a card. Skipped where there is none; what can be checked without stands in test_kernels.py,
test_network_renderer.py and test_levers.py."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import netweights
import numpy as np
import pytest
import torch
from test_kernels import hostile_flow, random

from drba.models import find
from drba.networks import kernels
from drba.networks.warp import backward_warp, backward_warp_reduced, corner_means, splat
from drba.pixels import PIXEL_FORMATS, FrameLayout, PixelFormat, Plane, pixel_format
from engines import SourceFrame, StreamSpec, Triplet
from engines.colour import ColourConverter
from engines.frames import FIXED_PLACES
from engines.network import NetworkRenderer

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: the device path was not run"
)
needs_kernels = pytest.mark.skipif(bool(kernels.missing()), reason=f"the kernels were not run: {kernels.missing()}")

MODELS = ["drba-small", "rife-4.26.heavy", "rife-4.6", "rife-4.15.lite", "distil-drba-v1", "distil-drba-v2-lite"]
LAYOUT = FrameLayout(640, 356, pixel_format("yuv420p"))
TIMES = [0.6, 1.4]
CARD, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path))
    for model in MODELS:
        netweights.install(model)
    return


def film(count: int) -> list[SourceFrame]:
    rng = np.random.default_rng(4)
    texture = np.kron(rng.integers(30, 220, (60, 120)), np.ones((8, 8))).astype(np.uint8)
    frames = []
    for number in range(count):
        planes = LAYOUT.views(bytearray(LAYOUT.frame_bytes))
        for plane in planes:
            plane[:] = np.roll(texture, -3 * number, 1)[: plane.shape[0], : plane.shape[1]]
        frames.append(SourceFrame(number, planes))
    return frames


def rendered(renderer: NetworkRenderer, frames: Sequence[SourceFrame], middle: int) -> list[list[Plane]]:
    outputs = [LAYOUT.views(bytearray(LAYOUT.frame_bytes)) for _ in TIMES]
    renderer.render(Triplet(frames[middle - 1], frames[middle], frames[middle + 1]), TIMES, outputs)
    return outputs


def psnr(found: Sequence[Sequence[Plane]], expected: Sequence[Sequence[Plane]]) -> float:
    pairs = [(a, b) for ours, theirs in zip(found, expected, strict=True) for a, b in zip(ours, theirs, strict=True)]
    return float(10 * np.log10(255**2 / max(np.mean([np.mean((a.astype(float) - b) ** 2) for a, b in pairs]), 1e-9)))


def opened(model: str = "rife-4.26.heavy", device: str = "cuda", **options: bool) -> NetworkRenderer:
    return NetworkRenderer(StreamSpec(LAYOUT, "bt709", model=model), find(model), device, **options)  # type: ignore[arg-type]


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kernels_agree_with_torch(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    image, flow = random(2, 19, 270, 480).to(CARD, dtype), hostile_flow(2, 270, 480).to(CARD)
    small, corners = flow[..., ::2, ::2].contiguous(), corner_means(image)
    with torch.no_grad():
        assert kernels.usable(image, flow)
        found = [backward_warp(image, flow), backward_warp_reduced(image, corners, small), splat(image, flow)]
        monkeypatch.setitem(kernels.LAUNCHERS, "cuda", None)
        expected = [backward_warp(image, flow), backward_warp_reduced(image, corners, small), splat(image, flow)]
    for ours, theirs in zip(found, expected, strict=True):
        difference = (ours.float() - theirs.float()).abs()
        # PyTorch scales coordinates to -1..1 and back, which costs it some 1e-4 of a pixel.
        assert difference.mean() < 1e-3 and difference.max() < 0.05


@needs_kernels
@pytest.mark.parametrize("fmt", [fmt for fmt in PIXEL_FORMATS if fmt.depth in (8, 10, 16)], ids=lambda fmt: fmt.name)
def test_colours_on_the_card_are_those_of_the_processor(fmt: PixelFormat) -> None:
    layout = FrameLayout(321, 181, fmt)
    data = np.empty(layout.frame_bytes, np.uint8)
    for plane in layout.views(data):
        plane[:] = np.random.default_rng(1).integers(0, fmt.max_value + 1, plane.shape)
    on_card, on_processor = (ColourConverter(layout, "bt709", False, device) for device in (CARD, CPU))
    with torch.no_grad():
        rgb = on_card.to_rgb(torch.from_numpy(data).to(CARD))
        torch.testing.assert_close(rgb.cpu(), on_processor.to_rgb(torch.from_numpy(data)), atol=1e-5, rtol=0)
        found, expected = on_card.to_planes(rgb).cpu().numpy(), on_processor.to_planes(rgb.cpu()).numpy()
    for ours, theirs in zip(layout.views(found), layout.views(expected), strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
@pytest.mark.parametrize("model", MODELS)
def test_the_card_renders_what_the_processor_does(
    model: str, with_kernels: bool, models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half precision, graphs and all, for long enough that everything is a replay."""
    if not with_kernels:
        monkeypatch.setitem(kernels.LAUNCHERS, "cuda", None)
    elif kernels.missing():
        pytest.skip(kernels.missing())
    frames = film(4 * FIXED_PLACES)
    card, processor = opened(model), opened(model, "cpu")
    for middle in range(1, len(frames) - 1):
        found = rendered(card, frames, middle)
        if middle in (1, FIXED_PLACES + 1, len(frames) - 2):
            assert psnr(found, rendered(processor, frames, middle)) >= 45
    card.close()


def test_with_and_without_graphs_is_the_same(models: None) -> None:
    frames = film(4 * FIXED_PLACES)
    replayed, plain = opened(), opened(graphs=False)
    for middle in range(1, len(frames) - 1):
        assert psnr(rendered(replayed, frames, middle), rendered(plain, frames, middle)) >= 55
    assert replayed._graphs is not None and len(replayed._graphs) == 4 * FIXED_PLACES, "parts were not recorded"


def test_memory_does_not_grow_over_300_frames(models: None) -> None:
    frames, renderer = film(12), opened()
    used = []
    for number in range(1, 301):
        sources = [SourceFrame(number + k, frames[(number + k) % len(frames)].planes) for k in (-1, 0, 1)]
        rendered(renderer, sources, 1)
        if number in (60, 180, 300):
            used.append((torch.cuda.memory_reserved(), renderer._lanes.staged_bytes))
    assert used[0] == used[1] == used[2]
    renderer.close()


@pytest.mark.alone
def test_threads_render_the_same_and_faster_than_one(models: None) -> None:
    frames = film(80)
    alone, shared = opened(), opened()
    middles = range(1, 79)
    for renderer in (alone, shared):
        for middle in range(1, 25):
            rendered(renderer, frames, middle)
    began = time.perf_counter()
    expected = [rendered(alone, frames, middle) for middle in middles]
    one_s = time.perf_counter() - began
    with ThreadPoolExecutor(3) as threads:
        began = time.perf_counter()
        found = list(threads.map(lambda middle: rendered(shared, frames, middle), middles))
        three_s = time.perf_counter() - began
    assert all(psnr(a, b) >= 55 for a, b in zip(found, expected, strict=True))
    assert three_s < one_s, "copies do not overlap with the network"


def test_closing_gives_the_memory_back(models: None) -> None:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    renderer, frames = opened(), film(12)
    for middle in range(1, 11):
        rendered(renderer, frames, middle)
    renderer.close()
    del renderer
    assert torch.cuda.memory_allocated() <= before + (16 << 20)  # cuBLAS keeps a workspace

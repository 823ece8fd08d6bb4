"""The device path's kernels (drba/networks/kernels.cu): the same source on the processor against the plain torch code, and
through NVIDIA's compiler for several cards. What needs a card is in test_cuda.py."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_host import HostLauncher, kernel_names
from torch import Tensor

from drba.networks import kernels
from drba.networks.warp import backward_warp, backward_warp_reduced, corner_means, splat
from drba.pixels import PIXEL_FORMATS, FrameLayout, PixelFormat, pixel_format
from engines.colour import ColourConverter

CPU = torch.device("cpu")
SIZES = [(17, 31), (1, 1), (1, 40), (33, 1), (24, 64)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> HostLauncher:
    return HostLauncher(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def host(compiled: HostLauncher, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostLauncher]:
    """Kernels take the processor's tensors as if they were a card's; `launched` tells which ran in this test."""
    monkeypatch.setitem(kernels.LAUNCHERS, "cpu", compiled)
    compiled.launched.clear()
    with torch.no_grad():
        yield compiled


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on plain torch answers."""
    monkeypatch.delitem(kernels.LAUNCHERS, "cpu")


def random(*shape: int, seed: int = 1, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def hostile_flow(n: int, height: int, width: int) -> Tensor:
    """Motions of some pixels, past every edge, exactly onto pixels, infinite and not a number."""
    flow = random(n, 2, height, width, seed=2, scale=4.0)
    flow[:, :, ::3] = flow[:, :, ::3].round()
    flow[:, 0, :, ::7] += 2 * width
    flow[:, 1, ::5] -= 2 * height
    flow[:, 0, height // 2, width // 2] = torch.nan
    flow[:, 1, 0, -1] = torch.inf
    flow[:, 0, -1, 0] = -torch.inf
    return flow


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_warping(
    height: int,
    width: int,
    memory_format: torch.memory_format,
    dtype: torch.dtype,
    host: HostLauncher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = random(2, 7, height, width).to(dtype, memory_format=memory_format)
    flow = hostile_flow(2, height, width)
    found = backward_warp(image, flow)
    assert host.launched == [f"sample_{'f32' if dtype == torch.float32 else 'f16'}"]
    assert found.dtype == dtype and found.is_contiguous(memory_format=memory_format)
    plain(monkeypatch)
    expected = backward_warp(image.double(), flow.double().nan_to_num(nan=-1e9, posinf=1e9, neginf=-1e9))
    tolerance = 1e-4 if dtype == torch.float32 else 4e-3
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


def test_warping_takes_slices_and_repeated_frames(host: HostLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network passes the first two of its thirteen channels, and one frame for a batch of timesteps."""
    known = random(2, 13, 20, 30, scale=3.0).to(memory_format=torch.channels_last)
    image = random(1, 5, 20, 30).expand(2, -1, -1, -1)
    found = [backward_warp(image, known[:, start : start + 2]) for start in (0, 2)]
    assert len(host.launched) == 2
    plain(monkeypatch)
    for start, warped in zip((0, 2), found, strict=True):
        expected = backward_warp(image.double(), known[:, start : start + 2].double())
        torch.testing.assert_close(warped.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("reduction", [2, 4, 16])
def test_warping_at_a_reduced_size(
    reduction: int, dtype: torch.dtype, host: HostLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = random(1, 11, 48, 80).to(dtype)
    corners, flow = corner_means(image), hostile_flow(1, 48 // reduction, 80 // reduction)
    found = backward_warp_reduced(image, corners, flow)
    assert len(host.launched) == 1 and found.dtype == dtype
    plain(monkeypatch)
    expected = backward_warp_reduced(
        image.double(), corners.double(), flow.double().nan_to_num(nan=-1e9, posinf=1e9, neginf=-1e9)
    )
    torch.testing.assert_close(found.double(), expected, atol=1e-4 if dtype == torch.float32 else 4e-3, rtol=0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_splatting(
    height: int, width: int, dtype: torch.dtype, weighted: bool, host: HostLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, flow = random(2, 3, height, width).to(dtype), hostile_flow(2, height, width)
    metric = random(2, 1, height, width, seed=3) if weighted else None
    found = splat(values, flow, metric)
    assert len(host.launched) == 2 and found.dtype == dtype
    plain(monkeypatch)
    expected = splat(values.double(), flow.double(), None if metric is None else metric.double())
    torch.testing.assert_close(found.double(), expected, atol=2e-4 if dtype == torch.float32 else 4e-3, rtol=0)


FORMATS = [fmt for fmt in PIXEL_FORMATS if fmt.depth in (8, 10, 16)]


@pytest.mark.parametrize(("matrix", "full_range"), [("bt709", False), ("smpte170m", True), ("bt2020nc", False)])
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_colours(
    fmt: PixelFormat, matrix: str, full_range: bool, host: HostLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd sizes and noise, so that every edge and every rounding counts: a sample may differ by one code value where the
    exact value lies between two, which for noise in 16 bits is not rare."""
    layout = FrameLayout(31, 17, fmt)
    converter = ColourConverter(layout, matrix, full_range, CPU)
    rng = np.random.default_rng(5)
    data = torch.from_numpy(np.empty(layout.frame_bytes, np.uint8))
    for plane in layout.views(data.numpy()):
        plane[:] = rng.integers(0, fmt.max_value + 1, plane.shape)
    rgb = converter.to_rgb(data, torch.empty(1, 3, 32, 64))
    planes = converter.to_planes(rgb)
    suffix = f"planes{8 * fmt.sample_bytes}"
    assert host.launched == [f"{suffix}_to_rgb_f32", f"rgb_f32_to_{suffix}"]
    plain(monkeypatch)
    torch.testing.assert_close(rgb, converter.to_rgb(data, torch.empty(1, 3, 32, 64)), atol=1e-5, rtol=0)
    expected = converter.to_planes(rgb)
    for found, plane in zip(layout.views(planes.numpy()), layout.views(expected.numpy()), strict=True):
        difference = np.abs(found.astype(int) - plane.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < (0.05 if fmt.depth == 16 else 0.005)


def test_colours_from_half_precision_frames(host: HostLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = FrameLayout(31, 17, pixel_format("yuv420p10le"))
    converter = ColourConverter(layout, "bt709", False, CPU)
    rgb = random(1, 3, 32, 64).sigmoid().half()
    found = converter.to_planes(rgb)
    assert host.launched == ["rgb_f16_to_planes16"]
    plain(monkeypatch)
    difference = found.numpy().view(np.int16) - converter.to_planes(rgb).numpy().view(np.int16)
    assert np.abs(difference).max() <= 1


class Warp(torch.nn.Module):
    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        return backward_warp(image, flow)


def test_nothing_that_records_operations_meets_a_kernel(host: HostLauncher) -> None:
    image, flow = random(1, 2, 8, 8), random(1, 2, 8, 8)
    with torch.enable_grad():
        backward_warp(image, flow)
    exported = torch.export.export(Warp(), (image, flow))
    assert "grid_sampler" in str(exported.graph)
    assert not kernels.usable(image.double()) and not host.launched


def test_without_cupy_the_reason_says_what_to_install() -> None:
    if not kernels.missing():
        pytest.skip("CuPy is installed")
    assert "drba-player[nvidia]" in kernels.missing() and "\n" not in kernels.missing()


# NVIDIA's compiler: no driver and no card needed


@pytest.fixture(scope="module")
def nvrtc() -> ctypes.CDLL:
    for package in ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"):
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        libraries = [Path(str(file.locate())) for file in files if re.fullmatch(r"libnvrtc\.so\.\d+", file.name)]
        if libraries:
            return ctypes.CDLL(str(libraries[0]))
    pytest.skip("NVIDIA's compiler is not published for this system (package nvidia-cuda-nvrtc-cu12)")


@pytest.mark.parametrize("card", ["sm_75", "sm_86", "sm_90"])
def test_nvidias_compiler_accepts_the_kernels(card: str, nvrtc: ctypes.CDLL) -> None:
    """Without a warning, to machine code in which every kernel stands under its plain name."""
    program = ctypes.c_void_p()
    source = kernels.SOURCE.read_bytes()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
    options = (ctypes.c_char_p * 2)(b"--std=c++14", f"--gpu-architecture={card}".encode())
    status = nvrtc.nvrtcCompileProgram(program, len(options), options)
    assert _text(nvrtc, "ProgramLog", program).strip(b"\0") == b"" and status == 0
    code = _text(nvrtc, "CUBIN", program)
    assert code[:4] == b"\x7fELF"
    assert all(name.encode() + b"\0" in code for name in kernel_names())
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, text) == 0
    return text.raw

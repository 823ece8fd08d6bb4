"""The device path's own kernels (kernels.cu) on torch tensors; what `warp` and colour conversion use where they can run.

They are compiled by CuPy at first use and launched on torch's current stream, without a synchronise. Without CuPy
everything works through plain torch operations, with the same results within rounding.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..pixels import PixelFormat

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("kernels.cu")
BLOCK = (32, 8)  # a warp along a row: neighbouring threads read and write neighbouring pixels

Scalar = Any  # numpy scalar: its type is the C parameter's, as CuPy passes it on
_GRAY, _YUV, _RGB = 0, 1, 2  # enum Kind in kernels.cu


class Launcher(Protocol):
    def __call__(
        self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: tuple[Scalar, ...]
    ) -> None:
        """Enqueue the kernel `name` on the current device and stream of torch."""


class CupyLauncher:
    """Compiles all kernels when it is made, which takes seconds the first time (CuPy keeps the result on disk)."""

    def __init__(self) -> None:
        import cupy

        self._stream = cupy.cuda.ExternalStream
        self._module = cupy.RawModule(code=SOURCE.read_text(), options=("--std=c++14",))
        self._functions: dict[str, Any] = {}
        self._module.compile()

    def __call__(
        self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: tuple[Scalar, ...]
    ) -> None:
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._module.get_function(name)
        with self._stream(torch.cuda.current_stream().cuda_stream):
            function(grid, block, arguments)


#: What launches on each type of device, None where nothing can; the processor has an entry in tests only.
LAUNCHERS: dict[str, Launcher | None] = {}


def missing() -> str:
    """Why the kernels cannot run on CUDA devices, in one line; "" where they can."""
    try:
        import cupy  # noqa: F401
    except ImportError as error:
        reason = str(error).splitlines()[0] if str(error) else "import failed"
        return f"CuPy cannot be imported ({reason}): pip install 'drba-player[nvidia]'"
    return ""


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can run on these tensors now: on a device with a launcher, in float32 or float16, and not
    while something records the operations (gradients, export, compilation)."""
    device = tensors[0].device.type
    if device == "cuda" and device not in LAUNCHERS:
        LAUNCHERS[device] = _open_cupy()
    return (
        LAUNCHERS.get(device) is not None
        and all(tensor.dtype in _SUFFIX for tensor in tensors)
        and not torch.is_grad_enabled()
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def _open_cupy() -> Launcher | None:
    reason = missing()
    if not reason:
        try:
            return CupyLauncher()
        except Exception as error:  # the compiler's and the driver's errors share no base class
            reason = f"the kernels cannot be compiled ({type(error).__name__}: {str(error).splitlines()[0]})"
    log.warning("%s; plain torch operations are used, which are slower", reason)
    return None


def sample(image: Tensor, flow: Tensor, *, full: tuple[int, int], shift: float = 0.0) -> Tensor:
    """What `warp.backward_warp` (shift 0) and `backward_warp_reduced` (`image` its corner means, shift -0.5) return.

    `image` (N, C, H, W) float32 or float16, `flow` (N, 2, h, w) float32 in pixels of an image of size `full`; returns
    (N, C, h, w) in the image's type and memory format.
    """
    n, channels, height, width = image.shape
    out_height, out_width = flow.shape[-2:]
    lies_in_rows = channels > 1 and image.stride(1) == 1
    out = torch.empty(
        (n, channels, out_height, out_width),
        dtype=image.dtype,
        device=image.device,
        memory_format=torch.channels_last if lies_in_rows else torch.contiguous_format,
    )
    _launch(
        f"sample_{_SUFFIX[image.dtype]}",
        (out_width, out_height, n),
        [
            *(image, flow, out, channels, height, width, out_height, out_width),
            *(*image.stride(), *flow.stride(), *out.stride()),
            *(full[0] / out_height, full[1] / out_width, float(shift)),
        ],
    )
    return out


def splat(values: Tensor, flow: Tensor, metric: Tensor | None = None) -> Tensor:
    """What `warp.splat` returns; sums in float32."""
    n, channels, height, width = values.shape
    values = values.contiguous()
    metric = None if metric is None else metric.float().contiguous()
    total = torch.zeros((n, channels + 1, height, width), dtype=torch.float32, device=values.device)
    suffix = _SUFFIX[values.dtype]
    sizes = (channels, height, width, *flow.stride())
    _launch(f"splat_add_{suffix}", (width, height, n), [values, metric, flow, total, *sizes])
    out = torch.empty_like(values)
    _launch(f"splat_average_{suffix}", (height * width, 1, n), [total, out, channels, height * width], rows=1)
    return out


def planes_to_rgb(
    planes: Sequence[Tensor], rgb: Tensor, fmt: PixelFormat, levels: Sequence[float], matrix: Sequence[float]
) -> None:
    """Dense planes (rows, samples), uint8 or 16 bits as int16, -> `rgb` (1, 3, H, W) in 0..1, dense, H and W at least
    the picture's: beyond it the last row and column are repeated.

    `levels`: code values of black and of luma's range, neutral chroma and its range; `matrix`: nine numbers, YUV to RGB.
    """
    kind, chroma, shifts = _geometry(planes, fmt)
    height, width = planes[0].shape
    first, second, third = _three(planes)
    _launch(
        f"planes{8 * fmt.sample_bytes}_to_rgb_{_SUFFIX[rgb.dtype]}",
        (rgb.shape[-1], rgb.shape[-2], 1),
        [
            *(first, second, third, rgb, kind, width, height, *chroma, *shifts, rgb.shape[-1], rgb.shape[-2]),
            *map(float, (*levels, *matrix)),
        ],
    )


def rgb_to_planes(
    rgb: Tensor, planes: Sequence[Tensor], fmt: PixelFormat, levels: Sequence[float], matrix: Sequence[float]
) -> None:
    """The inverse: `rgb` (1, 3, H, W), any strides, H and W at least the picture's -> rounded samples in `planes`."""
    kind, chroma, shifts = _geometry(planes, fmt)
    height, width = planes[0].shape
    first, second, third = _three(planes)
    _launch(
        f"rgb_{_SUFFIX[rgb.dtype]}_to_planes{8 * fmt.sample_bytes}",
        (chroma[0], chroma[1], 1),
        [
            *(rgb, first, second, third, kind, width, height),
            *(*chroma, *shifts, *rgb.stride()[1:]),
            *map(float, (fmt.max_value, *levels, *matrix)),
        ],
    )


_SUFFIX = {torch.float32: "f32", torch.float16: "f16"}


def _geometry(planes: Sequence[Tensor], fmt: PixelFormat) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Kind; width and height of chroma (luma's where there is none); log2 of its reduction, x then y."""
    kind = _RGB if fmt.is_rgb else _YUV if len(planes) == 3 else _GRAY
    height, width = planes[-1].shape
    return kind, (width, height), (fmt.chroma_shift_x, fmt.chroma_shift_y)


def _three(planes: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """A kernel takes three; of gray it reads the first."""
    return (planes[0], planes[1], planes[2]) if len(planes) == 3 else (planes[0], planes[0], planes[0])


def _launch(
    name: str, threads: tuple[int, int, int], arguments: Sequence[Tensor | int | float | None], rows: int = BLOCK[1]
) -> None:
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    launcher = LAUNCHERS[tensors[0].device.type]
    assert launcher is not None  # `usable` was asked
    block = (BLOCK[0] * BLOCK[1] // rows, rows, 1)
    grid = (math.ceil(threads[0] / block[0]), math.ceil(threads[1] / block[1]), threads[2])
    launcher(name, grid, block, tuple(map(_scalar, arguments)))


def _scalar(value: Tensor | int | float | None) -> Scalar:
    if isinstance(value, Tensor):
        return np.uint64(value.data_ptr())
    if value is None:
        return np.uint64(0)
    return np.float32(value) if isinstance(value, float) else np.int32(value)

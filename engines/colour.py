"""Between planes in a stream's pixel format and RGB tensors, with the stream's own matrix and range.

Only what surrounds a network: source frames never pass through here. Chroma is enlarged bilinearly and reduced by
averaging. On a device with kernels (`drba.networks.kernels`) each direction is one pass over the frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from drba.networks import kernels
from drba.pixels import FrameLayout
from drba.scene import MATRICES

_DEFAULT = "bt709"


class ColourConverter:
    """Converts frames of one layout on one device. Thread-safe; no mutable state.

    A frame's planes are one uint8 tensor of `layout.frame_bytes`, laid out as in `drba.pixels`.
    """

    def __init__(self, layout: FrameLayout, matrix: str, full_range: bool, device: torch.device) -> None:
        self._layout = layout
        fmt = layout.format
        self._top = float(fmt.max_value)
        step = float(1 << (fmt.depth - 8))
        # Code values of black and of the ranges of luma and chroma (ITU-T H.273, section 8.3).
        self._black, self._luma, self._chroma = (
            (0.0, self._top, self._top) if full_range or fmt.is_rgb else (16 * step, 219 * step, 224 * step)
        )
        self._neutral = 128 * step
        self._levels = (self._black, self._luma, self._neutral, self._chroma)
        weights = MATRICES.get(matrix, MATRICES[_DEFAULT])
        green = 1 - weights.red - weights.blue
        to_yuv = torch.tensor(
            [
                [weights.red, green, weights.blue],
                [-weights.red / (2 - 2 * weights.blue), -green / (2 - 2 * weights.blue), 0.5],
                [0.5, -green / (2 - 2 * weights.red), -weights.blue / (2 - 2 * weights.red)],
            ],
            dtype=torch.float64,
        )
        to_rgb = torch.linalg.inv(to_yuv)
        self._to_yuv_values, self._to_rgb_values = to_yuv.flatten().tolist(), to_rgb.flatten().tolist()
        self._to_yuv, self._to_rgb = to_yuv.to(device, torch.float32), to_rgb.to(device, torch.float32)

    def to_rgb(self, data: Tensor, out: Tensor | None = None) -> Tensor:
        """A frame's planes on the device -> float (1, 3, H, W) in 0..1: `out` where that is given, contiguous and at least
        the frame's size, the last row and column repeated beyond it; else float32 of the frame's size."""
        height, width = self._layout.height, self._layout.width
        planes = self._planes(data)
        if kernels.usable(self._to_rgb):
            out = torch.empty((1, 3, height, width), device=data.device) if out is None else out
            kernels.planes_to_rgb(planes, out, self._layout.format, self._levels, self._to_rgb_values)
            return out
        rgb = self._unpadded(planes)
        if out is None:
            return rgb
        return out.copy_(F.pad(rgb, (0, out.shape[-1] - width, 0, out.shape[-2] - height), mode="replicate"))

    def to_planes(self, rgb: Tensor, out: Tensor | None = None) -> Tensor:
        """Float (1, 3, H, W) in 0..1, H and W at least the frame's -> its planes, rounded: a uint8 tensor of
        `layout.frame_bytes` on the same device, `out` where that is given."""
        if out is None:
            out = torch.empty(self._layout.frame_bytes, dtype=torch.uint8, device=rgb.device)
        planes = self._planes(out)
        if kernels.usable(rgb):
            kernels.rgb_to_planes(rgb, planes, self._layout.format, self._levels, self._to_yuv_values)
            return out
        rgb = rgb[..., : self._layout.height, : self._layout.width].float().clamp(0, 1)
        if self._layout.format.is_rgb:  # planes are green, blue, red
            values = [channel * self._top for channel in (rgb[:, 1:2], rgb[:, 2:3], rgb[:, 0:1])]
        else:
            yuv = self._mix(self._to_yuv, rgb)
            values = [yuv[:, :1] * self._luma + self._black]
            if len(planes) == 3:
                chroma = yuv[:, 1:] * self._chroma + self._neutral
                if chroma.shape[-2:] != planes[1].shape:
                    chroma = self._reduce(chroma)
                values += [chroma[:, :1], chroma[:, 1:]]
        for value, plane in zip(values, planes, strict=True):
            samples = value[0, 0].round().clamp(0, self._top)
            # Through 32 bits: the upper half of 16-bit samples is negative as int16.
            plane.copy_(samples if plane.dtype == torch.uint8 else samples.to(torch.int32))
        return out

    def _planes(self, data: Tensor) -> list[Tensor]:
        """Planes that share memory with `data`, (rows, samples); 16-bit samples as int16, which torch can compute with."""
        fmt = self._layout.format
        shapes, offsets = self._layout.plane_shapes, self._layout.plane_offsets
        parts = [
            data[offset : offset + rows * samples * fmt.sample_bytes]
            for (rows, samples), offset in zip(shapes, offsets, strict=True)
        ]
        typed = parts if fmt.sample_bytes == 1 else [part.view(torch.int16) for part in parts]
        return [part.view(shape) for part, shape in zip(typed, shapes, strict=True)]

    def _unpadded(self, planes: Sequence[Tensor]) -> Tensor:
        size = (self._layout.height, self._layout.width)
        tensors = [self._samples(plane) for plane in planes]
        if self._layout.format.is_rgb:
            return torch.cat([tensors[2], tensors[0], tensors[1]], 1) / self._top
        luma = (tensors[0] - self._black) / self._luma
        if len(tensors) == 1:
            return luma.clamp(0, 1).expand(1, 3, *size).contiguous()
        chroma = (torch.cat(tensors[1:], 1) - self._neutral) / self._chroma
        if chroma.shape[-2:] != size:  # a whole factor, then cropped: odd sizes have half a chroma sample more
            factor = (1 << self._layout.format.chroma_shift_y, 1 << self._layout.format.chroma_shift_x)
            chroma = F.interpolate(chroma, scale_factor=factor, mode="bilinear", align_corners=False)
            chroma = chroma[..., : size[0], : size[1]]
        return self._mix(self._to_rgb, torch.cat([luma, chroma], 1)).clamp(0, 1)

    def _samples(self, plane: Tensor) -> Tensor:
        if plane.dtype == torch.int16:
            plane = plane.to(torch.int32).bitwise_and_(0xFFFF)
        return plane.float()[None, None]

    def _mix(self, matrix: Tensor, image: Tensor) -> Tensor:
        return torch.einsum("ij,njhw->nihw", matrix, image)

    def _reduce(self, chroma: Tensor) -> Tensor:
        fmt = self._layout.format
        step_x, step_y = 1 << fmt.chroma_shift_x, 1 << fmt.chroma_shift_y
        right, bottom = -chroma.shape[-1] % step_x, -chroma.shape[-2] % step_y
        return F.avg_pool2d(F.pad(chroma, (0, right, 0, bottom), mode="replicate"), (step_y, step_x))

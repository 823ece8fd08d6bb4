"""Between planes in a stream's pixel format and RGB tensors, with the stream's own matrix and range.

Only what surrounds a network: source frames never pass through here. Chroma is enlarged bilinearly and reduced by averaging.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from drba.pixels import FrameLayout, Plane
from drba.scene import MATRICES

_DEFAULT = "bt709"


class ColourConverter:
    """Converts frames of one layout. Thread-safe; no mutable state."""

    def __init__(self, layout: FrameLayout, matrix: str, full_range: bool, device: torch.device) -> None:
        self._layout = layout
        self._device = device
        fmt = layout.format
        self._top = float(fmt.max_value)
        step = float(1 << (fmt.depth - 8))
        # Code values of black and of the ranges of luma and chroma (ITU-T H.273, section 8.3).
        self._black, self._luma, self._chroma = (
            (0.0, self._top, self._top) if full_range else (16 * step, 219 * step, 224 * step)
        )
        self._neutral = 128 * step
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
        self._to_yuv = to_yuv.to(device, torch.float32)
        self._to_rgb = torch.linalg.inv(to_yuv).to(device, torch.float32)

    def to_rgb(self, planes: Sequence[Plane]) -> Tensor:
        """Planes -> float32 (1, 3, H, W) in 0..1 on the device."""
        size = (self._layout.height, self._layout.width)
        tensors = [self._upload(plane) for plane in planes]
        if self._layout.format.is_rgb:  # planes are green, blue, red
            return torch.cat([tensors[2], tensors[0], tensors[1]], 1) / self._top
        if len(tensors) == 1:
            return ((tensors[0] - self._black) / self._luma).clamp(0, 1).expand(1, 3, *size).contiguous()
        luma = (tensors[0] - self._black) / self._luma
        chroma = (torch.cat(tensors[1:], 1) - self._neutral) / self._chroma
        if chroma.shape[-2:] != size:  # a whole factor, then cropped: odd sizes have half a chroma sample more
            factor = (1 << self._layout.format.chroma_shift_y, 1 << self._layout.format.chroma_shift_x)
            chroma = F.interpolate(chroma, scale_factor=factor, mode="bilinear", align_corners=False)
            chroma = chroma[..., : size[0], : size[1]]
        return self._mix(self._to_rgb, torch.cat([luma, chroma], 1)).clamp(0, 1)

    def to_planes(self, rgb: Tensor, out: Sequence[Plane]) -> None:
        """Float (1, 3, H, W) in 0..1 -> rounded samples in `out`."""
        rgb = rgb.float().clamp(0, 1)
        if self._layout.format.is_rgb:
            values = [channel * self._top for channel in (rgb[:, 1:2], rgb[:, 2:3], rgb[:, 0:1])]
        else:
            yuv = self._mix(self._to_yuv, rgb)
            values = [yuv[:, :1] * self._luma + self._black]
            if len(out) == 3:
                chroma = yuv[:, 1:] * self._chroma + self._neutral
                if chroma.shape[-2:] != out[1].shape:
                    chroma = self._reduce(chroma)
                values += [chroma[:, :1], chroma[:, 1:]]
        for value, plane in zip(values, out, strict=True):
            samples = value[0, 0].round().clamp(0, self._top).cpu().numpy()
            np.copyto(plane, samples, casting="unsafe")

    def _upload(self, plane: Plane) -> Tensor:
        return torch.from_numpy(plane.astype(np.float32)).to(self._device)[None, None]

    def _mix(self, matrix: Tensor, image: Tensor) -> Tensor:
        return torch.einsum("ij,njhw->nihw", matrix, image)

    def _reduce(self, chroma: Tensor) -> Tensor:
        fmt = self._layout.format
        step_x, step_y = 1 << fmt.chroma_shift_x, 1 << fmt.chroma_shift_y
        right, bottom = -chroma.shape[-1] % step_x, -chroma.shape[-2] % step_y
        return F.avg_pool2d(F.pad(chroma, (0, right, 0, bottom), mode="replicate"), (step_y, step_x))

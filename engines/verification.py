"""Whether a built network computes what PyTorch computes: both render a generated triplet."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from drba.networks.interpolator import Interpolator

DIFFERENCE_MAX = 0.02  # of the range 0..1
SHARE_MAX = 0.01  # of the samples may differ by more
PSNR_MIN_DB = 45.0

#: One on each side of the middle frame, at the ends of what a player asks for.
TIMES = (0.6, 1.45)
SHIFT_PX = 6  # per frame at 1080 rows, so that motion is a part of the picture at any size


@dataclass(frozen=True)
class Difference:
    """`share` of the samples that differ by more than DIFFERENCE_MAX, and the PSNR over all of them."""

    share: float
    psnr_db: float

    @property
    def acceptable(self) -> bool:
        """False for NaN too."""
        return self.share <= SHARE_MAX and self.psnr_db >= PSNR_MIN_DB

    def __str__(self) -> str:
        return f"{self.psnr_db:.1f} dB, {self.share:.2%} of samples off by more than {DIFFERENCE_MAX}"


def difference(ours: Tensor, theirs: Tensor) -> Difference:
    """Between frames of any equal shape in 0..1. What is not finite counts as wrong."""
    off = (ours.double() - theirs.double()).abs().nan_to_num(1.0, 1.0, 1.0)
    mean_square = float(off.square().mean())
    share = float((off > DIFFERENCE_MAX).double().mean())
    return Difference(share, -10 * math.log10(mean_square) if mean_square else math.inf)


def render_test(interpolator: Interpolator, height: int, width: int) -> Tensor:
    """What an interpolator makes of the test triplet, a pair of it included: (3, 3, height, width) on its device."""
    frames = [frame.to(interpolator.device) for frame in moving_triplet(height, width)]
    rendered, _ = interpolator.triplet(frames[0], frames[1], frames[2], TIMES)
    rendered += interpolator.pair(frames[0], frames[1], [0.5])
    return torch.cat(rendered)


def moving_triplet(height: int, width: int) -> list[Tensor]:
    """Three frames (1, 3, height, width) in 0..1: a textured ground that moves, a textured square on it that moves
    otherwise. The same on every machine."""
    generator = torch.Generator().manual_seed(1)
    shift = max(1, round(SHIFT_PX * height / 1080))

    def texture(rows: int, columns: int) -> Tensor:
        picture = torch.zeros(1, 3, rows, columns)
        for cell, weight in ((64, 0.4), (12, 0.3), (3, 0.3)):  # fine enough that a quarter of a pixel shows
            noise = torch.rand(1, 3, rows // cell + 2, columns // cell + 2, generator=generator)
            picture += weight * F.interpolate(noise, size=(rows, columns), mode="bicubic").clamp(0, 1)
        return picture

    ground = texture(height, width + 3 * shift)
    square = texture(height // 3, height // 3)
    frames = []
    for k in range(3):
        frame = ground[..., k * shift : k * shift + width].clone()
        top, left = height // 3 - k * shift, min(width // 3 + k * shift, max(0, width - height // 3))
        patch = frame[..., max(0, top) : max(0, top) + height // 3, left : left + height // 3]
        patch.copy_(square[..., : patch.shape[-2], : patch.shape[-1]])
        frames.append(frame)
    return frames

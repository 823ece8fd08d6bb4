"""How a network does on films it never learns from, while it is trained: numbers, and pictures to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drba.networks.refine import RefineNet
from drba.networks.refining import RefineInterpolator

from .clips import OFFSETS, Clip

FRAMES_A_CLIP = 5
STRIP_WIDTH = 480  # of each picture in a strip


class Validation:
    """`FRAMES_A_CLIP` frames of each film restored from their neighbours."""

    def __init__(self, clips: Sequence[Clip], folder: Path) -> None:
        self._clips, self._folder = clips, folder

    def __call__(self, step: int, network: RefineNet) -> dict[str, float]:
        """Mean luma PSNR of each film in dB, and of all; writes a strip of the frames (first, restored, truth, second)."""
        interpolator = RefineInterpolator(network, device=next(network.parameters()).device, mode="fast")
        scores, rows = {}, []
        for clip in self._clips:
            values = []
            for number in self._numbers(clip):
                first, truth, second = (_tensor(clip.crop(number + k, 0, 0, *clip.size)) for k in (-1, 0, 1))
                restored = interpolator.pair(first, second, [0.5])[0].cpu()
                values.append(psnr_db(restored, truth))
                if len(values) == 2:
                    rows.append(np.hstack([_small(image) for image in (first, restored, truth, second)]))
            scores[clip.name] = round(float(np.mean(values)), 3)
        scores["mean"] = round(float(np.mean(list(scores.values()))), 3)
        cv2.imwrite(str(self._folder / f"step-{step:06}.png"), np.vstack(rows)[..., ::-1])
        return scores

    @staticmethod
    def _numbers(clip: Clip) -> list[int]:
        places = np.linspace(8, len(clip.frames) - 9, FRAMES_A_CLIP).round().astype(int)
        near = [OFFSETS.index(-1), OFFSETS.index(1)]
        return [int(place) for place in places if np.isfinite(clip.errors[place, near]).all()]


def psnr_db(image: Tensor, truth: Tensor) -> float:
    """Of luma (BT.709) in 0..1."""
    weights = torch.tensor([0.2126, 0.7152, 0.0722]).view(1, 3, 1, 1)
    error = (((image - truth) * weights).sum(1) ** 2).mean().clamp(min=1e-6)
    return float(-10 * torch.log10(error))


def _tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).unsqueeze(0).float() / 255


def _small(image: Tensor) -> NDArray[np.uint8]:
    pixels = (image[0].clamp(0, 1) * 255).round().byte().numpy().transpose(1, 2, 0)
    return np.asarray(
        cv2.resize(
            pixels, (STRIP_WIDTH, STRIP_WIDTH * pixels.shape[0] // pixels.shape[1]), interpolation=cv2.INTER_AREA
        )
    )

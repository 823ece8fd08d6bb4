"""Fillings of shapes and backdrops: gradients, stripes, checks, dots, bricks, watercolour, posterised noise, wood."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .paint import Colour, Image


def noise(rng: np.random.Generator, rows: int, columns: int, cell: float) -> NDArray[np.float32]:
    """Smooth noise in 0..1 whose lumps are about `cell` pixels wide."""
    coarse = rng.random((int(rows / cell) + 3, int(columns / cell) + 3), np.float32)
    size = (int(coarse.shape[1] * cell), int(coarse.shape[0] * cell))
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)[:rows, :columns].clip(0, 1), np.float32)


def pattern(rng: np.random.Generator, rows: int, columns: int, colours: Sequence[Colour]) -> Image:
    """A filling of `rows` x `columns`: gradient, stripes, checks, dots, bricks, watercolour, posterised noise or wood."""
    y, x = np.arange(rows, dtype=np.float32)[:, None], np.arange(columns, dtype=np.float32)[None]
    angle = rng.uniform(0, np.pi)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    pitch = float(rng.uniform(6, 36))
    match int(rng.integers(8)):
        case 0:
            mix = (along - along.min()) / max(1.0, float(np.ptp(along)))
        case 1:
            mix = np.clip((along % pitch - pitch / 2), -0.5, 0.5) + 0.5
        case 2:
            mix = ((x // pitch + y // pitch) % 2) + 0 * x
        case 3:
            mix = np.clip(np.hypot(x % pitch - pitch / 2, y % pitch - pitch / 2) - pitch * 0.3, 0, 1)
        case 4:
            shifted = x + (y // pitch % 2) * pitch
            mix = np.maximum(y % pitch < 1.5, shifted % (2 * pitch) < 1.5) * np.float32(1)
        case 5:
            mix = 0.6 * noise(rng, rows, columns, pitch * 3) + 0.4 * noise(rng, rows, columns, 9)
        case 6:
            mix = np.floor(noise(rng, rows, columns, pitch) * 4) / 3
        case _:
            bent = along + 14 * noise(rng, rows, columns, 40)
            mix = np.abs((bent / pitch) % 1 * 2 - 1) ** 3
    return mixed(mix, colours)


def mixed(mix: NDArray[np.float32], colours: Sequence[Colour]) -> Image:
    """`mix` in 0..1 as a walk through `colours`."""
    table = np.asarray(colours, np.float32).clip(0, 255)[:, None]
    lookup = np.rint(cv2.resize(table, (1, 256), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)
    level = cv2.convertScaleAbs(np.ascontiguousarray(mix, np.float32), alpha=255)
    return np.asarray(cv2.LUT(cv2.merge([level] * 3), lookup.reshape(1, 256, 3)), np.uint8)

"""Flat drawing with outlines, cel shading and patterns on a transparent picture, antialiased, with cv2.

Pictures are 8-bit RGBA with premultiplied alpha. Colours are (red, green, blue) in 0..255.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .shapes import Points

Image = NDArray[np.uint8]
Colour = NDArray[np.float64]

_SHIFT = 4  # fractional bits of cv2's fixed-point coordinates


class Canvas:
    """A transparent picture of `width` x `height` points whose top left corner is the point (left, top)."""

    def __init__(self, left: float, top: float, width: float, height: float, scale: float) -> None:
        """`scale` is pixels a point."""
        self.left, self.top, self.scale = left, top, scale
        columns, rows = max(2, round(width * scale)), max(2, round(height * scale))
        self.pixels: Image = np.zeros((rows, columns, 4), np.uint8)

    def fill(self, points: Points, colour: Colour, outline: Colour | None = None, width: float = 2) -> None:
        """Fill a closed shape and draw its outline, `width` points wide."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], (*colour, 255), cv2.LINE_AA, _SHIFT)
        if outline is not None:
            self.stroke(points, outline, width, closed=True)

    def stroke(self, points: Points, colour: Colour, width: float = 2, closed: bool = False) -> None:
        """A line through `points`, `width` points wide."""
        thickness = max(1, round(width * self.scale))
        cv2.polylines(self.pixels, [self._fixed(points)], closed, (*colour, 255), thickness, cv2.LINE_AA, _SHIFT)

    def pattern(self, points: Points, picture: Image, alpha: float = 1.0, clip: Points | None = None) -> None:
        """Lay `picture` (any size: it is tiled from the shape's corner) over the shape's part within `clip`."""
        fixed = self._fixed(points)
        rows, columns = self.pixels.shape[:2]
        left, top = np.maximum(fixed.min(0) >> _SHIFT, 0) - 0
        right, bottom = np.minimum((fixed.max(0) >> _SHIFT) + 2, (columns, rows))
        if left >= right or top >= bottom:
            return
        corner = np.array([left, top]) << _SHIFT
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [(fixed - corner).astype(np.int32)], (255,), cv2.LINE_AA, _SHIFT)
        if clip is not None:
            other = np.zeros_like(mask)
            cv2.fillPoly(other, [(self._fixed(clip) - corner).astype(np.int32)], (255,), cv2.LINE_AA, _SHIFT)
            mask = np.asarray(cv2.multiply(mask, other, scale=1 / 255), np.uint8)
        part = self.pixels[top:bottom, left:right]
        tile = np.resize(picture, (1, 1, 3)) if picture.size == 3 else picture
        if tile.shape[:2] != mask.shape:
            down, across = -(-mask.shape[0] // tile.shape[0]), -(-mask.shape[1] // tile.shape[1])
            tile = np.tile(tile, (down, across, 1))[: mask.shape[0], : mask.shape[1]]
        rgba = cv2.merge([*cv2.split(np.ascontiguousarray(tile)), np.full(mask.shape, 255, np.uint8)])
        weight = cv2.convertScaleAbs(mask, alpha=alpha)
        weight4 = cv2.merge([weight] * 4)
        cv2.add(cv2.multiply(part, 255 - weight4, scale=1 / 255), cv2.multiply(rgba, weight4, scale=1 / 255), dst=part)

    def shade(self, shape: Points, shadow: Points, colour: Colour, alpha: float = 1.0) -> None:
        """Blend `colour` over the part of `shape` that `shadow` covers."""
        self.pattern(shape, np.asarray(colour, np.uint8).reshape(1, 1, 3), alpha, clip=shadow)

    def text(self, words: str, x: float, y: float, size: float, colour: Colour, outline: Colour, font: int) -> None:
        """Words with an outline; `size` is the height of a capital in points."""
        place = round((x - self.left) * self.scale), round((y - self.top) * self.scale)
        scale, line = size * self.scale / 22, max(1, round(size * self.scale / 9))
        for tint, thickness in ((outline, line * 3), (colour, line)):
            cv2.putText(self.pixels, words, place, font, scale, (*tint, 255), thickness, cv2.LINE_AA)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        px = (np.asarray(points) - (self.left, self.top)) * self.scale - 0.5
        return np.rint(px * (1 << _SHIFT)).astype(np.int32)


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

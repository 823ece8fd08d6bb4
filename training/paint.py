"""Flat drawing with outlines, cel shading and fillings on a transparent picture, antialiased, with cv2.

Pictures are 8-bit RGBA with premultiplied alpha. Colours are (red, green, blue) in 0..255.
"""

from __future__ import annotations

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

    @property
    def area(self) -> tuple[Points, Points]:
        """((left, top), (width, height)) in points."""
        rows, columns = self.pixels.shape[:2]
        return np.array([self.left, self.top]), np.array([columns, rows]) / self.scale

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
        left, top = np.maximum(fixed.min(0) >> _SHIFT, 0)
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
        across, down = (-(-side // tile) for side, tile in zip(mask.shape[::-1], picture.shape[1::-1], strict=True))
        if across > 1 or down > 1:
            picture = np.tile(picture, (down, across, 1))
        rgba = cv2.cvtColor(np.ascontiguousarray(picture[: mask.shape[0], : mask.shape[1]]), cv2.COLOR_RGB2RGBA)
        weight = cv2.merge([cv2.convertScaleAbs(mask, alpha=alpha)] * 4)
        kept = cv2.multiply(part, 255 - weight, scale=1 / 255)
        cv2.add(kept, cv2.multiply(rgba, weight, scale=1 / 255), dst=part)

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

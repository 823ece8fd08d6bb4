"""Layers of a scene laid over one another in a frame, with the owner of every pixel and its exact flow."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .motion import Grid, Motion, applied, shifted
from .paint import Canvas, Image

MIXED = 255  # owner of a pixel that shows more than one layer: an antialiased edge, something translucent


@dataclass(frozen=True)
class Layer:
    """A drawing, how it moves, and which of the scene's clocks it follows."""

    drawing: Canvas
    motion: Motion
    clock: int = 0
    endless: bool = False  # repeats as in a mirror beyond its edges

    def laid(self, size: tuple[int, int], s: float) -> tuple[tuple[slice, slice], Image] | None:
        """(Rows and columns of the frame that it can cover, its RGBA there) at local time `s`; None outside the frame."""
        rows, columns = self._window(size, s)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        extent = (columns.stop - columns.start, rows.stop - rows.start)
        border = cv2.BORDER_REFLECT if self.endless else cv2.BORDER_CONSTANT
        canvas, scale = self.drawing, self.drawing.scale
        to_pixels = shifted(-0.5, -0.5) @ np.diag([scale, scale, 1]) @ shifted(-canvas.left, -canvas.top)
        if not self.motion.waves:
            inverse = to_pixels @ np.linalg.inv(self.motion.matrix(s)) @ shifted(columns.start, rows.start)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            return (rows, columns), cv2.warpAffine(canvas.pixels, inverse[:2], extent, flags=flags, borderMode=border)
        x, y = applied(to_pixels, self.motion.to_texture(_grid(rows, columns), s))
        return (rows, columns), cv2.remap(canvas.pixels, x, y, cv2.INTER_LINEAR, borderMode=border)

    def _window(self, size: tuple[int, int], s: float) -> tuple[slice, slice]:
        height, width = size
        if self.endless:
            return slice(0, height), slice(0, width)
        rows, columns = self.drawing.pixels.shape[:2]
        right, bottom = self.drawing.left + columns / self.drawing.scale, self.drawing.top + rows / self.drawing.scale
        reach = self.motion.reach
        x = np.array([self.drawing.left - reach, right + reach, right + reach, self.drawing.left - reach], np.float32)
        y = np.array([self.drawing.top - reach] * 2 + [bottom + reach] * 2, np.float32)
        x, y = applied(self.motion.matrix(s), (x, y))
        return (
            slice(max(0, int(np.floor(y.min()))), min(height, int(np.ceil(y.max())) + 1)),
            slice(max(0, int(np.floor(x.min()))), min(width, int(np.ceil(x.max())) + 1)),
        )


@dataclass(frozen=True)
class Picture:
    """A frame, (H, W, 3) uint8 RGB, and which layer each pixel shows, (H, W) uint8, MIXED where more than one."""

    pixels: Image
    owner: NDArray[np.uint8]


def painted(layers: list[Layer], size: tuple[int, int], times: NDArray[np.float64]) -> Picture:
    """The frame in which every layer stands at its clock's local time. The first layer has to cover everything."""
    pixels, owner = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    for number, layer in enumerate(layers):
        laid = layer.laid(size, float(times[layer.clock]))
        if laid is None:
            continue
        window, rgba = laid
        *colours, alpha = cv2.split(rgba)
        cover = cv2.merge([255 - alpha] * 3)
        pixels[window] = cv2.add(cv2.multiply(pixels[window], cover, scale=1 / 255), cv2.merge(colours))
        part = owner[window]
        part[alpha > 7] = MIXED
        part[alpha > 247] = number
    return Picture(pixels, owner)


def flows(layers: list[Layer], middle: Picture, times: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """(flow (H, W, 4) to local times 0 and 1, local time (H, W), known (H, W)) of the pixels of `middle`, all float32.

    A mixed pixel has those of the nearest pure one within two pixels, else of the first layer, and is not known.
    """
    owner, known = middle.owner, (middle.owner != MIXED).astype(np.float32)
    for _ in range(2):
        grown = cv2.erode(owner, np.ones((3, 3), np.uint8))  # MIXED is the greatest, so any other wins
        owner = np.where(owner == MIXED, grown, owner)
    flow, local = np.zeros((*owner.shape, 4), np.float32), np.zeros(owner.shape, np.float32)
    rows, columns = np.arange(owner.shape[0]), np.arange(owner.shape[1])
    for number, layer in enumerate(layers):
        mask = owner == number
        if number == 0:
            mask |= owner == MIXED
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        if not width:
            continue
        window = slice(top, top + height), slice(left, left + width)
        s, inside = float(times[layer.clock]), mask[window]
        grid = _grid(rows[window[0]], columns[window[1]])
        local[window][inside] = s
        for target, channel in ((0.0, 0), (1.0, 2)):
            for axis, place in enumerate(layer.motion.carried(grid, s, target)):
                np.copyto(flow[*window, channel + axis], place - grid[axis], where=inside)
    return flow, local, known


def seen(flow: NDArray[np.float32], middle: Picture, other: Picture) -> NDArray[np.float32]:
    """(H, W): 1 where what `middle` shows is visible, alone, where `flow` (H, W, 2) finds it in `other`."""
    x, y = (grid + flow[..., axis] for axis, grid in enumerate(_grid(*map(np.arange, flow.shape[:2]))))
    found = cv2.remap(other.owner, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(MIXED,))
    return ((found == middle.owner) & (middle.owner != MIXED)).astype(np.float32)


def _grid(rows: slice | NDArray, columns: slice | NDArray) -> Grid:
    y = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
    x = np.arange(columns.start, columns.stop) if isinstance(columns, slice) else columns
    return x[None].astype(np.float32), y[:, None].astype(np.float32)

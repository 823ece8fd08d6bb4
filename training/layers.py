"""Layers of a scene laid over one another in a frame, with the owner of every pixel and its exact flow."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .motion import Grid, Matrix, Motion, applied
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
        scale = self.drawing.scale
        to_pixels: Matrix = np.diag([scale, scale, 1.0])
        to_pixels[:2, 2] = -0.5 - scale * self.drawing.left, -0.5 - scale * self.drawing.top
        if not self.motion.waves:
            inverse = to_pixels @ self.motion.inverse(s)
            inverse[:, 2] += inverse[:, 0] * columns.start + inverse[:, 1] * rows.start
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            return (rows, columns), cv2.warpAffine(
                self.drawing.pixels, inverse[:2], extent, flags=flags, borderMode=border
            )
        x, y = applied(to_pixels, self.motion.to_texture(_grid(rows, columns), s))
        return (rows, columns), cv2.remap(self.drawing.pixels, x, y, cv2.INTER_LINEAR, borderMode=border)

    def _window(self, size: tuple[int, int], s: float) -> tuple[slice, slice]:
        """Rows and columns of the frame that the texture's corners span."""
        if self.endless:
            return slice(0, size[0]), slice(0, size[1])
        (left, top), half = self.drawing.area[0].tolist(), self.drawing.area[1] / 2
        half_x, half_y = half.tolist()
        reach = self.motion.reach
        (a, b, x), (c, d, y), _ = self.motion.matrix(s).tolist()
        x, y = x + a * (left + half_x) + b * (top + half_y), y + c * (left + half_x) + d * (top + half_y)
        half_x, half_y = half_x + reach, half_y + reach
        spans = (y, abs(c) * half_x + abs(d) * half_y, size[0]), (x, abs(a) * half_x + abs(b) * half_y, size[1])
        rows, columns = (slice(max(0, int(mid - half)), min(side, int(mid + half) + 2)) for mid, half, side in spans)
        return rows, columns


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
        np.copyto(part, MIXED, where=alpha > 7)
        np.copyto(part, number, where=alpha > 247)
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
                np.copyto(flow[window][..., channel + axis], place - grid[axis], where=inside)
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

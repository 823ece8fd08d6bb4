"""Film frames cut up and moved: quick examples in which nearly every pixel moves, and how is known exactly.

Most of a drawn film rests, so that a network that says "nothing moves" is right nearly everywhere, and stays with that for
thousands of steps. Here it is nearly always wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from .scenes import Example

Matrix = NDArray[np.float64]  # (3, 3): where a pixel (x, y, 1) of the picture lies in the layer's drawing
Image = NDArray[np.uint8]

SPEED_PX = 0.7, 40.0  # that a layer moves from the first frame to the second, spread evenly over its logarithm
TURN, GROWTH = 0.04, 0.04  # radians, and share of the size: standard deviations over the same time
CUTTINGS_MAX = 3


def collage(rng: np.random.Generator, draw: Callable[[], Image]) -> Example:
    """A background and some cuttings of `draw()`'s pictures (H, W, 3), each with a steady motion of its own."""
    background = draw()
    height, width = background.shape[:2]
    t = 0.5 if rng.random() < 0.6 else float(rng.random())
    times = (0.0, t, 1.0)
    first, middle, second = places = _places(rng, (height, width), times)
    frames = [_moved(background, place) for place in places]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    grid = np.stack([columns, rows, np.ones_like(rows)], -1).astype(np.float64)
    flow = _flow(grid, first, middle, second)
    known = np.ones((height, width), np.float32)
    for _ in range(int(rng.integers(0, CUTTINGS_MAX + 1))):
        drawing, shape = draw(), _cutting(rng, height, width)
        first, middle, second = places = _places(rng, (height, width), times)
        for index, place in enumerate(places):
            cover = _moved(shape, place, cv2.BORDER_CONSTANT)
            frames[index] = _over(_moved(drawing, place), cover, frames[index])
            if index == 1:
                covered = cover > 127
                flow[covered] = _flow(grid, first, middle, second)[covered]
                known[(cover > 8) & (cover < 247)] = 0
                known[cover >= 247] = 1
    timestep = np.full((height, width), t, np.float32)
    seen = np.ones((height, width, 2), np.float32)
    return Example(frames[0], frames[1], frames[2], timestep, flow, known, seen)


def _places(rng: np.random.Generator, size: tuple[int, int], times: tuple[float, ...]) -> list[Matrix]:
    """Of one layer at `times`: it moves, turns and grows steadily about the middle of the picture."""
    speed, way = np.exp(rng.uniform(*np.log(SPEED_PX))), rng.uniform(0, 2 * np.pi)
    shift = speed * np.array([np.cos(way), np.sin(way)])
    turn, growth = rng.normal(0, TURN), rng.normal(0, GROWTH)
    centre = np.array([size[1] / 2, size[0] / 2])
    result = []
    for time in times:
        passed = time - 0.5
        factor, angle = np.exp(growth * passed), turn * passed
        turned = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        place = np.eye(3)
        place[:2, :2], place[:2, 2] = turned, centre - turned @ centre + shift * passed
        result.append(place)
    return result


def _moved(drawing: Image, place: Matrix, border: int = cv2.BORDER_REFLECT) -> Image:
    size = drawing.shape[1], drawing.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(drawing, place[:2], size, flags=flags, borderMode=border), np.uint8)


def _flow(grid: NDArray[np.float64], first: Matrix, middle: Matrix, second: Matrix) -> NDArray[np.float32]:
    """From each pixel of the middle frame to where the same spot of the drawing is in the others, (H, W, 4)."""
    ways = [(np.linalg.inv(other) @ middle)[:2] - np.eye(3)[:2] for other in (first, second)]
    return np.asarray(grid @ np.concatenate(ways).T, np.float32)


def _cutting(rng: np.random.Generator, height: int, width: int) -> Image:
    """How far a random outline covers each pixel, 0..255."""
    corners = int(rng.integers(5, 14))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.4, 1, corners) * rng.uniform(0.08, 0.35) * min(height, width)
    centre = rng.uniform(0.15, 0.85, 2) * (width, height)
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    shape = np.zeros((height, width), np.uint8)
    cv2.fillPoly(shape, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return shape


def _over(drawing: Image, cover: Image, below: Image) -> Image:
    share = cover.astype(np.float32)[..., None] * np.float32(1 / 255)
    return np.asarray(below + (drawing.astype(np.float32) - below) * share + 0.5, np.uint8)

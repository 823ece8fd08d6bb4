"""Whether an in-between shows a figure in one place, and sharply: measured against the true pictures of a `HeldScene`.

For places s = 0, 1/20 .. 1 of the figure, with the background at the in-between's time, the true picture is known. The **place**
of the drawn figure is the s whose true picture is nearest: the least mean square of the difference of luma over the figure's
*way*, every pixel that the figure covers at some s and MARGIN_PX around. Edges are the length of the luma's gradient (Sobel).

**Ghost**: how much of edges the in-between has where the true picture of that place has none. The gradient above the largest
one that the true picture has within TOLERANCE_PX of the same pixel, summed over the way, divided by the sum of the true gradient
over the figure. 0 is one figure in one place. A blend of two drawings has about 0.3, not 1: the edges of the other place
are half as high, and those near true ones do not count.

**Sharpness**: the energy (square) of the in-between's gradient within OUTLINE_PX of the figure's outline at that place, divided
by that of the true picture. 1 is as sharp as the drawing; a blend of two drawings, half as high, has 1/4 and what the other adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .held import HeldScene
from .paint import Image

PLACES = np.linspace(0, 1, 21)
MARGIN_PX, TOLERANCE_PX, OUTLINE_PX = 6, 2, 2


@dataclass(frozen=True)
class Drawn:
    """How a figure was drawn, in the terms of the module."""

    place: float
    ghost: float
    sharpness: float


class Judge:
    """Measures in-betweens of `scene` at `time` in 0..2."""

    def __init__(self, scene: HeldScene, time: float) -> None:
        self._masks = [scene.figure_mask(place) for place in PLACES]
        self._true = [_luma(scene.true(time, place)) for place in PLACES]
        self._way = _grown(np.any(self._masks, axis=0), MARGIN_PX)

    def drawn(self, picture: Image) -> Drawn:
        """What is to be said of `picture`, (H, W, 3) uint8 RGB."""
        luma = _luma(picture)
        nearest = int(np.argmin([np.square(luma - true)[self._way].mean() for true in self._true]))
        mask, true, gradient = self._masks[nearest], _gradient(self._true[nearest]), _gradient(luma)
        allowed = cv2.dilate(true, np.ones((2 * TOLERANCE_PX + 1,) * 2, np.uint8))
        extra = np.maximum(gradient - allowed, 0)[self._way].sum()
        outline = _grown(mask, OUTLINE_PX) & _grown(~mask, OUTLINE_PX)
        return Drawn(
            float(PLACES[nearest]),
            float(extra / true[_grown(mask, TOLERANCE_PX)].sum()),
            float(np.square(gradient[outline]).sum() / np.square(true[outline]).sum()),
        )


def _luma(picture: Image) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def _gradient(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    x, y = (cv2.Sobel(luma, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return np.asarray(cv2.magnitude(x, y), np.float32)


def _grown(mask: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    side = 2 * by_px + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), np.uint8) > 0

"""Optical flow by dense inverse search (Kroeger et al. 2016, OpenCV's DIS) between reduced luma images.

Settings were chosen by leaving out every second frame of 720p clips (docs/decisions.md): at a quarter of the size, refined down
to half of that, it is as good as the medium preset and three times faster.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from .pixels import FrameLayout, Plane

ANALYSIS_ROWS = 180  # a 16:9 picture is reduced to about this many rows: 720p by 4, 1080p by 6, 2160p by 12
MIN_ANALYSIS_SIDE = 16  # below this DIS has no pyramid to search
CACHED_FRAMES = 8  # frames whose reduced images are kept: a triplet for each of two workers, and some slack


def reduction(layout: FrameLayout, scale: float = 1.0) -> int:
    """Even factor by which both sides of the picture are divided for analysis; larger `scale` analyses a larger image."""
    rows = (layout.width * layout.height * 9 / 16) ** 0.5
    return max(2, 2 * round(rows / ANALYSIS_ROWS / scale / 2))


class FlowEstimator:
    """Flows between numbered frames of one stream, in pixels of the reduced image. Thread-safe."""

    def __init__(self, layout: FrameLayout, scale: float = 1.0) -> None:
        self.factor = reduction(layout, scale)
        self.rows = -(-layout.height // self.factor)
        self.columns = -(-layout.width // self.factor)
        self._shift_bits = layout.format.depth - 8
        self._images: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()
        self._searchers = threading.local()  # a DIS object holds its pyramids: one a thread

    def flow(self, number_a: int, luma_a: Plane, number_b: int, luma_b: Plane) -> NDArray[np.float32]:
        """Flow from frame a to frame b, (rows, columns, 2) as (x, y): a's pixel p is found in b at p + flow(p)."""
        a, b = self._reduced(number_a, luma_a), self._reduced(number_b, luma_b)
        if min(a.shape) < MIN_ANALYSIS_SIDE:
            return np.zeros((*a.shape, 2), np.float32)
        flow: NDArray[np.float32] = self._searcher().calc(a, b, None)
        return flow

    def _reduced(self, number: int, luma: Plane) -> NDArray[np.uint8]:
        with self._lock:
            known = self._images.get(number)
        if known is not None:
            return known
        rows, columns = self.rows * self.factor, self.columns * self.factor
        height, width = luma.shape
        if (rows, columns) != (height, width):
            luma = cv2.copyMakeBorder(luma, 0, rows - height, 0, columns - width, cv2.BORDER_REPLICATE)
        small = cv2.resize(luma, (self.columns, self.rows), interpolation=cv2.INTER_AREA)
        if small.dtype != np.uint8:
            small = (small >> self._shift_bits).astype(np.uint8)
        with self._lock:
            self._images[number] = small
            while len(self._images) > CACHED_FRAMES:
                self._images.popitem(last=False)
        return small

    def _searcher(self) -> cv2.DISOpticalFlow:
        searcher: cv2.DISOpticalFlow | None = getattr(self._searchers, "dis", None)
        if searcher is None:
            searcher = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
            searcher.setFinestScale(1)
            searcher.setGradientDescentIterations(8)
            searcher.setVariationalRefinementIterations(1)
            self._searchers.dis = searcher
        return searcher

"""Optical flow by dense inverse search (Kroeger et al. 2016, OpenCV's DIS) between reduced luma images.

Settings were chosen by leaving out every second frame of 720p clips (docs/performance.md): at a quarter of the size, refined
down to half of that, it is as good as the medium preset and three times faster.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .pixels import FrameLayout, Plane

ANALYSIS_ROWS = 180  # a 16:9 picture is reduced to about this many rows: 720p by 4, 1080p by 6, 2160p by 12
MIN_ANALYSIS_SIDE = 16  # below this DIS has no pyramid to search
#: Pixels of the reduced image that a flow vector stands for, in each direction: DIS is refined to this, not further.
FLOW_STEP = 2
Detail = Literal["rough", "fine", "whole"]
_kept = threading.local()  # searchers of each thread, which hold their pyramids
SEARCHERS_MAX = 8  # a thread

CACHED_FRAMES = 8  # frames whose reduced images are kept: a triplet for each of two workers, and some slack


def reduction(layout: FrameLayout, scale: float = 1.0) -> int:
    """Factor by which both sides of the picture are divided for analysis; a larger `scale` means a larger image."""
    return max(1, round(rows_of(layout.height, layout.width) / ANALYSIS_ROWS / scale))


def analysis_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Of the image that flow is searched in for a picture."""
    factor = max(1.0, rows_of(height, width) / ANALYSIS_ROWS / scale)
    return max(1, round(height / factor)), max(1, round(width / factor))


def rows_of(height: int, width: int) -> float:
    """The rows that a 16:9 picture of as many pixels has."""
    return (width * height * 9 / 16) ** 0.5


def search(a: NDArray[np.uint8], b: NDArray[np.uint8], detail: Detail) -> NDArray[np.float32]:
    """Optical flow from luma image a to b, (h, w, 2) as (x, y) in their pixels: a's pixel p is found in b at p + flow(p). Zero
    for images too small to search. Thread-safe."""
    if min(a.shape) < MIN_ANALYSIS_SIDE:
        return np.zeros((*a.shape, 2), np.float32)
    searcher = _searcher(a.shape, detail)
    return np.asarray(searcher.calc(a, b, None), np.float32)


def _searcher(shape: tuple[int, ...], detail: Detail) -> cv2.DISOpticalFlow:
    """One for each size: for an image too small for its finest level OpenCV's changes its settings, for good."""
    searchers: OrderedDict[tuple[tuple[int, ...], Detail], cv2.DISOpticalFlow] = _kept.__dict__.setdefault(
        "searchers", OrderedDict()
    )
    key = shape, detail
    if key not in searchers:
        searcher = searchers[key] = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        searcher.setFinestScale({"rough": 2, "fine": 1, "whole": 0}[detail])  # a power of two: 1 is FLOW_STEP
        searcher.setGradientDescentIterations(8 if detail == "rough" else 16)
        searcher.setVariationalRefinementIterations(0 if detail == "rough" else 1)
    searchers.move_to_end(key)
    while len(searchers) > SEARCHERS_MAX:
        searchers.popitem(last=False)
    return searchers[key]


class FlowEstimator:
    """Flows between numbered frames of one stream. Thread-safe.

    A flow is (`rows`, `columns`, 2) as (x, y) in cells of `factor` x `factor` full-size pixels: a's cell p is found in b at
    p + flow(p).
    """

    def __init__(self, layout: FrameLayout, scale: float = 1.0) -> None:
        self.factor = reduction(layout, scale) * FLOW_STEP
        self.rows = -(-layout.height // self.factor)
        self.columns = -(-layout.width // self.factor)
        self._shift_bits = layout.format.depth - 8
        self._images: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def flow(
        self, number_a: int, luma_a: Plane, number_b: int, luma_b: Plane, *, rough: bool = False
    ) -> NDArray[np.float32]:
        """Flow from frame a to frame b. A `rough` one takes a fifth of the time: enough for distances, not for warping."""
        a, b = self._reduced(number_a, luma_a), self._reduced(number_b, luma_b)
        flow = search(a, b, "rough" if rough else "fine")
        # The estimate is no finer than this, so nothing is lost and all that follows has a quarter to do.
        cells = cv2.resize(flow, (self.columns, self.rows), interpolation=cv2.INTER_AREA)
        cells *= np.float32(1 / FLOW_STEP)
        return np.asarray(cells, np.float32)

    def _reduced(self, number: int, luma: Plane) -> NDArray[np.uint8]:
        with self._lock:
            known = self._images.get(number)
        if known is not None:
            return known
        rows, columns = self.rows * self.factor, self.columns * self.factor
        height, width = luma.shape
        if (rows, columns) != (height, width):
            luma = cv2.copyMakeBorder(luma, 0, rows - height, 0, columns - width, cv2.BORDER_REPLICATE)
        size = (self.columns * FLOW_STEP, self.rows * FLOW_STEP)
        small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        if small.dtype != np.uint8:
            small = (small >> self._shift_bits).astype(np.uint8)
        with self._lock:
            self._images[number] = small
            while len(self._images) > CACHED_FRAMES:
                self._images.popitem(last=False)
        return small

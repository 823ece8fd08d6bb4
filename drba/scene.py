"""Scene cuts: structural similarity (SSIM) of two frames reduced to 32x32 RGB. Held drawings: two frames that are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .pixels import FrameLayout, Plane

THUMBNAIL_SIDE = 32
DEFAULT_THRESHOLD = 0.3
WINDOW = 11
WINDOW_SIGMA = 1.5
#: A reduced block may differ by this many 8-bit steps and still be the same drawing: codecs change held drawings a little.
HELD_BLOCK_DIFFERENCE = 2
HELD_BLOCK = 8  # pixels a side

Thumbnail = NDArray[np.float32]
Signature = NDArray[np.uint8]


@dataclass(frozen=True)
class YuvWeights:
    """Red and blue luma weights of a YUV matrix (ITU-T H.273 table 4)."""

    red: float
    blue: float


MATRICES = {
    "bt709": YuvWeights(0.2126, 0.0722),
    "smpte170m": YuvWeights(0.299, 0.114),
    "bt470bg": YuvWeights(0.299, 0.114),
    "fcc": YuvWeights(0.30, 0.11),
    "smpte240m": YuvWeights(0.212, 0.087),
    "bt2020nc": YuvWeights(0.2627, 0.0593),
    "bt2020c": YuvWeights(0.2627, 0.0593),
}


def thumbnail(
    planes: Sequence[Plane], layout: FrameLayout, matrix: str = "unspecified", full_range: bool = False
) -> Thumbnail:
    """Reduce a frame to (3, 32, 32) float32 RGB in 0..1, sampled bilinearly without smoothing, as the reference does."""
    fmt = layout.format
    top = float(fmt.max_value)
    small = [
        cv2.resize(plane, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_LINEAR).astype(np.float32) / top
        for plane in planes
    ]
    if fmt.is_rgb:  # GBR order
        return np.stack([small[2], small[0], small[1]])
    if len(small) == 1:
        return np.stack([small[0]] * 3)
    luma, blue, red = small[0], small[1] - 0.5, small[2] - 0.5
    if not full_range:
        luma, blue, red = (luma - 16 / 255) * (255 / 219), blue * (255 / 224), red * (255 / 224)
    weights = MATRICES.get(matrix, MATRICES["bt709"])
    r = luma + red * (2 - 2 * weights.red)
    b = luma + blue * (2 - 2 * weights.blue)
    g = (luma - weights.red * r - weights.blue * b) / (1 - weights.red - weights.blue)
    return np.clip(np.stack([r, g, b]), 0.0, 1.0)


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float32]:
    x = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(x**2) / (2 * WINDOW_SIGMA**2))
    return (window / window.sum()).astype(np.float32)


def _smooth(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gaussian mean over channel, row and column, borders repeated: (3, H, W) -> (3, H, W)."""
    window = _window()
    planes = [cv2.sepFilter2D(plane, -1, window, window, borderType=cv2.BORDER_REPLICATE) for plane in stack]
    half = WINDOW // 2
    last = len(planes) - 1
    out = np.zeros_like(stack)
    for channel in range(len(planes)):
        for tap in range(WINDOW):
            out[channel] += window[tap] * planes[min(max(channel + tap - half, 0), last)]
    return out


def ssim(a: Thumbnail, b: Thumbnail) -> float:
    """Mean SSIM of two (3, H, W) images in 0..1, with a 3-D Gaussian window over channels too (as DRBA measures it).

    Formula: Wang et al. 2004, C1 = 0.01 squared, C2 = 0.03 squared, window 11, sigma 1.5.
    """
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a = _smooth(a * a) - mean_a**2
    variance_b = _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float(np.mean(luminance * structure))


def is_cut(a: Thumbnail, b: Thumbnail, threshold: float = DEFAULT_THRESHOLD) -> bool:
    """Whether a scene ends between the frames; a larger `threshold` (0..1) finds more cuts."""
    return ssim(a, b) < threshold


def held_signature(luma: Plane, depth: int) -> Signature:
    """Block means of the luma, 8 bit: what `is_held` compares first."""
    height, width = luma.shape
    size = (max(1, width // HELD_BLOCK), max(1, height // HELD_BLOCK))
    small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return small if depth == 8 else (small >> (depth - 8)).astype(np.uint8)


def is_held(signature_a: Signature, signature_b: Signature) -> bool:
    """Whether two frames show the same drawing: no 8x8 block's mean luma moves by more than codec noise does."""
    return int(cv2.norm(signature_a, signature_b, cv2.NORM_INF)) <= HELD_BLOCK_DIFFERENCE

"""Forward warping (splatting) on numpy arrays; the torch twin stands in networks/warp.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NORMALISE_EPSILON = 1e-7
#: With the epsilon above, a splatted field of ones is below drm.HOLE_THRESHOLD where the summed weight is below this.
HOLE_WEIGHT = 1e-4

FloatArray = NDArray[np.float32]


def splat(values: FloatArray, flow: FloatArray, metric: FloatArray | None = None) -> FloatArray:
    """Forward-warp `values` (N, C, H, W) by `flow` (N, 2, H, W) in pixels; returns float32 (N, C, H, W).

    Every source pixel is spread bilinearly over the four target pixels around its landing point. Contributions are averaged,
    or weighted with exp(`metric`) (N, 1, H, W) where a metric is given (softmax splatting, Niklaus & Liu 2020). A target that
    nothing reached is 0. Non-finite flow reaches nothing.
    """
    out = np.empty_like(values, dtype=np.float32)
    for i in range(len(values)):
        weight = None if metric is None else np.exp(metric[i, 0])
        total, total_weight = _splat_sum(values[i], flow[i], weight)
        out[i] = total / (total_weight + NORMALISE_EPSILON)
    return out


def splat_average(values: FloatArray, flow: FloatArray) -> FloatArray:
    """Average-splat `values` (C, H, W) by `flow` (2, H, W); holes keep the unwarped value of their own place."""
    total, weight = _splat_sum(values, flow, None)
    return np.where(weight < HOLE_WEIGHT, values, total / (weight + NORMALISE_EPSILON)).astype(np.float32)


def _splat_sum(
    values: FloatArray, flow: FloatArray, weight: FloatArray | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted sums (C, H, W) and the summed weights (H, W)."""
    channels, height, width = values.shape
    x = flow[0] + np.arange(width, dtype=np.float32)
    y = flow[1] + np.arange(height, dtype=np.float32)[:, None]
    reachable = (x > -1) & (x < width) & (y > -1) & (y < height)  # False for NaN
    x, y = np.where(reachable, x, -1.0), np.where(reachable, y, -1.0)
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = (x - left).astype(np.float64), (y - top).astype(np.float64)
    # One column and row of margin on each side take what falls outside.
    stride = width + 2
    size = (height + 2) * stride
    index = ((top.astype(np.intp) + 1) * stride + left.astype(np.intp) + 1).ravel()
    scaled = [1.0 if weight is None else weight, *(values if weight is None else values * weight)]
    sums = np.zeros((channels + 1, size))
    for offset, share in (
        (0, (1 - right_share) * (1 - bottom_share)),
        (1, right_share * (1 - bottom_share)),
        (stride, (1 - right_share) * bottom_share),
        (stride + 1, right_share * bottom_share),
    ):
        corner = index + offset
        for channel, field in enumerate(scaled):
            sums[channel] += np.bincount(corner, (share * field).ravel(), minlength=size)[:size]
    inner = sums.reshape(channels + 1, height + 2, stride)[:, 1:-1, 1:-1]
    return inner[1:], inner[0]

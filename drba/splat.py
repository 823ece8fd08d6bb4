"""Forward warping (splatting) on numpy arrays; the torch twin stands in networks/warp.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NORMALISE_EPSILON = 1e-7

FloatArray = NDArray[np.float32]


def splat(values: FloatArray, flow: FloatArray, metric: FloatArray | None = None) -> FloatArray:
    """Forward-warp `values` (N, C, H, W) by `flow` (N, 2, H, W) in pixels; returns float32 (N, C, H, W).

    Every source pixel is spread bilinearly over the four target pixels around its landing point. Contributions are averaged,
    or weighted with exp(`metric`) (N, 1, H, W) where a metric is given (softmax splatting, Niklaus & Liu 2020). A target that
    nothing reached is 0. Non-finite flow reaches nothing.
    """
    n, channels, height, width = values.shape
    weight = np.ones((n, 1, height, width), np.float32) if metric is None else np.exp(metric)
    source = np.concatenate([values * weight, weight], axis=1)
    out = np.empty_like(source)
    for i in range(n):
        out[i] = _splat_sum(source[i], flow[i])
    return out[:, :channels] / (out[:, channels:] + np.float32(NORMALISE_EPSILON))


def _splat_sum(source: FloatArray, flow: FloatArray) -> FloatArray:
    channels, height, width = source.shape
    x = flow[0] + np.arange(width, dtype=np.float32)
    y = flow[1] + np.arange(height, dtype=np.float32)[:, None]
    reachable = (x > -1) & (x < width) & (y > -1) & (y < height)  # False for NaN
    x, y = np.where(reachable, x, -1).ravel(), np.where(reachable, y, -1).ravel()
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = x - left, y - top
    # One column and row of margin on each side take what falls outside.
    stride = width + 2
    index = ((top.astype(np.int32) + 1) * stride + left.astype(np.int32) + 1).ravel()
    size = (height + 2) * stride
    flat = source.reshape(channels, -1)
    total = np.zeros((channels, size), np.float64)
    for offset, share in (
        (0, (1 - right_share) * (1 - bottom_share)),
        (1, right_share * (1 - bottom_share)),
        (stride, (1 - right_share) * bottom_share),
        (stride + 1, right_share * bottom_share),
    ):
        for channel in range(channels):
            total[channel] += np.bincount(index + offset, flat[channel] * share, minlength=size)[:size]
    return total.reshape(channels, height + 2, stride)[:, 1:-1, 1:-1].astype(np.float32)

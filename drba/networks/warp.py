"""Backward and forward warping of torch tensors, on any device.

Both take flow (N, 2, H, W), x then y, in pixels, and compute coordinates in float32 whatever the network's own
precision: in half precision they are off by up to a pixel at 1080p. float64 is kept, for checking against a reference
without rounding.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

# A stream uses a handful of sizes (one a pyramid level); the bound keeps a long-lived server from growing.
GRID_CACHE_SIZE = 32
NORMALISE_EPSILON = 1e-7

Size = tuple[int, int]


@lru_cache(maxsize=GRID_CACHE_SIZE)
def _centred_grid(size: Size, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The pixel centres, -1..1 from the centre of the first pixel to the centre of the last: (1, 2, h, w)."""
    y, x = torch.meshgrid(*(torch.linspace(-1.0, 1.0, n, device=device, dtype=dtype) for n in size), indexing="ij")
    return torch.stack((x, y)).unsqueeze(0)


@lru_cache(maxsize=GRID_CACHE_SIZE)
def _edged_grid(size: Size, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The pixel centres, -1..1 from the outer edge of the first pixel to that of the last: (1, 2, h, w)."""
    axes = ((torch.arange(n, device=device, dtype=dtype) + 0.5) * (2.0 / n) - 1.0 for n in size)
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y)).unsqueeze(0)


@lru_cache(maxsize=GRID_CACHE_SIZE)
def pixel_grid(size: Size, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Column and row of each pixel: (1, 2, h, w)."""
    y, x = torch.meshgrid(*(torch.arange(n, device=device, dtype=dtype) for n in size), indexing="ij")
    return torch.stack((x, y)).unsqueeze(0)


def precise(x: Tensor) -> Tensor:
    """`x` in at least float32: what coordinates, flow and sums are kept in."""
    return x if x.dtype == torch.float64 else x.float()


def resize(x: Tensor, size: Size) -> Tensor:
    """Bilinear, corners not aligned, no antialiasing: what every network here was trained with. Identity for the same
    size."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def backward_warp(image: Tensor, flow: Tensor, *, padding: str = "border") -> Tensor:
    """Sample `image` (N, C, H, W) at each pixel's place plus `flow` (N, 2, H, W) in pixels; returns its shape and
    dtype.

    Beyond the edge is the edge pixel (`padding` "border") or 0 ("zeros").
    """
    height, width = image.shape[-2:]
    grid = _centred_grid((height, width), flow.device, precise(flow).dtype)
    return _sample(image, grid, flow, max(width - 1, 1), max(height - 1, 1), padding)


def corner_means(image: Tensor) -> Tensor:
    """Mean of the four pixels around each pixel corner, edges repeated: (N, C, H, W) -> (N, C, H + 1, W + 1)."""
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 2, stride=1)


def backward_warp_reduced(corners: Tensor, flow: Tensor) -> Tensor:
    """What `backward_warp` and then `resize` to the size of `flow` (N, 2, h, w) would give, sampled at that size only.

    `corners` are the `corner_means` (N, C, H + 1, W + 1) of the image, `flow` is in pixels of the image; returns (N, C,
    h, w). A bilinear resize to an even fraction averages the two by two pixels around each new centre: averaging them
    first is the same wherever these four pixels share one flow, and costs h * w samples instead of H * W.
    """
    height, width = corners.shape[-2] - 1, corners.shape[-1] - 1
    grid = _edged_grid((flow.shape[-2], flow.shape[-1]), flow.device, precise(flow).dtype)
    return _sample(corners, grid, flow, width, height, "border")


def _sample(image: Tensor, grid: Tensor, flow: Tensor, x_span: int, y_span: int, padding: str) -> Tensor:
    flow = precise(flow)
    points = torch.stack((flow[:, 0] * (2.0 / x_span) + grid[:, 0], flow[:, 1] * (2.0 / y_span) + grid[:, 1]), dim=-1)
    warped = F.grid_sample(image.to(points.dtype), points, mode="bilinear", padding_mode=padding, align_corners=True)
    return warped.to(image.dtype)


def splat(values: Tensor, flow: Tensor, metric: Tensor | None = None) -> Tensor:
    """Forward-warp `values` (N, C, H, W) by `flow` (N, 2, H, W) in pixels; returns (N, C, H, W) in the values' dtype.

    Every source pixel is spread bilinearly over the four target pixels around its landing point. Contributions are
    averaged, or weighted with exp(`metric`) (N, 1, H, W) where a metric is given (softmax splatting, Niklaus & Liu
    2020). A target that nothing reached is 0. Non-finite flow reaches nothing. Sums are at least float32.
    """
    n, channels, height, width = values.shape
    flow = precise(flow)
    weight = flow.new_ones((n, 1, height, width)) if metric is None else precise(metric).exp()
    source = torch.cat((values * weight, weight.expand(n, 1, height, width)), dim=1)
    total = _splat_sum(source, flow)
    return (total[:, :channels] / (total[:, channels:] + NORMALISE_EPSILON)).to(values.dtype)


def _splat_sum(source: Tensor, flow: Tensor) -> Tensor:
    n, channels, height, width = source.shape
    landing = pixel_grid((height, width), flow.device, flow.dtype) + flow
    x, y = landing[:, 0], landing[:, 1]
    reachable = (x > -1) & (x < width) & (y > -1) & (y < height)  # False for NaN
    x, y = torch.where(reachable, x, -1.0), torch.where(reachable, y, -1.0)
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    # One column and row of margin on each side take what falls outside, so that no shape depends on the data.
    stride, rows = width + 2, height + 2
    index = (top.long() + 1) * stride + (left.long() + 1)
    total = source.new_zeros((n, channels, rows * stride))
    corners = (
        (0, (1 - right_share) * (1 - bottom_share)),
        (1, right_share * (1 - bottom_share)),
        (stride, (1 - right_share) * bottom_share),
        (stride + 1, right_share * bottom_share),
    )
    for i in range(n):
        for offset, share in corners:
            # Along the last dimension: over rows of channels index_add is eight times slower on the CPU.
            total[i].index_add_(1, (index[i] + offset).flatten(), (source[i] * share[i]).flatten(1))
    return total.view(n, channels, rows, stride)[:, :, 1:-1, 1:-1]

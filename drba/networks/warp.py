"""Backward and forward warping of torch tensors, on any device.

Both take flow (N, 2, H, W), x then y, in pixels, and compute coordinates in float32 whatever the network's own
precision: in half precision they are off by up to a pixel at 1080p. float64 is kept, for checking against a reference
without rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import kernels

# A stream uses a handful of sizes (one a pyramid level); the bound keeps a long-lived server from growing.
GRID_CACHE_SIZE = 32
NORMALISE_EPSILON = 1e-7
ROW_CHANNELS_MIN = 8
EXACT = (None, torch.float32)  # what the device's kernels sample in

Size = tuple[int, int]
Grid = Callable[..., Tensor]


def _kept(make: Grid) -> Grid:
    """`make(*sizes, device, dtype)` remembers its grids, except while a CUDA graph is recorded: a graph must own what it
    reads, and nothing here would keep a grid from being forgotten."""
    remembering = lru_cache(maxsize=GRID_CACHE_SIZE)(make)

    @wraps(make)
    def get(*arguments: Any) -> Tensor:
        recorded = arguments[-2].type == "cuda" and torch.cuda.is_current_stream_capturing()
        return make(*arguments) if recorded else remembering(*arguments)

    return get


@_kept
def _centres(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Where pixel centres lie along an axis: -1..1 from the centre of the first pixel to that of the last, (length,)."""
    return torch.linspace(-1.0, 1.0, length, device=device, dtype=dtype)


@_kept
def _reduced_centres(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The same for the pixels of a reduced image: -1..1 from the left edge of the first pixel to the right edge of the
    last, which are the outermost of the `corner_means`."""
    return (torch.arange(length, device=device, dtype=dtype) * 2 + 1) / length - 1


@_kept
def pixel_grid(size: Size, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Column and row of each pixel: (1, 2, h, w)."""
    y, x = torch.meshgrid(*(torch.arange(n, device=device, dtype=dtype) for n in size), indexing="ij")
    return torch.stack((x, y)).unsqueeze(0)


@_kept
def _reduced_grid(size: Size, full: Size, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Where the pixel centres of an image of `size` lie, in pixels of one of size `full`: (1, 2, h, w)."""
    ratio = torch.tensor([full[1] / size[1], full[0] / size[0]], device=device, dtype=dtype).view(1, 2, 1, 1)
    return (pixel_grid(size, device, dtype) + 0.5) * ratio - 0.5


def size_of(x: Tensor) -> Size:
    """Height and width; numbers also where the call is being traced for export, so that they become constants."""
    return int(x.shape[-2]), int(x.shape[-1])


def precise(x: Tensor) -> Tensor:
    """`x` in at least float32: what coordinates, flow and sums are kept in."""
    return x if x.dtype == torch.float64 else x.float()


def resize(x: Tensor, size: Size) -> Tensor:
    """Bilinear, corners not aligned, no antialiasing: as every network here was trained. Identity for the same size."""
    if size_of(x) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def backward_warp(
    image: Tensor, flow: Tensor, *, padding: str = "border", sampling: torch.dtype | None = None
) -> Tensor:
    """Sample `image` (N, C, H, W) at each pixel's place plus `flow` (N, 2, H, W) in pixels; returns its shape, dtype.

    Beyond the edge is the edge pixel (`padding` "border") or 0 ("zeros"). `sampling` is what pixels and coordinates are
    given to the sampler in, at least float32 if None; with one given the image is sampled plane by plane wherever it lies.
    """
    height, width = size_of(image)
    flow = precise(flow)
    if sampling in EXACT and padding == "border" and kernels.usable(image, flow):
        return kernels.sample(image, flow, full=(height, width))
    if sampling is None and padding == "border" and lies_in_rows(image):
        return _sample_rows(image, flow + pixel_grid((height, width), flow.device, flow.dtype), _linear_taps)
    x = flow[:, 0] * (2.0 / max(width - 1, 1)) + _centres(width, flow.device, flow.dtype)
    y = flow[:, 1] * (2.0 / max(height - 1, 1)) + _centres(height, flow.device, flow.dtype).view(-1, 1)
    return _sample(image, x, y, padding, sampling)


def corner_means(image: Tensor) -> Tensor:
    """Mean of the four pixels around each pixel corner, edges repeated: (N, C, H, W) -> (N, C, H + 1, W + 1)."""
    return F.avg_pool2d(image, 2, stride=1, padding=1, count_include_pad=False)


def backward_warp_reduced(
    image: Tensor, corners: Tensor | None, flow: Tensor, *, sampling: torch.dtype | None = None
) -> Tensor:
    """What `backward_warp` and then `resize` to the size of `flow` (N, 2, h, w) would give, sampled at that size only.

    `corners` are the `corner_means` of the image; None for an image that `lies_in_rows`, which does not need them.
    `flow` is in pixels of the image; returns (N, C, h, w). A bilinear resize to an even fraction averages the two by
    two pixels around each new centre: averaging them first is the same wherever these four pixels share one flow, and
    costs h * w samples instead of H * W. `sampling` as for `backward_warp`.
    """
    height, width = size_of(image)
    flow = precise(flow)
    if sampling in EXACT and corners is not None and kernels.usable(corners, flow):
        return kernels.sample(corners, flow, full=(height, width), shift=-0.5)
    if sampling is None and lies_in_rows(image):
        place = flow + _reduced_grid(size_of(flow), (height, width), flow.device, flow.dtype)
        return _sample_rows(image, place, _averaged_taps)
    corners = corner_means(image) if corners is None else corners
    rows, columns = size_of(flow)
    x = flow[:, 0] * (2.0 / width) + _reduced_centres(columns, flow.device, flow.dtype)
    y = flow[:, 1] * (2.0 / height) + _reduced_centres(rows, flow.device, flow.dtype).view(-1, 1)
    return _sample(corners, x, y, "border", sampling)


def lies_in_rows(image: Tensor) -> bool:
    """Whether all channels of a pixel lie together in memory and sampling makes use of it.

    On the CPU many channels that lie together are sampled thrice as fast as a plane at a time (measured at 720p).
    """
    return (
        image.device.type == "cpu"
        and image.dtype == torch.float32
        and image.shape[1] >= ROW_CHANNELS_MIN
        and image[:1].is_contiguous(memory_format=torch.channels_last)
        and (image.stride(0) == 0 or image.is_contiguous(memory_format=torch.channels_last))
        and not torch.is_grad_enabled()
    )


def _sample(image: Tensor, x: Tensor, y: Tensor, padding: str, sampling: torch.dtype | None) -> Tensor:
    """`x` and `y` (N, h, w) are -1..1 from the centre of the first pixel to the centre of the last."""
    grid = torch.stack((x, y), -1)
    if sampling is not None:
        grid = grid.to(sampling)
    warped = F.grid_sample(image.to(grid.dtype), grid, mode="bilinear", padding_mode=padding, align_corners=True)
    return warped.to(image.dtype)


Taps = list[tuple[Tensor, Tensor]]  # (index, share) along one axis


def _linear_taps(place: Tensor, length: int) -> Taps:
    """The two pixels around a place along an axis."""
    place = place.nan_to_num(0.0).clamp(0, length - 1)
    start = place.floor()
    share = place - start
    start = start.int()
    return [(start, 1 - share), ((start + 1).clamp_(max=length - 1), share)]


def _averaged_taps(place: Tensor, length: int) -> Taps:
    """The three pixels that make the mean of the linear samples half a pixel before and after a place."""
    place = (place - 0.5).nan_to_num(0.0).clamp(-2, length)
    start = place.floor()
    share = (place - start) * 0.5
    start = start.int()
    shares = (0.5 - share, torch.full_like(share, 0.5), share)
    return [((start + i).clamp_(0, length - 1), weight) for i, weight in enumerate(shares)]


def _sample_rows(image: Tensor, place: Tensor, taps: Callable[[Tensor, int], Taps]) -> Tensor:
    """Samples of an image that `lies_in_rows` at `place` (N, 2, h, w) in pixels, edges repeated; lies in rows too.

    A sample is a weighted sum of some rows of a table of pixels, which is what an embedding bag computes.
    """
    n, channels, height, width = image.shape
    table, first_row = image, torch.arange(n, dtype=torch.int32).view(-1, 1, 1) * (height * width)
    if n == 1 or image.stride(0) == 0:
        table, first_row = image[:1], first_row[:1] * 0
    columns = taps(place[:, 0], width)
    rows = [(index * width + first_row, share) for index, share in taps(place[:, 1], height)]
    index = torch.stack([row + column for row, _ in rows for column, _ in columns], -1)
    share = torch.stack([down * across for _, down in rows for _, across in columns], -1)
    sampled = F.embedding_bag(
        index.view(-1, index.shape[-1]),
        table.permute(0, 2, 3, 1).reshape(-1, channels),
        mode="sum",
        per_sample_weights=share.view(-1, share.shape[-1]),
    )
    return sampled.view(n, *place.shape[-2:], channels).permute(0, 3, 1, 2)


def splat(values: Tensor, flow: Tensor, metric: Tensor | None = None) -> Tensor:
    """Forward-warp `values` (N, C, H, W) by `flow` (N, 2, H, W) in pixels; returns (N, C, H, W) in the values' dtype.

    Every source pixel is spread bilinearly over the four target pixels around its landing point. Contributions are
    averaged, or weighted with exp(`metric`) (N, 1, H, W) where a metric is given (softmax splatting, Niklaus & Liu
    2020). A target that nothing reached is 0. Non-finite flow reaches nothing. Sums are at least float32.
    """
    n, channels, height, width = values.shape
    flow = precise(flow)
    if kernels.usable(values, flow):
        return kernels.splat(values, flow, metric)
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

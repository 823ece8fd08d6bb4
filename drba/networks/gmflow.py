"""GMFlow: optical flow by matching features globally at an eighth of the size, then locally at a quarter.

Parameter names are those of the public checkpoints. Source: Xu et al., "GMFlow: Learning Optical Flow via Global
Matching" (CVPR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .gmflow_backbone import CHANNELS, Backbone
from .gmflow_transformer import Transformer, attention
from .warp import backward_warp, pixel_grid, precise

GLOBAL_SPLITS, LOCAL_SPLITS = 2, 8  # attention windows a side at the eighth and at the quarter
MATCHING_RADIUS = 4
PROPAGATION_RADIUS = 1
UPSAMPLING = 4
OUTSIDE = -1e4  # matching score of a place outside the image

#: Both sides of the images must be divisible by this.
SIZE_MULTIPLE = 4 * LOCAL_SPLITS

Features = tuple[Tensor, Tensor]  # (1, 128, H/8, W/8) and (1, 128, H/4, W/4)


class FlowAttention(nn.Module):
    """Replaces each flow vector by those of pixels that look alike, everywhere or (with a radius) nearby."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(CHANNELS, CHANNELS)
        self.k_proj = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, features: Tensor, flow: Tensor, radius: int | None) -> Tensor:
        n, _, h, w = flow.shape
        rows = features.flatten(2).transpose(1, 2)
        query = self.q_proj(rows)
        if radius is None:
            # The published network projects the query a second time to get the key; its weights expect that.
            value = flow.flatten(2).transpose(1, 2)
            out = attention(precise(query), precise(self.k_proj(query)), value)
            return out.transpose(1, 2).reshape(n, 2, h, w)
        planes = [x.transpose(1, 2).reshape_as(features) for x in (query, self.k_proj(rows))]
        share = torch.softmax(precise(window_scores(planes[0], planes[1], radius)), dim=1)
        return _weighted_window(flow, share, radius)


class GMFlow(nn.Module):
    """Flow between two images in both directions from one pass; sizes divisible by 32."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.transformer = Transformer()
        self.feature_flow_attn = FlowAttention()
        self.upsampler = nn.Sequential(
            nn.Conv2d(2 + CHANNELS, 256, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(256, UPSAMPLING**2 * 9, 1)
        )

    def features(self, image: Tensor) -> Features:
        """(1, 3, H, W) in 0..1 -> what `forward` takes; depends on this image alone, so it may be kept for the next
        pair."""
        return self.backbone(image.to(self.upsampler[0].weight.dtype))  # type: ignore[arg-type]

    def forward(self, first: Features, second: Features) -> tuple[Tensor, Tensor]:
        """Flow first -> second and second -> first, float32 (1, 2, H, W) in pixels."""
        coarse_first, coarse_second = self.transformer(first[0], second[0], GLOBAL_SPLITS)
        source, target = torch.cat((coarse_first, coarse_second)), torch.cat((coarse_second, coarse_first))
        flow = self.feature_flow_attn(source, _match_globally(source, target), None)

        flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
        source, target = torch.cat((first[1], second[1])), torch.cat((second[1], first[1]))
        target = backward_warp(target, flow, padding="zeros")
        source, target = self.transformer(source, target, LOCAL_SPLITS)
        flow = flow + _match_locally(source, target)
        flow = self.feature_flow_attn(source, flow, PROPAGATION_RADIUS)
        flow = self._upsampled(flow, source)
        return flow[:1], flow[1:]

    def _upsampled(self, flow: Tensor, features: Tensor) -> Tensor:
        """Each fine pixel is a convex combination of nine coarse neighbours, learned from the features."""
        n, _, h, w = flow.shape
        mask = self.upsampler(torch.cat((flow.to(features.dtype), features), 1))
        share = precise(mask).view(n, 1, 9, UPSAMPLING, UPSAMPLING, h, w).softmax(dim=2)
        near = F.unfold(UPSAMPLING * flow, 3, padding=1).view(n, 2, 9, 1, 1, h, w)
        fine = (share * near).sum(dim=2)  # (n, 2, row in pixel, column in pixel, h, w)
        return fine.permute(0, 1, 4, 2, 5, 3).reshape(n, 2, UPSAMPLING * h, UPSAMPLING * w)


def _match_globally(source: Tensor, target: Tensor) -> Tensor:
    """Expected displacement under softmax matching of every pixel with every other, float32 (N, 2, h, w)."""
    n, _, h, w = source.shape
    rows = [precise(f).flatten(2).transpose(1, 2) for f in (source, target)]
    places = pixel_grid((h, w), source.device, rows[0].dtype)[0].flatten(1)
    matched = attention(rows[0], rows[1], places.t().expand(n, -1, -1))
    return (matched.transpose(1, 2) - places).view(n, 2, h, w)


def _match_locally(source: Tensor, target: Tensor) -> Tensor:
    """Expected displacement under softmax matching within `MATCHING_RADIUS`, float32 (N, 2, h, w)."""
    _, _, h, w = source.shape
    scores = precise(window_scores(source, target, MATCHING_RADIUS))
    inside = _window(source.new_ones((1, 1, h, w)), MATCHING_RADIUS)[:, 0] > 0
    share = scores.masked_fill(~inside, OUTSIDE).softmax(dim=1)
    offsets = torch.arange(-MATCHING_RADIUS, MATCHING_RADIUS + 1, device=source.device, dtype=share.dtype)
    dy, dx = torch.meshgrid(offsets, offsets, indexing="ij")
    return torch.einsum("nkhw,ck->nchw", share, torch.stack((dx, dy)).flatten(1))


def window_scores(query: Tensor, key: Tensor, radius: int) -> Tensor:
    """Scaled dot product of each query with the keys around it, row by row, 0 outside: (N, C, h, w) -> (N, (2r+1)², h,
    w).

    One offset at a time: all at once would hold (2r+1)² copies of the features, over a gigabyte at 1080p.
    """
    h, w = query.shape[-2:]
    padded = F.pad(key, (radius,) * 4)
    span = range(2 * radius + 1)
    scores = [(query * padded[:, :, dy : dy + h, dx : dx + w]).sum(dim=1) for dy in span for dx in span]
    return torch.stack(scores, dim=1) / query.shape[1] ** 0.5


def _window(x: Tensor, radius: int) -> Tensor:
    """The values around each pixel, 0 outside: (N, C, h, w) -> (N, C, (2r+1)², h, w)."""
    n, c, h, w = x.shape
    return F.unfold(x, 2 * radius + 1, padding=radius).view(n, c, -1, h, w)


def _weighted_window(x: Tensor, share: Tensor, radius: int) -> Tensor:
    return (_window(x, radius) * share[:, None]).sum(dim=2)

"""The transformer of GMFlow: self and cross attention between the features of two images, in windows.

Features are (N, 128, h, w) outside and (N, h, w, 128) inside. Source: Xu et al., "GMFlow" (CVPR 2022); shifted windows
after Liu et al., "Swin Transformer" (ICCV 2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .gmflow_backbone import CHANNELS
from .warp import precise

LAYERS = 6
EXPANSION = 4  # of the hidden layer of the feed-forward network
OTHER_REGION = -100.0  # added to the score of pixels that only the roll made neighbours
POSITION_TEMPERATURE = 10000.0


def split_windows(x: Tensor, splits: int) -> Tensor:
    """(N, h, w, C) -> (N * splits * splits, h / splits, w / splits, C); h and w divisible by `splits`."""
    n, h, w, c = x.shape
    x = x.view(n, splits, h // splits, splits, w // splits, c).transpose(2, 3)
    return x.reshape(n * splits * splits, h // splits, w // splits, c)


def merge_windows(x: Tensor, splits: int) -> Tensor:
    """The inverse of `split_windows`."""
    _, h, w, c = x.shape
    return x.view(-1, splits, splits, h, w, c).transpose(2, 3).reshape(-1, splits * h, splits * w, c)


def sine_position(h: int, w: int, like: Tensor) -> Tensor:
    """Position of each pixel of an h x w window as sines and cosines, rows then columns: (h, w, 128).

    Source: Carion et al., "End-to-End Object Detection with Transformers" (ECCV 2020).
    """
    half = CHANNELS // 2
    index = torch.arange(half, device=like.device, dtype=precise(like).dtype)
    periods = POSITION_TEMPERATURE ** (2 * (index // 2) / half)

    def encode(length: int) -> Tensor:
        angle = torch.arange(1, length + 1, device=like.device, dtype=index.dtype) / (length + 1e-6) * (2 * math.pi)
        phase = angle[:, None] / periods
        return torch.stack((phase[:, 0::2].sin(), phase[:, 1::2].cos()), dim=2).flatten(1)

    rows, columns = encode(h)[:, None].expand(h, w, half), encode(w)[None].expand(h, w, half)
    return torch.cat((rows, columns), dim=2).to(like.dtype)


def shifted_mask(h: int, w: int, splits: int, like: Tensor) -> Tensor:
    """Scores to add in windows shifted by half a window: (splits * splits, L, L) for L pixels a window.

    Rolling brings pixels of opposite edges into one window; those pairs must not attend to each other.
    """

    def regions(length: int) -> Tensor:
        window = length // splits
        place = torch.arange(length, device=like.device)
        return (place >= length - window).long() + (place >= length - window // 2).long()

    region = regions(h)[:, None] * 3 + regions(w)[None]
    windows = split_windows(region.view(1, h, w, 1), splits).flatten(1)
    differs = windows[:, None] != windows[:, :, None]
    return differs.to(like.dtype) * OTHER_REGION


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(query keyᵀ / √C + mask) value with one head: (N, L, C), (N, L, C), (N, L, D) -> (N, L, D)."""
    add = None if mask is None else mask[:, None]
    return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], attn_mask=add)[:, 0]


class AttentionLayer(nn.Module):
    """Attention of source to target and, in the cross layer, a feed-forward network; returns source plus the
    message."""

    def __init__(self, *, feed_forward: bool) -> None:
        super().__init__()
        self.q_proj = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.k_proj = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.v_proj = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.merge = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.norm1 = nn.LayerNorm(CHANNELS)
        if feed_forward:
            self.mlp = nn.Sequential(
                nn.Linear(2 * CHANNELS, 2 * CHANNELS * EXPANSION, bias=False),
                nn.GELU(),
                nn.Linear(2 * CHANNELS * EXPANSION, CHANNELS, bias=False),
            )
            self.norm2 = nn.LayerNorm(CHANNELS)
        self.feed_forward = feed_forward

    def forward(self, source: Tensor, target: Tensor, splits: int, mask: Tensor | None) -> Tensor:
        """(N, h, w, 128) each; windows are shifted by half a window where a mask is given."""
        _, h, w, _ = source.shape
        shift = (h // splits // 2, w // splits // 2) if mask is not None else (0, 0)
        windows = []
        for projection, x in ((self.q_proj, source), (self.k_proj, target), (self.v_proj, target)):
            rolled = torch.roll(projection(x), (-shift[0], -shift[1]), (1, 2)) if mask is not None else projection(x)
            windows.append(split_windows(rolled, splits).flatten(1, 2))
        message = attention(
            windows[0], windows[1], windows[2], None if mask is None else mask.repeat(len(source), 1, 1)
        )
        message = merge_windows(message.view(-1, h // splits, w // splits, CHANNELS), splits)
        if mask is not None:
            message = torch.roll(message, shift, (1, 2))
        message = self.norm1(self.merge(message))
        if self.feed_forward:
            message = self.norm2(self.mlp(torch.cat((source, message), dim=-1)))
        return source + message


class TransformerLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = AttentionLayer(feed_forward=False)
        self.cross_attn_ffn = AttentionLayer(feed_forward=True)

    def forward(self, source: Tensor, target: Tensor, splits: int, mask: Tensor | None) -> Tensor:
        source = self.self_attn(source, source, splits, mask)
        return self.cross_attn_ffn(source, target, splits, mask)


class Transformer(nn.Module):
    """Enhances the features of two images with each other: (N, 128, h, w) twice -> the same; h, w divisible by
    `splits`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer() for _ in range(LAYERS))

    def forward(self, first: Tensor, second: Tensor, splits: int) -> tuple[Tensor, Tensor]:
        _, _, h, w = first.shape
        position = sine_position(h // splits, w // splits, first).repeat(splits, splits, 1)
        mask = shifted_mask(h, w, splits, first)
        both = torch.cat((first, second)).permute(0, 2, 3, 1) + position
        for i, layer in enumerate(self.layers):
            swapped = torch.cat(both.chunk(2)[::-1])
            both = layer(both, swapped, splits, mask if i % 2 else None)
        first, second = both.permute(0, 3, 1, 2).contiguous().chunk(2)
        return first, second

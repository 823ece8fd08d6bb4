"""Other ways to compute the same, which suit a GPU: exact rewrites of a fast network's weights and memory layout.

What each gives is measured by benchmarks/device_levers.py. Built engines (ONNX, TensorRT) do without: their builder
chooses its own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .ifnet import FoldedResidual
from .ifnet_fast import FastBlock, FastIFNet
from .interpolator import Interpolator


@dataclass(frozen=True)
class Levers:
    """`together`: a frame's layers lie with all channels of a pixel together, as convolutions in half precision want
    them. `sums`: x + conv(x) becomes one convolution. `shuffles`: a transposed convolution (4 taps, stride 2) becomes a
    plain one of four times the channels, shuffled into pixels: 2.25 times the arithmetic in a form that is faster to
    compute."""

    together: bool = False
    sums: bool = False
    shuffles: bool = False


def with_levers(interpolator: Interpolator, levers: Levers) -> Interpolator:
    """The interpolator with its parts computed by a rewritten copy of the network; itself where it has no parts."""
    owners = {getattr(part, "__self__", None) for part in interpolator.parts.values()}
    (owner,) = owners if len(owners) == 1 else (None,)
    if not isinstance(owner, nn.Module) or levers == Levers():
        return interpolator
    rewritten = copy.deepcopy(owner)
    with torch.no_grad():
        if levers.sums:
            add_in_weights(rewritten)
        if levers.shuffles:
            shuffle_instead(rewritten)
    if isinstance(rewritten, FastIFNet) and levers.together:
        rewritten.together = True
    rewritten.requires_grad_(False)
    return interpolator.with_parts({name: getattr(rewritten, name) for name in interpolator.parts})


def add_in_weights(network: nn.Module) -> None:
    """x + conv(x) is the convolution whose central tap has 1 more from each channel to itself."""
    for layer in network.modules():
        if isinstance(layer, FoldedResidual) and layer.adds:
            centre = layer.conv.weight[:, :, 1, 1]
            centre += torch.eye(len(centre), dtype=centre.dtype, device=centre.device)
            layer.adds = False


def shuffle_instead(network: nn.Module) -> None:
    """Replace every transposed convolution of 4 taps, stride 2 and padding 1."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ConvTranspose2d):
                setattr(module, name, ShuffledConvolution(child))
        if isinstance(module, FastBlock) and not module.leaves_at_once:
            weight, bias = as_convolution(module.leave_weight, module.leave_bias)
            order = _shuffled_twice(len(bias) // 16).to(bias.device)
            module.leave_weight = _parameter(weight[order])
            module.leave_bias = nn.Parameter(bias[order])
            module.leaves_at_once = True


def as_convolution(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the 3x3 convolution, padding 1, that with PixelShuffle(2) after it does what a transposed one of 4x4
    taps `weight` (inputs, outputs, 4, 4), stride 2, padding 1 does: (4 * outputs, inputs, 3, 3) and their bias.

    Output row 2i takes rows i - 1 (tap 3) and i (tap 1) of the input, row 2i + 1 takes i (tap 2) and i + 1 (tap 0).
    """
    inputs, outputs = weight.shape[:2]
    plain = weight.new_zeros((outputs, 2, 2, inputs, 3, 3))
    places = {0: ((0, 3), (1, 1)), 1: ((1, 2), (2, 0))}  # parity: (place in the 3 taps, tap of the 4)
    for row, rows in places.items():
        for column, columns in places.items():
            for y, from_y in rows:
                for x, from_x in columns:
                    plain[:, row, column, :, y, x] = weight[:, :, from_y, from_x].T
    return plain.reshape(4 * outputs, inputs, 3, 3), bias.repeat_interleave(4)


class ShuffledConvolution(nn.Conv2d):
    """What a transposed convolution does, see `as_convolution`."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        if (layer.kernel_size, layer.stride, layer.padding) != ((4, 4), (2, 2), (1, 1)):
            raise ValueError(f"{layer} is not of 4 taps, stride 2 and padding 1")
        weight, bias = as_convolution(layer.weight, cast(Tensor, layer.bias))
        super().__init__(weight.shape[1], weight.shape[0], 3, padding=1, device="meta")
        self.weight, self.bias = _parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(super().forward(x), 2)


def _shuffled_twice(outputs: int) -> Tensor:
    """Which channels PixelShuffle(4) wants in place of what PixelShuffle(2) twice takes."""
    order = torch.arange(16 * outputs).view(outputs, 2, 2, 2, 2)  # output; row, column of the second; of the first
    return order.permute(0, 3, 1, 4, 2).reshape(-1)


def _parameter(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.contiguous(memory_format=torch.channels_last))

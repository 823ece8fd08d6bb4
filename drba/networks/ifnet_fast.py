"""IFNet faster: every block works at its own size, and nothing is computed that is not used.

Against the published form (`IFNet.forward`): a block's result is brought to the next block's size only and the frames
are sampled there; the parts of a block's input are convolved one by one instead of being copied together; the last
block does not make the features that no block would read. Only the first of these changes the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .ifnet import Block, Estimate, IFNet, Layers, blend
from .warp import backward_warp, backward_warp_reduced, precise, resize

FLOW_AND_MASK = 5  # channels


@dataclass(frozen=True)
class Part:
    """A tensor that is some of a block's input channels: `columns`, with the weights of the first `scaled` multiplied
    by `factor`, which is cheaper than multiplying the tensor."""

    tensor: Tensor
    columns: list[int]
    scaled: int = 0
    factor: float = 1.0


def between(network: IFNet, first: Layers, second: Layers, timestep: Tensor, scale: float) -> Tensor:
    """The frame in between: layers made with `fast`, `timestep` (N, 1, h, w) in 0..1 of any size -> (N, 3, H, W)."""
    first_columns, second_columns, others = _columns(network.spec.features)
    start = network.first_estimate(first, second, timestep, scale)
    # Flow, mask and carried features stay one tensor: (N, 5 or 13, h, w), flow in pixels of the full size.
    known = torch.cat((start.flow, start.mask, start.carried), 1)
    end = others + 1 + known.shape[1]
    order = [*range(end - 4, end), *range(others + 1, end - 4)]
    refinements = list(zip(network.blocks[1:], network.levels(scale)[1:], strict=True))
    for block, level in refinements:
        size = first.size_at(level)
        known = resize(known, size)
        # Made when the convolution asks for it: a warped frame of 1080p is 160 MB.
        makers: list[Callable[[], Part]] = [
            partial(_sampled, first, known[:, :2], first_columns),
            partial(_sampled, second, known[:, 2:4], second_columns),
            partial(Part, resize(timestep, size), [others]),
            partial(Part, known, order, 4, 1 / level),
        ]
        last = block is refinements[-1][0]
        out = _run(block, makers, FLOW_AND_MASK if last or not network.spec.carries else None)
        out[:, :4].mul_(level).add_(known[:, :4])
        if network.spec.adds_mask:
            out[:, 4:5].add_(known[:, 4:5])
        known = out
    known = resize(known[:, :FLOW_AND_MASK], first.size_at(1.0))
    return blend(first.image, second.image, Estimate(known[:, :4], known[:, 4:5], known[:, 5:]))


def _columns(features: int) -> tuple[list[int], list[int], int]:
    """Which input channels of a block are the first frame's layers, the second's, and where the rest begins: timestep,
    mask, carried features, flow."""
    first = [*range(3), *range(6, 6 + features)]
    second = [*range(3, 6), *range(6 + features, 6 + 2 * features)]
    return first, second, 6 + 2 * features


def _sampled(layers: Layers, flow: Tensor, columns: list[int]) -> Part:
    """All layers of a frame, warped, at the size of `flow`."""
    if layers.full.shape[-2:] == flow.shape[-2:]:
        return Part(backward_warp(layers.full, flow), columns)
    return Part(backward_warp_reduced(layers.full, layers.corners, flow), columns)


def _run(block: Block, makers: list[Callable[[], Part]], outputs: int | None) -> Tensor:
    """`block` on the concatenation of the parts; the first `outputs` channels of its result, all where that is None."""
    entry, leave = cast(nn.Sequential, block.conv0[0]), cast(nn.ConvTranspose2d, block.lastconv[0])
    convolution, activation = cast(nn.Conv2d, entry[0]), entry[1]
    channels_last = convolution.weight.is_contiguous(memory_format=torch.channels_last)
    total: Tensor | None = None
    for make in makers:
        part = make()
        weight = convolution.weight[:, part.columns]
        if part.scaled:
            weight[:, : part.scaled] *= part.factor
        if channels_last:
            weight = weight.contiguous(memory_format=torch.channels_last)
        bias = convolution.bias if total is None else None
        convolved = F.conv2d(part.tensor.to(weight.dtype), weight, bias, stride=2, padding=1)
        total = convolved if total is None else total.add_(convolved)
        del part
    x = block.convblock(block.conv0[1](activation(total)))
    channels = None if outputs is None else 4 * outputs  # four pixels each, shuffled apart
    bias = leave.bias if leave.bias is None else leave.bias[:channels]
    x = F.conv_transpose2d(x, leave.weight[:, :channels], bias, stride=2, padding=1)
    return precise(F.pixel_shuffle(x, 2))

"""A pass of an IFNet as it is played (mode "fast": every block at its own size), with what every block knew for the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drba.networks.ifnet import Estimate as Known
from drba.networks.ifnet import IFNet, blend
from drba.networks.warp import backward_warp_reduced, corner_means, resize, size_of


@dataclass(frozen=True)
class Pass:
    """`images` (N, 3, h, w) what each block would show, at the next one's size, the last one's at the full size; `flows`
    (N, 4, h, w), each at its block's own size, in pixels of the full one. Coarsest first."""

    images: list[Tensor]
    flows: list[Tensor]


def interpolate(
    network: IFNet,
    first: Tensor,
    second: Tensor,
    timestep: Tensor,
    blocks: int | None = None,
    scale: float = 1.0,
    taught: Callable[[Tensor], Tensor] | None = None,
) -> Pass:
    """`first`, `second` (N, 3, H, W) in 0..1, sides divisible by the network's `size_multiple / scale`; `timestep` (N, 1, h, w).
    With `blocks` only that many of the coarsest are run. `taught` may mend the flow (N, 4, h, w) that all but the first block
    are given."""
    layers = network.layers(torch.cat((first, second)))
    full = size_of(first)
    corners = corner_means(layers.full)
    (first_full, second_full), (first_corners, second_corners) = layers.full.chunk(2), corners.chunk(2)
    spec, levels = network.spec, network.levels(scale)
    count = blocks or len(levels)
    size = _reduced(full, levels[0])
    inputs = _joined(resize(first_full, size), resize(second_full, size), resize(timestep, size))
    known = network.split(network.blocks[0](inputs), levels[0])
    images, flows = [], [known.flow]
    for index, level in enumerate([*levels[1:], 1.0][:count], 1):
        size = full if index == len(levels) else _reduced(full, level)
        known = known.resized(size)
        if index == len(levels):
            images.append(blend(first, second, known))
            break
        if taught is not None:
            known = replace(known, flow=taught(known.flow))
        warped = (
            backward_warp_reduced(first_full, first_corners, known.flow[:, :2]),
            backward_warp_reduced(second_full, second_corners, known.flow[:, 2:]),
        )
        images.append(torch.lerp(warped[1][:, :3], warped[0][:, :3], torch.sigmoid(known.mask)))
        if index == count:
            break
        inputs = _joined(*warped, resize(timestep, size), known.mask, known.carried, known.flow / level)
        change = network.split(network.blocks[index](inputs), level)
        mask = known.mask + change.mask if spec.adds_mask else change.mask
        known = Known(known.flow + change.flow, mask, change.carried)
        flows.append(known.flow)
    return Pass(images, flows)


def _reduced(full: tuple[int, int], level: float) -> tuple[int, int]:
    return round(full[0] / level), round(full[1] / level)


def _joined(first: Tensor, second: Tensor, *more: Tensor) -> Tensor:
    return torch.cat((first[:, :3], second[:, :3], first[:, 3:], second[:, 3:], *more), 1)

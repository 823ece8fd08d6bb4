"""A pass of an IFNet as it is played (mode "fast": every block at its own size), with what every block knew for the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drba.networks.ifnet import IFNet, Layers, blend, gather
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
    both = network.layers(torch.cat((first, second)))
    corners = corner_means(both.full).chunk(2)
    one, other = (Layers(*parts) for parts in zip((first, second), both.full.chunk(2), corners, strict=True))
    levels = network.levels(scale)
    count = blocks or len(levels)
    known = network.first_estimate(one, other, timestep, scale)
    images, flows = [], [known.flow]
    for index, level in enumerate([*levels[1:], 1.0][:count], 1):
        if index == len(levels):
            images.append(blend(first, second, known.resized(size_of(first))))
            break
        size = one.size_at(level)
        known = known.resized(size)
        if taught is not None:
            known = replace(known, flow=taught(known.flow))
        warped = (
            backward_warp_reduced(one.full, one.corners, known.flow[:, :2]),
            backward_warp_reduced(other.full, other.corners, known.flow[:, 2:]),
        )
        images.append(torch.lerp(warped[1][:, :3], warped[0][:, :3], torch.sigmoid(known.mask)))
        if index == count:
            break
        inputs = gather(*warped, resize(timestep, size), known.mask, known.carried, known.flow / level)
        known = network.refined(known, network.split(network.blocks[index](inputs), level))
        flows.append(known.flow)
    return Pass(images, flows)

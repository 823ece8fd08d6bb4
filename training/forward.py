"""A pass of a network as it is played, with what every block knew for the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drba.networks.refine import RefineNet, begun, between, shown
from drba.networks.warp import resize, size_of


@dataclass(frozen=True)
class Pass:
    """`image` (N, 3, H, W); `flows` (N, 4, h, w) after each block, at its own size, in pixels of the full one, coarsest first."""

    image: Tensor
    flows: list[Tensor]


def interpolate(network: RefineNet, first: Tensor, second: Tensor, flows: Tensor, timestep: Tensor) -> Pass:
    """As `RefineNet.render`, of frames alone."""
    full = size_of(first)
    seen = tuple(zip(*(layer.chunk(2) for layer in network.layers(torch.cat((first, second)))), strict=True))
    found = list(network.estimates((seen[0], seen[1]), flows, timestep, full))
    return Pass(shown(first, second, *found[-1]), [flow for flow, _ in found])


def unlearned(first: Tensor, second: Tensor, flows: Tensor, timestep: Tensor) -> Tensor:
    """What the given flow makes of the frames without a network."""
    start = begun(flows, timestep, size_of(first))
    flow = between((start.forth + start.back) / 2, resize(timestep, size_of(flows)))
    return shown(first, second, flow, torch.zeros_like(flow[:, :1]))

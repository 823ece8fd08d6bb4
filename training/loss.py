"""How wrong a frame is. Images are (N, 3, H, W) in 0..1, results scalars.

Nothing here needs a network: the perceptual part compares edges, their direction and strength, at three sizes, which is what the
eye follows in a drawing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from drba.networks.warp import resize, size_of

from .forward import Pass

EPSILON = 1e-2  # below which the Charbonnier loss counts squares
CENSUS_WEIGHT, EDGE_WEIGHT, COARSE_WEIGHT = 0.02, 0.1, 0.15
FLOW_WEIGHTS = (3e-3, 2e-3, 1e-3, 5e-4)  # a pixel of difference from the teacher's flow, coarsest block first


def total(result: Pass, batch: dict[str, Tensor], teaching: float) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch (see `examples`, images already in 0..1) and its parts. The teacher's flow counts
    by `teaching`."""
    middle = batch["middle"]
    coarse, parts = result.images, {}
    if size_of(coarse[-1]) == size_of(middle):
        *coarse, image = coarse
        parts["image"] = charbonnier(image, middle)
        parts["census"] = CENSUS_WEIGHT * census(image, middle)
        parts["edges"] = EDGE_WEIGHT * edges(image, middle)
    losses = [charbonnier(image, resize(middle, size_of(image))) for image in coarse]
    parts["coarse"] = COARSE_WEIGHT * torch.stack(losses).sum()
    parts["flow"] = teaching * from_teacher(result, batch)
    loss = torch.stack(list(parts.values())).sum()
    return loss, {"loss": float(loss.detach()), **{name: float(part.detach()) for name, part in parts.items()}}


def charbonnier(image: Tensor, truth: Tensor) -> Tensor:
    """Charbonnier et al. 1994: absolute differences, squares where they are small."""
    return torch.sqrt((image - truth) ** 2 + EPSILON**2).mean() - EPSILON


def census(image: Tensor, truth: Tensor) -> Tensor:
    """Soft census transform (Meister et al., UnFlow, 2018): each pixel against its eight neighbours, whatever the light."""
    return F.l1_loss(_signs(image), _signs(truth))


def _signs(image: Tensor) -> Tensor:
    gray = image.mean(1, keepdim=True)
    padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    height, width = size_of(gray)
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    differences = torch.cat([padded[..., y : y + height, x : x + width] for y, x in shifts], 1) - gray
    return differences / torch.sqrt(0.0025 + differences**2)


def edges(image: Tensor, truth: Tensor, sizes: int = 3) -> Tensor:
    """Differences of the gradients of a picture and of two reductions by half of it."""
    result = image.new_zeros(())
    for size in range(sizes):
        error = image - truth
        result = (
            result
            + (error[..., 1:] - error[..., :-1]).abs().mean()
            + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        )
        if size + 1 < sizes:
            image, truth = F.avg_pool2d(image, 2), F.avg_pool2d(truth, 2)
    return result


def mended(flow: Tensor, batch: dict[str, Tensor], progress: float) -> Tensor:
    """A block's flow brought nearer to the teacher's by the examples' `help`, less and less: so the finer blocks learn from the
    beginning what is theirs to do, however poor the coarser ones still are."""
    size = size_of(flow)
    share = batch["help"].view(-1, 1, 1, 1) * (1 - progress) * _area(batch["known"], size)
    return torch.lerp(flow, _area(batch["flow"], size), share)


def from_teacher(result: Pass, batch: dict[str, Tensor]) -> Tensor:
    """Pixels between the teacher's flow and each block's that was run, as far as the teacher may be trusted."""
    sums = batch["flow"].new_zeros(())
    for flow, weight in zip(result.flows, FLOW_WEIGHTS, strict=False):
        size = size_of(flow)
        truth, known = _area(batch["flow"], size), _area(batch["known"], size)
        distance = torch.sqrt((flow - truth) ** 2 + 0.01).mean(1, keepdim=True)
        sums = sums + weight * (distance * known).mean()
    return sums


def _area(field: Tensor, size: tuple[int, int]) -> Tensor:
    """Brought to `size`, without missing anything where that is smaller."""
    if size_of(field)[0] > size[0]:
        return F.adaptive_avg_pool2d(field, size)
    return resize(field, size)

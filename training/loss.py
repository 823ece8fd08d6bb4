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
CENSUS_WEIGHT, EDGE_WEIGHT = 0.02, 0.1
RELATIVE_WEIGHT = 0.02  # of a factor e in an example's mean squared error
RELATIVE_FLOOR = 1e-5  # mean squared error (50 dB) below which an example is as good as it needs to be
MARGIN = 16  # pixels
TEACHER_WEIGHT = 1e-3  # of a pixel of difference from the teacher's flow, for each block


def total(result: Pass, batch: dict[str, Tensor], teaching: float) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch (see `examples`, images already in 0..1) and its parts. The teacher's flow counts by `teaching`."""
    # What comes from beyond the crop is not known at its edges.
    image, middle = (x[..., MARGIN:-MARGIN, MARGIN:-MARGIN] for x in (result.image, batch["middle"]))
    parts = {
        "image": charbonnier(image, middle),
        "census": CENSUS_WEIGHT * census(image, middle),
        "edges": EDGE_WEIGHT * edges(image, middle),
        "relative": RELATIVE_WEIGHT * relative(image, middle),
        "flow": teaching * TEACHER_WEIGHT * from_teacher(result, batch),
    }
    loss = torch.stack(list(parts.values())).sum()
    return loss, {"loss": float(loss.detach()), **{name: float(part.detach()) for name, part in parts.items()}}


def gain_db(image: Tensor, other: Tensor, truth: Tensor) -> float:
    """How much nearer to the truth an image is than another one: the examples' mean difference in PSNR."""
    errors = [((x - truth)[..., MARGIN:-MARGIN, MARGIN:-MARGIN] ** 2).mean((1, 2, 3)) for x in (image, other)]
    return float(10 * (torch.log10(errors[1] + RELATIVE_FLOOR) - torch.log10(errors[0] + RELATIVE_FLOOR)).mean())


def charbonnier(image: Tensor, truth: Tensor) -> Tensor:
    """Charbonnier et al. 1994: absolute differences, squares where they are small."""
    return torch.sqrt((image - truth) ** 2 + EPSILON**2).mean() - EPSILON


def relative(image: Tensor, truth: Tensor) -> Tensor:
    """Mean logarithm of the examples' mean squared errors, from that of the floor: what PSNR counts. A picture at rest that is
    slightly blurred is far from right by this measure, by `charbonnier` it is nearly so."""
    errors = ((image - truth) ** 2).mean((1, 2, 3))
    return torch.log1p(errors / RELATIVE_FLOOR).mean()


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


def from_teacher(result: Pass, batch: dict[str, Tensor]) -> Tensor:
    """Pixels between the teacher's flow and each block's, as far as the teacher may be trusted."""
    sums = batch["flow"].new_zeros(())
    for flow in result.flows:
        size = size_of(flow)
        truth, known = _area(batch["flow"], size), _area(batch["known"], size)
        distance = torch.sqrt((flow - truth) ** 2 + 0.01).mean(1, keepdim=True)
        sums = sums + (distance * known).mean()
    return sums


def _area(field: Tensor, size: tuple[int, int]) -> Tensor:
    """Brought to `size`, without missing anything where that is smaller."""
    if size_of(field)[0] > size[0]:
        return F.adaptive_avg_pool2d(field, size)
    return resize(field, size)

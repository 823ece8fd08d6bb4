"""IFNet faster: every block works at its own size, and nothing is computed that is not used.

Against the published form (`IFNet.forward`): a block's result is brought to the next block's size only and the frames
are sampled there; beta is folded into the residual convolutions; the last block does not make the features that no
block would read; where pixels lie in rows (CPU) the parts of a block's input are convolved one by one instead of being
copied together. Only the first of these changes the result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .ifnet import Block, Estimate, FoldedResidual, IFNet, ResidualConvolution, blend, exact_blocks
from .parts import Entry, NetworkPart, Precision, TensorSpec
from .warp import Size, backward_warp, backward_warp_reduced, corner_means, lies_in_rows, precise, resize, size_of

FLOW_AND_MASK = 5  # channels

Pieces = Sequence[Callable[[], Tensor]]  # made when the convolution asks: a warped frame of 1080p is 160 MB


class FastBlock(nn.Module):
    """A block prepared for inputs that come in pieces: `columns` are the published input channels in the order of the
    pieces, `factors` what each of those is multiplied by, which is cheaper in the weights than on the tensor; `outputs`
    the channels wanted of the result."""

    def __init__(self, block: Block, columns: list[int], factors: list[float], outputs: int) -> None:
        super().__init__()
        first, second = cast(nn.Sequential, block.conv0[0]), cast(nn.Sequential, block.conv0[1])
        self.activation = copy.deepcopy(first[1])
        weight = cast(nn.Conv2d, first[0]).weight[:, columns]
        self.entry_weight = nn.Parameter(weight * weight.new_tensor(factors).view(1, -1, 1, 1))
        self.entry_bias = nn.Parameter(cast(Tensor, cast(nn.Conv2d, first[0]).bias).clone())
        self.reduce = copy.deepcopy(second)
        self.residual = nn.Sequential(*(FoldedResidual(cast(ResidualConvolution, layer)) for layer in block.convblock))
        leave, channels = cast(nn.ConvTranspose2d, block.lastconv[0]), 4 * outputs  # four pixels, shuffled apart
        self.leave_weight = nn.Parameter(leave.weight[:, :channels].clone())
        self.leave_bias = nn.Parameter(cast(Tensor, leave.bias)[:channels].clone())
        self.leaves_at_once = False

    def forward(self, pieces: Pieces, *, one_by_one: bool) -> Tensor:
        """Pieces (N, some channels, H, W) -> (N, outputs, H, W), at least float32; H and W divisible by 4."""
        x = self.activation(self._one_by_one(pieces) if one_by_one else self._together(pieces))
        x = self.residual(self.reduce(x))
        if self.leaves_at_once:  # `networks.levers`
            return precise(F.pixel_shuffle(F.conv2d(x, self.leave_weight, self.leave_bias, padding=1), 4))
        x = F.conv_transpose2d(x, self.leave_weight, self.leave_bias, stride=2, padding=1)
        return precise(F.pixel_shuffle(x, 2))

    def _together(self, pieces: Pieces) -> Tensor:
        joined = torch.cat([make().to(self.entry_weight.dtype) for make in pieces], 1)
        return F.conv2d(joined, self.entry_weight, self.entry_bias, stride=2, padding=1)

    def _one_by_one(self, pieces: Pieces) -> Tensor:
        total: Tensor | None = None
        start = 0
        for make in pieces:
            piece = make()
            weight = self.entry_weight[:, start : start + piece.shape[1]].contiguous(memory_format=torch.channels_last)
            start += piece.shape[1]
            bias = self.entry_bias if total is None else None
            convolved = F.conv2d(piece.to(weight.dtype), weight, bias, stride=2, padding=1)
            total = convolved if total is None else total.add_(convolved)
            del piece
        return cast(Tensor, total)


class FastIFNet(nn.Module):
    """The parts of a version of IFNet at one flow scale (see `networks.parts`), with weights of its own.

    `rows` is the form that suits the CPU: all channels of a pixel together, frames sampled as rows of a table. With
    `together` only the former, which suits a GPU's convolutions and kernels.
    """

    def __init__(self, network: IFNet, scale: float, precision: Precision, *, rows: bool) -> None:
        super().__init__()
        self.spec, self.levels = network.spec, network.levels(scale)
        self.precision, self.rows, self.together = precision, rows, rows
        self.encode = copy.deepcopy(network.encode)
        first, second, others = _columns(self.spec.features)
        frames = [*first, *second, others]  # the timestep comes after both frames
        known = FLOW_AND_MASK + network.carried
        end = others + 1 + known
        order = [*frames, *range(end - 4, end), *range(others + 1, end - 4)]  # ours is flow, mask, carried features
        blocks = [FastBlock(network.blocks[0], frames, [1.0] * len(frames), known)]
        for block, level in zip(network.blocks[1:], self.levels[1:], strict=True):
            factors = [1 / level if column >= end - 4 else 1.0 for column in order]
            blocks.append(FastBlock(block, order, factors, FLOW_AND_MASK if block is network.blocks[-1] else known))
        self.blocks = nn.ModuleList(blocks)
        exact = exact_blocks(precision.weights)
        for index, module in enumerate(blocks):
            module.to(torch.promote_types(precision.weights, torch.float32) if index < exact else precision.weights)
        if self.encode is not None:
            self.encode.to(precision.weights)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def in_planes(self, precision: Precision) -> FastIFNet:
        """The same weights, frames stored and sampled as `precision` says, in the form that graphs and exports take."""
        other = copy.copy(self)
        other.precision, other.rows, other.together = precision, False, False
        return other

    def coarsest_size(self, height: int, width: int) -> Size:
        return _reduced((height, width), self.levels[0])

    def layers(self, image: Tensor) -> tuple[Tensor, ...]:
        full = image.contiguous(memory_format=torch.channels_last) if self.together else image
        features = None if self.encode is None else self.encode(full.to(self.encode.cnn0.weight.dtype))
        full = full.to(self.precision.storage)
        if features is not None:
            full = torch.cat((full, features.to(full.dtype)), 1)
        if self.rows and lies_in_rows(full):
            return (full,)
        return full, corner_means(full)

    def coarse(self, first_full: Tensor, second_full: Tensor) -> tuple[Tensor, ...]:
        height, width = self.coarsest_size(*size_of(first_full))
        half = first_full.new_full((1, 1, height, width), 0.5)
        return (self._coarsest(first_full, second_full, half)[:, :4].contiguous(),)

    def render(
        self,
        first_image: Tensor,
        first_full: Tensor,
        first_corners: Tensor | None,
        second_image: Tensor,
        second_full: Tensor,
        second_corners: Tensor | None,
        timestep: Tensor,
    ) -> tuple[Tensor, ...]:
        full = size_of(first_image)
        # Flow (in pixels of the full size), mask and carried features stay one tensor, (N, 5 or 13, h, w).
        known = self._coarsest(first_full, second_full, timestep)
        flow, mask = known[:, :4] * self.levels[0], known[:, 4:5]
        known = torch.cat((flow, known[:, 4:]), 1)
        for block, level in zip(self.blocks[1:], self.levels[1:], strict=True):
            size = _reduced(full, level)
            known = resize(known, size)
            pieces: Pieces = [
                partial(self._sampled, first_full, first_corners, known[:, :2]),
                partial(self._sampled, second_full, second_corners, known[:, 2:4]),
                partial(resize, timestep, size),
                partial(resize, known, size),
            ]
            out = block(pieces, one_by_one=self.rows)
            flow = torch.add(known[:, :4], out[:, :4], alpha=level)
            mask = known[:, 4:5] + out[:, 4:5] if self.spec.adds_mask else out[:, 4:5]
            if block is not self.blocks[-1]:
                carried = (out[:, FLOW_AND_MASK:],) if self.spec.carries else ()  # exporters want no empty tensors
                known = torch.cat((flow, mask, *carried), 1)
        estimate = Estimate(resize(flow, full), resize(mask, full), flow[:, :0])
        return (blend(first_image, second_image, estimate, None if self.rows else self.precision.sampling),)

    def _coarsest(self, first_full: Tensor, second_full: Tensor, timestep: Tensor) -> Tensor:
        """(N, 5 or 13, h, w): flow in pixels of h x w, mask, carried features."""
        size = self.coarsest_size(*size_of(first_full))
        pieces: Pieces = [partial(resize, x, size) for x in (first_full, second_full, timestep)]
        out: Tensor = self.blocks[0](pieces, one_by_one=self.rows)
        return out

    def _sampled(self, full: Tensor, corners: Tensor | None, flow: Tensor) -> Tensor:
        """All layers of a frame, warped, at the size of `flow`."""
        sampling = None if self.rows else self.precision.sampling
        if size_of(full) == size_of(flow):
            return backward_warp(full, flow, sampling=sampling)
        return backward_warp_reduced(full, corners, flow, sampling=sampling)

    def network_parts(self, height: int, width: int) -> tuple[NetworkPart, ...]:
        """The parts at a padded size; for a network `in_planes`."""
        channels, storage = 3 + self.spec.features, self.precision.storage
        small = self.coarsest_size(height, width)

        def image(name: str) -> TensorSpec:
            return TensorSpec(name, (1, 3, height, width), torch.float32)

        def full(name: str) -> TensorSpec:
            return TensorSpec(name, (1, channels, height, width), storage)

        def corners(name: str) -> TensorSpec:
            return TensorSpec(name, (1, channels, height + 1, width + 1), storage)

        frames = [make(f"{which}_{make.__name__}") for which in ("first", "second") for make in (image, full, corners)]
        timestep = TensorSpec("timestep", (1, 1, *small), torch.float32)
        return (
            NetworkPart(
                "layers",
                Entry(self, "layers"),
                (image("image"),),
                (full("full"), corners("corners")),
                has_weights=self.encode is not None,
            ),
            NetworkPart(
                "coarse",
                Entry(self, "coarse"),
                (full("first_full"), full("second_full")),
                (TensorSpec("flow", (1, 4, *small), torch.float32),),
            ),
            NetworkPart("render", Entry(self, "render"), (*frames, timestep), (image("frame"),)),
        )


def _columns(features: int) -> tuple[list[int], list[int], int]:
    """Which input channels of a block are the first frame's layers, the second's, and where the rest begins: timestep,
    mask, carried features, flow."""
    first = [*range(3), *range(6, 6 + features)]
    second = [*range(3, 6), *range(6 + features, 6 + 2 * features)]
    return first, second, 6 + 2 * features


def _reduced(full: Size, level: float) -> Size:
    return round(full[0] / level), round(full[1] / level)

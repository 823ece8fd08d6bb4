"""A small network that is given optical flow and makes a frame of it: it chooses, mends the flow, and learns where to look.

Flow from the first frame to the second and flow back each say how what is between has moved. Each block sees how both frames
differ, warped to the time in between by what is known so far, in means over the cells of its size, and adds to the flow; the
coarser blocks also see how they differ by either of the two, and lean to one of them. A mask says which frame is right where.
Of the frames themselves nothing is seen, so that less of the training's can be remembered. The flow is dense inverse search's
(`drba.dis`), which finds large motions that a small network takes very long to learn. The blocks are those of IFNet
(`networks.ifnet`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .ifnet import BLOCK_STRIDE, CARRIED_FEATURES, Block, Estimate, blend
from .ifnet_fast import FLOW_AND_MASK, FastBlock
from .parts import Entry, NetworkPart, Precision, TensorSpec
from .warp import Size, backward_warp, backward_warp_reduced, corner_means, precise, resize, size_of

#: How often a place in between looks up where it comes from: more changes nothing (27.50 dB by 3, 27.46 by 8).
LOOKUPS = 3
DIFFERENCE = 3  # channels: of both frames, warped to the time in between
TIME_FLOW = 1 + 4
CHOICE = 2 * DIFFERENCE + 4  # frames warped by either flow, and `Start.doubt`: what a block chooses by
LEANING = FLOW_AND_MASK  # channel of a choosing block's result, after which it hands on features


@dataclass(frozen=True)
class RefineSpec:
    """`widths` are the channels of each block, `levels` the reduction each works at for flow scale 1. All but the last choose."""

    widths: tuple[int, ...]
    levels: tuple[int, ...]

    @property
    def size_multiple(self) -> int:
        """Both sides of a frame must be divisible by this at flow scale 1."""
        return self.levels[0] * BLOCK_STRIDE


SPECS = {"drba-small": RefineSpec((64, 48, 32), (8, 4, 2))}

#: Flow (N, 4, h, w) in pixels of the full size, to the first frame and to the second, and mask (N, 1, h, w) before the sigmoid,
#: large where the first frame is right; h x w is the size that a block works at.
Found = tuple[Tensor, Tensor]
Seen = Sequence[Tensor]  # a frame as each block sees it, see `RefineNet.layers`


class RefineNet(nn.Module):
    """Frames (N, 3, H, W) in 0..1, both sides divisible by `size_multiple / scale`. `flows` (N, 4, h, w), from the first to the
    second frame and back, in pixels of their own size; `timestep` (N, 1, any, any), 0 at the first frame, 1 at the second.
    """

    def __init__(self, spec: RefineSpec) -> None:
        super().__init__()
        self.spec = spec
        last = len(spec.widths) - 1
        known = 2 + CARRIED_FEATURES  # mask, leaning, features
        for index, width in enumerate(spec.widths):
            inputs = DIFFERENCE + TIME_FLOW + (CHOICE if index < last else 0) + (known if index else 0)
            self.add_module(f"block{index}", Block(inputs, width, 4 + known if index < last else FLOW_AND_MASK))
        self.scale = 1.0
        self.storage: torch.dtype | None = None  # of `layers`; None: as the image is
        self.sampling: torch.dtype | None = None
        self.one_by_one = False

    @property
    def blocks(self) -> list[Block]:
        return [self.get_submodule(f"block{index}") for index in range(len(self.spec.widths))]  # type: ignore[misc]

    @property
    def levels(self) -> list[float]:
        """Reduction that each block works at."""
        return [level / self.scale for level in self.spec.levels]

    @property
    def _cells(self) -> list[int]:
        """Pixels, in each direction, whose means a block samples: half of its level, or the next smaller power of two, by which
        frames are divisible."""
        return [2 ** max(0, math.floor(math.log2(level / 2))) for level in self.levels]

    def prepared(self, precision: Precision, scale: float, *, folded: bool, one_by_one: bool) -> RefineNet:
        """A copy for playing at a flow scale. `folded` weights are the same with less to do; `one_by_one` suits a CPU."""
        other = copy.deepcopy(self)
        other.scale, other.one_by_one = scale, one_by_one
        other.storage, other.sampling = precision.storage, None if one_by_one else precision.sampling
        for index, block in enumerate(self.blocks if folded else ()):
            inputs = block.get_parameter("conv0.0.0.weight").shape[1]
            outputs = len(block.get_parameter("lastconv.0.bias")) // 4
            other.add_module(f"block{index}", FastBlock(block, list(range(inputs)), [1.0] * inputs, outputs))
        other.to(precision.weights)
        if folded:
            other.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return other

    def in_planes(self, precision: Precision) -> RefineNet:
        """The same weights in the form that graphs and exports take, frames stored and sampled as `precision` says."""
        other = copy.copy(self)
        other.storage, other.sampling, other.one_by_one = precision.storage, precision.sampling, False
        return other

    def layers(self, image: Tensor) -> tuple[Tensor, ...]:
        """What each block samples of a frame: the `corner_means` of its means over cells of half the block's level."""
        image = image if self.storage is None else image.to(self.storage)
        return tuple(corner_means(F.avg_pool2d(image, cell) if cell > 1 else image) for cell in self._cells)

    def render(self, first: Tensor, second: Tensor, *rest: Tensor) -> tuple[Tensor]:
        """The frame in between, (N, 3, H, W), from both images, both frames' layers, flows and timestep."""
        count = len(self.spec.widths)
        seen, (flows, timestep) = (rest[:count], rest[count : 2 * count]), rest[2 * count :]
        full = size_of(first)
        *_, (flow, mask) = self.estimates(seen, flows, timestep, full)
        return (shown(first, second, flow, mask, self.sampling),)

    def estimates(self, seen: tuple[Seen, Seen], flows: Tensor, timestep: Tensor, full: Size) -> Iterator[Found]:
        """What is known after each block."""
        start = begun(flows, timestep, full, self.sampling)
        mean, half = (start.forth + start.back) / 2, (start.forth - start.back) / 2
        known: list[Tensor] = []  # of the block before, at its size
        change, leaning = flows.new_zeros(1, 4, 1, 1), flows.new_zeros(1, 1, 1, 1)
        for index, level in enumerate(self.levels):
            size = round(full[0] / level), round(full[1] / level)
            frames = seen[0][index], seen[1][index]
            time = resize(timestep, size)
            if index:
                change, leaning = resize(change, size), resize(leaning, size)
            flow = between(resize(mean, size) + leaning * resize(half, size), time) + change
            pieces = [self._difference(frames, flow, full), time, flow / level]
            if index + 1 < len(self.levels):
                choices = (between(resize(motion, size), time) for motion in (start.forth, start.back))
                pieces += [self._difference(frames, choice, full) for choice in choices]
                pieces.append(resize(start.doubt, size))
            out = self._run(index, [*pieces, *(resize(part, size) for part in known)])
            added = out[:, :4] * level
            yield flow + added, out[:, 4:5]
            if index + 1 < len(self.levels):
                change, leaning, known = change + added, leaning + out[:, LEANING : LEANING + 1], [out[:, 4:]]

    def _run(self, index: int, pieces: list[Tensor]) -> Tensor:
        block = self.get_submodule(f"block{index}")
        if isinstance(block, FastBlock):
            result: Tensor = block([lambda piece=piece: piece for piece in pieces], one_by_one=self.one_by_one)
        else:
            result = block(torch.cat(pieces, 1))
        return result

    def _difference(self, frames: tuple[Tensor, Tensor], flow: Tensor, full: Size) -> Tensor:
        """Between two frames (their `corner_means`), warped by `flow` in pixels of `full`, at the size of `flow`."""
        height, width = size_of(frames[0])[0] - 1, size_of(frames[0])[1] - 1
        first, second = (
            backward_warp_reduced(corners[..., :height, :width], corners, part, sampling=self.sampling)
            for corners, part in zip(frames, (flow * (height / full[0])).split(2, 1), strict=True)
        )
        return first - second

    def network_parts(self, height: int, width: int, flow_size: Size) -> tuple[NetworkPart, ...]:
        """The parts at a padded size; for a network `in_planes`."""
        storage = self.storage or torch.float32
        sizes = [(height // cell + 1, width // cell + 1) for cell in self._cells]

        def image(name: str) -> TensorSpec:
            return TensorSpec(name, (1, 3, height, width), torch.float32)

        def layers(frame: str) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(f"{frame}layer{index}", (1, 3, *size), storage) for index, size in enumerate(sizes))

        flows = TensorSpec("flows", (1, 4, *flow_size), torch.float32)
        timestep = TensorSpec("timestep", (1, 1, *flow_size), torch.float32)
        inputs = image("first_image"), image("second_image"), *layers("first_"), *layers("second_"), flows, timestep
        return (
            NetworkPart("layers", Entry(self, "layers"), (image("image"),), layers(""), has_weights=False),
            NetworkPart("render", Entry(self, "render"), inputs, (image("frame"),)),
        )


def shown(first: Tensor, second: Tensor, flow: Tensor, mask: Tensor, sampling: torch.dtype | None = None) -> Tensor:
    """The frame in between, of the images' size."""
    full = size_of(first)
    return blend(first, second, Estimate(resize(flow, full), resize(mask, full), flow[:, :0]), sampling)


@dataclass(frozen=True)
class Start:
    """Of each place in between, (N, channels, h, w): `forth` and `back` the motion from the first to the second frame in pixels
    of the full size, as either flow has it; `doubt` where they disagree (x, y), and how far the flow of the first and of the
    second frame are from leading back to where they began, as logarithms of 1 + pixels of h x w."""

    forth: Tensor
    back: Tensor
    doubt: Tensor


def begun(flows: Tensor, timestep: Tensor, full: Size, sampling: torch.dtype | None = None) -> Start:
    """From flows between two frames (see `RefineNet`) to the motion in between.

    A place x at time t has come from x - t f(x), where f is the flow there; f is looked up at what it is thought to be.
    """
    count, size = int(flows.shape[0]), size_of(flows)
    flows = precise(flows)
    timestep = resize(precise(timestep), size)
    both, other = torch.cat(flows.split(2, 1)), torch.cat(flows.split(2, 1)[::-1])
    astray = torch.linalg.vector_norm(both + backward_warp(other, both, sampling=sampling), dim=1, keepdim=True)
    share = torch.cat((timestep, 1 - timestep))
    found = both
    for _ in range(LOOKUPS):
        found = backward_warp(both, -share * found, sampling=sampling)
    astray = torch.log1p(backward_warp(astray, -share * found, sampling=sampling))
    forth, back = found[:count], -found[count:]
    doubt = torch.cat((forth - back, astray[:count], astray[count:]), 1)
    factor = full[0] / size[0]
    return Start(forth * factor, back * factor, doubt)


def between(motion: Tensor, timestep: Tensor) -> Tensor:
    """The flow (N, 4, h, w) to the first and to the second frame of what moves (N, 2, h, w) from one to the other."""
    return torch.cat((-timestep * motion, (1 - timestep) * motion), 1)

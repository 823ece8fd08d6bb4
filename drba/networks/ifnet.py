"""IFNet, the network of the RIFE family: one parametrised module and the table of its published versions.

A frame enters as `Layers`, the RGB image in 0..1 and what the encoder saw in it, so that one call warps both. Flow is
(N, 4, H, W) in pixels of the full size: from the in-between frame to the first frame, then to the second. Parameter
names are those of the public checkpoints. Sources: Huang et al., "Real-Time Intermediate Flow Estimation for Video
Frame Interpolation" (ECCV 2022); Practical-RIFE.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .warp import Size, backward_warp, precise, resize, size_of

RESIDUAL_CONVOLUTIONS = 8
CARRIED_FEATURES = 8
BLOCK_STRIDE = 4  # a block needs its input divisible by this


@dataclass(frozen=True)
class IFNetSpec:
    """What differs between the versions.

    `encoder` is (hidden channels, features a frame) or None; `widths` the channels of each block; `levels` the
    reduction each block works at for flow scale 1; `carries` whether a block hands 8 features to the next; `adds_mask`
    whether blend masks add up from block to block instead of being replaced.
    """

    widths: tuple[int, ...]
    encoder: tuple[int, int] | None
    levels: tuple[int, ...] = (16, 8, 4, 2, 1)
    carries: bool = True
    adds_mask: bool = False

    @property
    def features(self) -> int:
        return self.encoder[1] if self.encoder else 0

    @property
    def size_multiple(self) -> int:
        """Both sides of a frame must be divisible by this at flow scale 1."""
        return self.levels[0] * BLOCK_STRIDE


_FOUR_LEVELS = (8, 4, 2, 1)
_V415 = IFNetSpec((192, 128, 96, 64), (32, 8), _FOUR_LEVELS, carries=False)
_V415_LITE = IFNetSpec((128, 96, 64, 48), (16, 4), _FOUR_LEVELS, carries=False)
_V425 = IFNetSpec((192, 128, 96, 64, 32), (16, 4))

SPECS: dict[str, IFNetSpec] = {
    "4.6": IFNetSpec((192, 128, 96, 64), None, _FOUR_LEVELS, carries=False, adds_mask=True),
    "4.15": _V415,
    "4.15.lite": _V415_LITE,
    "4.17": _V415,
    "4.17.lite": _V415_LITE,
    "4.18": _V415,
    "4.22": IFNetSpec((256, 192, 96, 48), (32, 8), _FOUR_LEVELS),
    "4.22.lite": IFNetSpec((192, 128, 64, 32), (16, 4), _FOUR_LEVELS),
    "4.25": _V425,
    "4.25.lite": IFNetSpec((192, 128, 96, 64, 24), (16, 4), (32, 16, 8, 4, 1)),
    "4.25.heavy": IFNetSpec((384, 256, 192, 128, 64), (16, 4)),
    "4.26": _V425,
    "4.26.heavy": IFNetSpec((192, 128, 96, 64, 32), (16, 16)),
}


class Encoder(nn.Module):
    """(N, 3, H, W) -> (N, features, H, W); H and W even."""

    def __init__(self, hidden: int, features: int) -> None:
        super().__init__()
        self.cnn0 = nn.Conv2d(3, hidden, 3, 2, 1)
        self.cnn1 = nn.Conv2d(hidden, hidden, 3, 1, 1)
        self.cnn2 = nn.Conv2d(hidden, hidden, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(hidden, features, 4, 2, 1)
        self.relu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.cnn0, self.cnn1, self.cnn2):
            x = self.relu(convolution(x))
        return self.cnn3(x)


class ResidualConvolution(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))
        self.relu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(torch.addcmul(x, self.conv(x), self.beta))


class FoldedResidual(nn.Module):
    """A residual convolution with beta folded into its weights: one operation less, and what exporters know."""

    def __init__(self, layer: ResidualConvolution) -> None:
        super().__init__()
        self.conv, self.relu = copy.deepcopy(layer.conv), layer.relu
        beta = layer.beta.detach().flatten()
        self.conv.weight = nn.Parameter(self.conv.weight.detach() * beta.view(-1, 1, 1, 1))
        self.conv.bias = nn.Parameter(self.conv.bias.detach() * beta)  # type: ignore[union-attr]
        self.adds = True  # False where the weights add x already (`networks.levers`)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.conv(x) if self.adds else self.conv(x))


class Block(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W) through a quarter of the size; H and W divisible by 4."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_reduce(inputs, width // 2), _reduce(width // 2, width))
        self.convblock = nn.Sequential(*(ResidualConvolution(width) for _ in range(RESIDUAL_CONVOLUTIONS)))
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * outputs, 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """Works in the precision of its weights; returns at least float32, so that flow loses nothing between
        blocks."""
        x = x.to(self.lastconv[0].weight.dtype)  # type: ignore[arg-type]
        return precise(self.lastconv(self.convblock(self.conv0(x))))


def _reduce(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True))


@dataclass(frozen=True)
class Layers:
    """A frame: `image` (N, 3, H, W) in 0..1, at least float32; `full` (N, 3 + features, H, W), the image and its
    encoding; `corners` their `corner_means` where the fast form needs them, else None."""

    image: Tensor
    full: Tensor
    corners: Tensor | None = None

    def size_at(self, level: float) -> Size:
        return round(self.full.shape[-2] / level), round(self.full.shape[-1] / level)


def stack_layers(frames: Sequence[Layers]) -> Layers:
    """One batch of several frames' layers (N = 1 each); the same frame repeated takes no memory."""

    def stack(tensors: list[Tensor]) -> Tensor:
        same = all(tensor is tensors[0] for tensor in tensors)
        return tensors[0].expand(len(tensors), -1, -1, -1) if same else torch.cat(tensors)

    corners = [frame.corners for frame in frames if frame.corners is not None]
    return Layers(
        stack([frame.image for frame in frames]),
        stack([frame.full for frame in frames]),
        stack(corners) if corners else None,
    )


@dataclass(frozen=True)
class Estimate:
    """What the blocks know so far, all of one size: `flow` (N, 4, h, w) in pixels of the full size, `mask` (N, 1, h, w)
    before the sigmoid (large where the first frame is right), `carried` (N, 0 or 8, h, w)."""

    flow: Tensor
    mask: Tensor
    carried: Tensor

    def resized(self, size: Size) -> Estimate:
        if size_of(self.flow) == size:
            return self
        both = resize(torch.cat((self.flow, self.mask, self.carried), 1), size)
        return Estimate(both[:, :4], both[:, 4:5], both[:, 5:])


class IFNet(nn.Module):
    """A version of IFNet. Frames must be divisible by `size_multiple / scale`, see `networks.interpolator`."""

    def __init__(self, spec: IFNetSpec) -> None:
        super().__init__()
        self.spec = spec
        frames = 2 * (3 + spec.features)
        for i, width in enumerate(spec.widths):
            inputs = frames + 1 + (0 if i == 0 else 4 + 1 + self.carried)  # timestep; flow, mask, carried features
            # Without carried features a sixth output exists in the checkpoints and is unused.
            self.add_module(f"block{i}", Block(inputs, width, 4 + 1 + self.carried if spec.carries else 6))
        self.encode = Encoder(*spec.encoder) if spec.encoder else None

    @property
    def blocks(self) -> list[Block]:
        return [self.get_submodule(f"block{i}") for i in range(len(self.spec.widths))]  # type: ignore[misc]

    @property
    def carried(self) -> int:
        """Channels that a block hands to the next one beside flow and mask."""
        return CARRIED_FEATURES if self.spec.carries else 0

    def in_precision(self, dtype: torch.dtype) -> IFNet:
        """Convert to `dtype`, except that the coarsest blocks stay at least float32."""
        exact = self.blocks[: exact_blocks(dtype)]
        for module in self.children():
            module.to(torch.promote_types(dtype, torch.float32) if module in exact else dtype)
        return self

    def levels(self, scale: float) -> list[float]:
        """Reduction that each block works at for a flow scale (larger scale: finer flow, more work)."""
        return [level / scale for level in self.spec.levels]

    def layers(self, image: Tensor) -> Layers:
        """(N, 3, H, W) image in 0..1 -> its layers."""
        full = image = precise(image)
        if self.encode is not None:
            features = self.encode(image.to(self.encode.cnn0.weight.dtype)).to(image.dtype)
            full = torch.cat((image, features), 1)
        return Layers(image, full)

    def first_estimate(self, first: Layers, second: Layers, timestep: Tensor, scale: float) -> Estimate:
        """The coarsest block alone, at its own size. `timestep` (N, 1, h, w) of any size."""
        level = self.levels(scale)[0]
        size = first.size_at(level)
        inputs = gather(resize(first.full, size), resize(second.full, size), resize(timestep, size))
        return self.split(self.blocks[0](inputs), level)

    def forward(self, first: Layers, second: Layers, timestep: Tensor, *, scale: float = 1.0) -> Tensor:
        """The frame in between: layers of two frames and `timestep` (N, 1, h, w) in 0..1 -> (N, 3, H, W).

        As published: every block's result is brought to the full size and the frames are warped there.
        """
        full = first.size_at(1.0)
        estimate = self.first_estimate(first, second, timestep, scale).resized(full)
        timestep = resize(timestep, full)
        for block, level in zip(self.blocks[1:], self.levels(scale)[1:], strict=True):
            size = first.size_at(level)
            warped = backward_warp(first.full, estimate.flow[:, :2]), backward_warp(second.full, estimate.flow[:, 2:])
            inputs = resize(gather(*warped, timestep, estimate.mask, estimate.carried), size)
            inputs = torch.cat((inputs, resize(estimate.flow, size) / level), 1)
            estimate = self.refined(estimate, self.split(block(inputs), level).resized(full))
        return blend(first.image, second.image, estimate)

    def refined(self, before: Estimate, change: Estimate) -> Estimate:
        mask = before.mask + change.mask if self.spec.adds_mask else change.mask
        return Estimate(before.flow + change.flow, mask, change.carried)

    def split(self, out: Tensor, level: float) -> Estimate:
        return Estimate(out[:, :4] * level, out[:, 4:5], out[:, 5:] if self.spec.carries else out[:, :0])


def exact_blocks(dtype: torch.dtype) -> int:
    """How many of the coarsest blocks stay at least float32 where the rest is in `dtype`: they decide the large motions,
    their rounding is multiplied by their levels, and they are the cheapest. One of them for float16, two for bfloat16,
    which rounds eight times as coarsely (with one, 4.15.lite and 4.25.heavy come to 39.4 dB of float32)."""
    return 2 if dtype is torch.bfloat16 else 1


def blend(first: Tensor, second: Tensor, estimate: Estimate, sampling: torch.dtype | None = None) -> Tensor:
    """The two images (N, 3, H, W) warped to the time in between and mixed by the mask; all of one size."""
    warped_first = backward_warp(first, estimate.flow[:, :2], sampling=sampling)
    warped_second = backward_warp(second, estimate.flow[:, 2:], sampling=sampling)
    return torch.lerp(warped_second, warped_first, torch.sigmoid(estimate.mask))


def gather(first: Tensor, second: Tensor, *more: Tensor) -> Tensor:
    """The channel order of the checkpoints: both images, both encodings, the rest."""
    return torch.cat((first[:, :3], second[:, :3], first[:, 3:], second[:, 3:], *more), 1)

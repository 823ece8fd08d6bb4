"""DistilDRBA: one IFNet-like network that takes three frames and the time, distilled from DRBA (no maps, no splatting).

Parameter names are those of the public checkpoints. Source: https://github.com/routineLife1/VS-DistilDRBA. It knows no
distance ratio map, so the map's form and unequal intervals make no difference here; `fast` computes the same as
`reference`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .ifnet import BLOCK_STRIDE, Block, Encoder, Estimate, blend
from .interpolator import DrmOptions, Interpolator, Mode, in_chunks
from .warp import Size, backward_warp, precise, resize

HIDDEN, FEATURES, CARRIED = 16, 16, 8
CONTEXT = 3 * (3 + FEATURES)  # channels of three images and their encodings
SIZE_MULTIPLE = 16 * BLOCK_STRIDE


@dataclass(frozen=True)
class DistilSpec:
    """What differs between the versions: channels and reduction of each block; whether a block returns a local time for
    the next one (`makes_time`); whether every block sees all three frames and replaces the flow (`sees_all`) instead of
    the two warped frames and correcting it."""

    widths: tuple[int, ...]
    levels: tuple[int, ...]
    makes_time: bool
    sees_all: bool


SPECS: dict[str, DistilSpec] = {
    "v1": DistilSpec((192, 128, 96, 64, 32), (16, 8, 4, 2, 1), makes_time=True, sees_all=False),
    "v2-lite": DistilSpec((192, 128, 96), (16, 8, 4), makes_time=False, sees_all=True),
}


class DistilNet(nn.Module):
    def __init__(self, spec: DistilSpec) -> None:
        super().__init__()
        self.spec = spec
        outputs = 4 + 1 + CARRIED + spec.makes_time
        refinement = 2 * (3 + FEATURES) + 1 + 4 + 1 + CARRIED  # both frames warped, time, flow, mask, carried features
        for i, width in enumerate(spec.widths):
            inputs = CONTEXT + 1 if i == 0 else refinement + (CONTEXT if spec.sees_all else 0)
            self.add_module(f"block{i}", Block(inputs, width, outputs))
        self.encode = Encoder(HIDDEN, FEATURES)

    def encoded(self, image: Tensor, scale: float) -> Tensor:
        """Features of one frame, (1, 16, h, w) at the finest size that a block works at, at most the frame's own."""
        size = _reduced_size(image, max(self.spec.levels[-1] / scale, 1.0))
        return precise(self.encode(resize(image, size).to(self.encode.cnn0.weight.dtype)))

    def forward(self, images: list[Tensor], features: list[Tensor], times: list[float], scale: float) -> Tensor:
        """Frames at `times`, all of them in 0.5..1 or all in 1..1.5 where 1 is the middle frame: (len(times), 3, H, W).

        `images` and `features` are those of the previous, middle and following frame, N = 1 each.
        """
        n = len(times)
        other = 0 if times[0] < 1 else 2
        pair = [(images[i].expand(n, -1, -1, -1), features[i].expand(n, -1, -1, -1)) for i in (1, other)]
        time = images[0].new_tensor(times).view(-1, 1, 1, 1)
        estimate, local_time = None, time
        full = _reduced_size(images[0], 1.0)
        for i, reduction in enumerate(self.spec.levels):
            level = reduction / scale
            size = _reduced_size(images[0], level)
            context = torch.cat([resize(x, size) for x in (*images, *features)], 1).expand(n, -1, -1, -1)
            if estimate is None:
                inputs = torch.cat((context, time.expand(n, 1, *size)), 1)
            else:
                # Above the frame's own size nothing is gained by warping there: warp at the full size, then enlarge.
                work = size if level >= 1 else full
                estimate = estimate.resized(work)
                warped = _warped(pair, estimate.flow, work)
                local_time = resize(local_time, size) if self.spec.makes_time else time.expand(n, 1, *size)
                estimate = estimate.resized(size)
                refine = [*(resize(x, size) for x in warped), local_time, estimate.mask, estimate.carried]
                inputs = torch.cat(([context] if self.spec.sees_all else []) + refine + [estimate.flow / level], 1)
            out = self.get_submodule(f"block{i}")(inputs)
            flow = out[:, :4] * level
            if estimate is not None and not self.spec.sees_all:
                flow = flow + estimate.flow
            estimate = Estimate(flow, out[:, 4:5], out[:, 5 : 5 + CARRIED])
            if self.spec.makes_time:
                local_time = torch.sigmoid(out[:, 5 + CARRIED :])
        assert estimate is not None  # there are always levels
        return blend(pair[0][0], pair[1][0], estimate.resized(full))


def _warped(pair: list[tuple[Tensor, Tensor]], flow: Tensor, size: Size) -> list[Tensor]:
    """Both images, then both encodings, at `size`; `flow` is in pixels of the full size."""
    images, encodings = [], []
    for (image, encoding), part in zip(pair, (flow[:, :2], flow[:, 2:]), strict=True):
        part = part * (size[0] / image.shape[-2])
        layers = backward_warp(torch.cat((resize(image, size), resize(encoding, size)), 1), part)
        images.append(layers[:, :3])
        encodings.append(layers[:, 3:])
    return images + encodings


def _reduced_size(image: Tensor, level: float) -> Size:
    return round(image.shape[-2] / level), round(image.shape[-1] / level)


@dataclass(frozen=True)
class DistilData:
    """Encodings of the new previous and the new middle frame."""

    previous: Tensor
    middle: Tensor


class DistilInterpolator(Interpolator):
    """A version of DistilDRBA behind the common interface."""

    network: DistilNet

    def __init__(
        self,
        network: DistilNet,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
        mode: Mode = "reference",
    ) -> None:
        network.to(dtype)
        super().__init__(network, size_multiple=SIZE_MULTIPLE, device=device, dtype=dtype, scale=scale, mode=mode)

    def _pair(self, first: Tensor, second: Tensor, timesteps: list[float]) -> list[Tensor]:
        """The network wants a triplet: the nearer frame is the middle one and stands twice, as at the ends of a
        film."""
        return self._between([first, second], [self.network.encoded(x, self.scale) for x in (first, second)], timesteps)

    def _triplet(
        self,
        previous: Tensor,
        middle: Tensor,
        following: Tensor,
        timesteps: list[float],
        data: DistilData | None,
        drm: DrmOptions,
    ) -> tuple[list[Tensor], DistilData]:
        images = [previous, middle, following]
        if data is None:
            features = [self.network.encoded(x, self.scale) for x in (previous, middle)]
        else:
            features = [data.previous, data.middle]
        features.append(self.network.encoded(following, self.scale))
        # Nearer to an outer frame than to the middle one is outside what the network was trained for.
        rendered = self._between(images[:2], features[:2], [t for t in timesteps if t < 0.5])
        rendered += self._rendered(images, features, [t for t in timesteps if 0.5 <= t < 1])
        rendered += self._rendered(images, features, [t for t in timesteps if 1 < t <= 1.5])
        rendered += self._between(images[1:], features[1:], [t - 1 for t in timesteps if t > 1.5])
        return rendered, DistilData(features[1], features[2])

    def _between(self, images: list[Tensor], features: list[Tensor], timesteps: list[float]) -> list[Tensor]:
        early, late = [1 + t for t in timesteps if t <= 0.5], [t for t in timesteps if t > 0.5]
        return self._rendered([images[0], *images], [features[0], *features], early) + self._rendered(
            [*images, images[1]], [*features, features[1]], late
        )

    def _rendered(self, images: list[Tensor], features: list[Tensor], times: list[float]) -> list[Tensor]:
        return in_chunks(times, images[0], lambda chunk: self.network(images, features, chunk, self.scale))

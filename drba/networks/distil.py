"""DistilDRBA: one IFNet-like network that takes three frames and the time, distilled from DRBA (no maps, no splatting).

Parameter names are those of the public checkpoints. Source: https://github.com/routineLife1/VS-DistilDRBA. It knows no
distance ratio map, so the map's form and unequal intervals make no difference here; `fast` computes the same as
`reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .ifnet import BLOCK_STRIDE, Block, Encoder, Estimate, FoldedResidual, blend
from .interpolator import DrmOptions, Interpolator, Known, Mode, in_chunks, time_tensor
from .parts import Entry, NetworkPart, Precision, TensorSpec, torch_precision
from .warp import Size, backward_warp, precise, resize, size_of

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

    def fold(self) -> None:
        """Fold every beta into its convolution."""
        for i in range(len(self.spec.widths)):
            block: Block = self.get_submodule(f"block{i}")  # type: ignore[assignment]
            block.convblock = nn.Sequential(*(FoldedResidual(layer) for layer in block.convblock))  # type: ignore[arg-type]

    def encoded(self, image: Tensor, scale: float) -> Tensor:
        """Features of one frame, (1, 16, h, w) at `features_size`."""
        size = self.features_size(*size_of(image), scale)
        return precise(self.encode(resize(image, size).to(self.encode.cnn0.weight.dtype)))

    def features_size(self, height: int, width: int, scale: float) -> Size:
        """The finest size that a block works at, at most the frame's own."""
        return _reduced_size((height, width), max(self.spec.levels[-1] / scale, 1.0))

    def forward(
        self,
        images: Sequence[Tensor],
        features: Sequence[Tensor],
        other: tuple[Tensor, Tensor],
        time: Tensor,
        scale: float,
        sampling: torch.dtype | None = None,
    ) -> Tensor:
        """Frames at `time` (N, 1, 1, 1), all of them in 0.5..1 or all in 1..1.5 where 1 is the middle frame: (N, 3, H, W).

        `images` and `features` are those of the previous, middle and following frame, N = 1 each; `other` image and
        features of the one that stands at the other end of those times; `sampling` as for `backward_warp`.
        """
        n = len(time)
        middle = images[1], features[1]
        pair = [(_repeated(image, n), _repeated(encoding, n)) for image, encoding in (middle, other)]
        estimate, local_time = None, time
        full = size_of(images[0])
        dtype = self.encode.cnn0.weight.dtype  # converted before it is copied together: half as much to copy
        for i, reduction in enumerate(self.spec.levels):
            level = reduction / scale
            size = _reduced_size(full, level)
            context = _repeated(torch.cat([resize(x, size).to(dtype) for x in (*images, *features)], 1), n)
            if estimate is None:
                pieces = [context, resize(time, size)]
            else:
                # Above the frame's own size nothing is gained by warping there: warp at the full size, then enlarge.
                work = size if level >= 1 else full
                estimate = estimate.resized(work)
                warped = _warped(pair, estimate.flow, work, sampling)
                estimate = estimate.resized(size)
                refine = [*(resize(x, size) for x in (*warped, local_time)), estimate.mask, estimate.carried]
                pieces = ([context] if self.spec.sees_all else []) + refine + [estimate.flow / level]
            out = self.get_submodule(f"block{i}")(torch.cat([piece.to(dtype) for piece in pieces], 1))
            flow = out[:, :4] * level
            if estimate is not None and not self.spec.sees_all:
                flow = flow + estimate.flow
            estimate = Estimate(flow, out[:, 4:5], out[:, 5 : 5 + CARRIED])
            if self.spec.makes_time:
                local_time = torch.sigmoid(out[:, 5 + CARRIED :])
        assert estimate is not None  # there are always levels
        return blend(pair[0][0], pair[1][0], estimate.resized(full), sampling)


def _repeated(x: Tensor, n: int) -> Tensor:
    return x if n == 1 else x.expand(n, -1, -1, -1)


def _warped(pair: list[tuple[Tensor, Tensor]], flow: Tensor, size: Size, sampling: torch.dtype | None) -> list[Tensor]:
    """Both images, then both encodings, at `size`; `flow` is in pixels of the full size."""
    images, encodings = [], []
    for (image, encoding), part in zip(pair, (flow[:, :2], flow[:, 2:]), strict=True):
        part = part * (size[0] / size_of(image)[0])
        layers = torch.cat((resize(image, size).to(encoding.dtype), resize(encoding, size)), 1)
        layers = backward_warp(layers, part, sampling=sampling)
        images.append(layers[:, :3])
        encodings.append(layers[:, 3:])
    return images + encodings


class DistilParts(nn.Module):
    """The parts of a network at one flow scale, see `networks.parts`."""

    def __init__(self, network: DistilNet, scale: float, precision: Precision) -> None:
        super().__init__()
        self.network, self.scale, self.precision = network, scale, precision

    def in_precision(self, precision: Precision) -> DistilParts:
        """The same weights, frames stored and sampled as `precision` says."""
        return DistilParts(self.network, self.scale, precision)

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.network.encoded(image, self.scale).to(self.precision.storage),)

    def render(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        images, features, (image, encoding, time) = inputs[:3], inputs[3:6], inputs[6:]
        return (self.network(images, features, (image, encoding), time, self.scale, self.precision.sampling),)

    def network_parts(self, height: int, width: int) -> tuple[NetworkPart, ...]:
        """The parts at a padded size."""
        small = self.network.features_size(height, width, self.scale)

        def image(name: str) -> TensorSpec:
            return TensorSpec(name, (1, 3, height, width), torch.float32)

        def features(name: str) -> TensorSpec:
            return TensorSpec(name, (1, FEATURES, *small), self.precision.storage)

        names = ("previous", "middle", "following")
        images = [image(f"{name}_image") for name in names]
        encodings = [features(f"{name}_features") for name in names]
        rest = (image("other_image"), features("other_features"), TensorSpec("time", (1, 1, 1, 1), torch.float32))
        return (
            NetworkPart("encode", Entry(self, "encode"), (image("image"),), (features("features"),)),
            NetworkPart("render", Entry(self, "render"), (*images, *encodings, *rest), (image("frame"),)),
        )


def _reduced_size(size: Size, level: float) -> Size:
    return round(size[0] / level), round(size[1] / level)


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
        if mode == "fast":
            network.fold()
        network.to(dtype)
        super().__init__(network, size_multiple=SIZE_MULTIPLE, device=device, dtype=dtype, scale=scale, mode=mode)
        self._own = DistilParts(network, self.scale, torch_precision(device, dtype))
        self.parts = {"encode": self._own.encode, "render": self._own.render}

    def network_parts(self, height: int, width: int, precision: Precision | None = None) -> tuple[NetworkPart, ...]:
        if not self.fast:
            return ()
        return self._own.in_precision(precision or self._own.precision).network_parts(height, width)

    def known(self, image: Tensor) -> Known:
        return Known(image, self._encoded(image))

    def _pair(self, first: Known, second: Known, timesteps: list[float]) -> list[Tensor]:
        """The network wants a triplet: the nearer frame is the middle one and stands twice, as at the ends of a
        film."""
        early, late = [1 + t for t in timesteps if t <= 0.5], [t for t in timesteps if t > 0.5]
        return self._rendered((first, first, second), early) + self._rendered((first, second, second), late)

    def _triplet(
        self, frames: tuple[Known, Known, Known], before: None, after: None, timesteps: list[float], drm: DrmOptions
    ) -> list[Tensor]:
        # Nearer to an outer frame than to the middle one is outside what the network was trained for.
        rendered = self._pair(frames[0], frames[1], [t for t in timesteps if t < 0.5])
        rendered += self._rendered(frames, [t for t in timesteps if 0.5 <= t < 1])
        rendered += self._rendered(frames, [t for t in timesteps if 1 < t <= 1.5])
        rendered += self._pair(frames[1], frames[2], [t - 1 for t in timesteps if t > 1.5])
        return rendered

    def _encoded(self, image: Tensor) -> Tensor:
        return self.parts["encode"](image)[0]

    def _rendered(self, frames: tuple[Known, Known, Known], times: list[float]) -> list[Tensor]:
        """Frames at times that all lie on one side of the middle frame."""
        images, features = [frame.image for frame in frames], [frame.data for frame in frames]

        def render(chunk: list[float]) -> Tensor:
            other = 0 if chunk[0] < 1 else 2
            time = time_tensor(chunk, images[0])
            return self.parts["render"](*images, *features, images[other], features[other], time)[0]

        return in_chunks(times, images[0], render, self.batch_max)

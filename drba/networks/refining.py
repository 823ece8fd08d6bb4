"""The interpolator of `networks.refine`: optical flow by dense inverse search, distance ratio maps of it, and the network.

The flow is searched on the processor, between luma images of about 180 rows, once for every two neighbouring frames, whatever
the number of frames between them; all else is done on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..dis import analysis_size, search
from ..drm import decided_ratio, distance_ratio
from ..stages import stage
from .interpolator import DrmOptions, Interpolator, Known, Mode, in_chunks, time_tensor
from .parts import NetworkPart, Precision, torch_precision
from .refine import RefineNet
from .rife import aligned_map

#: Added to both distances, in pixels of the images that flow is searched in: what is found of a drawing that rests.
DISTANCE_EPSILON = 0.1
#: See `drm.decided_ratio`. Measured in docs/training.md: a narrower one keeps held figures sharper, and costs films in which
#: everything moves evenly more.
RATIO_DEAD_ZONE = 0.2
LUMA = (0.2126, 0.7152, 0.0722)  # BT.709


@dataclass(frozen=True)
class Derived:
    """Of a frame: `luma` (h, w) as it is searched in, `layers` as the network sees it."""

    luma: NDArray[np.uint8]
    layers: tuple[Tensor, ...]


class RefineInterpolator(Interpolator):
    """A `RefineNet` behind the common interface. Both modes compute the same, "fast" with folded weights."""

    network: RefineNet

    def __init__(
        self,
        network: RefineNet,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
        mode: Mode = "reference",
    ) -> None:
        precision = torch_precision(device, dtype)
        super().__init__(
            network.prepared(precision, scale, folded=mode == "fast", one_by_one=device.type == "cpu"),
            size_multiple=network.spec.size_multiple,
            device=device,
            dtype=dtype,
            scale=scale,
            mode=mode,
        )
        self.parts = {"layers": self.network.layers, "render": self.network.render}

    def network_parts(self, height: int, width: int, precision: Precision | None = None) -> tuple[NetworkPart, ...]:
        if not self.fast:
            return ()
        network = self.network.in_planes(precision or torch_precision(self.device, self.dtype))
        return network.network_parts(height, width, analysis_size(height, width, self.scale))

    def known(self, image: Tensor) -> Known:
        return Known(image, Derived(_luma(image, self.scale), self.parts["layers"](image)))

    def motion(self, first: Known, second: Known) -> Tensor:
        """(1, 4, h, w): flow from the first frame to the second and back, in pixels of its own size."""
        one, other = first.data.luma, second.data.luma
        with stage("flow"):
            return _tensor(first.image, search(one, other, "whole"), search(other, one, "whole"))

    def turned(self, motion: Tensor) -> Tensor:
        return motion.roll(2, 1)

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        return _tensor(first, search(_luma(first, self.scale), _luma(second, self.scale), "whole"))

    def _pair(self, first: Known, second: Known, timesteps: list[float]) -> list[Tensor]:
        flows = self.motion(first, second)

        def render(chunk: list[float]) -> Tensor:
            maps = time_tensor(chunk, first.image).expand(-1, 1, *flows.shape[-2:]).contiguous()
            return self._render(first, [second] * len(chunk), [flows] * len(chunk), maps)

        return in_chunks(timesteps, first.image, render, self.batch_max)

    def _triplet(
        self, frames: tuple[Known, Known, Known], before: Tensor, after: Tensor, timesteps: list[float], drm: DrmOptions
    ) -> list[Tensor]:
        previous, middle, following = frames

        def render(chunk: list[float]) -> Tensor:
            with stage("drm"):
                maps = torch.cat([timestep_map(t, before[:, :2], after[:, :2], drm) for t in chunk])
            others = [previous if t < 1 else following for t in chunk]
            return self._render(middle, others, [before if t < 1 else after for t in chunk], maps)

        return in_chunks(timesteps, middle.image, render, self.batch_max)

    def _render(self, first: Known, others: list[Known], flows: list[Tensor], maps: Tensor) -> Tensor:
        count = len(others)
        one = [tensor.expand(count, -1, -1, -1) for tensor in first.data.layers]
        other = [torch.cat(tensors) for tensors in zip(*(known.data.layers for known in others), strict=True)]
        images = first.image.expand(count, -1, -1, -1), torch.cat([known.image for known in others])
        return self.parts["render"](*images, *one, *other, torch.cat(flows), maps)[0]


def timestep_map(t: float, flow10: Tensor, flow12: Tensor, drm: DrmOptions) -> Tensor:
    """As RIFE's (`networks.rife.timestep_map`), where the ratio is decisive."""
    intervals = {"interval10": drm.interval_before, "interval12": drm.interval_after}
    ratio10, ratio12 = distance_ratio(flow10, flow12, epsilon=DISTANCE_EPSILON, **intervals)
    flow, ratio = (flow10, ratio12) if t < 1 else (flow12, ratio10)
    return aligned_map(decided_ratio(ratio, RATIO_DEAD_ZONE), flow, abs(t - 1), linear=drm.linear)


def _luma(image: Tensor, scale: float) -> NDArray[np.uint8]:
    """Of (1, 3, H, W) in 0..1, as the flow is searched in."""
    size = analysis_size(image.shape[-2], image.shape[-1], scale)
    if image.is_meta:  # `networks.cost` counts without values
        return np.zeros(size, np.uint8)
    luma = (image[0] * image.new_tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    small = F.adaptive_avg_pool2d(luma, size)[0]
    return np.asarray((small.clamp(0, 1) * 255).round().byte().cpu().numpy())


def _tensor(like: Tensor, *flows: NDArray[np.float32]) -> Tensor:
    """(1, 2 a flow, h, w) where `like` is."""
    return torch.from_numpy(np.concatenate(flows, -1).transpose(2, 0, 1).copy())[None].to(like.device)

"""GMFSS and GMFSS-union with distance ratio maps.

Both splat the two frames and their features forward, along GMFlow's flow at half the size, to the time in between and
let a grid network make the frame of them. Union adds an in-between frame of RIFE at half the size. The work for a frame
or pair that does not depend on the time is kept for the next triplet; `fast` computes the same as `reference`.

Source: DRBA, https://github.com/routineLife1/DRBA; GMFSS_Fortuna, https://github.com/98mxr/GMFSS_Fortuna.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..drm import gmfss_maps, rife_maps
from ..stages import stage
from . import gmflow
from .gmfss_parts import FeatureNet, FusionNet, MetricNet
from .ifnet import SPECS, IFNet, Layers
from .interpolator import DrmOptions, Interpolator, Known, Mode
from .warp import precise, resize, splat

SIZE_MULTIPLE = 2 * gmflow.SIZE_MULTIPLE  # flow works at half the size
SIZE_MULTIPLE_UNION = 128  # RIFE 4.26.heavy at half the size
UNION_RIFE = "4.26.heavy"
SWAP_RATIO = 25.0  # union: where one frame is this many times farther away in time, the other one is used for both
HOLE_THRESHOLD = 0.999

Pyramid = tuple[Tensor, Tensor, Tensor]


class GmfssNetwork(nn.Module):
    """The parts under their file names; `rife` is there in union only."""

    def __init__(self, *, union: bool) -> None:
        super().__init__()
        self.flownet = gmflow.GMFlow()
        self.metric = MetricNet(bounded=union)
        self.feat = FeatureNet()
        self.fusionnet = FusionNet(9, "head0") if union else FusionNet(12, "head")
        self.rife = IFNet(SPECS[UNION_RIFE]) if union else None

    def in_precision(self, dtype: torch.dtype) -> GmfssNetwork:
        """Convert to `dtype`, except that flow and metric stay at least float32: a softmax over all matches decides the
        flow, and half precision decides it differently (23 dB with weights by rule)."""
        precise_dtype = torch.promote_types(dtype, torch.float32)
        self.flownet.to(precise_dtype)
        self.metric.to(precise_dtype)
        self.feat.to(dtype)
        self.fusionnet.to(dtype)
        if self.rife is not None:
            self.rife.in_precision(dtype)
        return self


@dataclass(frozen=True)
class FrameData:
    """What is computed of one frame alone: itself at half size, features to splat, features to match, RIFE's layers."""

    half: Tensor
    pyramid: Pyramid
    matching: gmflow.Features
    layers: Layers | None


@dataclass(frozen=True)
class PairData:
    """Flows (1, 2, H/2, W/2) in half-size pixels and metrics (1, 1, H/2, W/2) of two frames, seen from `first`."""

    first: FrameData
    second: FrameData
    flow01: Tensor
    flow10: Tensor
    metric0: Tensor
    metric1: Tensor

    def reversed(self) -> PairData:
        return PairData(self.second, self.first, self.flow10, self.flow01, self.metric1, self.metric0)


@dataclass(frozen=True)
class Splatted:
    """One frame's half-size image and feature pyramid, warped to the time in between."""

    image: Tensor
    pyramid: Pyramid

    def replaced(self, other: Splatted, masks: list[Tensor]) -> Splatted:
        """`other` where the masks, one a level of the pyramid, are true."""
        levels = zip(self.pyramid, other.pyramid, masks, strict=True)
        pyramid = tuple(torch.where(m, theirs, ours) for ours, theirs, m in levels)
        return Splatted(torch.where(masks[0], other.image, self.image), cast(Pyramid, pyramid))


class GmfssInterpolator(Interpolator):
    """GMFSS, or GMFSS-union where the network has RIFE."""

    network: GmfssNetwork

    def __init__(
        self,
        network: GmfssNetwork,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
        mode: Mode = "reference",
    ) -> None:
        multiple = SIZE_MULTIPLE if network.rife is None else SIZE_MULTIPLE_UNION
        network.in_precision(dtype)
        super().__init__(network, size_multiple=multiple, device=device, dtype=dtype, scale=scale, mode=mode)

    def frame_data(self, frame: Tensor) -> FrameData:
        """`frame` is padded float32 (1, 3, H, W)."""
        half = _halved(frame)
        flow_size = round(half.shape[-2] * self.scale), round(half.shape[-1] * self.scale)
        return FrameData(
            half,
            self.network.feat(frame.to(self.dtype)),
            self.network.flownet.features(resize(half, flow_size)),
            None if self.network.rife is None else self.network.rife.layers(half),
        )

    def pair_data(self, first: FrameData, second: FrameData) -> PairData:
        size = (first.half.shape[-2], first.half.shape[-1])
        flow01, flow10 = (
            resize(flow, size) / self.scale for flow in self.network.flownet(first.matching, second.matching)
        )
        metric0, metric1 = self.network.metric(first.half, second.half, flow01, flow10)
        return PairData(first, second, flow01, flow10, metric0, metric1)

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        return self.pair_data(self.frame_data(first), self.frame_data(second)).flow01

    def known(self, image: Tensor) -> Known:
        return Known(image, self.frame_data(image))

    def motion(self, first: Known, second: Known) -> PairData:
        return self.pair_data(first.data, second.data)

    def turned(self, motion: PairData) -> PairData:
        return motion.reversed()

    def _pair(self, first: Known, second: Known, timesteps: list[float]) -> list[Tensor]:
        pair = self.motion(first, second)
        rendered = []
        for t in timesteps:
            time = first.image.new_full((1, 1, 1, 1), t)
            rendered.append(self._render(pair, time, 1 - time, time, swap=False))
        return rendered

    def _triplet(
        self,
        frames: tuple[Known, Known, Known],
        before: PairData,
        after: PairData,
        timesteps: list[float],
        drm: DrmOptions,
    ) -> list[Tensor]:
        rendered = []
        for t in timesteps:
            with stage("drm"):
                maps_before, maps_after = self._maps(abs(t - 1), before, after, drm)
            pair, maps = (before, maps_before) if t < 1 else (after, maps_after)
            rendered.append(self._render(pair, *maps, swap=True))
        return rendered

    def _maps(
        self, distance: float, before: PairData, after: PairData, drm: DrmOptions
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """For either side of the middle frame: how far it and the outer frame are splatted, and RIFE's timestep."""
        metrics: dict[str, Any] = {"metric10": before.metric0, "metric12": after.metric0}
        outer0, middle01, middle12, outer2 = gmfss_maps(
            distance, before.flow01, after.flow01, splat, **metrics, **drm.keywords
        )
        rife01 = rife12 = middle01
        if self.network.rife is not None:
            rife01, rife12 = rife_maps(distance, before.flow01, after.flow01, splat, **metrics, **drm.keywords)
        return (middle01, outer0, rife01), (middle12, outer2, rife12)

    def _render(self, pair: PairData, time0: Tensor, time1: Tensor, rife_time: Tensor, *, swap: bool) -> Tensor:
        """`time0`, `time1`: how far the frames are splatted toward each other, (1, 1, H/2, W/2) or (1, 1, 1, 1),
        0..1."""
        first = _splatted(pair.first, pair.flow01 * time0, pair.metric0 * time0)
        second = _splatted(pair.second, pair.flow10 * time1, pair.metric1 * time1)
        if pair.first.layers is None or pair.second.layers is None or self.network.rife is None:
            images = [pair.first.half, first.image, second.image, pair.second.half]
        else:
            if swap:
                first, second = _swapped(pair, first, second, time0, time1)
            rife = self.network.rife(pair.first.layers, pair.second.layers, rife_time, scale=self.scale)
            images = [first.image, rife, second.image]
        features = tuple(torch.cat(both, 1).to(self.dtype) for both in zip(first.pyramid, second.pyramid, strict=True))
        out = self.network.fusionnet(torch.cat(images, 1).to(self.dtype), cast(Pyramid, features))
        return precise(out).clamp(0, 1)


def _splatted(frame: FrameData, flow: Tensor, metric: Tensor) -> Splatted:
    half, quarter, eighth = frame.pyramid
    both = splat(torch.cat((frame.half, half.to(frame.half.dtype)), 1), flow, metric)
    flow2, metric2 = 0.5 * _reduced(flow, 2), _reduced(metric, 2)
    flow4, metric4 = 0.25 * _reduced(flow, 4), _reduced(metric, 4)
    return Splatted(both[:, :3], (both[:, 3:], splat(quarter, flow2, metric2), splat(eighth, flow4, metric4)))


def _swapped(
    pair: PairData, first: Splatted, second: Splatted, time0: Tensor, time1: Tensor
) -> tuple[Splatted, Splatted]:
    """Where the times differ by `SWAP_RATIO`, the nearer frame stands in for the farther one (less harm at scene
    changes)."""
    times, holes = [], []
    for time, flow, metric in ((time0, pair.flow01, pair.metric0), (time1, pair.flow10, pair.metric1)):
        landed = splat(torch.cat((time, torch.ones_like(time)), 1), flow * time, metric * time)
        times.append(landed[:, :1])
        holes.append(landed[:, 1:] < HOLE_THRESHOLD)
    hole = holes[0] | holes[1]
    time0, time1 = (time.masked_fill(hole, 1.0) for time in times)
    reduced = [(_reduced(time0, factor), _reduced(time1, factor)) for factor in (1, 2, 4)]
    use_second = [a / b > SWAP_RATIO for a, b in reduced]
    use_first = [b / a > SWAP_RATIO for a, b in reduced]
    return first.replaced(second, use_second), second.replaced(first, use_first)


def _reduced(x: Tensor, factor: int) -> Tensor:
    return resize(x, (x.shape[-2] // factor, x.shape[-1] // factor))


def _halved(frame: Tensor) -> Tensor:
    return _reduced(frame, 2)

"""RIFE with distance ratio maps: the IFNet family as DRBA runs it, and a fast form.

`reference` mode computes flows, maps and splatting at the full size, one timestep after the other, as DRBA does. `fast`
mode does it at the coarsest block's size (where the flows come from), lets every block work straight at its own size,
keeps the frames' encodings for the next triplet and renders several timesteps in one batch.

Source: DRBA, https://github.com/routineLife1/DRBA.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..drm import HOLE_THRESHOLD, distance_ratio, local_timestep, splat_filled
from ..stages import stage
from .ifnet import IFNet, Layers, stack_layers
from .ifnet_fast import FastIFNet
from .interpolator import DrmOptions, Interpolator, Known, Mode, in_chunks, time_tensor
from .parts import NetworkPart, Precision, torch_precision
from .warp import resize, splat

Flows = tuple[Tensor, Tensor]  # from the first frame to the second, and back


class RifeInterpolator(Interpolator):
    """One version of the IFNet family behind the common interface; its network is a `FastIFNet` in fast mode."""

    network: IFNet | FastIFNet

    def __init__(
        self,
        network: IFNet,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
        mode: Mode = "reference",
    ) -> None:
        fast = mode == "fast"
        super().__init__(
            FastIFNet(network, scale, torch_precision(device, dtype), rows=device.type == "cpu")
            if fast
            else network.in_precision(dtype),
            size_multiple=network.spec.size_multiple,
            device=device,
            dtype=dtype,
            scale=scale,
            mode=mode,
        )
        if isinstance(self.network, FastIFNet):
            self.parts = {name: getattr(self.network, name) for name in ("layers", "coarse", "render")}

    def network_parts(self, height: int, width: int, precision: Precision | None = None) -> tuple[NetworkPart, ...]:
        if not isinstance(self.network, FastIFNet):
            return ()
        return self.network.in_planes(precision or self.network.precision).network_parts(height, width)

    def layers(self, frame: Tensor) -> Layers:
        if isinstance(self.network, FastIFNet):
            return Layers(frame, *self.parts["layers"](frame))
        return self.network.layers(frame)

    def known(self, image: Tensor) -> Known:
        return Known(image, self.layers(image))

    def motion(self, first: Known, second: Known) -> Flows:
        return self.flows(first.data, second.data)

    def turned(self, motion: Flows) -> Flows:
        return motion[1], motion[0]

    def flows(self, first: Layers, second: Layers) -> Flows:
        """Optical flow (first -> second, second -> first), (1, 2, h, w) in pixels of its own size: the frames' size in
        reference mode, the coarsest block's in fast mode.

        The coarsest block gives the flows from halfway to both frames; splatted to where they lead and reversed they
        are half the flows of those frames. Where nothing arrives the motion is unknown and taken as longer than any.
        """
        if isinstance(self.network, FastIFNet):
            (flow,) = self.parts["coarse"](first.full, second.full)
        else:
            half = first.full.new_full((1, 1, 1, 1), 0.5)
            estimate = self.network.first_estimate(first, second, half, self.scale)
            flow = resize(estimate.flow, first.size_at(1.0))
        unknown = float(max(flow.shape[-2:]))
        with stage("drm"):
            return _reversed(flow[:, :2], unknown), _reversed(flow[:, 2:], unknown)

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        flow, _ = self.flows(self.layers(first), self.layers(second))
        return flow

    def _pair(self, first: Known, second: Known, timesteps: list[float]) -> list[Tensor]:
        def render(chunk: list[float]) -> Tensor:
            maps = time_tensor(chunk, first.image)
            if isinstance(self.network, FastIFNet):  # parts take a map of one size
                maps = maps.expand(-1, 1, *self.network.coarsest_size(*first.image.shape[-2:])).contiguous()
            return self._render([first.data] * len(chunk), [second.data] * len(chunk), maps)

        return self._batched(timesteps, first.image, render)

    def _triplet(
        self, frames: tuple[Known, Known, Known], before: Flows, after: Flows, timesteps: list[float], drm: DrmOptions
    ) -> list[Tensor]:
        previous, middle, following = (frame.data for frame in frames)

        def render(chunk: list[float]) -> Tensor:
            with stage("drm"):
                maps = torch.cat([timestep_map(t, before[0], after[0], drm) for t in chunk])
            return self._render([middle] * len(chunk), [previous if t < 1 else following for t in chunk], maps)

        return self._batched(timesteps, frames[1].image, render)

    def _batched(self, timesteps: list[float], frame: Tensor, render: Any) -> list[Tensor]:
        if self.fast:
            return in_chunks(timesteps, frame, render, self.batch_max)
        return [render([t]) for t in timesteps]

    def _render(self, first: list[Layers], second: list[Layers], maps: Tensor) -> Tensor:
        layers = stack_layers(first), stack_layers(second)
        if isinstance(self.network, FastIFNet):
            inputs = (tensor for frame in layers for tensor in (frame.image, frame.full, frame.corners))
            return self.parts["render"](*inputs, maps)[0]
        return self.network(*layers, maps, scale=self.scale)


def timestep_map(t: float, flow10: Tensor, flow12: Tensor, drm: DrmOptions) -> Tensor:
    """The local timestep of a frame at time `t` in 0..2 of a triplet, (1, 1, h, w): 0 at the middle frame, 1 at the
    other one.

    `drba.drm.rife_maps` for one side only: splatting the side that is not asked for would double the cost.
    """
    intervals = {"interval10": drm.interval_before, "interval12": drm.interval_after}
    ratio10, ratio12 = distance_ratio(flow10, flow12, **intervals)
    flow, ratio = (flow10, ratio12) if t < 1 else (flow12, ratio10)
    return aligned_map(ratio, flow, abs(t - 1), linear=drm.linear)


def aligned_map(ratio: Tensor, flow: Tensor, t: float, *, linear: bool) -> Tensor:
    """The local timestep at distance `t` from the middle frame, of the ratio there and the flow toward the other frame, as
    seen from the in-between frame."""
    toward = local_timestep(ratio, t, linear=linear)
    return splat_filled(toward, flow * toward, None, splat)


def _reversed(flow_from_halfway: Tensor, unknown: float) -> Tensor:
    landed = splat(torch.cat((-flow_from_halfway, torch.ones_like(flow_from_halfway[:, :1])), 1), flow_from_halfway)
    return 2 * torch.where(landed[:, 2:] < HOLE_THRESHOLD, unknown, landed[:, :2])

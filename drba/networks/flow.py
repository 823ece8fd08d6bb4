"""The flow-only interpolator behind the tensor interface of the networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..flow import FlowInterpolator
from ..pixels import FrameLayout, Plane, pixel_format
from .interpolator import DrmOptions, Interpolator, Known, Mode

_TOP = 65535.0
_LUMA = (0.299, 0.587, 0.114)


class FlowTensorInterpolator(Interpolator):
    """`drba.flow` on RGB tensors, in 16 bits; both modes compute the same, on the processor, whatever the device."""

    def __init__(self, *, device: torch.device, scale: float, mode: Mode) -> None:
        super().__init__(nn.Identity(), size_multiple=1, device=device, dtype=torch.float32, scale=scale, mode=mode)

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        flows = self._flows(first, linear=True)
        cells = flows.flow(0, _Frame(first, 0).luma, 1, _Frame(second, 1).luma) * np.float32(flows.cell_px)
        pixels = torch.from_numpy(cells).permute(2, 0, 1)[None]
        pixels = pixels.repeat_interleave(flows.cell_px, 2).repeat_interleave(flows.cell_px, 3)
        return pixels[..., : first.shape[-2], : first.shape[-1]].to(self.device)

    def known(self, image: Tensor) -> Known:
        return Known(image, None)

    def _pair(self, first: Known, second: Known, timesteps: list[float]) -> list[Tensor]:
        frames = [_Frame(first.image, 0), _Frame(second.image, 1)]
        flows = self._flows(first.image, linear=True)
        rendered = []
        for t in timesteps:
            near, far = (0, 1) if t < 0.5 else (1, 0)
            flow = flows.flow(near, frames[near].luma, far, frames[far].luma)
            rendered.append(self._render(flows, frames[near], frames[far], flow, None, min(t, 1 - t), (1.0, 1.0)))
        return rendered

    def _triplet(
        self, frames: tuple[Known, Known, Known], before: None, after: None, timesteps: list[float], drm: DrmOptions
    ) -> list[Tensor]:
        shown = [_Frame(frame.image, number) for number, frame in enumerate(frames)]
        flows = self._flows(frames[1].image, linear=drm.linear)
        rendered = []
        intervals = (drm.interval_before, drm.interval_after)
        for t in timesteps:
            near, beyond = (0, 2) if t < 1 else (2, 0)
            flow = flows.flow(1, shown[1].luma, near, shown[near].luma)
            flow_beyond = flows.flow(1, shown[1].luma, beyond, shown[beyond].luma, rough=True)
            ordered = intervals if t < 1 else intervals[::-1]
            rendered.append(self._render(flows, shown[1], shown[near], flow, flow_beyond, abs(t - 1), ordered))
        return rendered

    def _flows(self, frame: Tensor, *, linear: bool) -> FlowInterpolator:
        layout = FrameLayout(frame.shape[-1], frame.shape[-2], pixel_format("gbrp16le"))
        return FlowInterpolator(layout, scale=self.scale, linear=linear)

    def _render(
        self,
        flows: FlowInterpolator,
        middle: _Frame,
        other: _Frame,
        flow: NDArray[np.float32],
        flow_beyond: NDArray[np.float32] | None,
        t: float,
        intervals: tuple[float, float],
    ) -> Tensor:
        timestep = flows.timestep_map(flow, flow_beyond, t, *intervals)
        out = [np.empty_like(plane) for plane in middle.planes]
        flows.render(middle.planes, other.planes, flow, timestep, out)
        stacked = torch.from_numpy(np.stack(out).astype(np.float32) / np.float32(_TOP))
        return stacked[None].to(self.device)


class _Frame:
    """A tensor as 16-bit planes, and its luma for the flow."""

    def __init__(self, frame: Tensor, number: int) -> None:
        rgb = frame[0].clamp(0, 1).float().cpu().numpy()
        self.number = number
        self.planes: Sequence[Plane] = [
            np.ascontiguousarray(np.rint(channel * _TOP).astype(np.uint16)) for channel in rgb
        ]
        luma = sum(weight * channel for weight, channel in zip(_LUMA, rgb, strict=True))
        self.luma: Sequence[Plane] = [np.rint(np.asarray(luma) * _TOP).astype(np.uint16)]

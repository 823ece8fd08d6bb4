"""The networks under PyTorch: planes to RGB on the device, DRM and network there, and back."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import drba
from drba.drm import distance_ratio
from drba.models import ModelSpec
from drba.networks.interpolator import Interpolator, State
from drba.pixels import Plane
from drba.stages import stage

from .base import Motion, SourceFrame, StreamSpec, Triplet
from .colour import ColourConverter

CACHED_FRAMES = 4  # converted frames: the three of a triplet and the next one's last


class NetworkRenderer:
    """Renders with any model of the registry, for playing in its fast form.

    One triplet at a time: a network keeps all cores or the whole device busy by itself.
    """

    def __init__(self, spec: StreamSpec, model: ModelSpec, device: str = "auto", *, mode: str = "fast") -> None:
        """ModelError where weights are missing or do not fit. `mode` is "fast" or "reference" (docs/networks.md)."""
        self._network = drba.load(model.name, device=device, scale=spec.scale, mode=mode)
        self.model = model.name
        self.engine = f"torch-{self._network.device.type}"
        self._linear = spec.linear
        self._colour = ColourConverter(spec.layout, spec.matrix, spec.full_range, self._network.device)
        self._lock = threading.Lock()
        self._frames: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._state: tuple[int, int, State] | None = None  # (previous, middle) of the triplet it serves

    def use(self, network: Interpolator, engine: str | None = None) -> None:
        """Go over to another interpolator of the same model and size (one `with_parts` built for the device) between two
        triplets; `engine` is its name."""
        with self._lock:
            self._network, self._state = network, None
        self.engine = engine or self.engine

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        with self._lock:
            with stage("network"):
                frames = self._render(triplet, times)
            with stage("download"):
                for frame, out in zip(frames, outputs, strict=True):
                    self._colour.to_planes(frame, out)

    def motion(self, triplet: Triplet) -> Motion | None:
        with self._lock:
            middle = self._rgb(triplet.middle)
            flows: list[torch.Tensor | None] = []
            for other in (triplet.previous, triplet.following):
                flow = None if other is None else self._network.flow(middle, self._rgb(other))
                if other is not None and flow is None:
                    return None
                flows.append(flow)
        before, after = flows
        ratio = None
        if before is not None and after is not None:
            ratio, _ = distance_ratio(
                before, after, interval10=triplet.interval_before, interval12=triplet.interval_after
            )
        return Motion(_pixels(before), _pixels(after), None if ratio is None else ratio[0, 0].cpu().numpy())

    def close(self) -> None:
        with self._lock:
            self._frames.clear()
            self._state = None

    def _render(self, triplet: Triplet, times: Sequence[float]) -> list[torch.Tensor]:
        middle = self._rgb(triplet.middle)
        if triplet.previous is None or triplet.following is None:
            first, second, start = (triplet.middle, triplet.following, 1.0)
            if triplet.previous is not None:
                first, second, start = (triplet.previous, triplet.middle, 0.0)
            if second is None:
                raise ValueError("a triplet needs a frame before or after its middle one")
            frames: list[torch.Tensor] = self._network.pair(
                self._rgb(first), self._rgb(second), [t - start for t in times]
            )
            return frames
        state = None
        if self._state is not None and self._state[:2] == (triplet.previous.number, triplet.middle.number):
            state = self._state[2]
        frames, state = self._network.triplet(
            self._rgb(triplet.previous),
            middle,
            self._rgb(triplet.following),
            times,
            state,
            linear=self._linear,
            interval_before=triplet.interval_before,
            interval_after=triplet.interval_after,
        )
        self._state = (triplet.middle.number, triplet.following.number, state)
        return frames

    def _rgb(self, frame: SourceFrame) -> torch.Tensor:
        known = self._frames.get(frame.number)
        if known is None:
            with stage("upload"):
                known = self._frames[frame.number] = self._colour.to_rgb(frame.planes)
            while len(self._frames) > CACHED_FRAMES:
                self._frames.popitem(last=False)
        return known


def _pixels(flow: torch.Tensor | None) -> NDArray[np.float32] | None:
    return None if flow is None else flow[0].permute(1, 2, 0).cpu().numpy()

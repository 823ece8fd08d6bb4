"""The flow-only interpolator on the processor."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from drba.flow import FlowInterpolator
from drba.pixels import Plane
from drba.remap import FloatMap
from drba.stages import stage

from .base import Motion, SourceFrame, StreamSpec, Triplet
from .memory import keep_freed_memory

CACHED_FLOWS = 8  # fine and rough ones of the triplets being rendered; kept for a second request of the same triplet


class FlowRenderer:
    """Renders planes with `drba.flow`. Workers are the parallelism: each call runs on one core."""

    model = "flow"
    engine = "cpu"

    def __init__(self, spec: StreamSpec, *, use_drm: bool = True) -> None:
        cv2.setNumThreads(1)
        keep_freed_memory()
        self._layout = spec.layout
        self._interpolator = FlowInterpolator(spec.layout, scale=spec.scale, linear=spec.linear, use_drm=use_drm)
        self._flows: OrderedDict[tuple[int, int, bool], FloatMap] = OrderedDict()
        self._lock = threading.Lock()

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        middle = triplet.middle
        for time, out in zip(times, outputs, strict=True):
            before = time < 1
            near = triplet.previous if before else triplet.following
            if time == 1 or near is None:
                if time != 1:
                    raise ValueError(f"time {time} lies on the side whose frame is missing")
                _copy(middle.planes, out)
                continue
            if time in (0, 2):
                _copy(near.planes, out)
                continue
            beyond = triplet.following if before else triplet.previous
            intervals = (triplet.interval_before, triplet.interval_after)
            with stage("flow"):
                flow = self._flow(middle, near)
                flow_beyond = self._flow(middle, beyond, rough=True) if beyond is not None else None
            with stage("drm"):
                ordered = intervals if before else intervals[::-1]
                timestep = self._interpolator.timestep_map(flow, flow_beyond, abs(time - 1), *ordered)
            with stage("warp"):
                self._interpolator.render(middle.planes, near.planes, flow, timestep, out)

    def motion(self, triplet: Triplet) -> Motion:
        middle, previous, following = triplet.middle, triplet.previous, triplet.following
        before = self._flow(middle, previous) if previous is not None else None
        after = self._flow(middle, following) if following is not None else None
        ratio = None
        if before is not None and after is not None:
            # Halfway toward a frame the local timestep is the other side's share of the distance.
            intervals = (triplet.interval_after, triplet.interval_before)
            ratio = self._full_size(self._interpolator.timestep_map(after, before, 0.5, *intervals))
        pixels = [
            None if flow is None else self._full_size(flow * np.float32(self._interpolator.cell_px))
            for flow in (before, after)
        ]
        return Motion(pixels[0], pixels[1], ratio)

    def close(self) -> None:
        with self._lock:
            self._flows.clear()

    def _full_size(self, cells: FloatMap) -> NDArray[np.float32]:
        """One value for all pixels of a cell; the last cells may reach beyond the picture."""
        height, width = self._layout.plane_shapes[0]
        side = self._interpolator.cell_px
        pixels = cv2.resize(cells, (cells.shape[1] * side, cells.shape[0] * side), interpolation=cv2.INTER_NEAREST)
        return np.asarray(pixels[:height, :width], np.float32)

    def _flow(self, a: SourceFrame, b: SourceFrame, *, rough: bool = False) -> FloatMap:
        key = (a.number, b.number, rough)
        with self._lock:
            known = self._flows.get(key)
        if known is not None:
            return known
        flow = self._interpolator.flow(a.number, a.planes, b.number, b.planes, rough=rough)
        with self._lock:
            self._flows[key] = flow
            while len(self._flows) > CACHED_FLOWS:
                self._flows.popitem(last=False)
        return flow


def _copy(source: Sequence[Plane], out: Sequence[Plane]) -> None:
    for plane_source, plane_out in zip(source, out, strict=True):
        np.copyto(plane_out, plane_source)

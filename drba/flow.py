"""Flow-only DRBA: in-between frames on any machine, without a network.

Optical flow, distance ratios and splatting are worked out at reduced size (drba.dis); the frames themselves are only warped
twice and blended, plane by plane, in the stream's own pixel format. Nothing here knows colours: every plane follows the luma.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from . import drm
from .dis import FlowEstimator
from .pixels import FrameLayout, Plane
from .remap import FloatMap, PlaneWarper
from .splat import splat_average

#: Added to both distances, in cells of the flow: what the estimator finds of a drawing that rests.
DISTANCE_EPSILON = 0.05
#: See `drm.decided_ratio`. Measured in docs/performance.md: 0.3 cost 0.33 dB over the quarter of the frames with the most motion,
#: 0.4 costs 0.12.
RATIO_DEAD_ZONE = 0.4


class FlowInterpolator:
    """Interpolates the planes of one stream. Thread-safe; frames are told apart by the numbers the caller gives them."""

    def __init__(self, layout: FrameLayout, *, scale: float = 1.0, linear: bool = True, use_drm: bool = True) -> None:
        self.layout = layout
        self._linear = linear
        self._use_drm = use_drm
        self._estimator = FlowEstimator(layout, scale)
        flow_shape = (self._estimator.rows, self._estimator.columns)
        self._warpers: dict[tuple[int, ...], PlaneWarper] = {}
        for shape, (shift_x, shift_y) in zip(layout.plane_shapes, _plane_shifts(layout), strict=True):
            factor = self._estimator.factor
            self._warpers[shape] = PlaneWarper(shape, flow_shape, factor >> shift_x, factor >> shift_y)

    @property
    def cell_px(self) -> int:
        """Full-size pixels that one cell of a flow stands for, in each direction."""
        return self._estimator.factor

    def flow(
        self, number_a: int, a: Sequence[Plane], number_b: int, b: Sequence[Plane], *, rough: bool = False
    ) -> NDArray[np.float32]:
        """Optical flow a -> b as `FlowEstimator.flow` gives it; `rough` is enough for `flow_beyond` of `timestep_map`."""
        return self._estimator.flow(number_a, a[0], number_b, b[0], rough=rough)

    def timestep_map(
        self, flow_near: FloatMap, flow_beyond: FloatMap | None, t: float, interval_near: float, interval_beyond: float
    ) -> FloatMap:
        """Local timestep (rows, columns), 0 at the middle frame, at distance `t` toward the frame `flow_near` leads to.

        `flow_beyond` leads from the middle frame to its other neighbour, None where there is none: then it is `t` everywhere.
        """
        if flow_beyond is None or not self._use_drm:
            return np.full(flow_near.shape[:2], t, np.float32)
        _, ratio = drm.distance_ratio(
            _batched(flow_near),
            _batched(flow_beyond),
            epsilon=DISTANCE_EPSILON,
            interval10=interval_near,
            interval12=interval_beyond,
        )
        local = drm.local_timestep(drm.decided_ratio(ratio, RATIO_DEAD_ZONE), t, linear=self._linear)
        return np.clip(local[0, 0], 0.0, 1.0).astype(np.float32)

    def render(
        self, middle: Sequence[Plane], other: Sequence[Plane], flow: FloatMap, timestep: FloatMap, out: Sequence[Plane]
    ) -> None:
        """Write the frame at local distance `timestep` from `middle` toward `other` (flow middle -> other) into `out`."""
        # Move timestep and flow to where their pixels are at the intermediate time; holes keep the value of their place.
        fields = np.concatenate([timestep[None], flow.transpose(2, 0, 1)])
        aligned = splat_average(fields, flow.transpose(2, 0, 1) * timestep)
        far_weight = aligned[0]
        flow_there = cv2.merge([aligned[1], aligned[2]])
        toward_middle = flow_there * -far_weight[..., None]
        toward_other = flow_there + toward_middle
        uniform = float(timestep.flat[0]) if np.ptp(timestep) == 0 else None
        by_shape: dict[tuple[int, ...], list[tuple[Plane, Plane, Plane]]] = {}
        for planes in zip(middle, other, out, strict=True):
            by_shape.setdefault(planes[2].shape, []).append(planes)
        for shape, group in by_shape.items():
            weight = far_weight if uniform is None else uniform
            self._warpers[shape].render(group, toward_middle, toward_other, weight)


def _plane_shifts(layout: FrameLayout) -> list[tuple[int, int]]:
    chroma = (layout.format.chroma_shift_x, layout.format.chroma_shift_y)
    return [(0, 0) if i == 0 else chroma for i in range(layout.format.planes)]


def _batched(flow: FloatMap) -> FloatMap:
    return flow.transpose(2, 0, 1)[None]

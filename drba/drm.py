"""Distance ratio maps (DRM): how far each pixel of the middle frame moves before and after it, as a local timestep.

For the middle frame I1 with optical flow to I0 and to I2 the distances are d10 = |flow10| and d12 = |flow12|, and the ratio
r10 = d10 / (d10 + d12), r12 = 1 - r10. Uniform motion gives 1/2 everywhere. Where a drawing rests on one side and jumps on the
other, the ratio moves the local timestep so that the drawing keeps the rhythm of its animator.

The functions use arithmetic operators only, so they take numpy arrays and torch tensors alike, (N, 2, H, W) flows in pixels
and (N, 1, H, W) maps; forward warping is passed in as `splat(values, flow, metric) -> values` (averaging where metric is None,
softmax splatting where it is given), because its implementation differs by device.

Source of the formulas: DRBA, https://github.com/routineLife1/DRBA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any  # numpy.ndarray or torch.Tensor, float, (N, C, H, W)
Splat = Callable[[Array, Array, "Array | None"], Array]

DISTANCE_EPSILON = 1e-4  # pixels; keeps the ratio of two resting pixels at 1/2
HOLE_THRESHOLD = 0.999  # a splatted field of ones below this has a hole there
BISECTION_PRECISION = 1e-3


def distance(flow: Array) -> Array:
    """Length of each flow vector in pixels: (N, 2, H, W) -> (N, 1, H, W)."""
    u, v = flow[:, 0:1], flow[:, 1:2]
    return (u * u + v * v) ** 0.5


def distance_ratio(
    flow10: Array,
    flow12: Array,
    *,
    epsilon: float = DISTANCE_EPSILON,
    interval10: float = 1.0,
    interval12: float = 1.0,
) -> tuple[Array, Array]:
    """Return (r10, r12), each (N, 1, H, W) in 0..1 with r10 + r12 = 1.

    `epsilon` in pixels is added to both distances. Where the intervals between the frames differ (variable frame rate) speeds
    are compared instead of distances: pass both intervals in any common unit of time.
    """
    d10 = distance(flow10) / interval10 + epsilon
    d12 = distance(flow12) / interval12 + epsilon
    total = d10 + d12
    return d10 / total, d12 / total


def decided_ratio(ratio: Array, dead_zone: float) -> Array:
    """A ratio map of flow that was searched for between reduced pictures: within 1/2 +- `dead_zone` it is plain acceleration,
    which such flow measures too roughly to follow, and becomes 1/2; only where one side clearly rests (the ratios of held
    drawings are near 0 and 1) does the local timestep move."""
    offset = ratio - 0.5
    side = (offset > 0) * 2.0 - 1.0
    beyond = offset * side - dead_zone
    return 0.5 + side * (beyond > 0) * beyond * (0.5 / (0.5 - dead_zone))


def local_timestep(ratio: Array, t: float, *, linear: bool = True) -> Array:
    """Move a ratio map, whose own time is 1/2, to time `t` in 0..1; returns a map of the same shape.

    Linear: ratio * 2t (may pass 1 where the ratio is far from 1/2 and t > 1/2). Iterative: bisect t, moving every pixel by its
    own ratio of the remaining interval, so that values stay within 0..1 and keep their proportions.
    """
    if linear:
        return ratio * (2.0 * t)
    time, low, high = 0.5, 0.0, 1.0
    map_now, map_low, map_high = ratio, ratio * 0.0, ratio * 0.0 + 1.0
    while abs(time - t) > BISECTION_PRECISION:
        if time > t:
            high, map_high = time, map_now
            time, map_now = time - (time - low) * 0.5, map_now - (map_now - map_low) * ratio
        else:
            low, map_low = time, map_now
            time, map_now = time + (high - time) * 0.5, map_now + (map_high - map_now) * ratio
    return map_now


def splat_filled(values: Array, flow: Array, metric: Array | None, splat: Splat) -> Array:
    """Forward-warp `values` by `flow`; holes keep the unwarped value of their own place."""
    warped = splat(values, flow, metric)
    covered = splat(values * 0.0 + 1.0, flow, metric)
    hole = (covered < HOLE_THRESHOLD) * 1.0
    return warped + (values - warped) * hole


def rife_maps(
    t: float,
    flow10: Array,
    flow12: Array,
    splat: Splat,
    *,
    metric10: Array | None = None,
    metric12: Array | None = None,
    linear: bool = True,
    interval10: float = 1.0,
    interval12: float = 1.0,
) -> tuple[Array, Array]:
    """Local timesteps of a backward-warping network at distance `t` (0..1) from the middle frame.

    Returns (toward I0, toward I2): maps aligned with the in-between frame, 0 at I1 and 1 at the other frame. With metrics this
    is the auxiliary map of GMFSS-union, without them RIFE's own.
    """
    r10, r12 = distance_ratio(flow10, flow12, interval10=interval10, interval12=interval12)
    toward0 = local_timestep(r12, t, linear=linear)
    toward2 = local_timestep(r10, t, linear=linear)
    return (
        splat_filled(toward0, flow10 * toward0, metric10, splat),
        splat_filled(toward2, flow12 * toward2, metric12, splat),
    )


def gmfss_maps(
    t: float,
    flow10: Array,
    flow12: Array,
    splat: Splat,
    *,
    metric10: Array | None = None,
    metric12: Array | None = None,
    linear: bool = True,
    interval10: float = 1.0,
    interval12: float = 1.0,
) -> tuple[Array, Array, Array, Array]:
    """Local timesteps of a forward-warping network at distance `t` (0..1) from the middle frame.

    Returns (I0 toward t, I1 toward t) of the pair I0-I1, then (I1 toward t, I2 toward t) of the pair I1-I2: each aligned with
    the frame that is splatted, so the middle frame's maps need no warp and the outer frames' are warped onto them.
    """
    # The reference adds no epsilon here: two resting pixels would divide 0 by 0. The smallest one that fp32 keeps differs
    # from it by less than rounding.
    r10, r12 = distance_ratio(flow10, flow12, epsilon=1e-12, interval10=interval10, interval12=interval12)
    middle01 = local_timestep(r12, t, linear=linear)
    middle12 = local_timestep(r10, t, linear=linear)
    outer0 = splat_filled(1.0 - middle01, flow10, metric10, splat)
    outer2 = splat_filled(1.0 - middle12, flow12, metric12, splat)
    return outer0, middle01, middle12, outer2

"""Optical flow and distance ratios as colours.

Flow: the colour wheel of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (IJCV 2011): hue is the
direction, white is rest, full colour is the length `full_px`. Ratio: blue, white, red for 0, 1/2, 1.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..pictures import Image

Field = NDArray[np.float32]

#: Steps of the wheel from red over yellow, green, cyan, blue and magenta back to red: as fine as the eye tells them apart.
_STEPS = (15, 6, 4, 11, 13, 6)
_ANCHORS = np.concatenate([[0], np.cumsum(_STEPS)]) / sum(_STEPS)
_BGR = (
    (0, 0, 0, 1, 1, 1, 0),
    (0, 1, 1, 1, 0, 0, 0),
    (1, 1, 0, 0, 0, 1, 1),
)
#: Colours of the ratio 0, 1/2 and 1 (BGR): neither is darker than the other, and the middle is neutral.
_RATIO_BGR = ((200, 80, 40), (245, 245, 245), (40, 50, 205))
UNKNOWN_GREY = 110
#: Vectors longer than this share of the longest ones of the picture do not set the scale: they are the estimate's outliers.
_SCALE_PERCENTILE = 99
_LEAST_SCALE_PX = 1.0
_ROUND = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


def flow_colours(flow: Field, full_px: float) -> Image:
    """(height, width, 2) flow in pixels -> colours; grey where it is longer than the picture's diagonal, that is unknown."""
    x, y = flow[..., 0], flow[..., 1]
    length = np.hypot(x, y)
    turn = np.arctan2(-y, -x) / (2 * math.pi) + 0.5  # 0 and 1 to the right, 1/4 down
    strength = np.minimum(length / full_px, 1)
    channels = [1 - strength * (1 - np.interp(turn, _ANCHORS, channel)) for channel in _BGR]
    picture = np.rint(np.stack(channels, -1) * 255).astype(np.uint8)
    picture[~_known(flow)] = UNKNOWN_GREY
    return picture


def ratio_colours(ratio: Field) -> Image:
    """(height, width) ratio in 0..1 -> colours."""
    channels = [np.interp(ratio, (0, 0.5, 1), channel) for channel in zip(*_RATIO_BGR, strict=True)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def common_scale_px(*flows: Field | None) -> float:
    """The length that full colour means for all of `flows`: a round number of pixels, at least one."""
    lengths = [np.hypot(flow[..., 0], flow[..., 1])[_known(flow)] for flow in flows if flow is not None]
    present = [length for length in lengths if length.size]
    if not present:
        return _LEAST_SCALE_PX
    longest = max(float(np.percentile(np.concatenate(present), _SCALE_PERCENTILE)), _LEAST_SCALE_PX)
    power = 10.0 ** math.floor(math.log10(longest))
    return next(step * power for step in _ROUND if step * power >= longest * (1 - 1e-6))


def wheel(side: int, background: int) -> Image:
    """The legend of `flow_colours`: what leads from the centre to a place is drawn in the colour of that place."""
    centre = (side - 1) / 2
    y, x = np.mgrid[:side, :side].astype(np.float32) - np.float32(centre)
    colours = flow_colours(np.stack([x, y], -1), centre)
    inside = np.clip(centre + 0.5 - np.hypot(x, y), 0, 1)[..., None]  # a soft edge
    return np.rint(colours * inside + background * (1 - inside)).astype(np.uint8)


def ratio_bar(width: int, height: int) -> Image:
    """The legend of `ratio_colours`, 0 on the left."""
    ramp = np.linspace(0, 1, width, dtype=np.float32)
    return np.asarray(cv2.repeat(ratio_colours(ramp[None]), height, 1), np.uint8)


def _known(flow: Field) -> NDArray[np.bool_]:
    """Networks give what they do not know a length that no motion has (the longer side)."""
    return np.asarray(np.abs(flow).max(-1) < max(flow.shape[:2]), np.bool_)

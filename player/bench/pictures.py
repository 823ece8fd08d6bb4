"""Pictures of restored frames side by side, for the eye: original, blend, result, error and distance ratio map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drba.flow import FlowInterpolator

from ..pictures import Image, to_bgr, write_png
from ..source import StreamInfo
from .quality import FrameScore, Gap, Restorer, most_moving

ERROR_GAIN = 8
PANEL_WIDTH = 640  # pixels; larger pictures are reduced, smaller ones stay
TITLE_ROWS = 28


def choose(scores: Sequence[FrameScore], count: int, method: str) -> list[int]:
    """Numbers of the `count` frames to show: half have the most motion, half gain the least on blending."""
    moving = [score.number for score in most_moving(scores, 1.0)][: -(-count // 2)]
    gains = sorted(scores, key=lambda score: score.mse["blend"] / score.mse[method])
    worst = [score.number for score in gains if score.number not in moving]
    return sorted(moving + worst[: count - len(moving)])


class StripPainter:
    """Paints one row of panels for a gap. The DRM shown is the flow model's, whatever model is measured."""

    def __init__(self, info: StreamInfo, restorer: Restorer, method: str, scale: float = 1.0) -> None:
        self._info, self._restorer, self._method = info, restorer, method
        self._interpolator = FlowInterpolator(info.layout, scale=scale)

    def paint(self, gap: Gap) -> Image:
        blend = [cv2.addWeighted(a, 0.5, b, 0.5, 0.0) for a, b in zip(gap.before.planes, gap.after.planes, strict=True)]
        result = self._restorer.restored(gap, self._method)
        peak = self._info.layout.format.max_value
        error = cv2.absdiff(gap.wanted.planes[0], result[0]).astype(np.float32) * (255 * ERROR_GAIN / peak)
        panels = {
            f"source {gap.wanted.number}": to_bgr(gap.wanted.planes, self._info),
            "blend": to_bgr(blend, self._info),
            "result": to_bgr(result, self._info),
            f"luma error x{ERROR_GAIN}": cv2.cvtColor(np.minimum(error, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR),
            "DRM: blue rests before, red after": self._ratio_map(gap),
        }
        return np.asarray(cv2.hconcat([_titled(title, picture) for title, picture in panels.items()]), np.uint8)

    def _ratio_map(self, gap: Gap) -> Image:
        """Local timestep of the kept frame after the gap: green is plain interpolation."""
        assert gap.triplet is not None
        after, before, following = gap.triplet.middle, gap.triplet.previous, gap.triplet.following
        assert before is not None
        near = self._interpolator.flow(after.number, after.planes, before.number, before.planes)
        beyond = None
        if following is not None:
            beyond = self._interpolator.flow(after.number, after.planes, following.number, following.planes)
        local = self._interpolator.timestep_map(
            near, beyond, 0.5, gap.triplet.interval_before, gap.triplet.interval_after
        )
        height, width = self._info.layout.plane_shapes[0]
        coloured = cv2.applyColorMap(np.rint((1 - local) * 255).astype(np.uint8), cv2.COLORMAP_JET)
        return np.asarray(cv2.resize(coloured, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def write_strips(folder: Path, gaps: Iterable[Gap], paint: Callable[[Gap], Image]) -> list[Path]:
    """One PNG a gap in `folder`, which is made; InputError where it cannot be written."""
    written = []
    for gap in gaps:
        path = folder / f"frame-{gap.wanted.number:06d}.png"
        write_png(path, paint(gap))
        written.append(path)
    return written


def _titled(title: str, picture: Any) -> Image:
    height, width = picture.shape[:2]
    if width > PANEL_WIDTH:
        size = (PANEL_WIDTH, round(height * PANEL_WIDTH / width))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    panel = cv2.copyMakeBorder(picture, TITLE_ROWS, 0, 0, 0, cv2.BORDER_CONSTANT)
    cv2.putText(panel, title, (6, TITLE_ROWS - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(panel, np.uint8)

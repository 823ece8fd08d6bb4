"""A preview as one picture: a row of frames for each interval in the order of time, a row of maps, a legend."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import Motion

from ..pictures import Image, to_bgr
from ..plan import Kind
from ..source import StreamInfo
from .flow_colour import common_scale_px, flow_colours, ratio_bar, ratio_colours, wheel
from .panels import BACKGROUND, DIM, GAP_PX, WHITE, Colour, Panel, blank, column, panel_width, row, text
from .preview import Interval, Preview, PreviewFrame, PreviewOutput

MAX_BETWEEN = 4  # output frames shown of one interval: with its source frames six panels of 320 pixels
TITLE_ROWS, LEGEND_ROWS = 36, 124
LEGEND_WIDTH_PX = 1230
OUTLINE = (120, 120, 120)
SOURCE, DRAWN, HELD, CUT = (150, 150, 150), (110, 190, 60), (30, 170, 240), (70, 70, 235)
_KINDS: dict[Kind, tuple[str, Colour]] = {
    Kind.INTERPOLATED: ("in-between", DRAWN),
    Kind.HELD: ("held drawing: source repeated", HELD),
    Kind.CUT: ("scene cut: source repeated", CUT),
    Kind.SOURCE: ("source frame", SOURCE),
}


@dataclass(frozen=True)
class PreviewPainter:
    """Paints `preview`. `title` names film, time and what is rendered, `motion_of` the model that `motion` comes from;
    0 s on the output clock is called `zero_s`."""

    preview: Preview
    motion: Motion
    info: StreamInfo
    title: str
    motion_of: str
    zero_s: Fraction = Fraction(0)

    def paint(self) -> Image:
        """At most `panels.WIDTH_PX` wide."""
        layout = self.info.layout
        size = (layout.width * float(self.info.sample_aspect), float(layout.height))
        rows = [self._interval(interval) for interval in self.preview.intervals] or [
            [self._source(self.preview.middle)]
        ]
        width = panel_width(max(map(len, rows)), size)
        scale_px = common_scale_px(self.motion.to_previous, self.motion.to_following)
        maps = self._maps(scale_px)
        title = blank(TITLE_ROWS, LEGEND_WIDTH_PX)
        text(title, self.title, (10, 24), WHITE, 0.62)
        painted = [row(panels, width, size) for panels in rows]
        return column(
            [title, *painted, row(maps, panel_width(len(maps), size), size), _legend(scale_px, self.motion_of)]
        )

    def _interval(self, interval: Interval) -> list[Panel]:
        count = len(interval.outputs)
        chosen = [interval.outputs[i] for i in _spread(count, MAX_BETWEEN)]
        shown = f"  ({len(chosen)} of {count})" if len(chosen) < count else ""
        between = [self._output(output, interval, shown) for output in chosen]
        return [self._source(interval.first), *between, self._source(interval.second)]

    def _source(self, frame: PreviewFrame) -> Panel:
        written = "written unchanged" if frame.time_s in self.preview.written else "not written: no output time here"
        maps = "  (the maps' frame)" if frame is self.preview.middle else ""
        return Panel(to_bgr(frame.planes, self.info), f"source  {self._clock(frame.time_s)}{maps}", written, SOURCE)

    def _output(self, output: PreviewOutput, interval: Interval, shown: str) -> Panel:
        words, colour = _KINDS[output.plan.kind]
        if output.plan.kind is Kind.INTERPOLATED:
            share = (output.time_s - interval.first.time_s) / (interval.second.time_s - interval.first.time_s)
            words += f" at {float(100 * share):.0f} % of the way"
        first_line = f"output {output.plan.number}  {self._clock(output.time_s)}{shown}"
        return Panel(to_bgr(output.planes, self.info), first_line, words, colour, marked=True)

    def _clock(self, time_s: Fraction) -> str:
        return f"{float(time_s + self.zero_s):.4f} s"

    def _maps(self, scale_px: float) -> list[Panel]:
        """Motion on either side in the direction of time, so that even motion has one colour in both, and their ratio."""
        motion = self.motion
        before = None if motion.to_previous is None else flow_colours(-motion.to_previous, scale_px)
        after = None if motion.to_following is None else flow_colours(motion.to_following, scale_px)
        ratio = None if motion.ratio is None else ratio_colours(motion.ratio)
        described = (
            (before, "flow since the frame before", self._why_missing(before=True)),
            (after, "flow to the frame after", self._why_missing(before=False)),
            (ratio, "distance ratio map (DRM)", "none: needs motion on both sides"),
        )
        outlines = _outlines(self.preview.middle)
        for picture, _, _ in described:
            if picture is not None:
                picture[outlines] = OUTLINE
        return [Panel(picture, name, "" if picture is not None else why, SOURCE) for picture, name, why in described]

    def _why_missing(self, *, before: bool) -> str:
        middle = self.preview.middle
        if any((i.second if before else i.first) is middle for i in self.preview.intervals):
            return "none: scene cut"
        return "none: the film begins here" if before else "none: the film ends here"


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly."""
    return list(range(count)) if count <= most else [round((i + 0.5) * count / most - 0.5) for i in range(most)]


def _outlines(frame: PreviewFrame) -> NDArray[np.bool_]:
    """Where the drawing's lines are: without them nobody finds their way in a map."""
    luma = frame.planes[0]
    peak = int(luma.max()) or 1
    grey = (luma.astype(np.float32) * (255 / peak)).astype(np.uint8)
    blurred = cv2.GaussianBlur(grey, (0, 0), max(1.0, grey.shape[1] / 640))
    return np.asarray(cv2.Canny(blurred, 60, 140) > 0, np.bool_)


def _legend(scale_px: float, motion_of: str) -> Image:
    image = blank(LEGEND_ROWS, LEGEND_WIDTH_PX)
    side = LEGEND_ROWS - 2 * GAP_PX
    image[GAP_PX : GAP_PX + side, 10 : 10 + side] = wheel(side, BACKGROUND)
    left = side + 26
    text(image, "Optical flow", (left, 24), WHITE)
    text(image, "colour: direction of motion, as from the wheel's centre", (left, 46), DIM)
    text(image, f"strength: full colour is {scale_px:g} pixels a frame or more", (left, 66), DIM)
    text(image, "white rests; grey: the model does not know", (left, 86), DIM)
    text(image, f"flow and map of: {motion_of}", (left, 108), DIM)
    left = 640
    text(image, "Distance ratio map", (left, 24), WHITE)
    bar = ratio_bar(300, 18)
    image[36 : 36 + bar.shape[0], left : left + bar.shape[1]] = bar
    text(image, "blue: rests before this frame, moves after it", (left, 76), DIM)
    text(image, "white: even motion, plain interpolation", (left, 94), DIM)
    text(image, "red: moves before this frame, rests after it", (left, 112), DIM)
    return image

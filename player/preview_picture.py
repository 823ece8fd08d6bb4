"""A preview as one picture: a row of frames for each interval in the order of time, a row of maps, a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .flow_colour import common_scale_px, flow_colours, ratio_bar, ratio_colours, wheel
from .pictures import Image, to_bgr
from .plan import Kind
from .render_preview import Interval, Preview, PreviewFrame, PreviewOutput
from .source import StreamInfo

Colour = tuple[int, int, int]  # BGR

WIDTH_PX = 1920
MAX_PANEL_PX = (640, 420)  # width, height: three panels fill the width; upright films are limited by their height
LEAST_PANEL_PX = 300  # wide: what the labels need
MAX_BETWEEN = 4  # output frames shown of one interval: with its source frames six panels of 320 pixels
GAP_PX = 4
TITLE_ROWS, LABEL_ROWS, BAR_ROWS, LEGEND_ROWS = 36, 42, 4, 124
LEGEND_WIDTH_PX = 1230
BACKGROUND = 28
FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE, DIM = (240, 240, 240), (170, 170, 170)
OUTLINE = (120, 120, 120)
SOURCE, DRAWN, HELD, CUT = (150, 150, 150), (110, 190, 60), (30, 170, 240), (70, 70, 235)
_KINDS: dict[Kind, tuple[str, Colour]] = {
    Kind.INTERPOLATED: ("in-between", DRAWN),
    Kind.HELD: ("held drawing: source repeated", HELD),
    Kind.CUT: ("scene cut: source repeated", CUT),
    Kind.SOURCE: ("source frame", SOURCE),
}


@dataclass(frozen=True)
class _Panel:
    """A picture under a coloured bar, with two lines of text below; `picture` None for a text alone."""

    picture: Image | None
    first_line: str
    second_line: str
    colour: Colour


def paint_preview(preview: Preview, info: StreamInfo, title: str, *, motion_of: str) -> Image:
    """`title` names film, time and what is rendered; `motion_of` the model whose flow and distance ratio are shown."""
    rows = [_interval_row(interval, preview, info) for interval in preview.intervals]
    frame_width = _panel_width(info, max((len(row) for row in rows), default=1))
    painted = [_row(row, frame_width, info) for row in rows or [[_source(preview.middle, preview, info)]]]
    scale_px = 0.0
    if preview.motion is not None:
        scale_px = common_scale_px(preview.motion.to_previous, preview.motion.to_following)
    maps = _map_row(preview, scale_px)
    painted.append(_row(maps, _panel_width(info, len(maps)), info))
    painted.append(_legend(scale_px, motion_of))
    width = max(LEGEND_WIDTH_PX, *(row.shape[1] for row in painted))
    title_bar = _blank(TITLE_ROWS, width)
    _text(title_bar, title, (10, 24), WHITE, 0.62)
    padded = [
        cv2.copyMakeBorder(row, 0, GAP_PX, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=(BACKGROUND,) * 3)
        for row in (title_bar, *painted)
    ]
    return np.asarray(cv2.vconcat(padded), np.uint8)


# --- what is in the rows ----------------------------------------------------------------------------------------------


def _interval_row(interval: Interval, preview: Preview, info: StreamInfo) -> list[_Panel]:
    count = len(interval.outputs)
    chosen = [interval.outputs[i] for i in _spread(count, MAX_BETWEEN)]
    left_out = f"  ({len(chosen)} of {count})" if len(chosen) < count else ""
    between = [_output(output, interval, info, left_out) for output in chosen]
    return [_source(interval.first, preview, info), *between, _source(interval.second, preview, info)]


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly."""
    return list(range(count)) if count <= most else [round((i + 0.5) * count / most - 0.5) for i in range(most)]


def _source(frame: PreviewFrame, preview: Preview, info: StreamInfo) -> _Panel:
    written = "written unchanged" if frame.time_s in preview.written else "not written: no output time here"
    maps = "  (the maps' frame)" if frame is preview.middle else ""
    return _Panel(to_bgr(frame.planes, info), f"source  {float(frame.time_s):.4f} s{maps}", written, SOURCE)


def _output(output: PreviewOutput, interval: Interval, info: StreamInfo, left_out: str) -> _Panel:
    words, colour = _KINDS[output.plan.kind]
    if output.plan.kind is Kind.INTERPOLATED:
        share = (output.time_s - interval.first.time_s) / (interval.second.time_s - interval.first.time_s)
        words += f" at {float(100 * share):.0f} % of the way"
    first = f"output {output.plan.number}  {float(output.time_s):.4f} s{left_out}"
    return _Panel(to_bgr(output.planes, info), first, words, colour)


def _map_row(preview: Preview, scale_px: float) -> list[_Panel]:
    """Motion on either side in the direction of time, so that even motion has one colour in both, and their ratio."""
    motion = preview.motion
    if motion is None:
        return [_Panel(None, "no optical flow", "this model has none", SOURCE)]
    before = None if motion.to_previous is None else flow_colours(-motion.to_previous, scale_px)
    after = None if motion.to_following is None else flow_colours(motion.to_following, scale_px)
    ratio = None if motion.ratio is None else ratio_colours(motion.ratio)
    missing = [_why_missing(preview, -1), _why_missing(preview, 1)]
    outlines = _outlines(preview.middle)
    for picture in (before, after, ratio):
        if picture is not None:
            picture[outlines] = OUTLINE
    return [
        _Panel(before, "flow since the frame before", "" if before is not None else missing[0], SOURCE),
        _Panel(after, "flow to the frame after", "" if after is not None else missing[1], SOURCE),
        _Panel(
            ratio, "distance ratio map (DRM)", "" if ratio is not None else "none: needs motion on both sides", SOURCE
        ),
    ]


def _outlines(frame: PreviewFrame) -> NDArray[np.bool_]:
    """Where the drawing's lines are: without them nobody finds their way in a map."""
    luma = frame.planes[0]
    peak = int(luma.max()) or 1
    grey = (luma.astype(np.float32) * (255 / peak)).astype(np.uint8)
    blurred = cv2.GaussianBlur(grey, (0, 0), max(1.0, grey.shape[1] / 640))
    return np.asarray(cv2.Canny(blurred, 60, 140) > 0, np.bool_)


def _why_missing(preview: Preview, side: int) -> str:
    neighbours = [i for i in preview.intervals if (i.second if side < 0 else i.first) is preview.middle]
    if neighbours:
        return "none: scene cut"
    return "none: the film begins here" if side < 0 else "none: the film ends here"


# --- painting ---------------------------------------------------------------------------------------------------------


def _shape(info: StreamInfo) -> float:
    """Height of the picture as it is shown, for a width of 1."""
    return info.layout.height / (info.layout.width * float(info.sample_aspect))


def _panel_width(info: StreamInfo, columns: int) -> int:
    natural = min(info.layout.width * float(info.sample_aspect), MAX_PANEL_PX[0], MAX_PANEL_PX[1] / _shape(info))
    fitting = (WIDTH_PX - (columns - 1) * GAP_PX) // columns
    return min(fitting, max(LEAST_PANEL_PX, round(natural)))


def _row(panels: Sequence[_Panel], width: int, info: StreamInfo) -> Image:
    height = max(1, round(width * _shape(info)))
    gap = _blank(BAR_ROWS + height + LABEL_ROWS, GAP_PX)
    pieces = []
    for panel in panels:
        pieces += [_painted(panel, width, height), gap]
    return np.asarray(cv2.hconcat(pieces[:-1]), np.uint8)


def _painted(panel: _Panel, width: int, height: int) -> Image:
    image = _blank(BAR_ROWS + height + LABEL_ROWS, width)
    image[:BAR_ROWS] = panel.colour
    if panel.picture is not None:
        reducing = panel.picture.shape[1] > width
        interpolation = cv2.INTER_AREA if reducing else cv2.INTER_LINEAR
        image[BAR_ROWS : BAR_ROWS + height] = cv2.resize(panel.picture, (width, height), interpolation=interpolation)
    _text(image, panel.first_line, (6, BAR_ROWS + height + 17), WHITE)
    _text(image, panel.second_line, (6, BAR_ROWS + height + 35), DIM if panel.colour == SOURCE else panel.colour)
    return image


def _legend(scale_px: float, motion_of: str) -> Image:
    image = _blank(LEGEND_ROWS, LEGEND_WIDTH_PX)
    side = LEGEND_ROWS - 2 * GAP_PX
    image[GAP_PX : GAP_PX + side, 10 : 10 + side] = wheel(side, BACKGROUND)
    left = side + 26
    _text(image, "Optical flow", (left, 24), WHITE)
    _text(image, "colour: direction of motion, as from the wheel's centre", (left, 46), DIM)
    _text(image, f"strength: full colour is {scale_px:g} pixels a frame or more", (left, 66), DIM)
    _text(image, "white rests; grey: the model does not know", (left, 86), DIM)
    _text(image, f"flow and map of: {motion_of}", (left, 108), DIM)
    left = 640
    _text(image, "Distance ratio map", (left, 24), WHITE)
    bar = ratio_bar(300, 18)
    image[36 : 36 + bar.shape[0], left : left + bar.shape[1]] = bar
    _text(image, "blue: rests before this frame, moves after it", (left, 76), DIM)
    _text(image, "white: even motion, plain interpolation", (left, 94), DIM)
    _text(image, "red: moves before this frame, rests after it", (left, 112), DIM)
    return image


def _blank(rows: int, width: int) -> Image:
    return np.full((rows, width, 3), BACKGROUND, np.uint8)


def _text(image: NDArray[np.uint8], text: str, at: tuple[int, int], colour: Colour, size: float = 0.46) -> None:
    """OpenCV's font has ASCII only."""
    cv2.putText(image, text.encode("ascii", "replace").decode(), at, FONT, size, colour, 1, cv2.LINE_AA)

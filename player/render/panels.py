"""Pictures with labels in rows, as OpenCV draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..pictures import Image

Colour = tuple[int, int, int]  # BGR

WIDTH_PX = 1920
MAX_PANEL_PX = (640, 420)  # width, height: three panels fill the width; upright films are limited by their height
LEAST_PANEL_PX = 300  # wide: what the labels need
GAP_PX = 4
LABEL_ROWS, BAR_ROWS = 42, 4
BACKGROUND = 28
FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE, DIM = (240, 240, 240), (170, 170, 170)


@dataclass(frozen=True)
class Panel:
    """A picture under a bar of `colour`, with two lines of text below; None for a text alone. The second line has the bar's
    colour where `marked`."""

    picture: Image | None
    first_line: str
    second_line: str
    colour: Colour
    marked: bool = False


def panel_width(columns: int, size: tuple[float, float]) -> int:
    """Of one of `columns` panels in a row, for pictures of this natural (width, height)."""
    natural = min(size[0], MAX_PANEL_PX[0], MAX_PANEL_PX[1] * size[0] / size[1])
    fitting = (WIDTH_PX - (columns - 1) * GAP_PX) // columns
    return min(fitting, max(LEAST_PANEL_PX, round(natural)))


def row(panels: Sequence[Panel], width: int, size: tuple[float, float]) -> Image:
    """Panels of `width` beside each other, their pictures stretched to the shape of `size`."""
    height = max(1, round(width * size[1] / size[0]))
    gap = blank(BAR_ROWS + height + LABEL_ROWS, GAP_PX)
    pieces = [piece for panel in panels for piece in (_painted(panel, width, height), gap)]
    return np.asarray(cv2.hconcat(pieces[:-1]), np.uint8)


def column(rows: Sequence[Image]) -> Image:
    """Rows of any width under each other."""
    width = max(image.shape[1] for image in rows)
    padded = [
        cv2.copyMakeBorder(image, 0, GAP_PX, 0, width - image.shape[1], cv2.BORDER_CONSTANT, value=(BACKGROUND,) * 3)
        for image in rows
    ]
    return np.asarray(cv2.vconcat(padded), np.uint8)


def blank(rows: int, width: int) -> Image:
    return np.full((rows, width, 3), BACKGROUND, np.uint8)


def text(image: Image, words: str, at: tuple[int, int], colour: Colour, size: float = 0.46) -> None:
    """Write with the left end of the base line `at` (x, y). OpenCV's font has ASCII only; the rest becomes question marks."""
    cv2.putText(image, words.encode("ascii", "replace").decode(), at, FONT, size, colour, 1, cv2.LINE_AA)


def _painted(panel: Panel, width: int, height: int) -> Image:
    image = blank(BAR_ROWS + height + LABEL_ROWS, width)
    image[:BAR_ROWS] = panel.colour
    if panel.picture is not None:
        reducing = panel.picture.shape[1] > width
        interpolation = cv2.INTER_AREA if reducing else cv2.INTER_LINEAR
        image[BAR_ROWS : BAR_ROWS + height] = cv2.resize(panel.picture, (width, height), interpolation=interpolation)
    text(image, panel.first_line, (6, BAR_ROWS + height + 17), WHITE)
    text(image, panel.second_line, (6, BAR_ROWS + height + 35), panel.colour if panel.marked else DIM)
    return image

"""Which drawing every frame of the demo clip shows, and the picture itself: a pure function of frame times and size.

Drawings of the character are held for two frames, then for three ("on twos and threes"), while the background pans on
every frame. A shot lasts six seconds; the two places take turns. On the first frame at or after each whole second the
top left corner is white.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np

from .backdrop import meadow, town
from .canvas import PICTURE_POINTS, Canvas, Image, Sprite
from .character import (
    PORTRAIT_BOX,
    PORTRAIT_POSES,
    WALK_BOX,
    WALK_POSES,
    draw_portrait,
    draw_walker,
)

#: Shots change at CUT_FIRST_S + n * CUT_EVERY_S: never on a whole second, which is the flashes'.
CUT_FIRST_S, CUT_EVERY_S = Fraction(11, 2), Fraction(6)
#: Frames that one drawing is held for, in turn.
HOLDS = (2, 3)
#: Part of the picture's area that flashes.
FLASH_AREA = 1 / 8


@dataclass(frozen=True)
class Drawing:
    """What one frame shows. `shot` counts from 0, `pose` within its shot; `time_s` is since the clip's first frame."""

    shot: int
    pose: int
    time_s: float
    flash: bool


def storyboard(times_s: Sequence[Fraction]) -> tuple[Drawing, ...]:
    """The drawing of each frame, from its presentation time since the first frame (ascending, starting with 0)."""
    flashes = set(flash_frames(times_s))
    cuts = [0, *cut_frames(times_s), len(times_s)]
    cycle = sum(HOLDS)
    drawings = []
    for shot, (begin, end) in enumerate(pairwise(cuts)):
        for index in range(begin, end):
            turn, place = divmod(index - begin, cycle)
            pose = turn * len(HOLDS) + (place >= HOLDS[0])
            drawings.append(Drawing(shot, pose, float(times_s[index]), index in flashes))
    return tuple(drawings)


def flash_frames(times_s: Sequence[Fraction]) -> tuple[int, ...]:
    """Index of the first frame at or after each whole second from 1 on; one each, where frames last under a second."""
    return tuple(bisect_left(times_s, second) for second in range(1, int(times_s[-1]) + 1))


def cut_frames(times_s: Sequence[Fraction]) -> tuple[int, ...]:
    """Index of the first frame of every shot but the first."""
    shots = max(0, int((times_s[-1] - CUT_FIRST_S) // CUT_EVERY_S + 1))
    return tuple(bisect_left(times_s, CUT_FIRST_S + n * CUT_EVERY_S) for n in range(shots))


def flash_side_px(width: int, height: int) -> int:
    """Side of the white square in the top left corner: an eighth of the area, even, no more than the picture."""
    return min(width, height, max(2, round((width * height * FLASH_AREA) ** 0.5) // 2 * 2))


class ScenePainter:
    """Paints frames of one size; keeps layers and drawings, some 200 MB at 720p. Not thread-safe."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._scale = height / PICTURE_POINTS
        self._backdrops = (meadow(width, height), town(width, height))
        self._sprites: dict[tuple[int, int], Sprite] = {}

    def paint(self, drawing: Drawing) -> Image:
        """The picture without its flash: a new BGR array of (height, width, 3)."""
        width, height = self._size
        place = drawing.shot % 2
        frame = np.empty((height, width, 3), np.uint8)
        for layer in self._backdrops[place].behind:
            layer.over(frame, drawing.time_s)
        self.sprite(place, drawing.pose).over(frame, *self.sprite_corner_px(place))
        for layer in self._backdrops[place].before:
            layer.over(frame, drawing.time_s)
        return frame

    def sprite(self, place: int, pose: int) -> Sprite:
        """The character's drawing number `pose` in place 0 (walking over the meadow) or 1 (close up, in the town)."""
        key = (place, pose % (WALK_POSES, PORTRAIT_POSES)[place])
        if key not in self._sprites:
            left, top, right, bottom = (WALK_BOX, PORTRAIT_BOX)[place]
            width, height = (max(1, round(side * self._scale)) for side in (right - left, bottom - top))
            canvas = Canvas.blank(width, height, self._scale, (-left * self._scale, -top * self._scale))
            (draw_walker, draw_portrait)[place](canvas, key[1])
            self._sprites[key] = Sprite(canvas.finish())
        return self._sprites[key]

    def sprite_corner_px(self, place: int) -> tuple[int, int]:
        """Column and row of the character's top left corner in the picture."""
        left, top, _, _ = (WALK_BOX, PORTRAIT_BOX)[place]
        x, y = ((0.54, 652), (0.6, 296))[place]
        return round(self._size[0] * x + left * self._scale), round((y + top) * self._scale)


def stored_picture(painter: ScenePainter, drawing: Drawing, width: int, height: int, rotation: int) -> Image:
    """The picture as a file stores it: turned back by `rotation`, squeezed to width x height, flash in its corner.

    `painter` has the size of the picture as it is shown; `rotation` is 0, 90, 180 or 270, clockwise, as a player
    applies it.
    """
    picture = np.rot90(painter.paint(drawing), rotation // 90)
    if picture.shape[:2] != (height, width):
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    picture = np.ascontiguousarray(picture)
    if drawing.flash:
        side = flash_side_px(width, height)
        picture[:side, :side] = 255
    return picture

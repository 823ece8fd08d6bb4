"""Draw the pictures of drm.md, training.md and the README: python docs/make_drm_pictures.py [FOLDER] [--height ROWS]

The film is the demo clip's meadow with its walker on twos: every drawing of hers is shown for two frames and stands further on
by STEP_POINTS, while the background pans with every frame. In-betweens come from the flow-only model as it plays, and from
the same model with its distance ratio map switched off. The figures that are measured are those of `training.held`, drawn by
every model of MODELS.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import drba
from drba.pixels import FrameLayout, pixel_format
from engines.base import SourceFrame, StreamSpec, Triplet
from engines.flow import FlowRenderer
from player.demo.backdrop import meadow
from player.demo.canvas import PICTURE_POINTS
from player.demo.planes import planes_from_bgr
from player.demo.scene import ScenePainter, cut_frames, storyboard
from player.pictures import Image
from player.render.flow_colour import common_scale_px, flow_colours, ratio_bar, ratio_colours, wheel
from player.render.panels import DIM, FONT, WHITE, Panel, blank, column, row, text
from training.drm import KINDS, halfway
from training.ghosts import Judge
from training.held import held_scene
from training.scenes import example

RATE = 24
HOLD = 2  # frames that a drawing stands for
STEP_POINTS, FIRST_POINT, FIRST_POSE = 40, 350, 3  # points are rows of a picture of PICTURE_POINTS
JUMP = 6  # the first frame of a new drawing: frame 5 still shows the one before
MATRIX = "smpte170m"  # what OpenCV's conversion from planes to BGR assumes
JPEG_QUALITY = 85
WIDE_PX = 1300  # above which a picture, one of many small ones, is written at three quarters of its size
WIDE_QUALITY = 70
ORANGE, GREEN, GREY = (30, 150, 240), (110, 190, 60), (150, 150, 150)  # BGR
Box = tuple[int, int, int, int]  # left, top, right, bottom in points


class Walk:
    """The scene that is explained: `paint(number)` is a frame of it."""

    def __init__(self, height: int) -> None:
        self.size = (height * 16 // 9 // 2 * 2, height)
        self.scale = height / PICTURE_POINTS
        self._painter, self._backdrop = ScenePainter(*self.size), meadow(*self.size)

    def figure_x(self, number: int) -> int:
        """Column of the figure's middle in frame `number`."""
        return round((FIRST_POINT + STEP_POINTS * (number // HOLD)) * self.scale)

    def paint(self, number: int) -> Image:
        picture = np.empty((self.size[1], self.size[0], 3), np.uint8)
        for layer in self._backdrop.behind:
            layer.over(picture, number / RATE)
        sprite = self._painter.sprite(0, FIRST_POSE + number // HOLD)
        sprite.over(picture, self.figure_x(number) - round(215 * self.scale), self._painter.sprite_corner_px(0)[1])
        for layer in self._backdrop.before:
            layer.over(picture, number / RATE)
        return picture


def portrait(height: int) -> Callable[[int], Image]:
    """The demo clip's second shot, from its first frame on: a hand that waves on twos and threes."""
    times = [Fraction(number, RATE) for number in range(8 * RATE)]
    drawings, cut = storyboard(times), cut_frames(times)[0]
    painter = ScenePainter(height * 16 // 9 // 2 * 2, height)
    return lambda number: painter.paint(drawings[cut + number])


class Film:
    """Frames that `paint` paints, and what the model makes of them."""

    def __init__(self, paint: Callable[[int], Image], height: int) -> None:
        self._layout = FrameLayout(height * 16 // 9 // 2 * 2, height, pixel_format("yuv420p"))
        spec = StreamSpec(self._layout, MATRIX)
        self.with_drm, self.without_drm = FlowRenderer(spec), FlowRenderer(spec, use_drm=False)
        self.scale = height / PICTURE_POINTS
        self._paint = paint
        self.source = lru_cache(None)(self._source)

    def _source(self, number: int) -> SourceFrame:
        return SourceFrame(number, planes_from_bgr(self._paint(number), self._layout.format, MATRIX, False))

    def triplet(self, middle: int) -> Triplet:
        return Triplet(self.source(middle - 1), self.source(middle), self.source(middle + 1))

    def shown(self, time: float | Fraction, renderer: FlowRenderer | None) -> Image:
        """The picture at `time`, counted in source frames; without a renderer the source frame that a player shows then."""
        number = int(time)
        if renderer is None or time == number:
            return self.bgr(self.source(number).planes)
        middle = int(time + 0.5)  # the nearest frame, at halfway the later one, as in the player
        out = self._layout.views(bytearray(self._layout.frame_bytes))
        renderer.render(self.triplet(middle), [float(1 + time - middle)], [out])
        return self.bgr(out)

    def bgr(self, planes: Sequence[np.ndarray]) -> Image:
        packed = np.concatenate([plane.reshape(-1) for plane in planes])
        rows = self._layout.height * 3 // 2
        return np.asarray(cv2.cvtColor(packed.reshape(rows, -1), cv2.COLOR_YUV2BGR_I420), np.uint8)

    def cropped(self, picture: Image, points: Box) -> Image:
        left, top, right, bottom = (round(side * self.scale) for side in points)
        return picture[top:bottom, left:right]


AROUND: Box = (230, 130, 690, 710)  # the figure before and after the jump
ARM: Box = (350, 390, 570, 570)
HAND: Box = (320, 340, 620, 620)
MODELS = ("flow", "drba-small")  # whose figures are measured
MEASURED_SCENES = range(3)  # the first ones: neither good nor bad ones were sought
EXAMPLES = range(6)
SLICE_ROW, SLICE_PART = 520, (200, 900)  # in points: the row that is followed in time, from where to where


def scene(walk: Walk, film: Film) -> Image:
    """The triplet before the jump."""
    names = {4: "I0  frame 4", 5: "I1  frame 5: the figure has rested", 6: "I2  frame 6: the figure has jumped"}
    panels = [Panel(_guided(walk, film, number, None), name, "", GREY) for number, name in names.items()]
    return row(panels, 340, _size(AROUND))


def maps(film: Film) -> Image:
    """Both flows of frame 5 in the direction of time, and the map that the model follows."""
    motion = film.with_drm.motion(film.triplet(JUMP - 1))
    assert motion.to_previous is not None and motion.to_following is not None and motion.ratio is not None
    full_px = common_scale_px(motion.to_previous, motion.to_following)
    described = (
        (film.bgr(film.source(JUMP - 1).planes), ("I1, the middle frame", "")),
        (flow_colours(-motion.to_previous, full_px), ("motion I0 -> I1", "figure white: it rests")),
        (flow_colours(motion.to_following, full_px), ("motion I1 -> I2", "figure red: it jumps right")),
        (ratio_colours(motion.ratio), ("distance ratio map", "figure near 0, all else 1/2")),
    )
    panels = [Panel(film.cropped(picture, AROUND), *words, GREY) for picture, words in described]
    return column([row(panels, 300, _size(AROUND)), _legend(full_px)])


def in_betweens(walk: Walk, film: Film) -> Image:
    """From frame 5 to frame 6 in fifths, without and with the map."""
    rows = []
    for renderer, name, colour in _both(film):
        panels = [
            Panel(
                _guided(walk, film, time, renderer),
                f"frame {time:g}",
                name if time % 1 else "source",
                colour if time % 1 else GREY,
                marked=True,
            )
            for time in (JUMP - 1 + fifth / 5 for fifth in range(6))
        ]
        rows.append(row(panels, 200, _size(AROUND)))
    return column(rows)


def enlarged(film: Film, frame: int, box: Box) -> Image:
    """Part of two frames, and of what is shown two fifths of the way from one to the other."""
    panels = [
        Panel(film.cropped(film.shown(frame + 0.4, renderer), box), f"frame {frame}.4", name, colour, marked=True)
        for renderer, name, colour in _both(film)
    ]
    first, second = (
        Panel(film.cropped(film.shown(number, None), box), f"frame {number}", "source", GREY)
        for number in (frame, frame + 1)
    )
    return row([first, *panels, second], 300, _size(box))


def ghosts() -> Image:
    """Held figures halfway through their jump, without and with the map, and what the measures say of them."""
    models = {name: drba.load(name) for name in MODELS}
    rows = []
    for number in MEASURED_SCENES:
        held = held_scene(number)
        judge = Judge(held, held.jump_time)
        panels = [(held.frames[1], "I1: has rested", "", GREY), (held.frames[2], "I2: has jumped", "", GREY)]
        for name, model in models.items():
            drawn = halfway(model, held)
            for kind, colour in zip(KINDS[1:], (ORANGE, GREEN), strict=True):
                found = judge.drawn(drawn[kind])
                words = f"ghost {found.ghost:.2f}, sharpness {found.sharpness:.2f}"
                panels.append((drawn[kind], f"{name} {kind}", words, colour))
        covered = cv2.boundingRect((held.figure_mask(0) | held.figure_mask(1)).astype(np.uint8))
        middle = covered[0] + covered[2] // 2
        height, width = held.size
        left = min(max(0, middle - height * 2 // 5), width - height * 4 // 5)
        part = np.s_[height // 5 :, left : left + height * 4 // 5, ::-1]
        rows.append(row([Panel(picture[part], *words, marked=True) for picture, *words in panels], 245, (1.0, 1.0)))
    return column(rows)


def drawn_scenes() -> Image:
    """Examples that the networks learn from: two frames, the one in between, and the local time of what it shows."""
    examples = [example(np.random.default_rng(number), (256, 256)) for number in EXAMPLES]
    rows = []
    for pair in zip(examples[::2], examples[1::2], strict=True):
        panels = []
        for shown in pair:
            panels += [
                Panel(shown.first[..., ::-1], "first", "", GREY),
                Panel(shown.middle[..., ::-1], "to be learned", "", GREEN),
                Panel(shown.second[..., ::-1], "second", "", GREY),
                Panel(ratio_colours(shown.timestep), "local time", "blue 0, white 1/2, red 1", GREY),
            ]
        rows.append(row(panels, 200, (1.0, 1.0)))
    return column(rows)


def slices(
    film: Film, per_frame: Fraction, kinds: Sequence[tuple[FlowRenderer | None, str, str, tuple[int, int, int]]]
) -> Image:
    """A row of the picture over ten frames of time, downwards, for each of `kinds`: renderer, two lines, colour."""
    left, right = (round(side * film.scale) for side in SLICE_PART)
    size = (400, 320)
    panels = []
    for renderer, first_line, second_line, colour in kinds:
        times = [1 + step / per_frame for step in range(int(10 * per_frame))]
        lines = [film.shown(time, renderer)[round(SLICE_ROW * film.scale), left:right] for time in times]
        picture = cv2.resize(np.stack(lines), (right - left, size[1]), interpolation=cv2.INTER_NEAREST)
        panels.append(Panel(picture, first_line, second_line, colour))
    return row(panels, size[0], size)


def on_off(film: Film) -> Image:
    """For the README: a frame with the row that is followed, and what DRBA makes of that row's motion."""
    picture = film.shown(3, None).copy()
    line = round(SLICE_ROW * film.scale)
    left, right = (round(side * film.scale) for side in SLICE_PART)
    cv2.line(picture, (left, line), (right, line), (255, 255, 255), max(1, round(3 * film.scale)))
    box = (0, 130, 1280, 720)
    frame = row(
        [Panel(film.cropped(picture, box), "the film; below, the white line's pixels as time runs down", "", GREY)],
        804,
        _size(box),
    )
    kinds = (
        (None, "off: 24 pictures a second", "everything moves in steps", GREY),
        (film.with_drm, "on: 60 pictures a second", "background smooth, figure on its own beat", GREEN),
    )
    return column([frame, slices(film, Fraction(60, RATE), kinds)])


def _both(film: Film) -> tuple[tuple[FlowRenderer, str, tuple[int, int, int]], ...]:
    return (film.without_drm, "without DRM", ORANGE), (film.with_drm, "with DRM", GREEN)


def _guided(walk: Walk, film: Film, time: float, renderer: FlowRenderer | None) -> Image:
    """AROUND at `time`, with the middle of the old and of the new drawing as lines."""
    picture = film.shown(time, renderer).copy()
    for number in (JUMP - 1, JUMP):
        x = walk.figure_x(number)
        cv2.line(picture, (x, 0), (x, picture.shape[0]), (255, 255, 255), max(1, round(2 * film.scale)))
    return film.cropped(picture, AROUND)


def _size(points: Box) -> tuple[float, float]:
    return float(points[2] - points[0]), float(points[3] - points[1])


def _legend(full_px: float) -> Image:
    image = blank(70, 1000)
    image[5:65, 10:70] = wheel(60, int(image[0, 0, 0]))
    text(image, "direction of motion, as from the wheel's centre", (84, 30), DIM)
    text(image, f"full colour: {full_px:g} pixels a frame or more", (84, 50), DIM)
    bar = ratio_bar(240, 14)
    image[14 : 14 + len(bar), 560:800] = bar
    for words, x in (("0", 556), ("1/2", 668), ("1", 794)):
        cv2.putText(image, words, (x, 46), FONT, 0.46, WHITE, 1, cv2.LINE_AA)
    text(image, "share of the way that lies before this frame", (560, 64), DIM, 0.42)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "pictures")
    parser.add_argument("--height", type=int, default=720, help="rows of the film (default: 720)")
    arguments = parser.parse_args()
    walk = Walk(arguments.height)
    film = Film(walk.paint, arguments.height)
    waving = Film(portrait(arguments.height), arguments.height)
    kinds = (
        (None, "the film, 24 pictures a second", "", GREY),
        *((renderer, f"in-betweens {name}", "", colour) for renderer, name, colour in _both(film)),
    )
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, picture in (
        ("drm-scene", scene(walk, film)),
        ("drm-maps", maps(film)),
        ("drm-in-betweens", in_betweens(walk, film)),
        ("drm-enlarged", enlarged(film, JUMP - 1, ARM)),
        ("drm-slices", slices(film, Fraction(8), kinds)),
        ("drm-limits", enlarged(waving, 14, HAND)),
        ("drm-ghosts", ghosts()),
        ("training-scenes", drawn_scenes()),
        ("on-off", on_off(film)),
    ):
        path = arguments.folder / f"{name}.jpg"
        quality = JPEG_QUALITY
        if picture.shape[1] > WIDE_PX or picture.shape[0] > WIDE_PX:
            quality = WIDE_QUALITY
            picture = cv2.resize(picture, None, fx=0.77, fy=0.77, interpolation=cv2.INTER_AREA)
        if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality]):
            raise SystemExit(f"{path}: cannot be written")
        print(path, f"{path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

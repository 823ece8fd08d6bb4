"""The demo clip's two places, a meadow by day and a town at dusk, as layers that pan at different speeds (parallax)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .canvas import PICTURE_POINTS, Canvas, PanningLayer, ellipse, smooth

#: Ground speed of the meadow in points a second; the walker's stride is made for it.
WALK_SPEED = 144.0
#: Layers that move this many points a second or faster need fewer positions a pixel to look smooth (and are the large
#: ones).
_FAST_SPEED = 60.0


@dataclass(frozen=True)
class Backdrop:
    """Layers from far to near, those behind the character and those in front of it. Together they cover every pixel."""

    behind: tuple[PanningLayer, ...]
    before: tuple[PanningLayer, ...]


class _Strip:
    """One layer being drawn: rows `top` to `bottom` of a picture that repeats every `period`, all in points."""

    def __init__(self, size_px: tuple[int, int], period: float, top: float, bottom: float) -> None:
        self._width_px, height_px = size_px
        self._scale = height_px / PICTURE_POINTS
        self._top_px = min(height_px - 1, round(top * self._scale))
        rows = max(1, min(height_px, round(bottom * self._scale)) - self._top_px)
        columns = max(8, round(period * self._scale))
        self.period = columns / self._scale
        self.canvas = Canvas.blank(columns, rows, self._scale, (0, -self._top_px))

    def at(
        self, x: float, y: float = 0, scale: float = 1, mirror: bool = False, reach: float = 300
    ) -> Iterator[Canvas]:
        """Canvases with their origin at (x, y), and a period to either side if a thing of `reach` shows there."""
        for place in (x - self.period, x, x + self.period):
            if -reach < place < self.period + reach:
                yield self.canvas.moved(place, y, scale, mirror=mirror)

    def ridge(self, base: float, waves: tuple[tuple[int, float, float], ...], bottom: float) -> np.ndarray:
        """Polygon under a line that repeats: `waves` are (number a period, height, phase)."""
        x = np.linspace(-40, self.period + 40, 240)
        line = base + sum(h * np.sin(2 * np.pi * n * x / self.period + phase) for n, h, phase in waves)
        return np.concatenate([np.stack([x, line], 1), [[x[-1], bottom], [x[0], bottom]]])

    def band(self, top: float, bottom: float) -> list[tuple[float, float]]:
        """The rectangle over the whole strip between two heights."""
        return [(-20, top), (self.period + 20, top), (self.period + 20, bottom), (-20, bottom)]

    def layer(self, speed: float, opaque: bool = False) -> PanningLayer:
        """The finished layer, moving at `speed` points a second."""
        phases = (2 if speed >= _FAST_SPEED else 4) * (1 if self._scale > 0.5 else 2)
        strip = self.canvas.finish()
        return PanningLayer(strip, self._top_px, speed * self._scale, self._width_px, opaque, phases)


# --- the meadow -----------------------------------------------------------------------------------------------------


def meadow(width_px: int, height_px: int) -> Backdrop:
    """Sky with clouds and far mountains, hills, trees, a path to walk on; grass and flowers in front."""
    size = (width_px, height_px)
    return Backdrop((_day_sky(size), _hills(size), _trees(size), _path(size)), (_grass(size),))


def _day_sky(size: tuple[int, int]) -> PanningLayer:
    strip, rng = _Strip(size, 1900, 0, 480), np.random.default_rng(11)
    strip.canvas.gradient(strip.band(-5, 485), "#2f86d2", "#c9ecf4")
    for canvas in strip.at(1180, 150, reach=700):
        canvas.glow(0, 0, 420, "#fff3c8", 0.55)
        canvas.fill(ellipse(0, 0, 46, 46), "#fffbe6")
    for x, y, scale in ((140, 300, 1.0), (520, 215, 0.62), (880, 320, 1.15), (1370, 260, 0.8), (1700, 330, 1.1)):
        puffs = [
            (dx, -abs(rng.normal(0, 18)), rng.uniform(30, 58) * (1 - abs(dx) / 190)) for dx in range(-120, 121, 30)
        ]
        for canvas in strip.at(x, y, scale):
            _cloud(canvas, puffs)
    far = strip.ridge(418, ((3, 22, 0.4), (7, 13, 1.2), (13, 6, 0.3), (29, 3, 2.0)), 490)
    strip.canvas.gradient(far, "#86b4dd", "#b9dbea")
    return strip.layer(7, opaque=True)


def _cloud(canvas: Canvas, puffs: list[tuple[int, float, float]]) -> None:
    for dx, dy, radius in puffs:
        canvas.fill(ellipse(dx, dy + 9, radius * 1.05, radius * 0.9), "#c3dcf0")
    for dx, dy, radius in puffs:
        canvas.fill(ellipse(dx, dy, radius, radius * 0.86), "#e6f3fb")
    for dx, dy, radius in puffs:
        canvas.fill(ellipse(dx + radius * 0.1, dy - radius * 0.16, radius * 0.78, radius * 0.64), "#fcfeff")


def _hills(size: tuple[int, int]) -> PanningLayer:
    strip = _Strip(size, 2100, 330, 525)
    back = strip.ridge(425, ((2, 34, 0.2), (5, 18, 2.1), (11, 5, 0.6)), 530)
    strip.canvas.gradient(back, "#5f9fb0", "#8cc3b4", "#4d8798", 2)
    front = strip.ridge(465, ((3, 20, 1.9), (4, 13, 0.3), (17, 3, 0.9)), 530)
    strip.canvas.gradient(front, "#67a878", "#9bcc8a", "#4f8d68", 2)
    strip.canvas.fill(strip.band(500, 530), "#9bcc8a")
    return strip.layer(30)


def _trees(size: tuple[int, int]) -> PanningLayer:
    strip, rng = _Strip(size, 2400, 215, 580), np.random.default_rng(5)
    strip.canvas.gradient(strip.ridge(512, ((4, 5, 0), (9, 3, 1)), 590), "#86c46c", "#5ea352")
    for x in range(0, 2400, 40):
        for canvas in strip.at(x + rng.uniform(-12, 12), 520 + rng.uniform(0, 22), rng.uniform(0.6, 1.1), reach=60):
            canvas.fill(ellipse(0, 0, 34, 20), "#6fb45f")
            canvas.fill(ellipse(-4, -5, 24, 12), "#8ccc72")
    for x, scale in ((120, 1.0), (480, 0.8), (760, 1.1), (1240, 0.74), (1700, 1.04), (1900, 0.78)):
        mirror = bool(rng.integers(2))
        for canvas in strip.at(x, 548, scale, mirror):
            _tree(canvas)
    for x, roof in ((1010, "#d9705f"), (1480, "#c98a4b"), (2200, "#d9705f")):
        for canvas in strip.at(x, 545):
            _house(canvas, roof)
    return strip.layer(88)


def _tree(canvas: Canvas) -> None:
    line = "#2e5b46"
    trunk = smooth([(-17, 4), (-10, -60), (-16, -130), (16, -130), (9, -60), (20, 4)])
    canvas.fill(trunk, "#8a6246", "#4b3a35", 3)
    canvas.shade(trunk, [(0, 10), (0, -140), (40, -140), (40, 10)], "#6d4a3a")
    crown = smooth([(-92, -140), (-108, -190), (-74, -226), (-62, -270), (-8, -290), (44, -282), (70, -240),
                    (106, -214), (104, -160), (74, -130), (24, -118), (-30, -122), (-64, -118)])  # fmt: skip
    canvas.gradient(crown, "#6cbf63", "#3e8d55", line, 3)
    for x, y, rx, ry in ((-40, -222, 42, 26), (28, -252, 40, 22), (52, -190, 36, 20), (-58, -172, 26, 16)):
        canvas.fill(ellipse(x, y, rx, ry), "#86d274")
    for x, y, rx, ry in ((-6, -158, 46, 14), (60, -148, 30, 12)):
        canvas.fill(ellipse(x, y, rx, ry), "#37814f")


def _house(canvas: Canvas, roof: str) -> None:
    line = "#5a4a52"
    wall = [(-74, 4), (-74, -92), (74, -92), (74, 4)]
    canvas.fill(wall, "#f6ead2", line)
    canvas.shade(wall, [(-80, -94), (80, -94), (80, -70), (-80, -76)], "#dcc9b6")
    canvas.fill([(-94, -86), (-58, -150), (58, -150), (94, -86)], roof, line)
    canvas.shade([(-94, -86), (-58, -150), (58, -150), (94, -86)], [(-94, -84), (94, -84), (90, -102), (-90, -102)],
                 "#a8514b", 0.7)  # fmt: skip
    canvas.fill([(30, -142), (30, -176), (48, -176), (48, -142)], "#c9a58d", line)
    for x in (-46, 22):
        canvas.fill([(x, -66), (x + 30, -66), (x + 30, -34), (x, -34)], "#8fd0ea", line)
        canvas.stroke([(x + 15, -66), (x + 15, -34)], line, 2)
    canvas.fill([(-10, 4), (-10, -46), (14, -46), (14, 4)], "#9a6a4c", line)


def _path(size: tuple[int, int]) -> PanningLayer:
    strip, rng = _Strip(size, 1600, 560, 720), np.random.default_rng(8)
    strip.canvas.gradient(strip.band(555, 725), "#6fb257", "#4d9a4c")
    strip.canvas.gradient(strip.ridge(596, ((5, 3, 0), (11, 2, 1)), 690), "#f0dcae", "#d9b983")
    strip.canvas.gradient(strip.ridge(674, ((6, 4, 1), (13, 2, 0)), 725), "#63ab52", "#3f8a48")
    for _ in range(70):
        x, y = rng.uniform(0, strip.period), rng.uniform(608, 664)
        for canvas in strip.at(x, y, rng.uniform(0.6, 1.3), reach=30):
            canvas.fill(ellipse(0, 0, 9, 3.2), "#c8a571")
            canvas.fill(ellipse(-1, -1.4, 6, 1.6), "#ecd6a6")
    for x in np.arange(0, strip.period, 23):
        for y in (593, 677):
            for canvas in strip.at(x + rng.uniform(-8, 8), y, rng.uniform(0.7, 1.3), reach=30):
                canvas.fill([(-9, 3), (-7, -12), (-2, -2), (1, -16), (4, -2), (10, -11), (9, 3)], "#57a04d")
    return strip.layer(WALK_SPEED, opaque=True)


def _grass(size: tuple[int, int]) -> PanningLayer:
    strip, rng = _Strip(size, 2000, 600, 720), np.random.default_rng(21)
    petals = ("#ff8fab", "#ffd166", "#fdfdfd", "#b79cf0")
    for x in np.arange(0, strip.period, 17):
        lean, tall = rng.normal(0, 14), rng.uniform(26, 68)
        colour = ("#2f7a44", "#3b8b4a", "#27693e")[int(rng.integers(3))]
        for canvas in strip.at(x, 724, reach=60):
            bend = lean * 0.4
            canvas.fill(
                smooth([(-9, 0), (bend - 5, -tall * 0.6), (lean, -tall), (bend + 5, -tall * 0.55), (9, 0)]), colour
            )
    for x in np.arange(60, strip.period, 157):
        petal, tall = petals[int(rng.integers(len(petals)))], rng.uniform(58, 92)
        for canvas in strip.at(x + rng.uniform(-50, 50), 724, reach=60):
            canvas.stroke([(0, 0), (4, -tall)], "#2f7a44", 5)
            for turn in range(0, 360, 72):
                flower = canvas.moved(4, -tall, degrees=turn)
                flower.fill(ellipse(0, -11, 8, 11), petal, "#4a3f55", 2)
            canvas.fill(ellipse(4, -tall, 7, 7), "#f6b93b", "#4a3f55", 2)
    return strip.layer(250)


# --- the town -------------------------------------------------------------------------------------------------------


def town(width_px: int, height_px: int) -> Backdrop:
    """Dusk sky with a low sun, a far skyline, houses with lit windows, a railing; leaves in front."""
    size = (width_px, height_px)
    return Backdrop((_dusk_sky(size), _skyline(size), _houses(size), _railing(size)), (_leaves(size),))


def _dusk_sky(size: tuple[int, int]) -> PanningLayer:
    strip, rng = _Strip(size, 1900, 0, 600), np.random.default_rng(3)
    strip.canvas.gradient(strip.band(-5, 260), "#2b2a66", "#8a5a9e")
    strip.canvas.gradient(strip.band(258, 605), "#8a5a9e", "#ffb27a")
    for _ in range(110):
        size_px = rng.uniform(0.8, 2.4)
        for canvas in strip.at(rng.uniform(0, strip.period), rng.uniform(0, 210), size_px, reach=10):
            canvas.fill(ellipse(0, 0, 1, 1), "#f4e9ff")
    for canvas in strip.at(452, 330, reach=900):
        canvas.glow(0, 0, 560, "#ffd9a0", 0.8)
        canvas.fill(ellipse(0, 0, 92, 92), "#fff0cf")
    for x, y, length in ((100, 330, 300), (560, 250, 240), (1240, 300, 380), (1560, 210, 260), (820, 390, 260)):
        for canvas in strip.at(x, y, reach=500):
            for dy, part, colour in ((0, 1.0, "#b46c9c"), (-9, 0.66, "#e08f93"), (-15, 0.36, "#ffb59a")):
                canvas.fill(ellipse(0, dy, length * part / 2, 13 * part + 3), colour)
    return strip.layer(6, opaque=True)


def _skyline(size: tuple[int, int]) -> PanningLayer:
    strip, rng = _Strip(size, 2000, 300, 640), np.random.default_rng(14)
    x = 0.0
    while x < strip.period - 40:
        wide, tall = rng.uniform(44, 96), rng.uniform(80, 230)
        lights = [
            (dx, dy) for dx in range(12, int(wide) - 10, 15) for dy in range(16, int(tall), 24) if rng.random() < 0.3
        ]
        for canvas in strip.at(x, 600, reach=120):
            canvas.gradient([(0, 50), (0, -tall), (wide, -tall), (wide, 50)], "#6b4a86", "#9c6590")
            for dx, dy in lights:
                canvas.fill(
                    [(dx, dy - tall), (dx + 6, dy - tall), (dx + 6, dy + 9 - tall), (dx, dy + 9 - tall)], "#ffcf8f"
                )
        x += wide - 2
    strip.canvas.fill(strip.band(596, 650), "#9c6590")
    return strip.layer(20)


def _houses(size: tuple[int, int]) -> PanningLayer:
    strip, rng = _Strip(size, 2300, 170, 725), np.random.default_rng(9)
    walls, x = ("#3b3566", "#463a70", "#352f5c", "#51407a"), 20.0
    while x < strip.period - 200:
        wide, tall = rng.uniform(150, 250), rng.uniform(180, 400)
        wall = walls[int(rng.integers(len(walls)))]
        lit = rng.random((8, 12)) < 0.45
        for canvas in strip.at(x, 640):
            _block(canvas, wide, tall, wall, lit)
        x += wide + rng.uniform(0, 90)
    strip.canvas.gradient(strip.band(630, 730), "#2c284f", "#221f40")
    return strip.layer(62)


def _block(canvas: Canvas, wide: float, tall: float, wall: str, lit: np.ndarray) -> None:
    canvas.fill([(0, 10), (0, -tall), (wide, -tall), (wide, 10)], wall, "#1d1b38", 4)
    canvas.fill([(-8, -tall), (-8, -tall - 14), (wide + 8, -tall - 14), (wide + 8, -tall)], "#2a2650", "#1d1b38", 4)
    canvas.shade([(0, 10), (0, -tall), (wide, -tall), (wide, 10)],
                 [(wide * 0.72, 10), (wide * 0.72, -tall), (wide, -tall), (wide, 10)], "#1d1b38", 0.35)  # fmt: skip
    canvas.stroke([(wide * 0.2, -tall - 16), (wide * 0.2, -tall - 64)], "#1d1b38", 4)
    for row, y in enumerate(np.arange(-tall + 24, -30, 54)):
        for column, x in enumerate(np.arange(20, wide - 34, 44)):
            bright = bool(lit[row % 8, column % 12])
            pane = [(x, y), (x + 24, y), (x + 24, y + 30), (x, y + 30)]
            canvas.fill(pane, "#ffd98a" if bright else "#2a2750", "#1d1b38", 3)
            if bright:
                canvas.fill([(x, y), (x + 24, y), (x + 24, y + 9)], "#fff0c2")


def _railing(size: tuple[int, int]) -> PanningLayer:
    strip = _Strip(size, 1440, 540, 725)
    for x in range(0, 1440, 48):
        for canvas in strip.at(x, 0, reach=60):
            canvas.limb([(0, 560), (0, 730)], "#5a5590", 7, "#1d1b38", 2)
    for y, width in ((556, 15), (690, 10)):
        strip.canvas.limb([(-60, y), (strip.period + 60, y)], "#7670ac", width, "#1d1b38", 3)
        strip.canvas.stroke([(-60, y - width * 0.25), (strip.period + 60, y - width * 0.25)], "#aaa2d4", 3)
    return strip.layer(110)


def _leaves(size: tuple[int, int]) -> PanningLayer:
    strip, rng = _Strip(size, 2100, 610, 720), np.random.default_rng(4)
    for x in np.arange(0, strip.period, 30):
        for canvas in strip.at(x + rng.uniform(-10, 10), 728, rng.uniform(0.7, 1.35), bool(rng.integers(2)), reach=90):
            leaf = smooth([(0, 0), (-20, -26), (-12, -56), (8, -82), (20, -50), (16, -20)])
            canvas.fill(leaf, "#1f3a4a", "#122233", 2)
            canvas.stroke([(2, -6), (6, -66)], "#2f5662", 2)
    return strip.layer(210)

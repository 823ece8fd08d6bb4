"""Three frames in which a figure rests and then jumps, or jumps and then rests, while the background pans evenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .layers import Layer, painted
from .motion import Motion
from .paint import Canvas, Image
from .staging import Size, backdrop_layer, character, strip_layer
from .style import Style

SIZE: Size = (360, 640)
#: As shares of the frame's width: of the background's pan from one frame to the next, of the figure's jump.
PAN, JUMP = (0.006, 0.016), (0.04, 0.1)
FIGURE_HEIGHT = 0.6  # of the frame's
_BACKGROUND, _FIGURE = 0, 1  # clocks


@dataclass(frozen=True)
class HeldScene:
    """The frames I0, I1, I2 are those at times 0, 1, 2; the figure jumps, into another pose, from I1 to I2, or from I0 to I1
    where `mirrored`. It rests on the screen, not on the ground, as a drawing does that is held while the camera follows."""

    size: Size
    layers: list[Layer]
    mirrored: bool

    @property
    def frames(self) -> tuple[Image, Image, Image]:
        """I0, I1, I2: (H, W, 3) uint8 RGB."""
        return self.true(0, 0), self.true(1, self.resting_place), self.true(2, 1)

    @property
    def jump_time(self) -> float:
        """The time in 0..2 halfway through the jump."""
        return 0.5 if self.mirrored else 1.5

    @property
    def resting_place(self) -> float:
        """The place of the figure in I1, where it rests: the one to be kept until halfway to the frame of the other place."""
        return 1.0 if self.mirrored else 0.0

    def true(self, time: float, place: float) -> Image:
        """The picture with the background at `time` in 0..2 and the figure at `place`, 0 before its jump and 1 after it."""
        return painted(self.layers, self.size, np.array([time / 2, place])).pixels

    def figure_mask(self, place: float) -> NDArray[np.bool_]:
        """(H, W): where the figure covers anything."""
        sheet = Layer(Canvas(0, 0, self.size[1], self.size[0], 1), Motion())
        figure = [layer for layer in self.layers if layer.clock == _FIGURE]
        return np.asarray(painted([sheet, *figure], self.size, np.array([0, place])).owner > 0)


def held_scene(seed: int, *, mirrored: bool = False, size: Size = SIZE) -> HeldScene:
    """The scene number `seed`."""
    rng, (height, width) = np.random.default_rng(seed), size
    style = Style.at_random(rng)
    pan = 2 * width * float(rng.uniform(*PAN) * rng.choice((-1, 1)))
    backdrop = backdrop_layer(rng, style, size, Motion(step=(0.6 * pan, 0.0)))
    land = strip_layer(rng, style, size, Motion(step=(pan, 0.0)))
    jump = width * float(rng.uniform(*JUMP) * rng.choice((-1, 1))), height * float(rng.normal(0, 0.02))
    start = width * rng.uniform(0.35, 0.65) - jump[0] / 2, height * 0.6
    walk = Motion(place=start, step=jump, degrees=float(rng.normal(0, 6)), turn=float(rng.normal(0, 6)))
    figure = character(rng, style, FIGURE_HEIGHT * height, walk, _FIGURE, turning=1, swing=2)
    return HeldScene(size, [backdrop, land, *figure], mirrored)

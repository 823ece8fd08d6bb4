"""Who stands where in a scene and how everything moves: the camera, strips at several depths, figures, things."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .figures import figure
from .layers import Layer
from .motion import Motion, Wave, applied
from .paint import Canvas
from .places import backdrop, strip
from .style import Style
from .things import DETAIL, thing

Size = tuple[int, int]  # height, width
Camera = Callable[[float], Motion]  # by nearness: 0 is infinitely far, 1 where the figures stand

STILL_CAMERA = 0.3  # share of the scenes
SPREAD = 1.1  # standard deviation of the logarithm of a step's length
#: Largest steps as a share of the frame's width.
LARGEST_PAN, LARGEST_STEP = 0.3, 0.25
#: Median steps in pixels: of the camera, a figure, a thing.
PAN_PX, FIGURE_STEP_PX, THING_STEP_PX = 10.0, 10.0, 12.0


def camera(rng: np.random.Generator, size: Size) -> Camera:
    """A pan, perhaps with a zoom and a turn, or none of them."""
    height, width = size
    if rng.random() < STILL_CAMERA:
        still = Motion()
        return lambda nearness: still
    x, y = _step(rng, PAN_PX, LARGEST_PAN * width)
    zoom = float(np.exp(rng.normal(0, 0.05))) if rng.random() < 0.4 else 1.0
    turn = float(rng.normal(0, 2.5)) if rng.random() < 0.25 else 0.0
    centre = (width * rng.uniform(0.2, 0.8), height * rng.uniform(0.2, 0.8))

    def at(nearness: float) -> Motion:
        step = (x * nearness, y * nearness)
        return Motion(place=centre, pivot=centre, step=step, turn=turn, zoom=1 + (zoom - 1) * nearness)

    return at


def backdrop_layer(rng: np.random.Generator, style: Style, size: Size, seen_from: Motion) -> Layer:
    """The farthest layer, which covers the frame."""
    motion = Motion(parent=seen_from, waves=_waves(rng, max(size))) if rng.random() < 0.15 else seen_from
    canvas = _covering(size, motion)
    backdrop(rng, style, canvas)
    return Layer(canvas, motion, endless=True)


def strip_layer(rng: np.random.Generator, style: Style, size: Size, seen_from: Motion) -> Layer:
    """Hills, roofs, a meadow or a fence across the frame."""
    canvas = _covering(size, seen_from)
    strip(rng, style, canvas, size[0] * rng.uniform(0.25, 0.95), size[0] * rng.uniform(0.03, 0.2))
    return Layer(canvas, seen_from)


def figure_layers(rng: np.random.Generator, style: Style, size: Size, seen_from: Motion, clock: int) -> list[Layer]:
    """A character somewhere in the frame."""
    height, width = size
    tall = float(np.clip(rng.lognormal(np.log(190), 0.5), 50, 1.7 * height))
    whole = Motion(
        place=(width * rng.uniform(0.1, 0.9), height * rng.uniform(0.3, 0.8)),
        step=_step(rng, FIGURE_STEP_PX, LARGEST_STEP * width) if rng.random() < 0.85 else (0.0, 0.0),
        degrees=float(rng.normal(0, 8)),
        turn=float(rng.normal(0, 6)) if rng.random() < 0.4 else 0.0,
        zoom=float(np.exp(rng.normal(0, 0.05))) if rng.random() < 0.3 else 1.0,
        parent=seen_from,
    )
    return character(rng, style, tall, whole, clock)


def character(
    rng: np.random.Generator,
    style: Style,
    tall_px: float,
    whole: Motion,
    clock: int,
    *,
    turning: float = 0.6,
    swing: float = 1.0,
) -> list[Layer]:
    """A figure that moves by `whole`; the share `turning` of its parts turns, by up to `swing` times what `figure` says."""
    layers = []
    for part in figure(rng, style, tall_px):
        motion = Motion(
            place=part.joint,
            pivot=part.joint,
            degrees=float(rng.normal(0, 4)),
            turn=swing * part.swing * rng.uniform(-1, 1) if rng.random() < turning else 0.0,
            waves=_waves(rng, tall_px / 3) if part.sways and rng.random() < 0.5 else (),
            parent=whole,
        )
        layers.append(Layer(part.canvas, motion, clock))
    return layers


def thing_layer(rng: np.random.Generator, style: Style, size: Size, seen_from: Motion, clock: int) -> Layer:
    """An object on its own way; now and then one that the camera does not move."""
    height, width = size
    radius = float(np.clip(rng.lognormal(np.log(24), 0.8), 4, 0.4 * height))
    motion = Motion(
        place=(width * rng.random(), height * rng.random()),
        step=_step(rng, THING_STEP_PX, LARGEST_STEP * width),
        turn=float(rng.normal(0, 25)) if rng.random() < 0.4 else 0.0,
        zoom=float(np.exp(rng.normal(0, 0.1))) if rng.random() < 0.3 else 1.0,
        waves=_waves(rng, 2 * radius) if rng.random() < 0.2 else (),
        parent=seen_from if rng.random() < 0.7 else None,
    )
    return Layer(thing(rng, style, radius), motion, clock)


def _step(rng: np.random.Generator, median_px: float, limit_px: float) -> tuple[float, float]:
    """A displacement, mostly sideways, whose length is log-normal."""
    length = min(limit_px, float(rng.lognormal(np.log(median_px), SPREAD)))
    angle = rng.uniform(0, 2 * np.pi)
    return float(length * np.cos(angle)), float(length * np.sin(angle) * rng.choice((0.2, 1.0)))


def _waves(rng: np.random.Generator, extent: float) -> tuple[Wave, ...]:
    """One or two bends of something about `extent` pixels large, from one amplitude to another."""
    waves = []
    for axis in rng.permutation(2)[: int(rng.integers(1, 3))]:
        length = extent * rng.uniform(0.6, 2)
        start, end = rng.uniform(-0.05, 0.05, 2) * length
        waves.append(Wave(int(axis), start, end, 2 * np.pi / length, rng.uniform(0, 2 * np.pi)))
    return tuple(waves)


def _covering(size: Size, motion: Motion) -> Canvas:
    """An empty canvas of all points of a texture that are in the frame at some local time."""
    height, width = size
    corners = np.array([0, width, width, 0], np.float32), np.array([0, 0, height, height], np.float32)
    x, y = np.concatenate([applied(motion.inverse(s), corners) for s in (0.0, 0.5, 1.0)], axis=1)
    reach = motion.reach + 2
    return Canvas(x.min() - reach, y.min() - reach, np.ptp(x) + 2 * reach, np.ptp(y) + 2 * reach, DETAIL)

"""Scenes like drawn animation, generated at random, with exact in-betweens: what the networks learn motion from.

A scene is a camera over a backdrop, strips of landscape at several depths, figures of several parts, things, and sometimes
something near that hides them. Each layer is drawn once and moves by a `motion.Motion` in its local time. Where all clocks agree
the in-between is that of the time t; otherwise the background is at t and drawings rest at their first or second place, or
are anywhere between, as in animation on twos and threes with a distance ratio map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .drawings import DETAIL, Style, backdrop, figure, strip, thing
from .layers import Layer, flows, painted, seen
from .motion import Motion, Wave, applied
from .paint import Canvas, Image
from .weathering import weathered

UNIFORM = 0.4  # share of the scenes in which everything is at the same time, and of those at one half:
HALFWAY = 0.5
STILL_CAMERA = 0.35
LARGEST_STEP = 0.25  # of the frame's width, for whatever is small


@dataclass(frozen=True)
class Example:
    """Two frames and what lies between them.

    `first`, `middle`, `second`: (H, W, 3) uint8 RGB. `timestep`: (H, W) float32, the local time in 0..1 of what `middle` shows.
    `flow`: (H, W, 4) float32, from a pixel of `middle` to its place in `first` (x, y) and in `second` (x, y), in pixels.
    `known`: (H, W) float32, 1 where that flow is exact, 0 at antialiased edges. `seen`: (H, W, 2) float32, 1 where what `middle`
    shows is visible in `first` and in `second` at the place that the flow leads to.
    """

    first: Image
    middle: Image
    second: Image
    timestep: NDArray[np.float32]
    flow: NDArray[np.float32]
    known: NDArray[np.float32]
    seen: NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """Layers from far to near; `clocks` is how many local times they follow, 0 being the background's."""

    size: tuple[int, int]  # height, width
    layers: list[Layer]
    clocks: int

    def example(self, times: NDArray[np.float64]) -> Example:
        """The example whose `middle` has each clock at its local time in `times`."""
        first, middle, second = (
            painted(self.layers, self.size, at) for at in (np.zeros(self.clocks), times, np.ones(self.clocks))
        )
        flow, timestep, known = flows(self.layers, middle, times)
        both = np.stack([seen(flow[..., :2], middle, first), seen(flow[..., 2:], middle, second)], -1)
        return Example(first.pixels, middle.pixels, second.pixels, timestep, flow, known, both)


def example(rng: np.random.Generator, size: tuple[int, int], *, clean: bool = False) -> Example:
    """A scene of `size` (height, width) at random times, weathered unless `clean`. All chance comes from `rng`."""
    drawn = scene(rng, size)
    times = random_times(rng, drawn.clocks)
    result = drawn.example(times)
    if clean:
        return result
    frames = weathered(rng, result.first, result.middle, result.second, float(times[0]))
    return Example(*frames, result.timestep, result.flow, result.known, result.seen)


def random_times(rng: np.random.Generator, clocks: int) -> NDArray[np.float64]:
    """Local times of the clocks: all alike in UNIFORM of the cases, else each its own."""
    t = 0.5 if rng.random() < HALFWAY else rng.random()
    if rng.random() < UNIFORM:
        return np.full(clocks, t)
    own = np.where(rng.random(clocks) < 0.5, rng.integers(0, 2, clocks), rng.random(clocks))
    own = np.where(rng.random(clocks) < 0.2, t, own)
    own[0] = t
    return own


def scene(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """A scene without its times."""
    height, width = size
    style, line_size = Style.at_random(rng), float(np.exp(rng.normal(0, 0.2)))
    camera = _camera(rng, size, line_size)
    layers = [_filled(size, camera(0.3 + 0.7 * rng.random()), backdrop, rng, style)]
    for depth in np.sort(rng.uniform(0.3, 1, int(rng.integers(0, 4)))):
        layers.append(_strip(rng, style, size, camera(float(depth))))
    clock = 0
    for _ in range(int(rng.choice((0, 1, 1, 2, 2, 3)))):
        clock += 1
        layers += _figure(rng, style, size, camera(1.0), clock)
    for _ in range(int(rng.integers(0, 6))):
        clock += 1
        layers.insert(int(rng.integers(1, len(layers) + 1)), _thing(rng, style, size, camera(1.0), clock))
    if rng.random() < 0.2:
        layers.append(_strip(rng, style, size, camera(1.3)))
    return Scene(size, layers, clock + 1)


def _camera(rng, size, _):
    """Motion of the camera over what is `depth` near: 0 is infinitely far, 1 where the figures stand."""
    height, width = size
    if rng.random() < STILL_CAMERA:
        return lambda depth: Motion()
    step = _step(rng, 8, 0.3 * width)
    zoom = float(np.exp(rng.normal(0, 0.05))) if rng.random() < 0.4 else 1.0
    turn = float(rng.normal(0, 2.5)) if rng.random() < 0.25 else 0.0
    centre = (width * rng.uniform(0.2, 0.8), height * rng.uniform(0.2, 0.8))

    def at(depth: float) -> Motion:
        moved = (step[0] * depth, step[1] * depth)
        return Motion(place=centre, pivot=centre, step=moved, turn=turn, zoom=1 + (zoom - 1) * depth)

    return at


def _step(rng, median_px, limit_px):
    """A displacement whose length is log-normal, mostly sideways."""
    length = min(limit_px, float(rng.lognormal(np.log(median_px), 1.0)))
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.cos(angle), np.sin(angle) * rng.choice((0.2, 1.0))
    return float(length * x), float(length * y)


def _waves(rng, extent):
    """One or two bends of something about `extent` pixels large, from one amplitude to another."""
    waves = []
    for axis in rng.permutation(2)[: int(rng.integers(1, 3))]:
        length = extent * rng.uniform(0.6, 2)
        most = 0.05 * length
        waves.append(Wave(int(axis), *rng.uniform(-most, most, 2), 2 * np.pi / length, rng.uniform(0, 2 * np.pi)))
    return tuple(waves)


def _filled(size, motion, draw, rng, style):
    """A layer drawn by `draw` over whatever part of it comes into the frame."""
    if rng.random() < 0.15:
        motion = Motion(parent=motion, waves=_waves(rng, max(size)))
    canvas = _cover(size, motion)
    draw(rng, style, canvas)
    return Layer(canvas, motion, endless=True)


def _cover(size, motion):
    """An empty canvas of all points of the texture that are in the frame at some local time."""
    height, width = size
    corners = np.array([0, width, width, 0], np.float32), np.array([0, 0, height, height], np.float32)
    inner = [applied(np.linalg.inv(motion.matrix(s)), corners) for s in (0, 0.5, 1)]
    x, y = np.concatenate([c[0] for c in inner]), np.concatenate([c[1] for c in inner])
    reach = motion.reach + 2
    return Canvas(x.min() - reach, y.min() - reach, np.ptp(x) + 2 * reach, np.ptp(y) + 2 * reach, DETAIL)


def _strip(rng, style, size, motion):
    height = size[0]
    canvas = _cover(size, motion)
    strip(rng, style, canvas, height * rng.uniform(0.25, 0.95), height * rng.uniform(0.03, 0.2))
    return Layer(canvas, motion)


def _figure(rng, style, size, camera, clock):
    height, width = size
    tall = float(np.clip(rng.lognormal(np.log(190), 0.5), 50, 1.7 * height))
    place = (width * rng.uniform(0.1, 0.9), height * rng.uniform(0.3, 0.8))
    moves = rng.random() < 0.85
    own = Motion(
        place=place,
        step=_step(rng, 9, 0.25 * width) if moves else (0.0, 0.0),
        degrees=float(rng.normal(0, 8)),
        turn=float(rng.normal(0, 6)) if rng.random() < 0.4 else 0.0,
        zoom=float(np.exp(rng.normal(0, 0.05))) if rng.random() < 0.3 else 1.0,
        parent=camera,
    )
    layers = []
    for part in figure(rng, style, tall):
        swing = part.swing * rng.uniform(-1, 1) if rng.random() < 0.6 else 0.0
        waves = _waves(rng, tall / 3) if part.sways and rng.random() < 0.5 else ()
        motion = Motion(
            place=part.joint, pivot=part.joint, degrees=float(rng.normal(0, 4)), turn=swing, waves=waves, parent=own
        )
        layers.append(Layer(part.canvas, motion, clock))
    return layers


def _thing(rng, style, size, camera, clock):
    height, width = size
    radius = float(np.clip(rng.lognormal(np.log(24), 0.8), 4, 0.4 * height))
    turn = float(rng.normal(0, 25)) if rng.random() < 0.4 else 0.0
    motion = Motion(
        place=(width * rng.random(), height * rng.random()),
        step=_step(rng, 12, LARGEST_STEP * width),
        turn=turn,
        zoom=float(np.exp(rng.normal(0, 0.1))) if rng.random() < 0.3 else 1.0,
        waves=_waves(rng, 2 * radius) if rng.random() < 0.2 else (),
        parent=camera if rng.random() < 0.7 else None,
    )
    return Layer(thing(rng, style, radius), motion, clock)

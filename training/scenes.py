"""Scenes like drawn animation, generated at random, with exact in-betweens: what the networks learn motion from.

A scene is a camera over a backdrop, strips of landscape at several depths, figures of several parts, things, and sometimes
something near that hides them. Each layer is drawn once and moves by a `motion.Motion` in its local time. Where all clocks agree
the in-between is that of the time t; otherwise the background is at t and drawings rest at their first or second place, or
are anywhere between, as in animation on twos and threes with a distance ratio map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .layers import Layer, flows, painted, seen
from .paint import Image
from .staging import backdrop_layer, camera, figure_layers, strip_layer, thing_layer
from .style import Style
from .weathering import weathered

UNIFORM = 0.4  # share of the scenes in which everything is at the same time, and of those at one half:
HALFWAY = 0.5


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
    first, middle, second = weathered(rng, result.first, result.middle, result.second, float(times[0]))
    return replace(result, first=first, middle=middle, second=second)


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
    style, seen_from = Style.at_random(rng), camera(rng, size)
    layers = [backdrop_layer(rng, style, size, seen_from(rng.uniform(0.3, 1)))]
    depths = np.sort(rng.uniform(0.3, 1, int(rng.integers(0, 4))))
    layers += [strip_layer(rng, style, size, seen_from(float(depth))) for depth in depths]
    clock = 0
    for _ in range(int(rng.choice((0, 1, 1, 2, 2, 3)))):
        clock += 1
        layers += figure_layers(rng, style, size, seen_from(1.0), clock)
    for _ in range(int(rng.integers(0, 6))):
        clock += 1
        layers.insert(int(rng.integers(1, len(layers) + 1)), thing_layer(rng, style, size, seen_from(1.0), clock))
    if rng.random() < 0.2:
        layers.append(strip_layer(rng, style, size, seen_from(1.3)))
    return Scene(size, layers, clock + 1)

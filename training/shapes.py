"""Outlines of drawn things as points: blobs, spikes, stars, ridges. Pure; (n, 2) float64 arrays of (x, y), y downwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


def smooth(points: ArrayLike, steps: int = 6) -> Points:
    """Closed Catmull-Rom curve through `points`, `steps` segments between two of them."""
    knots = np.asarray(points, np.float64)
    before, after, beyond = (np.roll(knots, shift, axis=0) for shift in (1, -1, -2))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (before, knots, after, beyond))
    curve = p1 + t / 2 * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return curve.reshape(-1, 2)


def ellipse(radius_x: float, radius_y: float, count: int = 28) -> Points:
    """An ellipse about (0, 0)."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([radius_x * np.cos(angle), radius_y * np.sin(angle)], 1)


def blob(rng: np.random.Generator, radius_x: float, radius_y: float, rough: float = 0.25) -> Points:
    """A smooth closed shape about (0, 0), its radius varying by up to `rough` of itself."""
    ring = ellipse(1, 1, int(rng.integers(5, 11)))
    ring *= rng.uniform(1 - rough, 1 + rough, (len(ring), 1)) * (radius_x, radius_y)
    return smooth(ring)


def polygon(rng: np.random.Generator, radius_x: float, radius_y: float) -> Points:
    """A convex or nearly convex polygon of three to seven corners about (0, 0)."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))))
    angle = 0.6 * angle + 0.4 * np.linspace(0, 2 * np.pi, len(angle), endpoint=False)
    return np.stack([radius_x * np.cos(angle), radius_y * np.sin(angle)], 1)


def box(width: float, height: float) -> Points:
    """A rectangle about (0, 0)."""
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, height / 2)


def star(rng: np.random.Generator, radius: float, inner: float) -> Points:
    """A star or flower of four to nine points about (0, 0); `inner` is the inner radius as a share of the outer one."""
    ring = ellipse(radius, radius, 2 * int(rng.integers(4, 10)))
    ring[1::2] *= inner
    return ring if rng.random() < 0.5 else smooth(ring, 4)


def spikes(rng: np.random.Generator, radius_x: float, radius_y: float, length: float) -> Points:
    """Hair: the upper part of a head with pointed strands, which are longest at the sides."""
    count = int(rng.integers(6, 13))
    angle = np.linspace(np.pi * 0.85, np.pi * 2.15, 2 * count + 1)
    reach = np.where(np.arange(len(angle)) % 2, 1 + length * rng.uniform(0.4, 1, len(angle)), 1.0)
    crown = np.stack([radius_x * np.cos(angle) * reach, radius_y * np.sin(angle) * reach], 1)
    fringe = np.linspace(0.9, -0.9, 2 * int(rng.integers(3, 6)) + 1)
    low = np.where(np.arange(len(fringe)) % 2, rng.uniform(-0.1, 0.25, len(fringe)), -0.45)
    return np.concatenate([crown, np.stack([fringe * radius_x, low * radius_y], 1)])


def ridge(rng: np.random.Generator, left: float, right: float, base: float, height: float, bottom: float) -> Points:
    """Everything under a wavy line from `left` to `right`: hills, clouds' edge, a skyline where `height` is in steps."""
    if rng.random() < 0.3:  # roofs, rocks
        corners = np.sort(rng.uniform(left, right, max(4, int((right - left) / 45))))
        x = np.concatenate([[left], np.repeat(corners, 2), [right]])
        levels = base + height * rng.uniform(-1, 1, len(corners) + 1)
        y = np.repeat(levels, 2)
    else:
        x = np.linspace(left, right, max(16, int((right - left) / 8)))
        lengths = rng.uniform(40, 400, 4)
        y = base + sum(
            height * length / 400 * np.sin(2 * np.pi * x / length + phase)
            for length, phase in zip(lengths, rng.uniform(0, 2 * np.pi, 4), strict=True)
        )
    return np.concatenate([np.stack([x, y], 1), [[right, bottom], [left, bottom]]])


def turned(points: Points, degrees: float) -> Points:
    """`points` turned clockwise about (0, 0)."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def at(points: Points, x: float, y: float) -> Points:
    """`points` moved by (x, y)."""
    return points + np.array([x, y])

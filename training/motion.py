"""How a layer of a scene moves: affine in its local time, and bent by waves, with an exact inverse.

A layer's texture is placed in the frame by forward(u, s) = parent(s) · shift(s) · turn(s) · zoom(s) · bend(u, s) at its local
time s in 0..1. The bends are shears by a sine, x += a(s) sin(k y + phase) or the same with x and y exchanged, which are inverted
by subtracting the same term. So the flow between any two times is known to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Grid = tuple[NDArray[np.float32], NDArray[np.float32]]  # x and y, which broadcast against each other
Matrix = NDArray[np.float64]  # (3, 3)


@dataclass(frozen=True)
class Wave:
    """A shear along `axis` (0: x moves by a sine of y): amplitudes at local times 0 and 1 and phase in points and radians."""

    axis: int
    start: float
    end: float
    per_point: float  # radians a point
    phase: float

    def shifts(self, across: NDArray[np.float32], s: float) -> NDArray[np.float32]:
        amplitude = np.float32(self.start + (self.end - self.start) * s)
        return amplitude * np.sin(across * np.float32(self.per_point) + np.float32(self.phase))


@dataclass(frozen=True)
class Motion:
    """A place in the frame at local time 0, and what changes until local time 1. Lengths in pixels of the frame."""

    place: tuple[float, float] = (0.0, 0.0)
    step: tuple[float, float] = (0.0, 0.0)
    degrees: float = 0.0
    turn: float = 0.0  # degrees clockwise
    zoom: float = 1.0  # factor by which it grows
    pivot: tuple[float, float] = (0.0, 0.0)  # the point of the texture that comes to `place`
    waves: tuple[Wave, ...] = ()
    parent: Motion | None = field(default=None, repr=False)
    _matrices: dict[float, Matrix] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )  # asked for so far

    def matrix(self, s: float) -> Matrix:
        """The affine part at local time `s`, points of the texture to pixels of the frame."""
        if s not in self._matrices:
            self._matrices[s] = self._matrix(s)
        return self._matrices[s]

    def _matrix(self, s: float) -> Matrix:
        angle = np.radians(self.degrees + self.turn * s)
        scale = self.zoom**s
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        px, py = self.pivot
        x = self.place[0] + self.step[0] * s - cos * px + sin * py
        y = self.place[1] + self.step[1] * s - sin * px - cos * py
        own = np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]])
        return own if self.parent is None else self.parent.matrix(s) @ own

    def inverse(self, s: float) -> Matrix:
        """The inverse of `matrix`."""
        (a, b, x), (c, d, y), _ = self.matrix(s).tolist()
        det = a * d - b * c
        return np.array([[d, -b, b * y - d * x], [-c, a, c * x - a * y], [0, 0, det]]) / det

    def to_texture(self, grid: Grid, s: float) -> Grid:
        """Points of the texture that are at `grid` of the frame at local time `s`."""
        x, y = applied(self.inverse(s), grid)
        for wave in reversed(self.waves):
            if wave.axis == 0:
                x = x - wave.shifts(y, s)
            else:
                y = y - wave.shifts(x, s)
        return x, y

    def to_frame(self, grid: Grid, s: float) -> Grid:
        """Where the texture's points `grid` are in the frame at local time `s`."""
        x, y = grid
        for wave in self.waves:
            if wave.axis == 0:
                x = x + wave.shifts(y, s)
            else:
                y = y + wave.shifts(x, s)
        return applied(self.matrix(s), (x, y))

    def carried(self, grid: Grid, s: float, target: float) -> Grid:
        """Where the pixels `grid` of local time `s` are at local time `target`."""
        if not self.waves:
            return applied(self.matrix(target) @ self.inverse(s), grid)
        return self.to_frame(self.to_texture(grid, s), target)

    @property
    def reach(self) -> float:
        """The most that the waves move a point of the texture."""
        return sum(max(abs(wave.start), abs(wave.end)) for wave in self.waves)


def applied(matrix: Matrix, grid: Grid) -> Grid:
    """`matrix` applied to every point of `grid`."""
    m = matrix.astype(np.float32)
    x, y = grid
    return m[0, 0] * x + (m[0, 1] * y + m[0, 2]), m[1, 0] * x + (m[1, 1] * y + m[1, 2])

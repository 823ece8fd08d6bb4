"""One film's look: colours that go together, and its line."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from .paint import Colour

LINE_WIDTHS = (1, 1, 1.5, 2, 2, 2.5, 3, 4)
NATURAL = 0.6  # share of the films whose people have the colours of people, and whose places those of the world
SKIN = ("#f8d8c0", "#f0c09a", "#dca27a", "#b87850", "#8a5a3c", "#fbe8dc")
HAIR = ("#2a1c18", "#4a2c1c", "#7a4a28", "#e0b060", "#c84828", "#303040", "#f0e8e0", "#6a3a70", "#d88aa8")
PLACES = ("#8fd0f0", "#c8ecf8", "#78c060", "#a8d878", "#3f8a48", "#e8d090", "#c09060", "#f0e8d8", "#b0a8c8", "#7088b0")


@dataclass(frozen=True)
class Style:
    """Colours are (red, green, blue) in 0..255, `hues` and `brightness` in 0..1, widths in pixels of the frame."""

    hues: tuple[float, ...]
    brightness: float
    line: Colour
    line_width: float
    natural: bool

    @classmethod
    def at_random(cls, rng: np.random.Generator) -> Style:
        hues = tuple(rng.uniform(0, 1, int(rng.integers(3, 6))))
        line = rng.uniform(0, 60, 3) if rng.random() < 0.85 else rng.uniform(60, 255, 3)
        brightness = rng.uniform(0.3, 0.6) if rng.random() < 0.15 else rng.uniform(0.8, 1)
        return cls(hues, brightness, line, float(rng.choice(LINE_WIDTHS)), rng.random() < NATURAL)

    def colour(self, rng: np.random.Generator) -> Colour:
        """Of clothes and things: strong, now and then grey, black or white."""
        if rng.random() < 0.15:
            return np.full(3, rng.choice((30.0, 90.0, 160.0, 240.0))) * rng.uniform(0.9, 1, 3) * self.brightness
        hue = self.hues[int(rng.integers(len(self.hues)))] + rng.normal(0, 0.03)
        return _hsv(hue, rng.uniform(0.3, 1), rng.uniform(0.4, 1) * self.brightness)

    def place(self, rng: np.random.Generator) -> Colour:
        """Of backdrops: softer."""
        if self.natural:
            return self._one_of(rng, PLACES)
        hue = self.hues[int(rng.integers(len(self.hues)))] + rng.normal(0, 0.03)
        return _hsv(hue, rng.uniform(0.1, 0.6), rng.uniform(0.5, 1) * self.brightness)

    def skin(self, rng: np.random.Generator) -> Colour:
        return self._one_of(rng, SKIN) if self.natural else self.colour(rng)

    def hair(self, rng: np.random.Generator) -> Colour:
        return self._one_of(rng, HAIR) if self.natural else self.colour(rng)

    def outline(self, rng: np.random.Generator, share: float = 0.85) -> Colour | None:
        return self.line if rng.random() < share else None

    def _one_of(self, rng: np.random.Generator, colours: tuple[str, ...]) -> Colour:
        text = colours[int(rng.integers(len(colours)))]
        value = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) + rng.normal(0, 8, 3)
        return (value * self.brightness).clip(0, 255)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value)) * 255

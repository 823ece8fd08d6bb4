"""Single objects drawn at random, and how any shape is filled, shaded and outlined."""

from __future__ import annotations

import numpy as np

from .paint import Canvas, Colour
from .patterns import pattern
from .shapes import Points, at, blob, box, ellipse, polygon, spikes, star, turned
from .style import Style

DETAIL = 1.3  # pixels of a texture a pixel of the frame: sampling it between its pixels costs no visible sharpness
LETTERS = list("ABDEGHKMNORSTWXZ0258!?")
FONTS = (0, 2, 3, 4, 6, 7)  # cv2.FONT_HERSHEY_*


def canvas_for(points: Points, margin: float = 6) -> Canvas:
    """An empty canvas that holds `points` and `margin` around them."""
    (left, top), (right, bottom) = points.min(0) - margin, points.max(0) + margin
    return Canvas(left, top, right - left, bottom - top, DETAIL)


def adorned(rng: np.random.Generator, style: Style, canvas: Canvas, shape: Points, base: Colour) -> None:
    """Fill `shape` with `base`, perhaps under a pattern and a cel shadow, and draw its outline."""
    canvas.fill(shape, base)
    extent = np.ptp(shape, 0)
    if rng.random() < 0.35:
        columns, rows = (min(700, int(side * canvas.scale) + 3) for side in extent)
        colours = [base, *(style.colour(rng) for _ in range(int(rng.integers(1, 3))))]
        canvas.pattern(shape, pattern(rng, rows, columns, colours), rng.uniform(0.3, 1))
    if rng.random() < 0.6:
        shadow = at(shape, *rng.uniform(-0.5, 0.5, 2) * extent)
        canvas.shade(shape, shadow, (base * rng.choice((0.65, 0.8, 1.2))).clip(0, 255))
    if (outline := style.outline(rng)) is not None:
        canvas.stroke(shape, outline, style.line_width, closed=True)


def thing(rng: np.random.Generator, style: Style, radius: float) -> Canvas:
    """A single object about (0, 0): a blob, box, ball, star, polygon, tuft or word."""
    radii = radius * rng.uniform(0.5, 1, 2)
    shapes = (
        lambda: blob(rng, *radii),
        lambda: turned(box(*2 * radii), rng.uniform(-30, 30)),
        lambda: ellipse(*radii),
        lambda: star(rng, radius, rng.uniform(0.3, 0.8)),
        lambda: polygon(rng, *radii),
        lambda: turned(spikes(rng, radius * 0.6, radius * 0.5, 0.8), rng.uniform(0, 360)),
    )
    kind = int(rng.integers(len(shapes) + 1))
    if kind == len(shapes):
        return _word(rng, style, radius)
    shape = shapes[kind]()
    canvas = canvas_for(shape)
    adorned(rng, style, canvas, shape, style.colour(rng))
    for _ in range(int(rng.integers(0, 4))):
        spot = at(blob(rng, *(radii * rng.uniform(0.1, 0.4))), *rng.uniform(-0.4, 0.4, 2) * radii)
        canvas.fill(spot, style.colour(rng), style.outline(rng, 0.6), style.line_width)
    return canvas


def _word(rng: np.random.Generator, style: Style, radius: float) -> Canvas:
    word = "".join(rng.choice(LETTERS, int(rng.integers(1, 6))))
    capital = radius * 1.6 / len(word) ** 0.6
    canvas = canvas_for(box(3 * radius, 1.6 * radius))
    canvas.text(word, -radius * 1.1, capital / 2, capital, style.colour(rng), style.line, int(rng.choice(FONTS)))
    return canvas

"""Backdrops and strips of landscape, drawn at random over whatever a canvas covers."""

from __future__ import annotations

import numpy as np

from .paint import Canvas
from .patterns import mixed, noise, pattern
from .shapes import Points, at, blob, box, polygon, ridge, smooth, spikes, star, turned
from .style import Style
from .things import adorned

CROP_AREA = 256.0**2  # pixels; counts of things are for this much


def backdrop(rng: np.random.Generator, style: Style, canvas: Canvas) -> None:
    """Cover the whole canvas: a pattern or gradient, things painted on it, sometimes speed lines."""
    rows, columns = canvas.pixels.shape[:2]
    colours = [style.place(rng) for _ in range(int(rng.integers(2, 4)))]
    if rng.random() < 0.5:
        picture = pattern(rng, rows, columns, colours)
    else:
        mix = np.linspace(0, 1, rows, dtype=np.float32)[:, None] + 0.3 * (noise(rng, rows, columns, 60) - 0.5)
        picture = mixed(mix, colours)
    canvas.pixels[..., :3], canvas.pixels[..., 3] = picture, 255
    corner, extent = canvas.area
    if rng.random() < 0.12:
        _speed_lines(rng, canvas, corner, extent)
    _scatter(rng, style, canvas, corner, extent, rng.uniform(0, 40))


def strip(rng: np.random.Generator, style: Style, canvas: Canvas, base: float, height: float) -> None:
    """Landscape below the line `base` of the canvas, uneven by `height`, or a fence along that line."""
    if rng.random() < 0.2:
        _fence(rng, style, canvas, base, height)
        return
    (left, top), (width, tall) = canvas.area
    bottom = top + tall
    land = ridge(rng, left - 20, left + width + 20, base, height, bottom + 20)
    adorned(rng, style, canvas, land, style.place(rng))
    below = base + height
    _scatter(
        rng, style, canvas, np.array([left, below]), np.array([width, max(1.0, bottom - below)]), rng.uniform(0, 40)
    )
    line = land[:-2]
    for x, y in line[rng.random(len(line)) < rng.choice((0, 0.2, 0.6))]:
        tuft = spikes(rng, 5, 7, 0.8) if rng.random() < 0.5 else blob(rng, 9, 12)
        colour = style.place(rng)
        canvas.fill(at(tuft * rng.uniform(0.5, 1.6), x, y), colour, style.outline(rng), style.line_width)


def _fence(rng: np.random.Generator, style: Style, canvas: Canvas, base: float, height: float) -> None:
    (left, _), (width, _) = canvas.area
    pitch, colour, outline = rng.uniform(14, 60), style.place(rng), style.outline(rng)
    post = rng.uniform(0.15, 0.5) * pitch
    for x in np.arange(left, left + width, pitch):
        canvas.fill(at(box(post, 2 * height), x, base), colour, outline, style.line_width)
    for y in rng.uniform(-0.7, 0.7, 2) * height:
        canvas.fill(at(box(width, post), left + width / 2, base + y), colour, outline, style.line_width)


def _scatter(
    rng: np.random.Generator, style: Style, canvas: Canvas, corner: Points, extent: Points, density: float
) -> None:
    """Things of a few kinds painted all over, `density` for CROP_AREA: clouds, leaves, stars, windows, stones."""
    shapes = (blob(rng, 1, 0.6), star(rng, 1, 0.5), box(1.6, 1.2), blob(rng, 1, 1), smooth(polygon(rng, 1, 0.5)))
    kinds = [
        (shapes[kind], style.place(rng), style.outline(rng, 0.5), float(rng.lognormal(2.4, 0.7)))
        for kind in rng.permutation(len(shapes))[: int(rng.integers(1, 4))]
    ]
    for _ in range(int(density * extent.prod() / CROP_AREA)):
        shape, colour, outline, size = kinds[int(rng.integers(len(kinds)))]
        size = min(size * rng.lognormal(0, 0.4), 70)
        turn = rng.uniform(0, 360) if size < 20 else rng.uniform(-10, 10)
        placed = at(turned(shape * size, turn), *corner + extent * rng.random(2))
        canvas.fill(placed, colour * rng.uniform(0.85, 1), outline, min(style.line_width, 2.5))


def _speed_lines(rng: np.random.Generator, canvas: Canvas, corner: Points, extent: Points) -> None:
    """Black or white wedges, all in one direction or all away from one point."""
    centre, colour = corner + extent * rng.uniform(0.2, 0.8, 2), np.full(3, rng.choice((0.0, 255.0)))
    parallel, angle = rng.random() < 0.5, rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(20, 60))):
        turn = angle if parallel else rng.uniform(0, 2 * np.pi)
        along = np.array([np.cos(turn), np.sin(turn)])
        begin = corner + extent * rng.random(2) if parallel else centre + along * extent.max() * rng.uniform(0.2, 0.6)
        end = begin + along * (rng.uniform(30, 200) if parallel else extent.max())
        across = np.array([-along[1], along[0]]) * rng.uniform(0.5, 3)
        canvas.fill(np.array([begin, end + across, end - across]), colour)

"""What the scenes show: figures of several parts, things, backdrops and strips of landscape, drawn at random in one style."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from .paint import Canvas, Colour, mixed, noise, pattern
from .shapes import Points, blob, box, ellipse, polygon, ridge, smooth, spikes, star, turned

DETAIL = 1.3  # pixels of a texture a pixel of the frame: sampling it between its pixels costs no visible sharpness


@dataclass(frozen=True)
class Style:
    """One film's look: colours that go together, and its line. Widths are in pixels of the frame."""

    hues: tuple[float, ...]
    brightness: float
    line: Colour
    line_width: float

    @classmethod
    def at_random(cls, rng: np.random.Generator) -> Style:
        first = rng.random()
        hues = tuple((first + offset) % 1 for offset in (0, *rng.uniform(0, 1, int(rng.integers(2, 5)))))
        line = rng.uniform(0, 60, 3) if rng.random() < 0.85 else rng.uniform(60, 255, 3)
        night = rng.random() < 0.2
        return cls(
            hues, rng.uniform(0.25, 0.5) if night else rng.uniform(0.75, 1), line, float(rng.choice(LINE_WIDTHS))
        )

    def colour(self, rng: np.random.Generator, *, soft: bool = False) -> Colour:
        """One of the style's colours; `soft` ones, for backdrops, are paler."""
        if rng.random() < 0.12:
            grey = rng.choice((rng.uniform(0, 60), rng.uniform(60, 200), rng.uniform(220, 255)))
            return np.full(3, grey * (self.brightness if soft else 1)) + rng.uniform(0, 1, 3)
        hue = rng.choice(self.hues) + rng.normal(0, 0.03)
        saturation = rng.uniform(0.1, 0.6) if soft else rng.uniform(0.3, 1)
        value = rng.uniform(0.5, 1) * self.brightness if soft else rng.uniform(0.3, 1) * (0.4 + 0.6 * self.brightness)
        return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value)) * 255

    def outline(self, rng: np.random.Generator, share: float = 0.85) -> Colour | None:
        return self.line if rng.random() < share else None


LINE_WIDTHS = (1, 1, 1.5, 2, 2, 2.5, 3, 4)


@dataclass(frozen=True)
class Part:
    """A piece of a figure, `joint` being the point that it turns about. `sways` where waves may bend it."""

    canvas: Canvas
    joint: tuple[float, float]
    swing: float = 0.0  # degrees that it may turn
    sways: bool = False


def _canvas(points: Points, margin: float = 6) -> Canvas:
    (left, top), (right, bottom) = points.min(0) - margin, points.max(0) + margin
    return Canvas(left, top, right - left, bottom - top, DETAIL)


def adorned(rng: np.random.Generator, style: Style, canvas: Canvas, shape: Points, soft: bool = False) -> None:
    """Fill `shape`: flat with a cel shadow, with a pattern, or both; then its outline."""
    base = style.colour(rng, soft=soft)
    canvas.fill(shape, base)
    size = np.ptp(shape, 0) * canvas.scale
    if rng.random() < 0.35:
        colours = [base, *(style.colour(rng, soft=soft) for _ in range(int(rng.integers(1, 3))))]
        rows, columns = (min(700, int(side) + 3) for side in size[::-1])
        canvas.pattern(shape, pattern(rng, rows, columns, colours), rng.uniform(0.3, 1))
    if rng.random() < 0.6:
        shadow = shape + rng.uniform(-0.5, 0.5, 2) * np.ptp(shape, 0)
        canvas.shade(shape, shadow, base * rng.choice((0.65, 0.8, 1.2)).clip(0, 255 / max(1, base.max())), 1)
    if (outline := style.outline(rng)) is not None:
        canvas.stroke(shape, outline, style.line_width, closed=True)


def figure(rng: np.random.Generator, style: Style, height: float) -> list[Part]:
    """A character about (0, 0), from back to front: legs, far arm, hair, body, head, near arm."""
    u = height / 10
    head_y, head = -3.2 * u, rng.uniform(1.3, 2.1) * u
    skin, cloth, hair = (style.colour(rng) for _ in range(3))
    line = style.line
    width = style.line_width
    parts = []
    for side in (-0.6, 0.6):
        hip = (side * u, 1.6 * u)
        foot = np.array([hip, (hip[0] + rng.normal(0, 0.4) * u, 3.2 * u), (hip[0] + rng.normal(0, 0.8) * u, 4.7 * u)])
        parts.append(Part(_limb(foot, cloth * 0.8, 0.8 * u, line, width), hip, 35))
    parts.append(_arm(rng, -1.1 * u, u, skin, line, width))
    back = _canvas(ellipse(head * 1.9, head * 2.2) + (0, head_y))
    mane = turned(blob(rng, head * 1.2, head * 1.5, 0.3), 0) if rng.random() < 0.5 else spikes(rng, head, head, 0.7)
    back.fill(mane + (0, head_y + 0.2 * head), hair * 0.85, line, width)
    parts.append(Part(back, (0, head_y), 12, sways=True))
    torso = smooth(np.array([(-0.9, -1.8), (0.9, -1.8), (1.3, 0), (1.1, 2.1), (-1.1, 2.1), (-1.3, 0)]) * u, 4)
    body = _canvas(torso)
    adorned(rng, style, body, torso)
    body.stroke(torso, line, width, closed=True)
    parts.append(Part(body, (0, 2 * u), 6, sways=rng.random() < 0.4))
    parts.append(Part(_head(rng, style, head, head_y, skin, hair), (0, head_y + head), 14))
    parts.append(_arm(rng, 1.1 * u, u, skin, line, width))
    return parts


def _limb(points: Points, colour: Colour, thick: float, line: Colour, width: float) -> Canvas:
    canvas = _canvas(points, thick + width + 4)
    canvas.stroke(points, line, thick + 2 * width)
    canvas.stroke(points, colour, thick)
    canvas.fill(ellipse(thick * 0.75, thick * 0.5) + points[-1], colour * 0.8, line, width)
    return canvas


def _arm(rng: np.random.Generator, x: float, u: float, skin: Colour, line: Colour, width: float) -> Part:
    bend = np.sign(x) * rng.uniform(0.2, 1.4) * u
    points = np.array(
        [(x, -1.4 * u), (x + bend, rng.uniform(-1, 0.3) * u), (x + 1.4 * bend, rng.uniform(-2.5, 1.6) * u)]
    )
    return Part(_limb(points, skin, 0.6 * u, line, width), (x, -1.4 * u), 45)


def _head(rng: np.random.Generator, style: Style, radius: float, y: float, skin: Colour, hair: Colour) -> Canvas:
    canvas = _canvas(ellipse(radius * 2, radius * 2) + (0, y))
    face, line, width = ellipse(radius, radius * rng.uniform(0.95, 1.15)) + (0, y), style.line, style.line_width
    canvas.fill(face, skin, line, width)
    canvas.shade(face, face + (radius * rng.choice((-1, 1)), 0.2 * radius), skin * 0.85)
    canvas.stroke(face, line, width, closed=True)
    look = rng.uniform(-0.1, 0.1) * radius
    eye = rng.uniform(0.14, 0.3) * radius
    for side in (-0.42, 0.42):
        place = (side * radius + look, y + 0.1 * radius)
        canvas.fill(ellipse(eye, eye * 1.3, 16) + place, np.full(3, 250.0), line, width)
        canvas.fill(ellipse(eye * 0.6, eye * 0.8, 12) + place, style.colour(rng) * 0.5)
        canvas.stroke(np.array([(-eye, -1.9 * eye), (eye, -2.1 * eye)]) + place, line, width)
    smile = ellipse(radius * 0.25, radius * rng.uniform(0.05, 0.2), 16) + (look, y + 0.6 * radius)
    canvas.fill(smile, np.array([150.0, 40, 50]), line, width)
    crown = spikes(rng, radius * 1.05, radius * 1.1, rng.uniform(0.1, 0.7))
    canvas.fill(crown + (0, y), hair, line, width)
    return canvas


def thing(rng: np.random.Generator, style: Style, radius: float) -> Canvas:
    """A single object about (0, 0): a blob, box, ball, star, polygon, leaf cluster or a word."""
    radii = radius * rng.uniform(0.5, 1, 2)
    kind = int(rng.integers(7))
    if kind == 6:
        canvas = _canvas(ellipse(radius * 1.5, radius * 0.8))
        words = "".join(rng.choice(list("ABDEGHKMNORSTWXZ0258!?")) for _ in range(int(rng.integers(1, 6))))
        size = radius * 1.6 / len(words) ** 0.6
        canvas.text(
            words, -radius * 1.1, size / 2, size, style.colour(rng), style.line, int(rng.choice((0, 2, 3, 4, 6, 7)))
        )
        return canvas
    shapes = (
        lambda: blob(rng, *radii),
        lambda: turned(box(*2 * radii), rng.uniform(-30, 30)),
        lambda: ellipse(*radii),
        lambda: star(rng, radius, rng.uniform(0.3, 0.8)),
        lambda: polygon(rng, *radii),
        lambda: turned(spikes(rng, *(radii * 0.6), 0.8), rng.uniform(0, 360)),
    )
    shape = shapes[kind]()
    canvas = _canvas(shape)
    adorned(rng, style, canvas, shape)
    for _ in range(int(rng.integers(0, 4))):
        inner = blob(rng, *(radii * rng.uniform(0.1, 0.4))) + rng.uniform(-0.4, 0.4, 2) * radii
        canvas.fill(inner, style.colour(rng), style.outline(rng, 0.6), style.line_width)
    return canvas


def backdrop(rng: np.random.Generator, style: Style, canvas: Canvas) -> None:
    """Cover the whole canvas: a pattern or gradient with things painted on it, or speed lines."""
    rows, columns = canvas.pixels.shape[:2]
    colours = [style.colour(rng, soft=True) for _ in range(int(rng.integers(2, 4)))]
    canvas.pixels[..., 3] = 255
    if rng.random() < 0.5:
        canvas.pixels[..., :3] = pattern(rng, rows, columns, colours)
    else:
        mix = np.linspace(0, 1, rows, dtype=np.float32)[:, None] + 0.3 * (noise(rng, rows, columns, 60) - 0.5)
        canvas.pixels[..., :3] = mixed(mix, colours)
    width, height = columns / canvas.scale, rows / canvas.scale
    corner, extent = np.array([canvas.left, canvas.top]), np.array([width, height])
    if rng.random() < 0.12:
        _speed_lines(rng, style, canvas, corner, extent)
    scatter(rng, style, canvas, corner, extent, int(rng.integers(0, 40) * width * height / 256**2))


def scatter(rng: np.random.Generator, style: Style, canvas: Canvas, corner: Points, extent: Points, count: int) -> None:
    """Things of a few kinds painted all over: clouds, leaves, stars, windows, stones."""
    kinds = [
        (shape, style.colour(rng, soft=rng.random() < 0.5), style.outline(rng, 0.5), float(rng.lognormal(2.4, 0.7)))
        for shape in (
            blob(rng, 1, 0.6),
            star(rng, 1, 0.5),
            box(1.6, 1.2),
            blob(rng, 1, 1),
            smooth(polygon(rng, 1, 0.5)),
        )
    ][: int(rng.integers(1, 6))]
    for _ in range(count):
        shape, colour, outline, size = kinds[int(rng.integers(len(kinds)))]
        size = min(size * rng.lognormal(0, 0.4), 70)
        place = corner + extent * rng.random(2)
        turn = rng.uniform(0, 360) if size < 20 else rng.uniform(-10, 10)
        canvas.fill(
            turned(shape * size, turn) + place, colour * rng.uniform(0.85, 1), outline, min(style.line_width, 2.5)
        )


def _speed_lines(rng: np.random.Generator, style: Style, canvas: Canvas, corner: Points, extent: Points) -> None:
    centre, colour = corner + extent * rng.uniform(0.2, 0.8, 2), style.colour(rng) * 0 + rng.choice((0, 255))
    parallel, angle = rng.random() < 0.5, rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(20, 60))):
        if parallel:
            along = np.array([np.cos(angle), np.sin(angle)])
            begin = corner + extent * rng.random(2)
            end = begin + along * rng.uniform(30, 200)
        else:
            turn = rng.uniform(0, 2 * np.pi)
            along = np.array([np.cos(turn), np.sin(turn)])
            begin = centre + along * extent.max() * rng.uniform(0.2, 0.6)
            end = centre + along * extent.max() * 1.2
        across = np.array([-along[1], along[0]]) * rng.uniform(0.5, 3)
        canvas.fill(np.array([begin, end + across, end - across]), colour)


def strip(rng: np.random.Generator, style: Style, canvas: Canvas, base: float, height: float) -> None:
    """Landscape below the line `base` of the canvas, or a fence across it."""
    left, top = canvas.left, canvas.top
    right, bottom = left + canvas.pixels.shape[1] / canvas.scale, top + canvas.pixels.shape[0] / canvas.scale
    if rng.random() < 0.2:
        pitch, colour, outline = rng.uniform(14, 60), style.colour(rng), style.outline(rng)
        post = rng.uniform(0.15, 0.5) * pitch
        for x in np.arange(left, right, pitch):
            canvas.fill(box(post, 2 * height) + (x, base), colour, outline, style.line_width)
        for y in rng.uniform(-0.7, 0.7, 2) * height:
            canvas.fill(box(right - left, post) + ((left + right) / 2, base + y), colour, outline, style.line_width)
        return
    land = ridge(rng, left - 20, right + 20, base, height, bottom + 20)
    adorned(rng, style, canvas, land, soft=rng.random() < 0.6)
    below = np.array([left, base + height]), np.array([right - left, max(1.0, bottom - base - height)])
    scatter(rng, style, canvas, *below, int(rng.integers(0, 30)))
    line = land[:-2]
    for x, y in line[rng.random(len(line)) < rng.choice((0, 0.2, 0.6))]:
        tuft = spikes(rng, 5, 7, 0.8) if rng.random() < 0.5 else blob(rng, 9, 12)
        canvas.fill(tuft * rng.uniform(0.5, 1.6) + (x, y), style.colour(rng), style.outline(rng), style.line_width)

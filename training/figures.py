"""Characters of several parts that turn about their joints, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .paint import Canvas, Colour
from .shapes import Points, at, blob, ellipse, smooth, spikes
from .style import Style
from .things import adorned, canvas_for

TORSO = np.array([(-0.9, -1.8), (0.9, -1.8), (1.3, 0), (1.1, 2.1), (-1.1, 2.1), (-1.3, 0)])  # tenths of the height


@dataclass(frozen=True)
class Part:
    """A piece of a figure, `joint` being the point that it turns about, by up to `swing` degrees."""

    canvas: Canvas
    joint: tuple[float, float]
    swing: float
    sways: bool = False  # waves may bend it


def figure(rng: np.random.Generator, style: Style, height: float) -> list[Part]:
    """A character about (0, 0), from back to front: legs, far arm, hair, body, head, near arm."""
    u = height / 10
    head_y, radius = -3.2 * u, rng.uniform(1.3, 2.2) * u
    skin, hair, trousers = style.skin(rng), style.hair(rng), style.colour(rng)
    torso = smooth(TORSO * u, 4)
    body = canvas_for(torso)
    adorned(rng, style, body, torso, style.colour(rng))
    return [
        _leg(rng, style, -0.6 * u, u, trousers),
        _leg(rng, style, 0.6 * u, u, trousers),
        _arm(rng, style, -1.1 * u, u, skin),
        Part(_back_hair(rng, style, radius, head_y, hair), (0, head_y), 12, sways=True),
        Part(body, (0, 2 * u), 6, sways=rng.random() < 0.4),
        Part(_head(rng, style, radius, head_y, skin, hair), (0, head_y + radius), 14),
        _arm(rng, style, 1.1 * u, u, skin),
    ]


def _leg(rng: np.random.Generator, style: Style, x: float, u: float, colour: Colour) -> Part:
    knee, foot = x + rng.normal(0, 0.4) * u, x + rng.normal(0, 0.8) * u
    points = np.array([(x, 1.6 * u), (knee, 3.2 * u), (foot, 4.7 * u)])
    return Part(_limb(style, points, colour, 0.8 * u), (x, 1.6 * u), 35)


def _arm(rng: np.random.Generator, style: Style, x: float, u: float, skin: Colour) -> Part:
    bend = np.sign(x) * rng.uniform(0.2, 1.4) * u
    shoulder, elbow = (x, -1.4 * u), (x + bend, rng.uniform(-1, 0.3) * u)
    hand = (x + 1.4 * bend, rng.uniform(-2.5, 1.6) * u)
    return Part(_limb(style, np.array([shoulder, elbow, hand]), skin, 0.6 * u), shoulder, 45)


def _limb(style: Style, points: Points, colour: Colour, thick: float) -> Canvas:
    """An outlined tube along `points` with a hand or shoe at its end."""
    canvas = canvas_for(points, thick + style.line_width + 4)
    canvas.stroke(points, style.line, thick + 2 * style.line_width)
    canvas.stroke(points, colour, thick)
    canvas.fill(at(ellipse(thick * 0.75, thick * 0.5), *points[-1]), colour * 0.85, style.line, style.line_width)
    return canvas


def _back_hair(rng: np.random.Generator, style: Style, radius: float, y: float, hair: Colour) -> Canvas:
    shape = blob(rng, radius * 1.2, radius * 1.5, 0.3) if rng.random() < 0.5 else spikes(rng, radius, radius, 0.7)
    shape = at(shape, 0, y + 0.2 * radius)
    canvas = canvas_for(shape)
    canvas.fill(shape, hair * 0.85, style.line, style.line_width)
    return canvas


def _head(rng: np.random.Generator, style: Style, radius: float, y: float, skin: Colour, hair: Colour) -> Canvas:
    line, width = style.line, style.line_width
    crown = at(spikes(rng, radius * 1.05, radius * 1.1, rng.uniform(0.1, 0.7)), 0, y)
    face = at(ellipse(radius, radius * rng.uniform(0.95, 1.15)), 0, y)
    canvas = canvas_for(np.concatenate([crown, face]))
    canvas.fill(face, skin, line, width)
    canvas.shade(face, at(face, radius * rng.choice((-1, 1)), 0.2 * radius), skin * 0.85)
    canvas.stroke(face, line, width, closed=True)
    look, eye = rng.uniform(-0.1, 0.1) * radius, rng.uniform(0.14, 0.3) * radius
    for x in (look - 0.42 * radius, look + 0.42 * radius):
        eye_y = y + 0.1 * radius
        canvas.fill(at(ellipse(eye, eye * 1.3, 16), x, eye_y), np.full(3, 250.0), line, width)
        canvas.fill(at(ellipse(eye * 0.6, eye * 0.8, 12), x, eye_y), style.hair(rng) * 0.5)
        canvas.stroke(np.array([(x - eye, eye_y - 1.9 * eye), (x + eye, eye_y - 2.1 * eye)]), line, width)
    smile = at(ellipse(radius * 0.25, radius * rng.uniform(0.05, 0.2), 16), look, y + 0.6 * radius)
    canvas.fill(smile, np.array([150.0, 40, 50]), line, width)
    canvas.fill(crown, hair, line, width)
    return canvas

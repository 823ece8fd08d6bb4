"""Antialiased flat drawing for the demo clip: filled and outlined shapes, cel shading, gradients and glows with cv2.

Coordinates are *points*: 720 of them make the height of the picture whatever its size in pixels, x grows to the right
and y downwards. Images are 8-bit BGRA with premultiplied alpha. Everything is deterministic and nothing is kept
between calls.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Height of every picture in points.
PICTURE_POINTS = 720
#: cv2 takes fixed-point coordinates with this many fractional bits.
_SHIFT = 4

Image = NDArray[np.uint8]
Points = NDArray[np.float64]


def bgra(colour: str, alpha: float = 1.0) -> tuple[float, float, float, float]:
    """`#rrggbb` as a premultiplied BGRA value in 0..255; `alpha` in 0..1."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return blue * alpha, green * alpha, red * alpha, 255 * alpha


def ellipse(x: float, y: float, radius_x: float, radius_y: float, start: float = 0, end: float = 360) -> Points:
    """Outline of an ellipse, or of its arc from `start` to `end` degrees (0 is to the right, 90 is down)."""
    angle = np.radians(np.linspace(start, end, 48, endpoint=abs(end - start) < 360))
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def smooth(points: ArrayLike, closed: bool = True, steps: int = 8) -> Points:
    """Catmull-Rom curve through `points`, `steps` segments between two of them."""
    knots = np.asarray(points, np.float64)
    count = len(knots)
    if closed:
        before, after, beyond = (np.roll(knots, shift, axis=0) for shift in (1, -1, -2))
    else:
        padded = np.concatenate([knots[:1], knots, knots[-1:], knots[-1:]])
        before, after, beyond = padded[:count], padded[2 : count + 2], padded[3 : count + 3]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (before, knots, after, beyond))
    curve = p1 + t / 2 * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    flat: Points = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat[: (count - 1) * steps], knots[-1:]])


class Canvas:
    """A transparent picture to draw on, supersampled; `finish` returns it at its size in pixels.

    `moved` gives another canvas that shares the picture and has its own coordinates.
    """

    def __init__(self, image: Image, matrix: NDArray[np.float64], samples: int, line: float = 1) -> None:
        self.image = image
        self._matrix = matrix
        self._samples, self._line = samples, line
        self._line_scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))) * line

    @classmethod
    def blank(cls, width_px: int, height_px: int, scale: float, origin_px: tuple[float, float] = (0, 0)) -> Canvas:
        """A canvas of `width_px` x `height_px` at `scale` pixels a point, with the point (0, 0) at `origin_px`."""
        samples = 2 if scale >= 0.75 else 3
        image = np.zeros((height_px * samples, width_px * samples, 4), np.uint8)
        x, y = origin_px
        matrix = np.array([[scale, 0, x], [0, scale, y]], np.float64) * samples
        return cls(image, matrix, samples)

    def moved(
        self, x: float = 0, y: float = 0, scale: float = 1, degrees: float = 0, mirror: bool = False, line: float = 1
    ) -> Canvas:
        """The same picture seen from (x, y), `scale` times larger, turned clockwise, `mirror`ed left to right.

        Lines are `line` times as wide as the scale alone would make them.
        """
        angle = np.radians(degrees)
        cos, sin, flip = np.cos(angle) * scale, np.sin(angle) * scale, -1 if mirror else 1
        inner = np.array([[cos * flip, -sin, x], [sin * flip, cos, y], [0, 0, 1]])
        return Canvas(self.image, self._matrix @ inner, self._samples, self._line * line)

    def fill(self, points: ArrayLike, colour: str, outline: str | None = None, width: float = 3) -> None:
        """Fill a polygon and draw its outline, `width` points wide."""
        cv2.fillPoly(self.image, [self._fixed(points)], bgra(colour), cv2.LINE_AA, _SHIFT)
        if outline:
            self.stroke(points, outline, width, closed=True)

    def stroke(self, points: ArrayLike, colour: str, width: float = 3, closed: bool = False) -> None:
        """Draw a line through `points` with round joints and ends."""
        thickness = max(1, round(width * self._line_scale))
        cv2.polylines(self.image, [self._fixed(points)], closed, bgra(colour), thickness, cv2.LINE_AA, _SHIFT)

    def limb(self, points: ArrayLike, colour: str, width: float, outline: str, line: float = 3) -> None:
        """Draw an outlined tube along `points`: an arm, a leg, a trunk."""
        self.stroke(points, outline, width + 2 * line)
        self.stroke(points, colour, width)

    def shade(self, shape: ArrayLike, shadow: ArrayLike, colour: str, strength: float = 1.0) -> None:
        """Blend `colour` at `strength` (0..1) over the part of `shape` that `shadow` covers."""
        rows, columns = self._bounds(shape, shadow)
        mask = self._mask(shape, rows, columns) & self._mask(shadow, rows, columns)
        self._blend(mask, rows, columns, bgra(colour), strength)

    def gradient(self, shape: ArrayLike, top: str, bottom: str, outline: str | None = None, width: float = 3) -> None:
        """Fill `shape` with a vertical gradient that spans its height."""
        heights = self._to_px(shape)[:, 1]
        rows, columns = self._bounds(shape)
        weight = np.clip((np.arange(rows.start, rows.stop) - heights.min()) / max(1.0, float(np.ptp(heights))), 0, 1)
        weight = weight[:, None, None]
        tint = np.array(bgra(top)) * (1 - weight) + np.array(bgra(bottom)) * weight
        self._blend(self._mask(shape, rows, columns), rows, columns, tint, 1.0)
        if outline:
            self.stroke(shape, outline, width, closed=True)

    def glow(self, x: float, y: float, radius: float, colour: str, strength: float = 1.0) -> None:
        """A soft round light that fades to nothing at `radius`."""
        (px, py), reach = self._to_px([(x, y)])[0], radius * self._line_scale / self._line
        rows, columns = self.image.shape[:2]
        top, bottom = max(0, int(py - reach)), min(rows, int(py + reach) + 1)
        left, right = max(0, int(px - reach)), min(columns, int(px + reach) + 1)
        if top >= bottom or left >= right:
            return
        yy, xx = np.ogrid[top:bottom, left:right]
        far = np.sqrt(np.float32(yy - py) ** 2 + np.float32(xx - px) ** 2) / np.float32(reach)
        fall = np.rint(np.clip(1 - far, 0, 1) ** 2 * 255).astype(np.uint8)
        self._blend(fall, slice(top, bottom), slice(left, right), bgra(colour), strength)

    def finish(self) -> Image:
        """The picture at its size in pixels: (height, width, 4), premultiplied."""
        rows, columns = (side // self._samples for side in self.image.shape[:2])
        small: Image = np.asarray(cv2.resize(self.image, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        return small

    def _to_px(self, points: ArrayLike) -> Points:
        result: Points = np.asarray(points, np.float64) @ self._matrix[:, :2].T + self._matrix[:, 2]
        return result

    def _fixed(self, points: ArrayLike) -> NDArray[np.int32]:
        return np.rint((self._to_px(points) - 0.5) * (1 << _SHIFT)).astype(np.int32)

    def _bounds(self, *shapes: ArrayLike) -> tuple[slice, slice]:
        """Rows and columns of the picture that all the shapes' bounding boxes share."""
        boxes = [self._to_px(shape) for shape in shapes]
        low = np.max([np.floor(box.min(axis=0)) - 1 for box in boxes], axis=0)
        high = np.min([np.ceil(box.max(axis=0)) + 2 for box in boxes], axis=0)
        limits = self.image.shape[1], self.image.shape[0]
        (left, right), (top, bottom) = (
            (min(max(0, int(low[axis])), limits[axis]), min(max(0, int(high[axis])), limits[axis])) for axis in (0, 1)
        )
        return slice(top, max(top, bottom)), slice(left, max(left, right))

    def _mask(self, points: ArrayLike, rows: slice, columns: slice) -> Image:
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        if mask.size:
            corner = np.array([columns.start, rows.start]) << _SHIFT
            cv2.fillPoly(mask, [(self._fixed(points) - corner).astype(np.int32)], (255,), cv2.LINE_AA, _SHIFT)
        return mask

    def _blend(self, mask: Image, rows: slice, columns: slice, tint: ArrayLike, strength: float) -> None:
        """Mix `tint`, one BGRA colour or one for each row, into the part of the picture under `mask`."""
        part = self.image[rows, columns]
        if not part.size:
            return
        weight = cv2.merge([cv2.convertScaleAbs(mask, alpha=strength)] * 4)
        kept = cv2.multiply(part, 255 - weight, scale=1 / 255)
        colour = np.asarray(tint, np.float64)
        if colour.ndim == 1:
            added = cv2.multiply(weight, colour, scale=1 / 255)
        else:
            rows_colour = np.rint(colour).astype(np.uint8)
            picture = cv2.resize(rows_colour, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            added = cv2.multiply(picture, weight, scale=1 / 255)
        cv2.add(kept, added, dst=part)


class Sprite:
    """A premultiplied picture, cropped and split so that laying it over another costs two cv2 calls."""

    def __init__(self, image: Image) -> None:
        self._left, self._top, width, height = cv2.boundingRect(image[..., 3])
        image = image[self._top : self._top + height, self._left : self._left + width]
        self._colour = np.ascontiguousarray(image[..., :3])
        self._cover = _cover(image)

    def over(self, frame: Image, left: int, top: int) -> None:
        """Lay the sprite on a BGR `frame` with the picture's corner at (left, top); what is outside is cut off."""
        left, top = left + self._left, top + self._top
        rows, columns = self._colour.shape[:2]
        y0, y1 = max(0, top), min(frame.shape[0], top + rows)
        x0, x1 = max(0, left), min(frame.shape[1], left + columns)
        if y0 < y1 and x0 < x1:
            window = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            lay_over(frame[y0:y1, x0:x1], self._colour[window], self._cover[window])


def lay_over(frame: Image, colour: Image, cover: Image) -> None:
    """frame = colour + frame * cover / 255, in place; `cover` is 255 minus the alpha of the premultiplied `colour`."""
    cv2.add(cv2.multiply(frame, cover, scale=1 / 255), colour, dst=frame)


def _cover(image: Image) -> Image:
    """255 minus the alpha of a BGRA picture, for each of blue, green and red."""
    return np.asarray(cv2.cvtColor(255 - image[..., 3], cv2.COLOR_GRAY2BGR), np.uint8)


class PanningLayer:
    """A strip that repeats to the right and moves to the left at a constant speed, with sub-pixel positions.

    `strip` is (rows, period, 4); an opaque layer ignores its alpha. `speed` is in pixels a second, `top` the row of
    the frame at which the strip begins, `width` that of the frame. Positions are rounded to 1/`phases` pixel, each of
    which is drawn beforehand: a frame then costs a copy, or two cv2 calls.
    """

    def __init__(self, strip: Image, top: int, speed: float, width: int, opaque: bool, phases: int) -> None:
        self._top, self._speed, self._period, self._width, self._phases = top, speed, strip.shape[1], width, phases
        columns = np.arange(self._period + width + 1) % self._period
        colour = np.ascontiguousarray(strip[:, columns, :3])
        self._colours = _shifted(colour, phases)
        self._covers = None if opaque else _shifted(_cover(strip[:, columns]), phases)

    def over(self, frame: Image, time_s: float) -> None:
        """Lay the strip, as it stands at `time_s`, over a BGR frame of the width given at the start."""
        position = round(time_s * self._speed * self._phases) % (self._period * self._phases)
        start, phase = divmod(position, self._phases)
        columns = slice(start, start + self._width)
        colour = self._colours[phase][:, columns]
        target = frame[self._top : self._top + colour.shape[0]]
        if self._covers is None:
            np.copyto(target, colour)
        else:
            lay_over(target, colour, self._covers[phase][:, columns])


def _shifted(strip: Image, phases: int) -> list[Image]:
    """The strip moved to the left by 0, 1/phases, 2/phases ... of a pixel; one column fewer."""
    here, there = strip[:, :-1], strip[:, 1:]
    between = [cv2.addWeighted(here, 1 - n / phases, there, n / phases, 0) for n in range(1, phases)]
    return [here, *(np.asarray(picture, np.uint8) for picture in between)]

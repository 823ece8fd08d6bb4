"""What happens to drawn frames on their way to a viewer: fades and flashes, film grain, a codec's losses."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def weathered(rng: np.random.Generator, first: Image, middle: Image, second: Image, t: float) -> tuple[Image, ...]:
    """The three frames, 8-bit RGB, with fades (all three), grain and JPEG's losses (not `middle`, which is to be learned)."""
    if rng.random() < 0.12:
        first, middle, second = _faded(rng, (first, middle, second), t)
    if rng.random() < 0.15:
        strength = rng.uniform(1, 7)
        first, second = (_grainy(rng, frame, strength) for frame in (first, second))
    if rng.random() < 0.35:
        quality = int(rng.integers(30, 91))
        first, second = (_compressed(frame, quality) for frame in (first, second))
    return first, middle, second


def _faded(rng: np.random.Generator, frames: tuple[Image, ...], t: float) -> tuple[Image, ...]:
    """Toward black, white or another exposure, evenly in time; `frames` are those at 0, t and 1."""
    gain, offset = rng.uniform(0.6, 1.3), float(rng.choice((0, 0, 60)) * rng.random())
    ends = rng.permutation([0.0, 1.0])
    shares = (ends[0], ends[0] + (ends[1] - ends[0]) * t, ends[1])
    return tuple(
        cv2.convertScaleAbs(frame, alpha=1 + (gain - 1) * share, beta=offset * share)
        for frame, share in zip(frames, shares, strict=True)
    )


def _grainy(rng: np.random.Generator, frame: Image, strength: float) -> Image:
    """Gaussian noise of `strength` levels, the same in all colours."""
    grain = rng.standard_normal(frame.shape[:2], np.float32) * np.float32(strength)
    return np.rint(np.clip(frame + grain[..., None], 0, 255)).astype(np.uint8)


def _compressed(frame: Image, quality: int) -> Image:
    ok, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError("cv2 cannot write JPEG")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)

"""The generator of drawn scenes: the in-between is exact, the flow leads where it says, held drawings are held; it is quick."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training import scenes

SIZE = (192, 256)


def made(seed: int, *, clean: bool = True) -> scenes.Example:
    return scenes.example(np.random.default_rng(seed), SIZE, clean=clean)


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = np.square(a[where].astype(np.float64) - b[where]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def warped(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.arange(SIZE[1], dtype=np.float32), np.arange(SIZE[0], dtype=np.float32))
    return cv2.remap(frame, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)


def test_the_same_seed_gives_the_same_pixels() -> None:
    one, other = made(5, clean=False), made(5, clean=False)
    for name in ("first", "middle", "second", "timestep", "flow", "known", "seen"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert not np.array_equal(one.first, made(6, clean=False).first)


@pytest.mark.parametrize("seed", range(8))
def test_shapes_and_ranges_are_as_described(seed: int) -> None:
    made_one = made(seed, clean=False)
    for frame in (made_one.first, made_one.middle, made_one.second):
        assert frame.shape == (*SIZE, 3) and frame.dtype == np.uint8
    for field, shape in ((made_one.timestep, SIZE), (made_one.known, SIZE), (made_one.seen, (*SIZE, 2))):
        assert field.shape == shape and field.dtype == np.float32 and field.min() >= 0 and field.max() <= 1
    assert made_one.flow.shape == (*SIZE, 4) and made_one.flow.dtype == np.float32


def test_either_frame_warped_by_the_flow_gives_the_middle_one() -> None:
    quality = []
    for seed in range(40):
        drawn = made(seed)
        for side, frame in enumerate((drawn.first, drawn.second)):
            clear = (drawn.known > 0) & (drawn.seen[..., side] > 0)
            clear = cv2.erode(clear.astype(np.uint8), np.ones((3, 3))) > 0  # sampling reaches half a pixel over an edge
            quality.append(psnr(warped(frame, drawn.flow[..., 2 * side : 2 * side + 2]), drawn.middle, clear))

    assert min(quality) > 25 and np.median(quality) > 36

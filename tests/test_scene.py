"""Scene cuts against the reference's SSIM, held drawings, thumbnails of every format."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from drba import scene
from drba.pixels import PIXEL_FORMATS, FrameLayout, PixelFormat, pixel_format

DATA = Path(__file__).with_name("data")


def reduced(image: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(np.ascontiguousarray(plane), (32, 32)) for plane in image])


def test_ssim_agrees_with_the_reference() -> None:
    data = np.load(DATA / "scene.npz")
    for pair, expected in zip(data["pairs"], data["ssim"], strict=True):
        assert scene.ssim(reduced(pair[0]), reduced(pair[1])) == pytest.approx(expected, abs=1e-4)


def test_a_larger_threshold_finds_more_cuts() -> None:
    data = np.load(DATA / "scene.npz")
    found = [
        sum(scene.is_cut(reduced(a), reduced(b), threshold) for a, b in data["pairs"]) for threshold in (0.05, 0.3, 0.8)
    ]
    assert found == [0, 2, 3]


@pytest.mark.parametrize("fmt", PIXEL_FORMATS, ids=lambda fmt: fmt.name)
def test_thumbnails_of_a_grey_frame_are_grey(fmt: PixelFormat) -> None:
    layout = FrameLayout(67, 45, fmt)
    buffer = bytearray(layout.frame_bytes)
    for plane in layout.views(buffer):
        plane[:] = (fmt.max_value + 1) // 2
    image = scene.thumbnail(layout.views(buffer), layout, full_range=True)
    assert image.shape == (3, 32, 32)
    np.testing.assert_allclose(image, 0.5, atol=0.01)


@pytest.mark.parametrize(
    ("matrix", "yuv", "rgb"), [("bt709", (63, 102, 240), (1, 0, 0)), ("bt470bg", (82, 90, 240), (1, 0, 0))]
)
def test_thumbnails_use_the_streams_matrix(matrix: str, yuv: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    layout = FrameLayout(64, 48, pixel_format("yuv420p"))
    planes = layout.views(bytearray(layout.frame_bytes))
    for plane, value in zip(planes, yuv, strict=True):
        plane[:] = value
    image = scene.thumbnail(planes, layout, matrix)
    np.testing.assert_allclose(image[:, 16, 16], rgb, atol=0.02)


@pytest.mark.parametrize("depth", [8, 10])
def test_held_drawings(depth: int) -> None:
    rng = np.random.default_rng(1)
    dtype = np.uint8 if depth == 8 else np.uint16
    picture = (rng.integers(60, 200, (90, 160)) << (depth - 8)).astype(dtype)
    noisy = (picture + rng.integers(-1, 2, picture.shape) * (1 << (depth - 8))).astype(dtype)
    moved = picture.copy()
    moved[40:56, 60:76] = 255 << (depth - 8)  # a mouth that opens
    same, noise, other = (scene.held_signature(image, depth) for image in (picture, noisy, moved))
    assert scene.is_held(same, noise)
    assert not scene.is_held(same, other)

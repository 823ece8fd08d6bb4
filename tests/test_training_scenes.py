"""The generator of drawn scenes: the in-between is exact, the flow leads where it says, held drawings are held; it is quick."""

from __future__ import annotations

import time
from functools import lru_cache

import cv2
import numpy as np
import pytest

from training import scenes
from training.layers import painted

SIZE = (192, 256)
NEARLY_OPAQUE = 8  # levels: what is at least 248/255 opaque counts as alone


@lru_cache(maxsize=32)
def made(seed: int, *, clean: bool = True) -> scenes.Example:
    return scenes.example(np.random.default_rng(seed), SIZE, clean=clean)


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = np.square(a[where].astype(np.float64) - b[where]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def soft(image: np.ndarray) -> np.ndarray:
    """Without the finest detail, which sampling between pixels costs."""
    return cv2.GaussianBlur(image, (0, 0), 0.7)


def warped(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.arange(SIZE[1], dtype=np.float32), np.arange(SIZE[0], dtype=np.float32))
    return cv2.remap(frame, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)


def test_the_same_seed_gives_the_same_pixels() -> None:
    one, other = (scenes.example(np.random.default_rng(5), SIZE) for _ in range(2))
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
    for seed in range(16):
        drawn = made(seed)
        for side, frame in enumerate((drawn.first, drawn.second)):
            clear = (drawn.known > 0) & (drawn.seen[..., side] > 0)
            clear = cv2.erode(clear.astype(np.uint8), np.ones((3, 3))) > 0  # sampling reaches half a pixel over an edge
            flow = drawn.flow[..., 2 * side : 2 * side + 2]
            quality.append(psnr(soft(warped(frame, flow)), soft(drawn.middle), clear))
            # Half a pixel beside it is clearly worse, so the measure would notice.
            if drawn.middle[clear].std() > 40:
                assert psnr(soft(warped(frame, flow + np.float32(0.5))), soft(drawn.middle), clear) < quality[-1] - 3
    assert min(quality) > 30 and np.median(quality) > 40


def test_what_is_not_visible_is_said() -> None:
    """Where the middle frame shows what another frame hides, warping fails, and `seen` is 0."""
    hidden, visible = [], []
    for drawn in map(made, range(16)):
        out, there = (drawn.known > 0) & (drawn.seen[..., 0] == 0), (drawn.known > 0) & (drawn.seen[..., 0] > 0)
        if out.sum() > 500:
            image = warped(drawn.first, drawn.flow[..., :2])
            hidden.append(psnr(image, drawn.middle, out))
            visible.append(psnr(image, drawn.middle, there))
    assert len(hidden) > 5 and np.median(hidden) < np.median(visible) - 10


def test_the_timestep_says_where_drawings_rest() -> None:
    """Drawings held at the first frame stand there in the middle one, while the backdrop moves on."""
    held = 0
    for seed in range(8):
        scene = scenes.scene(np.random.default_rng(seed), SIZE)
        drawn = scene.example(np.array([0.5] + [0.0] * (scene.clocks - 1)))
        assert set(np.unique(drawn.timestep)) <= {0.0, 0.5}
        resting = (drawn.timestep == 0) & (drawn.known > 0)
        assert np.abs(drawn.flow[resting][:, :2]).max(initial=0) < 1e-3
        both = resting & (drawn.seen[..., 0] > 0)
        assert np.abs(drawn.middle[both].astype(int) - drawn.first[both]).max(initial=0) <= NEARLY_OPAQUE
        held += both.sum()
    assert held > 0.05 * 8 * SIZE[0] * SIZE[1]


def test_one_clock_moves_its_own_drawings_only() -> None:
    moved = 0
    for seed in range(6):
        scene = scenes.scene(np.random.default_rng(seed), SIZE)
        if scene.clocks < 2:
            continue
        before = painted(scene.layers, SIZE, np.full(scene.clocks, 0.5))
        after = painted(scene.layers, SIZE, np.array([0.5, 1.0] + [0.5] * (scene.clocks - 2)))
        others = [number for number, layer in enumerate(scene.layers) if layer.clock != 1]
        same = (before.owner == after.owner) & np.isin(before.owner, others)
        assert np.abs(before.pixels[same].astype(int) - after.pixels[same]).max() <= NEARLY_OPAQUE
        moved += (before.owner != after.owner).sum()
    assert moved > 1000


def test_times_are_uniform_in_some_and_the_clocks_own_in_others() -> None:
    rng = np.random.default_rng(0)
    drawn = [scenes.random_times(rng, 4) for _ in range(2000)]
    uniform = [times for times in drawn if np.ptp(times) == 0]
    assert 0.35 < len(uniform) / len(drawn) < 0.5
    assert 0.4 < np.mean([times[0] == 0.5 for times in uniform]) < 0.6
    own = np.array([times[1:] for times in drawn if np.ptp(times)])
    assert (own == 0).mean() > 0.15 and (own == 1).mean() > 0.15 and ((own > 0) & (own < 1)).mean() > 0.3


def test_motion_is_as_in_films() -> None:
    """Pixels between frames two apart in 720p cartoons: medians of 0 to 43, tails to 100."""
    lengths = [np.hypot(*(d.flow[..., 2:] - d.flow[..., :2]).transpose(2, 0, 1)).ravel() for d in map(made, range(16))]
    quarter, half, most = np.percentile(np.concatenate(lengths), (25, 50, 98))
    assert quarter < 5 and 2 < half < 20 and 25 < most < 120


def test_it_is_quick() -> None:
    """25 ms on a quiet core; the bound is for a busy one."""
    spent = []
    for seed in range(8):
        start = time.thread_time()
        scenes.example(np.random.default_rng(seed), (256, 256))
        spent.append(time.thread_time() - start)
    assert np.median(spent) < 0.12

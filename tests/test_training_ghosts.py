"""Held drawings: the measures tell a figure in one place from a doubled or blurred one; distance ratio maps keep it in one."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import pytest

import drba
from drba.errors import ModelError
from drba.weights import SHIPPED_DIR_ENV
from training.drm import KINDS, halfway, main, off_place
from training.ghosts import Judge
from training.held import HeldScene, held_scene

SIZE = (252, 448)
SEEDS = (0, 3, 8)
SCENES = [(seed, mirrored) for seed in SEEDS for mirrored in (False, True)]


@lru_cache
def scene(seed: int, mirrored: bool = False) -> HeldScene:
    return held_scene(seed, mirrored=mirrored, size=SIZE)


@lru_cache
def judge(seed: int, mirrored: bool = False) -> Judge:
    return Judge(scene(seed, mirrored), scene(seed, mirrored).jump_time)


@pytest.mark.parametrize("mirrored", [False, True], ids=["rests, then jumps", "jumps, then rests"])
def test_the_figure_rests_on_one_side_and_the_background_moves_on_both(mirrored: bool) -> None:
    held = scene(0, mirrored)
    frames = held.frames
    inside = cv2.erode(held.figure_mask(held.resting_place).astype(np.uint8), np.ones((9, 9))) > 0
    resting = 2 if mirrored else 0
    assert np.abs(frames[1][inside].astype(int) - frames[resting][inside]).mean() < 0.2  # gaps between its parts
    assert np.abs(frames[1][inside].astype(int) - frames[2 - resting][inside]).mean() > 10
    outside = ~held.figure_mask(0) & ~held.figure_mask(1)
    for other in (0, 2):
        assert np.abs(frames[1][outside].astype(int) - frames[other][outside]).mean() > 2


@pytest.mark.parametrize("place", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_true_picture_has_one_sharp_figure_in_its_place(seed: int, place: float) -> None:
    drawn = judge(seed).drawn(scene(seed).true(1.5, place))
    assert drawn.place == pytest.approx(place) and drawn.ghost < 1e-6 and drawn.sharpness == pytest.approx(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pixel_beside_its_place_is_no_ghost(seed: int) -> None:
    moved = cv2.warpAffine(scene(seed).true(1.5, 0), np.float32([[1, 0, 1], [0, 1, 1]]), SIZE[::-1], borderMode=2)
    assert judge(seed).drawn(moved).ghost < 0.03


@pytest.mark.parametrize("seed", SEEDS)
def test_a_blend_of_two_drawings_has_a_ghost_and_half_an_outline(seed: int) -> None:
    held = scene(seed)
    drawn = judge(seed).drawn(cv2.addWeighted(held.true(1.5, 0), 0.5, held.true(1.5, 1), 0.5, 0))
    assert drawn.ghost > 0.08 and 0.2 < drawn.sharpness < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_two_whole_figures_are_sharp_but_have_a_ghost(seed: int) -> None:
    held = scene(seed)
    both = np.where(held.figure_mask(1)[..., None], held.true(1.5, 1), held.true(1.5, 0))
    drawn = judge(seed).drawn(both)
    assert drawn.ghost > 0.1 and drawn.sharpness > 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_a_blurred_figure_has_no_ghost_but_no_sharpness_either(seed: int) -> None:
    drawn = judge(seed).drawn(cv2.GaussianBlur(scene(seed).true(1.5, 0), (0, 0), 2.5))
    assert drawn.ghost < 0.04 and drawn.sharpness < 0.2 and off_place(drawn, scene(seed)) <= 0.05


@pytest.mark.parametrize(("name", "scenes"), [("flow", SCENES), ("drba-small", SCENES[::2])])
def test_distance_ratio_maps_keep_the_figure_in_one_place(
    name: str, scenes: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them it is halfway between two drawings, and doubled and soft."""
    monkeypatch.delenv(SHIPPED_DIR_ENV, raising=False)  # the package's own network, which other tests hide
    try:
        model = drba.load(name)
    except ModelError as error:
        pytest.skip(str(error))
    found: dict[str, list[tuple[float, float, float]]] = {}
    for which in scenes:
        for kind, image in halfway(model, scene(*which)).items():
            drawn = judge(*which).drawn(image)
            found.setdefault(kind, []).append((off_place(drawn, scene(*which)), drawn.ghost, drawn.sharpness))
    blend, without, with_drm = (np.median(found[kind], axis=0) for kind in KINDS)
    assert with_drm[0] <= 0.1 and without[0] >= 0.4
    assert with_drm[1] < 0.6 * without[1] and with_drm[1] < 0.5 * blend[1]
    assert with_drm[2] > 1.3 * without[2]


def test_the_report_is_a_line_for_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flow", "--scenes", "0"]) == 2
    assert main(["no-such-model"]) == 2
    error = capsys.readouterr().err
    assert "--scenes" in error and "no-such-model" in error and "Traceback" not in error

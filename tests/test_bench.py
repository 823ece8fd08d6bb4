"""`drba bench quality`: what is restored from what, the measures themselves, and the command with its JSON. (Speed:
test_bench_speed.py.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import clips
import cv2
import netweights
import numpy as np
import pytest

from drba.pixels import FrameLayout, Plane, pixel_format
from engines import StreamSpec, open_renderer
from player.bench.metrics import PSNR_CAP_DB, SsimReference, mse, psnr_db
from player.bench.quality import FrameScore, Gap, Picture, Restorer, gaps, most_moving, score_all, summarise
from player.bench.speed import moving_frames
from player.demo.clip import ClipSpec, make_demo

REPOSITORY = Path(__file__).resolve().parent.parent
MEDIA = REPOSITORY.parent / "shared" / "media" / "big_buck_bunny_720p24.webm"
LAYOUT = FrameLayout(128, 96, pixel_format("yuv420p"))


def textured(seed: int) -> list[Plane]:
    """Large soft patches from black to white."""
    rng = np.random.default_rng(seed)
    soft = [
        cv2.GaussianBlur(rng.random(shape), (0, 0), 9, borderType=cv2.BORDER_REFLECT) for shape in LAYOUT.plane_shapes
    ]
    return [cv2.normalize(plane, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8) for plane in soft]  # type: ignore[call-overload]


def film(scenes: Sequence[Sequence[Plane]], rate: int = 24) -> list[Picture]:
    return [Picture(number, Fraction(number, rate), planes) for number, planes in enumerate(scenes)]


def drba(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, with this checkout's packages."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "player.cli", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)


# --- what is restored from what ---------------------------------------------------------------------------------------


def test_every_second_frame_is_restored_from_the_triplet_of_the_frame_after_it() -> None:
    shades: list[list[Plane]] = [[np.roll(plane, 3 * n, 1) for plane in textured(1)] for n in range(7)]
    found = list(gaps(film(shades), LAYOUT))
    numbers = [
        tuple(frame.number if frame else None for frame in (g.triplet.previous, g.triplet.middle, g.triplet.following))
        for g in found
        if g.triplet
    ]
    assert [gap.wanted.number for gap in found] == [1, 3, 5]
    assert numbers == [(0, 2, 4), (2, 4, 6), (4, 6, None)]
    assert not any(gap.held for gap in found)


def test_nothing_is_restored_across_a_cut_or_from_the_scene_behind_it() -> None:
    one, other = textured(1), [255 - plane for plane in textured(2)]
    moved: list[list[Plane]] = [[np.roll(plane, 3 * n, 1) for plane in one] for n in range(3)]
    found = list(gaps(film([*moved, *[other] * 4]), LAYOUT))
    assert found[0].triplet is not None and found[0].triplet.following is None
    assert found[1].triplet is None
    assert found[2].held


def test_frames_further_apart_than_motion_are_not_restored() -> None:
    moved: list[list[Plane]] = [[np.roll(plane, 3 * n, 1) for plane in textured(1)] for n in range(3)]
    assert [gap.triplet for gap in gaps(film(moved, rate=6), LAYOUT)] == [None]


# --- measures ---------------------------------------------------------------------------------------------------------


def test_psnr_is_capped_where_a_frame_is_exact() -> None:
    plane = textured(1)[0]
    assert psnr_db(mse(plane, plane, 255)) == pytest.approx(PSNR_CAP_DB)
    assert psnr_db(mse(plane, plane ^ 1, 255)) == pytest.approx(20 * np.log10(255))


def test_psnr_and_ssim_do_not_depend_on_the_depth() -> None:
    a, b = textured(1)[0], textured(2)[0]
    a10, b10 = (plane.astype(np.uint16) * 4 for plane in (a, b))
    assert mse(a, b, 255) == pytest.approx(mse(a10, b10, 1020))
    assert SsimReference(a, 255).ssim(b) == pytest.approx(SsimReference(a10, 1020).ssim(b10), abs=1e-4)


def test_ssim_is_the_formula() -> None:
    a, b = textured(1)[0], textured(2)[0]
    x, y = a / 255, b / 255
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    values = []
    for row, column in ((5, 5), (40, 60), (90, 100)):
        cut = np.s_[row - 5 : row + 6, column - 5 : column + 6]
        mean_x, mean_y = (window * x[cut]).sum(), (window * y[cut]).sum()
        var_x, var_y = (window * x[cut] ** 2).sum() - mean_x**2, (window * y[cut] ** 2).sum() - mean_y**2
        covariance = (window * x[cut] * y[cut]).sum() - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
        values.append(luminance * (2 * covariance + 9e-4) / (var_x + var_y + 9e-4))
    measured = SsimReference(a, 255).map(b)
    assert [measured[p] for p in ((5, 5), (40, 60), (90, 100))] == pytest.approx(values, abs=1e-4)
    assert SsimReference(a, 255).ssim(a) == pytest.approx(1.0)


def test_means_and_the_quarter_with_the_most_motion() -> None:
    scores = [FrameScore(n, float(n), {"blend": 1e-2, "model": 1e-3}, {"blend": 0.8, "model": 0.9}) for n in range(9)]
    assert [score.number for score in most_moving(scores)] == [8, 7, 6]
    quality = summarise(scores, "model")
    assert (quality.frames, quality.psnr_db, quality.psnr_gain_db) == (9, pytest.approx(30), pytest.approx(10))
    assert quality.ssim_gain == pytest.approx(0.1)


def test_flow_restores_a_pan_that_a_blend_blurs() -> None:
    layout = FrameLayout(320, 180, pixel_format("yuv420p"))
    pictures = [Picture(n, Fraction(n, 24), planes) for n, planes in enumerate(moving_frames(layout)[:12])]
    renderer = open_renderer(StreamSpec(layout))
    scores, cuts, _ = score_all(Restorer(layout, {"model": renderer}), gaps(pictures, layout), threads=2)
    assert (len(scores), cuts) == (5, 0)
    assert summarise(scores, "model").psnr_gain_db > 3
    assert summarise(scores, "symmetric").psnr_gain_db > 3


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("bench") / "clip.mkv"
    make_demo(path, ClipSpec(seconds=1.2, width=320, height=180, audio=False))
    yield path


def test_quality_prints_json_and_writes_pictures(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    done = drba("quality", clip, "--json", "--frames", "21", "--pictures", folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["model"], result["engine"], result["size"], result["frames"]) == ("flow", "cpu", "320x180", 10)
    assert list(result["methods"]) == ["repeat", "blend", "symmetric", "model", "model_no_drm"]
    for parts in result["methods"].values():
        assert set(parts) == {"all", "moving"}
        for part in parts.values():
            assert set(part) == {"frames", "psnr_db", "psnr_of_mean_mse_db", "ssim", "psnr_gain_db", "ssim_gain"}
            assert 10 < part["psnr_db"] <= PSNR_CAP_DB and 0 < part["ssim"] <= 1.0001
    assert result["machine"]["cpu_count"] == os.cpu_count()
    assert sorted(map(str, folder.iterdir())) == sorted(result["pictures"]) and result["pictures"]
    strip = cv2.imread(result["pictures"][0])
    assert strip is not None and strip.shape[1] == 5 * 320


def test_quality_without_drm_measures_that_alone(clip: Path) -> None:
    done = drba("quality", clip, "--json", "--frames", "7", "--no-drm")
    assert "model" not in json.loads(done.stdout)["methods"]
    assert "model_no_drm" in json.loads(done.stdout)["methods"]


def test_tables_are_printed_for_people(clip: Path) -> None:
    assert "flow without DRM" in drba("quality", clip, "--frames", "7").stdout


def test_a_network_is_measured_in_both_modes(
    tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path))
    netweights.install("rife-4.15.lite")
    clip = clips.cached(clip_folder, "tiny.mkv", replace(clips.SMALL, seconds=12, width=96, height=64)).path
    done = drba("quality", clip, "--model", "rife-4.15.lite", "--frames", "9", "--json")
    assert done.returncode == 0, done.stderr
    assert {"model", "model_reference"} <= set(json.loads(done.stdout)["methods"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("quality", "/nowhere.mkv"), "no such file"),
        (("quality", MEDIA.parent.parent.parent), "a folder"),
        (("--size", "large"), "expected 480p, 720p"),
        (("--pixel-format", "p010"), "not carried"),
        (("--model", "magic"), "does not exist"),
        (("--engine", "magic"), "does not exist; expected one of"),
        (("--seconds", "0"), "expected seconds"),
        (("--chart", "chart.pdf"), "expected a name that ends in .png"),
        (("--chart", "/nowhere/chart.png"), "cannot be written"),
        (("speed",), "invalid choice"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(arguments: tuple[str | Path, ...], words: str) -> None:
    done = drba(*arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


def test_the_bridge_does_not_import_the_benchmarks() -> None:
    code = "import sys, player.cli; print([m for m in sys.modules if m.startswith('player.bench.') or m == 'rich'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.stdout.strip() == "[]"


# --- the promise ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not MEDIA.is_file(), reason=f"{MEDIA} is missing: quality on a real film is not measured")
def test_flow_restores_a_real_film_better_than_a_blend() -> None:
    """One pan of the clip, after the fade from black; all of it: docs/performance.md."""
    from engines.flow import FlowRenderer
    from player.source import VideoSource

    source = VideoSource(str(MEDIA))
    spec = StreamSpec(source.info.layout)

    def pictures() -> Iterator[Picture]:
        for number, frame in enumerate(islice(source.frames_from(source.info.start_s), 50, 87)):
            yield Picture(number, frame.time_s, [plane.copy() for plane in frame.planes()])

    restorer = Restorer(spec.layout, {"model": FlowRenderer(spec), "model_no_drm": FlowRenderer(spec, use_drm=False)})
    found: Iterator[Gap] = gaps(pictures(), spec.layout)
    scores, _, _ = score_all(restorer, found, threads=2)
    source.close()
    model, without = summarise(scores, "model"), summarise(scores, "model_no_drm")
    moving = summarise(most_moving(scores), "model")
    assert model.psnr_gain_db > 7.5 and moving.psnr_gain_db > 7.5
    assert model.ssim_gain > 0 and moving.ssim_gain > 0
    assert model.psnr_db > without.psnr_db - 0.2

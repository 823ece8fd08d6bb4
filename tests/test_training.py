"""Training the networks of the package, on drawn scenes and on a film that is made here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import tiny
from safetensors.torch import save_file

import training.train
from drba.networks.checkpoint import read_checkpoint
from drba.networks.refine import SPECS, RefineNet
from drba.networks.refining import RefineInterpolator
from training import clips as training_clips
from training.clips import FLOW_CELL, OFFSETS, Clip
from training.collages import collage
from training.examples import Example, Examples, coloured, turned
from training.forward import interpolate
from training.loss import total
from training.plans import Plan, Stage
from training.train import CHECKPOINT, INPUTS, Place, Training, rate, ready, started

SMALL = Plan("drba-small", (Stage(2, 2, (64, 64), 1e-3), Stage(4, 2, (64, 64), 1e-3)))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("films")
    path = tiny(folder, "moving.mp4", width=192, height=128).path
    return training_clips.load([path], folder / "cache", workers=1)[0]


def test_a_film_is_decoded_and_its_flow_leads_to_its_neighbours(film: Clip) -> None:
    number = len(film.frames) // 2
    for offset in OFFSETS:
        error = film.errors[number, OFFSETS.index(offset)]
        unmoved = cv2.absdiff(_luma(film, number), _luma(film, number + offset)).mean() / 255
        assert error < 0.6 * unmoved
    assert np.isinf(film.errors[0, OFFSETS.index(-1)]) and np.isinf(film.errors[-1, OFFSETS.index(1)])


def test_an_example_depends_on_its_number_alone(film: Clip) -> None:
    one, other, elsewhere = (Examples([film], (64, 64), (0.5, 1.25), (0.2, 0.2), 40, (seed,)) for seed in (1, 1, 2))
    for number in (31, *range(12), 17):
        for name, tensor in one[number].items():
            assert torch.equal(tensor, other[number][name]), name
    assert not torch.equal(one[3]["first"], elsewhere[3]["first"])


@pytest.mark.parametrize("seed", range(8))
def test_turning_an_example_turns_its_flow_with_it(seed: int) -> None:
    """Two spots, moved differently toward either frame: wherever they are after turning, the flow still leads to them."""
    flow = np.zeros((16, 16, 4), np.float32)
    images = np.zeros((3, 64, 64, 3), np.uint8)
    vectors = (-8.0, 12.0), (16.0, 4.0)
    cell = (6, 8)  # row, column of the middle frame's spot
    for image, (x, y) in zip(images, (vectors[0], (0, 0), vectors[1]), strict=True):
        top, left = cell[0] * 4 + int(y), cell[1] * 4 + int(x)
        image[top : top + 4, left : left + 4] = 255
    flow[cell] = [*vectors[0], *vectors[1]]
    given = np.zeros((16, 16, 4), np.float32)
    there = np.subtract(vectors[1], vectors[0])
    for index, ((x, y), way) in enumerate(zip(vectors, (there, -there), strict=True)):
        given[cell[0] + int(y) // 4, cell[1] + int(x) // 4, 2 * index : 2 * index + 2] = way
    timestep = np.full((16, 16), 0.25, np.float32)
    example = Example(*images, timestep, flow, (flow[..., 0] != 0).astype(np.float32), given)
    result = turned(example, np.random.default_rng(seed))
    (row,), (column,) = np.nonzero(result.known)
    for image, vector in ((result.first, result.flow[row, column, :2]), (result.second, result.flow[row, column, 2:])):
        top, left = row * 4 + int(vector[1]), column * 4 + int(vector[0])
        assert (image[top : top + 4, left : left + 4] == 255).all() and image.astype(bool).sum() == 48
    for image, other, way in (
        (result.first, result.second, result.given[..., :2]),
        (result.second, result.first, result.given[..., 2:]),
    ):
        (rows, columns) = np.nonzero(image[::4, ::4, 0])
        x, y = way[rows[0], columns[0]]
        assert (other[rows[0] * 4 + int(y), columns[0] * 4 + int(x)] == 255).all()
    forward = np.array_equal(result.flow[row, column, :2] ** 2 @ [1, 1], np.sum(np.square(vectors[0])))
    assert result.timestep[0, 0] == (0.25 if forward else 0.75)


def test_colours_change_alike_in_all_frames() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    empty = np.zeros((16, 16), np.float32)
    result = coloured(
        Example(image, image, image, empty, np.zeros((16, 16, 4), np.float32), empty, empty), np.random.default_rng(2)
    )
    assert np.array_equal(result.first, result.middle) and np.array_equal(result.first, result.second)
    assert not np.array_equal(result.first, image)


def test_what_is_trained_is_what_is_played() -> None:
    """A pass of the training is mode "fast" of the interpolator, to rounding."""
    torch.manual_seed(3)
    network = RefineNet(SPECS["drba-small"]).eval()
    for block in network.blocks:
        block.lastconv[0].weight.data *= 0.1
    first, second = (
        cv2.GaussianBlur(np.random.default_rng(n).random((128, 192, 3), np.float32), (0, 0), 3) for n in (1, 2)
    )
    first, second = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in (first, second))
    player = RefineInterpolator(network, device=CPU, mode="fast")
    with torch.no_grad():
        flows = player.motion(player.known(first), player.known(second))
        trained = interpolate(network, first, second, flows, torch.full((1, 1, 32, 48), 0.5)).image
        played = player.pair(first, second, [0.5])[0]
    assert float((trained - played).abs().max()) < 1e-4


def test_an_untrained_network_blends() -> None:
    torch.manual_seed(3)
    network = started(RefineNet(SPECS["drba-small"]))
    first, second = torch.rand(2, 1, 3, 64, 64)
    rests = torch.zeros(1, 4, 16, 16)
    with torch.no_grad():
        image = interpolate(network, first, second, rests, torch.full((1, 1, 16, 16), 0.5)).image
    assert float((image - (first + second) / 2).abs().mean()) < 0.1  # of noise, in which half a pixel is much


def test_a_collage_is_what_its_flow_says(film: Clip) -> None:
    rng = np.random.default_rng(4)
    pictures = [cv2.GaussianBlur(film.crop(number, 0, 0, 128, 192), (0, 0), 1.5) for number in range(8)]
    errors = []
    for _ in range(12):
        made = collage(rng, lambda: pictures[int(rng.integers(8))])
        x, y = np.meshgrid(np.arange(192, dtype=np.float32), np.arange(128, dtype=np.float32))
        for other, flow in ((made.first, made.flow[..., :2]), (made.second, made.flow[..., 2:])):
            place = x + flow[..., 0], y + flow[..., 1]
            inside = (place[0] > 0) & (place[0] < 191) & (place[1] > 0) & (place[1] < 127) & (made.known > 0)
            warped = cv2.remap(other, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            errors.append(np.median(np.abs(warped.astype(int) - made.middle)[inside]))
    assert max(errors) <= 2  # levels of 255, where nothing is hidden: the median is not


def test_the_rate_rises_and_falls() -> None:
    stage = Stage(1000, 4, (64, 64), 1e-3, warmup=100)
    assert rate(stage, 0) == pytest.approx(1e-5) and rate(stage, 99) == pytest.approx(1e-3)
    assert rate(stage, 550) == pytest.approx(1e-3 * 0.505) and rate(stage, 1000) == pytest.approx(1e-5)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.train, "SAVE_EVERY", 1)
    whole = Training(SMALL, tmp_path / "whole", Place()).run([])

    class Stopping(Training):
        def learn(self, batch: dict[str, torch.Tensor], stage: Stage, number: int) -> dict[str, float]:
            if self.step == 3:
                raise KeyboardInterrupt
            return super().learn(batch, stage, number)

    with pytest.raises(KeyboardInterrupt):
        Stopping(SMALL, tmp_path / "cut", Place()).run([])
    rest = Training(SMALL, tmp_path / "cut", Place()).run([])
    assert len(whole) == 6 and rest == pytest.approx(whole[3:], rel=1e-3)
    states = [torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "cut")]
    for name, tensor in states[0]["averaged"].items():
        torch.testing.assert_close(tensor, states[1]["averaged"][name], rtol=1e-2, atol=1e-4)


def test_a_training_can_begin_with_what_an_earlier_one_gave(tmp_path: Path) -> None:
    save_file(RefineNet(SPECS["drba-small"]).state_dict(), tmp_path / "earlier.safetensors")
    weights = read_checkpoint(tmp_path / "earlier.safetensors")
    begun = Training(SMALL, tmp_path, Place(), weights)
    for name, tensor in begun.network.state_dict().items():
        assert torch.equal(tensor, weights[name].float()), name


def test_thirty_seconds_of_training_lower_the_loss(tmp_path: Path, one_thread: None) -> None:
    """On the drawn scenes that it sees again and again; what it makes of others is the training's own validation."""
    stage = Stage(200, 4, (128, 128), 1e-3, warmup=10)
    scenes = Examples([], stage.size, stage.zoom, stage.shares, 8, (5, 0))
    made = [scenes[number] for number in range(8)]
    batches = [
        ready({name: torch.stack([one[name] for one in four]) for name in four[0]}, CPU)
        for four in (made[:4], made[4:])
    ]
    learning = Training(Plan("drba-small", (stage,), seed=5), tmp_path, Place())

    def loss() -> float:
        with torch.no_grad():
            passes = [interpolate(learning.network, *(b[name] for name in INPUTS)) for b in batches]
        return sum(float(total(result, batch, 1.0)[0]) for result, batch in zip(passes, batches, strict=True))

    before, end_s, number = loss(), time.monotonic() + 30, 0
    while time.monotonic() < end_s:
        learning.learn(batches[number % 2], stage, min(number, 50))
        number += 1
    after = loss()
    print(f"{number} steps: {before:.4f} -> {after:.4f}")
    assert number > 10 and after < 0.97 * before


@pytest.mark.timeout(300)  # five processes that import PyTorch: seconds, and minutes where the machine is busy
def test_the_command_trains_writes_pictures_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    tiny(folder, "moving.mp4", width=192, height=128)
    command = [sys.executable, "-m", "training", "drba-small", "--films", str(folder), "--validate", str(folder)]
    command += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    for steps, processes in (("1", "2"), ("2", "1")):
        options = ["--steps", steps, "--processes", processes]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=100)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [1, 2]
    picture = cv2.imread(str(tmp_path / "out" / "step-000002.png"))
    assert picture is not None and picture.shape[1] == 4 * 480


def test_a_folder_without_films_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "drba-small", "--films", str(tmp_path), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "expected a folder" in result.stderr


def _luma(film: Clip, number: int) -> np.ndarray:
    return np.asarray(film.frames[number][: film.size[0]])


assert FLOW_CELL == 4  # the tests' arrays are made for it

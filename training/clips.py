"""Training films: decoded once, their optical flow estimated once, both kept on disk as arrays that are mapped.

The flow is a teacher's: from every frame to its neighbours, found by DIS between frames that a student never sees together,
since it is given the outer two only. It spares the student the first thousand steps, in which it would learn to blend.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from drba.dis import search
from drba.errors import DrbaError

Image = NDArray[np.uint8]
OFFSETS = (-2, -1, 1, 2)  # neighbours that the teacher's flow leads to
FLOW_CELL = 4  # pixels that a vector stands for, in each direction
CUT_ERROR = (
    0.055  # mean luma difference (of 1) after warping by the teacher's flow, above which frames do not belong together
)
HARD_CELL = 32  # pixels, in each direction, for which it is known how hard they are
FORMAT = 2  # of the kept files
PARTS = ("frames", "flows", "given", "hard", "errors")  # in the order in which they are written


@dataclass(frozen=True)
class Clip:
    """A film: `frames` (N, 3/2 H, W) uint8, I420; `flows` (N, 4, H/4, W/4, 2) float16, (x, y) in pixels from a frame to its
    neighbours at `OFFSETS`; `errors` (N, 4) what is left of luma after warping by them, infinite where there is no neighbour.
    `given` (N, H/4, W/4, 4) float16 as `given_flow` finds it between both neighbours of a frame, and `hard` (N, H/32, W/32)
    float32 the mean squared error, of luma in 0..1, of what that makes of the frame; zero where a neighbour is missing."""

    name: str
    frames: NDArray[np.uint8]
    flows: NDArray[np.float16]
    given: NDArray[np.float16]
    hard: NDArray[np.float32]
    errors: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[1] * 2 // 3, self.frames.shape[2]

    def small_luma(self, number: int) -> NDArray[np.uint8]:
        """Luma of a frame at a quarter of the size."""
        return _reduced(self.frames[number][: self.size[0]])

    def crop(self, number: int, top: int, left: int, height: int, width: int) -> Image:
        """RGB (height, width, 3) of a frame; all four numbers even."""
        rows, columns = self.size
        half = (slice(top // 2, (top + height) // 2), slice(left // 2, (left + width) // 2))
        frame = self.frames[number]
        luma = frame[:rows][top : top + height, left : left + width]
        chroma = frame[rows:].reshape(2, rows // 2, columns // 2)
        planes = [plane[half].reshape(-1) for plane in chroma]
        packed = np.concatenate([luma.reshape(-1), *planes]).reshape(height * 3 // 2, width)
        return np.asarray(cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420), np.uint8)


def load(paths: Sequence[Path], folder: Path, workers: int = 2) -> list[Clip]:
    """The films, decoded and estimated into `folder` where that was not done before."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = [folder / f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}-{FORMAT}" for path in paths]
    missing = [(path, key) for path, key in zip(paths, keys, strict=True) if not _file(key, PARTS[-1]).exists()]
    if missing:
        # New processes, not forks: libraries here have threads, and a fork that took a lock of theirs waits for ever.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_prepare, *zip(*missing, strict=True)))
    return [_mapped(path, key) for path, key in zip(paths, keys, strict=True)]


def _mapped(path: Path, key: Path) -> Clip:
    arrays: list[Any] = [np.load(_file(key, part), mmap_mode="r") for part in PARTS]
    return Clip(path.stem, *arrays)


def _file(key: Path, part: str) -> Path:
    return key.with_name(f"{key.name}.{part}.npy")


def _prepare(path: Path, key: Path) -> None:
    frames = _decoded(path)
    flows, errors = _estimated(frames)
    arrays: list[NDArray[Any]] = [frames, flows, *_started(frames), errors]
    for part, array in zip(PARTS, arrays, strict=True):
        unfinished = _file(key, part).with_suffix(".part")
        with unfinished.open("wb") as file:
            np.save(file, array)
        unfinished.rename(_file(key, part))


def _decoded(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    if not frames or frames[0].shape[1] % 8 or frames[0].shape[0] % 12:
        raise DrbaError(f"{path} has {len(frames)} frames; expected a film whose sides are divisible by 8")
    return np.stack(frames)


def _estimated(frames: NDArray[np.uint8]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    cv2.setNumThreads(1)
    rows, columns = frames.shape[1] * 2 // 3, frames.shape[2]
    half = [cv2.resize(frame[:rows], (columns // 2, rows // 2), interpolation=cv2.INTER_AREA) for frame in frames]
    searcher = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    searcher.setFinestScale(1)
    searcher.setVariationalRefinementIterations(3)
    size = (columns // FLOW_CELL, rows // FLOW_CELL)
    x, y = np.meshgrid(np.arange(columns // 2, dtype=np.float32), np.arange(rows // 2, dtype=np.float32))
    flows = np.zeros((len(frames), len(OFFSETS), rows // FLOW_CELL, columns // FLOW_CELL, 2), np.float16)
    errors = np.full((len(frames), len(OFFSETS)), np.inf, np.float32)
    for number, image in enumerate(half):
        for index, offset in enumerate(OFFSETS):
            if not 0 <= number + offset < len(frames):
                continue
            other = half[number + offset]
            flow = searcher.calc(image, other, None)
            warped = cv2.remap(
                other, flow[..., 0] + x, flow[..., 1] + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            errors[number, index] = float(np.mean(cv2.absdiff(warped, image))) / 255
            flows[number, index] = cv2.resize(flow, size, interpolation=cv2.INTER_AREA) * 2
    return flows, errors


def given_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flow between two luma images at a quarter of the size, there and back: (h, w, 4) in pixels of the full size, what a network
    is given."""
    both = search(first, second, "whole"), search(second, first, "whole")
    return np.concatenate(both, -1) * np.float32(FLOW_CELL)


def _started(frames: NDArray[np.uint8]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    rows = frames.shape[1] * 2 // 3
    small = [_reduced(frame[:rows]) for frame in frames]
    given = np.zeros((len(frames), *small[0].shape, 4), np.float16)
    shrink = HARD_CELL // FLOW_CELL
    hard = np.zeros((len(frames), small[0].shape[0] // shrink, small[0].shape[1] // shrink), np.float32)
    for number in range(1, len(frames) - 1):
        first, middle, second = small[number - 1 : number + 2]
        flow = given_flow(first, second)
        given[number] = flow
        half = flow * np.float32(0.5 / FLOW_CELL)
        forth, back = (_looked_up(half[..., part], -half[..., part]) for part in (slice(0, 2), slice(2, 4)))
        motion = (forth - back) * np.float32(0.5)
        shown = (_looked_up(first, -motion).astype(np.float32) + _looked_up(second, motion)) / 2
        error = ((shown - middle) / 255) ** 2
        hard[number] = cv2.resize(error, hard.shape[:0:-1], interpolation=cv2.INTER_AREA)
    return given, hard


def _looked_up(field: NDArray[Any], vectors: NDArray[Any]) -> NDArray[Any]:
    """Of each place, what is where its vector leads to."""
    x, y = np.meshgrid(np.arange(field.shape[1], dtype=np.float32), np.arange(field.shape[0], dtype=np.float32))
    return cv2.remap(field, x + vectors[..., 0], y + vectors[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _reduced(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (luma.shape[1] // FLOW_CELL, luma.shape[0] // FLOW_CELL)
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)

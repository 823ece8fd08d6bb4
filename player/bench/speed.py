"""Interpolation speed: in-between frames a second on generated content in which everything moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import cv2
import numpy as np
from numpy.typing import NDArray

from drba.pixels import FrameLayout, Plane
from engines.base import Renderer, SourceFrame, Triplet

CYCLE_FRAMES = 24  # frames made; shown round and round, which is seamless because the motion is periodic
PAN_SHARE = 0.04  # of the width to either side, in one cycle: up to 13 pixels a frame at 720p
FOREGROUND_SHARE = 0.3  # part of the picture's sides that the foreground takes
#: Times in a triplet, middle frame by middle frame: every second frame's are the other ones.
TIMES_24_TO_60 = ((0.6, 1.4), (0.8, 1.2))
WARM_UP_TRIPLETS, WARM_UP_SHARE = 4, 0.3  # at most so many, and none begun after this share of the time measured
LEAST_TRIPLETS = 3  # in each thread, however long they take


@dataclass(frozen=True)
class Speed:
    """Frames a second over all threads, and how long single ones took in their thread (wall time of a triplet, shared
    among its frames).

    `p99_ms` is the nearest rank: of fewer than 100 triplets the longest. `cpu_ms` is the processor time of the whole
    process for one frame: it tells a busy machine from a slow one.
    """

    inbetweens: int
    seconds: float
    inbetweens_per_second: float
    median_ms: float
    p99_ms: float
    cpu_ms: float


def moving_frames(layout: FrameLayout) -> list[list[Plane]]:
    """A textured background that swings sideways, and a textured foreground that moves against it: nothing rests."""
    rng = np.random.default_rng(7)
    shapes, fmt = layout.plane_shapes, layout.format
    frames: list[list[Plane]] = [[] for _ in range(CYCLE_FRAMES)]
    for rows, columns in shapes:
        share = columns / shapes[0][1], rows / shapes[0][0]
        pan_px = (PAN_SHARE * columns, 0.5 * PAN_SHARE * rows)
        margin = int(max(pan_px)) + 2
        back = _texture(rng, (rows + 2 * margin, columns + 2 * margin), share, fmt.max_value)
        front_shape = (max(1, int(rows * FOREGROUND_SHARE)), max(1, int(columns * FOREGROUND_SHARE)))
        front = _texture(rng, (front_shape[0] + 2 * margin, front_shape[1] + 2 * margin), share, fmt.max_value)
        for number, planes in enumerate(frames):
            angle = 2 * np.pi * number / CYCLE_FRAMES
            shift = np.array([pan_px[0] * np.sin(angle), pan_px[1] * np.cos(angle)])
            plane = _window(back, (rows, columns), margin + shift)
            at = np.array([columns, rows]) * (1 - FOREGROUND_SHARE) / 2 + shift
            left, top = (max(0, int(value)) for value in at)
            piece = _window(front, front_shape, margin - (at - (left, top)))
            plane[top : top + piece.shape[0], left : left + piece.shape[1]] = piece[: rows - top, : columns - left]
            planes.append(np.asarray(plane, fmt.dtype))
    return frames


def _texture(
    rng: np.random.Generator, shape: tuple[int, int], share: tuple[float, float], peak: int
) -> NDArray[np.float32]:
    """Noise at several sizes, as drawings have large areas and fine lines alike; `share` is the plane's subsampling."""
    rows, columns = shape
    total = np.zeros(shape, np.float32)
    for cell_px, weight in ((4, 0.15), (16, 0.3), (64, 0.55)):
        grid = (max(2, int(rows / share[1]) // cell_px), max(2, int(columns / share[0]) // cell_px))
        noise = rng.random(grid, np.float32)
        total += weight * np.asarray(cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC), np.float32)
    return np.clip(total, 0, 1) * np.float32(peak)


def _window(picture: NDArray[np.float32], shape: tuple[int, int], corner: NDArray[np.float64]) -> NDArray[np.float32]:
    """The part of `shape` whose top left corner is at `corner` (x, y), between pixels if need be."""
    to_source = np.array([[1, 0, corner[0]], [0, 1, corner[1]]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, to_source, (shape[1], shape[0]), flags=flags), np.float32)


class Feed:
    """Triplets of ever new frame numbers, with the times at which playing 24 -> 60 frames a second asks for in-betweens.

    `frames` are shown in turn. Thread-safe.
    """

    def __init__(self, layout: FrameLayout, frames: Sequence[Sequence[Plane]]) -> None:
        self.layout = layout
        self._frames = frames
        self._numbers = count(1)
        self._lock = threading.Lock()

    def next(self) -> tuple[Triplet, tuple[float, ...]]:
        with self._lock:
            middle = next(self._numbers)
        previous, now, following = (
            SourceFrame(number, self._frames[number % len(self._frames)]) for number in (middle - 1, middle, middle + 1)
        )
        return Triplet(previous, now, following), TIMES_24_TO_60[middle % len(TIMES_24_TO_60)]

    def outputs(self) -> list[list[Plane]]:
        """Frames to render into; each thread has its own."""
        return [self.layout.views(bytearray(self.layout.frame_bytes)) for _ in TIMES_24_TO_60[0]]


def measure(renderer: Renderer, feed: Feed, *, seconds: float, threads: int) -> Speed:
    """Render triplets for at least `seconds`, a few at least; each thread takes the next one when it has finished one."""
    took_ms: list[float] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            outputs = feed.outputs()
            warm = time.perf_counter() + seconds * WARM_UP_SHARE
            for _ in range(WARM_UP_TRIPLETS):
                renderer.render(*feed.next(), outputs)
                if time.perf_counter() > warm:
                    break
            barrier.wait()
            until = time.perf_counter() + seconds
            done = 0
            while done < LEAST_TRIPLETS or time.perf_counter() < until:
                triplet, times = feed.next()
                began = time.perf_counter()
                renderer.render(triplet, times, outputs)
                took_ms.append(1e3 * (time.perf_counter() - began) / len(times))
                done += 1
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    started: list[float] = []
    barrier = threading.Barrier(threads, lambda: started.extend((time.perf_counter(), time.process_time())))
    workers = [threading.Thread(target=work, name=f"bench-{i}") for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise next((error for error in failures if not isinstance(error, threading.BrokenBarrierError)), failures[0])
    elapsed, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    inbetweens = len(took_ms) * len(TIMES_24_TO_60[0])
    return Speed(
        inbetweens=inbetweens,
        seconds=elapsed,
        inbetweens_per_second=inbetweens / elapsed,
        median_ms=float(np.median(took_ms)),
        p99_ms=float(np.percentile(took_ms, 99, method="inverted_cdf")),
        cpu_ms=1e3 * cpu_s / inbetweens,
    )

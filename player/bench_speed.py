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
WARM_UP_TRIPLETS = 4


@dataclass(frozen=True)
class Speed:
    """Frames a second over all threads, and how long single ones took in their thread (wall time).

    `cpu_ms` is the processor time of the whole process for one of them: it tells a busy machine from a slow one.
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


def measure(
    renderer: Renderer, layout: FrameLayout, frames: Sequence[Sequence[Plane]], *, seconds: float, threads: int
) -> Speed:
    """Render triplets of new frame numbers at time 0.5, as playing at twice the rate does, for at least `seconds`.

    `frames` are shown in turn. Each thread takes the next triplet when it has finished one.
    """
    numbers = count(1)
    lock = threading.Lock()

    def render_next(out: Sequence[Plane]) -> None:
        with lock:
            middle = next(numbers)
        previous, now, following = (
            SourceFrame(number, frames[number % len(frames)]) for number in (middle - 1, middle, middle + 1)
        )
        renderer.render(Triplet(previous, now, following), [0.5], [out])

    took_ms: list[float] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            out = layout.views(bytearray(layout.frame_bytes))
            for _ in range(WARM_UP_TRIPLETS):
                render_next(out)
            barrier.wait()
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                render_next(out)
                took_ms.append(1e3 * (time.perf_counter() - began))
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
    inbetweens = len(took_ms)
    return Speed(
        inbetweens=inbetweens,
        seconds=elapsed,
        inbetweens_per_second=inbetweens / elapsed,
        median_ms=float(np.median(took_ms)),
        p99_ms=float(np.percentile(took_ms, 99)),
        cpu_ms=1e3 * cpu_s / inbetweens,
    )

"""A program of normal priority that keeps cores busy."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator


def _spin() -> None:
    while os.getppid() != 1:  # ends with whoever started it, also when that is killed
        for _ in range(1_000_000):
            pass


@contextlib.contextmanager
def hog(cores: int) -> Iterator[None]:
    """Keep `cores` cores busy."""
    processes = [multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(cores)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()

"""One cell of `drba bench`: a model on an engine at a size, measured in a process of its own, so that memory is its own,
and running out of it or hanging ends nothing else."""

from __future__ import annotations

import math
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

from drba import weights
from drba.errors import DrbaError
from drba.models import find
from drba.pixels import FrameLayout, pixel_format
from drba.stages import measured_by
from engines import StreamSpec
from engines.clocks import CudaClock, HostClock

from .engines import named, open_engine
from .memory import CudaMemory, ProcessMemory
from .speed import Feed, measure, moving_frames

TRIPLETS_A_CELL = 10  # that take longer than the limit together are not worth waiting for
TRIALS = 3  # of one triplet: the first includes what is made once, another program may disturb one


@dataclass(frozen=True)
class Settings:
    """What holds for every cell: a measurement lasts `seconds`, of which there are two; after `limit_s` a cell is given
    up; `threads` render at once in the second measurement, as in the server."""

    pixel_format: str
    scale: float
    seconds: float
    limit_s: float
    threads: int


@dataclass(frozen=True)
class Cell:
    """`data_dir` has weights without meaning, None for the installed ones."""

    model: str
    engine: str
    width: int
    height: int
    settings: Settings
    data_dir: str | None = None

    @property
    def spec(self) -> StreamSpec:
        layout = FrameLayout(self.width, self.height, pixel_format(self.settings.pixel_format))
        return StreamSpec(layout, model=self.model, engine=self.engine, scale=self.settings.scale)

    @property
    def cuda(self) -> bool:
        return named([self.engine])[0].device == "cuda"


class TooSlow(Exception):
    """Not worth measuring any longer."""


def run(cell: Cell, answers: Connection) -> None:
    """The process. Sends dicts to be merged: the cost first, then the measured numbers or `failed`, a reason."""
    os.dup2(2, 1)  # what libraries print must not come between the lines of --json
    limit_s = cell.settings.limit_s

    def give_up() -> None:
        answers.send({"failed": f"too slow: not done in {limit_s:g} s (see --limit)", "too_slow": True})
        os._exit(0)

    watchdog = threading.Timer(limit_s, give_up)
    watchdog.daemon = True
    try:
        if cell.data_dir is not None:
            from .weights import install_random

            os.environ[weights.DATA_DIR_ENV] = cell.data_dir
            install_random(find(cell.model))
        answers.send(_cost(cell))
        measured = _measured(cell, watchdog.start)
        watchdog.cancel()
        answers.send(measured)
    except TooSlow as reason:
        answers.send({"failed": str(reason), "too_slow": True})
    except DrbaError as error:
        answers.send({"failed": str(error)})
    except Exception as error:
        if is_out_of_memory(error):
            answers.send({"failed": "out of memory"})
        else:
            traceback.print_exc()
            answers.send({"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
    sys.stderr.flush()
    os._exit(0)  # without waiting for what an engine may still do in the background


def is_out_of_memory(error: Exception) -> bool:
    """PyTorch's on a device has a class, the one of its processor allocator only words."""
    return isinstance(error, MemoryError) or bool(
        re.search(r"OutOfMemoryError|out of memory|can't allocate memory", f"{type(error).__name__} {error}")
    )


def _cost(cell: Cell) -> dict[str, Any]:
    import torch

    from drba.networks.cost import cost

    dtype = torch.float16 if cell.cuda else torch.float32  # what `drba.load` chooses for the device
    return asdict(cost(find(cell.model), cell.spec.layout, dtype, cell.spec.scale))


def _measured(cell: Cell, opened: Callable[[], None]) -> dict[str, Any]:
    settings, spec = cell.settings, cell.spec
    feed = Feed(spec.layout, moving_frames(spec.layout))
    memory = CudaMemory() if cell.cuda else ProcessMemory()
    with closing(open_engine(named([cell.engine])[0], spec, find(cell.model))) as renderer:
        opened()
        outputs = feed.outputs()
        best_s = math.inf
        for _ in range(TRIALS):
            began = time.perf_counter()
            renderer.render(*feed.next(), outputs)
            best_s = min(best_s, time.perf_counter() - began)
            if best_s * TRIPLETS_A_CELL <= settings.limit_s:
                break
        else:
            raise TooSlow(f"too slow: {best_s * 1000 / len(outputs):.0f} ms an in-between (see --limit)")
        clock = CudaClock() if cell.cuda else HostClock()
        with measured_by(clock):
            alone = measure(renderer, feed, seconds=settings.seconds, threads=1)
        stages = clock.seconds()
        together = measure(renderer, feed, seconds=settings.seconds, threads=settings.threads)
        return {
            "median_ms": alone.median_ms,
            "p99_ms": alone.p99_ms,
            "in_betweens_timed": alone.inbetweens,
            "in_betweens_per_second": together.inbetweens_per_second,
            "cpu_ms": together.cpu_ms,
            "peak_memory_mib": memory.peak_mib(),
            "shares": {name: spent / sum(stages.values()) for name, spent in stages.items()},
        }

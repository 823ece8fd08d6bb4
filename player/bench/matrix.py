"""`drba bench`: every model on every engine at every size, each cell in a process of its own (`bench_cell`)."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing import resource_tracker
from typing import Any, Literal

from rich.console import Console

from drba.errors import DrbaError
from drba.floor import Cost
from drba.models import ModelSpec
from drba.weights import is_installed
from engines import ENGINES, Engine

from .cell import Cell, Settings, run
from .engines import supports, why_not
from .probe import machine_info, probe

#: In-betweens a second that 24 -> 60 frames a second asks for: every fifth frame is a source frame.
NEEDED_PER_SECOND = 48
PROBE_S = 2.0  # each peak is tried for so long


@dataclass(frozen=True)
class Matrix:
    """What is to be measured. `engines_named`: the user chose them, so each gets a cell that says why where it cannot run;
    else those are left out."""

    models: Sequence[ModelSpec]
    engines: Sequence[Engine]
    engines_named: bool
    sizes: Sequence[tuple[int, int]]
    random_weights: bool


@dataclass(frozen=True)
class Planned:
    """`reason`: why it cannot be measured, in one line; empty where it can."""

    model: ModelSpec
    engine: Engine
    width: int
    height: int
    weights: Literal["installed", "random", "none", "missing"]
    reason: str


def plan(matrix: Matrix) -> list[Planned]:
    """The cells, smaller sizes first. A model that nothing can run here has one engine all the same, for the reason."""
    planned = []
    for model in matrix.models:
        reasons = {engine.name: why_not(engine, model) for engine in matrix.engines}
        engines = [engine for engine in matrix.engines if not reasons[engine.name]]
        if matrix.engines_named or not engines:
            engines = [engine for engine in matrix.engines if supports(engine, model)] or [matrix.engines[0]]
        weights: Literal["installed", "random", "none", "missing"] = "none"
        if model.needs_weights:
            without: Literal["random", "missing"] = "random" if matrix.random_weights else "missing"
            weights = "installed" if is_installed(model) else without
        no_weights = f"no weights: `drba models fetch {model.name}`, or --random-weights for timing only"
        for engine in engines:
            reason = reasons[engine.name] or (no_weights if weights == "missing" else "")
            for width, height in sorted(matrix.sizes, key=lambda size: size[0] * size[1]):
                planned.append(Planned(model, engine, width, height, weights, reason))
    return planned


def measure_all(matrix: Matrix, settings: Settings) -> dict[str, Any]:
    """The JSON object of the command. Ctrl+C ends it early, with what is done and `interrupted` true."""
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_info(),
        "peaks": {},
        "settings": {**asdict(settings), "needed_per_second": NEEDED_PER_SECOND},
        "cells": rows,
        "interrupted": False,
    }
    console = Console(stderr=True)
    try:
        with (
            console.status("what this machine reaches at best") as status,
            tempfile.TemporaryDirectory(prefix="drba-bench-") as folder,
        ):
            probed = in_process(probe, min(settings.seconds, PROBE_S))
            if "failed" in probed:
                raise DrbaError(f"the machine's peaks cannot be measured: {probed['failed']}")
            result["machine"] |= probed["machine"]
            result["peaks"] = probed["peaks"]
            for cell in plan(matrix):
                status.update(f"{cell.model.name} on {cell.engine.name}, {cell.width}x{cell.height}")
                names = {"model": cell.model.name, "engine": cell.engine.name}
                slow = any(row.get("too_slow") and names.items() <= row.items() for row in rows)
                rows.append({**names, "width": cell.width, "height": cell.height, "weights": cell.weights})
                rows[-1] |= _answer(cell, settings, probed["peaks"], folder, slow_when_smaller=slow)
            status.update("once more what this machine reaches at best")
            result["peaks"] = better(
                probed["peaks"], in_process(probe, min(settings.seconds, PROBE_S)).get("peaks", {})
            )
    except KeyboardInterrupt:
        result["interrupted"] = True
        if rows and "failed" not in rows[-1] and "median_ms" not in rows[-1]:
            rows[-1]["failed"] = "interrupted"
    for row in rows:
        row |= _compared(row, result["peaks"])
    return result


def better(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The best of two measurements of the same devices' peaks: other programs only ever take away from them."""

    def best(device: str) -> dict[str, Any]:
        both = [found[device] for found in (before, after) if device in found]
        rates = {dtype: max(peak["operations"][dtype] for peak in both) for dtype in both[0]["operations"]}
        return {**both[0], "operations": rates, "bytes": max(peak["bytes"] for peak in both)}

    return {device: best(device) for device in before}


def _answer(
    cell: Planned, settings: Settings, devices: Collection[str], random_weights: str, *, slow_when_smaller: bool
) -> dict[str, Any]:
    """What a cell's process says, or why there is none."""
    if cell.reason:
        return {"failed": cell.reason}
    if slow_when_smaller:
        return {"failed": "too slow at a smaller size already", "too_slow": True}
    if cell.engine.device not in devices:
        return {"failed": f"PyTorch finds no {cell.engine.device} device"}
    data_dir = random_weights if cell.weights == "random" else None
    return in_process(run, Cell(cell.model.name, cell.engine.name, cell.width, cell.height, settings, data_dir))


def _compared(row: dict[str, Any], peaks: dict[str, Any]) -> dict[str, Any]:
    """A row against its floor, where its cost is known, and against playing, where it was measured."""
    found: dict[str, Any] = {}
    if "moved_bytes" in row:
        cost = Cost(row["operations"], row["moved_bytes"], row["layer_bytes"])
        peak = peaks[next(engine.device for engine in ENGINES if engine.name == row["engine"])]
        found["floor_ms"] = 1000 * cost.floor_s(peak["operations"], peak["bytes"])
    if "in_betweens_per_second" in row:
        per_second = row["in_betweens_per_second"]
        found["times_floor"] = 1000 / per_second / found["floor_ms"]
        found["fits_24_to_60"] = per_second >= NEEDED_PER_SECOND
    return found


def in_process(target: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    """Run `target(*arguments, connection)` in a new process and merge the dicts it sends. A process that dies leaves
    `failed`. Ctrl+C is for the command alone, which then ends the process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sender), daemon=True)
    answer: dict[str, Any] = {}
    try:
        with _interrupts_kept_back():
            process.start()
        sender.close()
        while True:
            answer |= receiver.recv()
    except EOFError:
        process.join()
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()
    if process.exitcode and "failed" not in answer:
        answer["failed"] = _cause_of_death(process.exitcode)
    return answer


@contextlib.contextmanager
def _interrupts_kept_back() -> Iterator[None]:
    """Ctrl+C is raised when this ends: a process whose start was cut off ends with a traceback of its own. Those that are
    started ignore it."""
    arrived: list[int] = []
    resource_tracker.ensure_running()  # starting it unblocks the signal
    # Processes inherit the block. Here it keeps nothing back: a thread that draws on the terminal takes the signal instead.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = signal.signal(signal.SIGINT, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
    if arrived:
        raise KeyboardInterrupt


def _cause_of_death(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "out of memory: the system ended the process"
    if exit_code < 0:
        return f"crashed ({signal.Signals(-exit_code).name})"
    return f"ended with status {exit_code}; what it said is above"

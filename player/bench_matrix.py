"""`drba bench`: every model on every engine at every size, each cell in a process of its own (`bench_cell`)."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from rich.console import Console

from drba import weights
from drba.errors import DrbaError
from drba.models import ModelSpec
from drba.pixels import FrameLayout, pixel_format
from engines import Engine, StreamSpec
from server.main import default_workers

from .bench_cell import Cell, run
from .bench_engines import why_not
from .bench_probe import machine_info, probe

#: In-betweens a second that 24 -> 60 frames a second asks for: every fifth frame is a source frame.
NEEDED_PER_SECOND = 48


@dataclass(frozen=True)
class Settings:
    """What the user asked for. Engines that were named and cannot run get a cell that says why, others are left out."""

    models: Sequence[ModelSpec]
    engines: Sequence[Engine]
    engines_named: bool
    sizes: Sequence[tuple[int, int]]
    pixel_format: str
    scale: float
    seconds: float
    limit_s: float
    random_weights: bool


def measure_all(settings: Settings) -> dict[str, Any]:
    """The JSON object of the command. Ctrl+C ends it early, with what is done and `interrupted` true."""
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_info(),
        "peaks": {},
        "settings": {
            "pixel_format": settings.pixel_format,
            "scale": settings.scale,
            "seconds": settings.seconds,
            "limit_s": settings.limit_s,
            "threads": default_workers(),
            "needed_per_second": NEEDED_PER_SECOND,
        },
        "cells": rows,
        "interrupted": False,
    }
    try:
        with ExitStack() as cleanup:
            status = cleanup.enter_context(Console(stderr=True).status("what this machine reaches at best"))
            folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="drba-bench-"))
            probed = in_process(probe)
            if "failed" in probed:
                raise DrbaError(f"the machine's peaks cannot be measured: {probed['failed']}")
            result["machine"] |= probed["machine"]
            result["peaks"] = probed["peaks"]
            too_slow: set[tuple[str, str]] = set()  # larger pictures will not be faster
            for model, engine, (width, height), reason in _cells(settings):
                status.update(f"{model.name} on {engine.name}, {width}x{height}")
                row = {"model": model.name, "engine": engine.name, "width": width, "height": height}
                installed = weights.is_installed(model)
                row["weights"] = "random" if not installed else "own" if model.needs_weights else "none"
                rows.append(row)
                if not installed and not settings.random_weights:
                    reason = f"no weights: `drba models fetch {model.name}`, or --random-weights for timing only"
                if not reason and (model.name, engine.name) in too_slow:
                    reason = "too slow at a smaller size already"
                if reason:
                    row["failed"] = reason
                    continue
                cell = Cell(
                    model.name,
                    engine.name,
                    width,
                    height,
                    settings.pixel_format,
                    settings.scale,
                    settings.seconds,
                    settings.limit_s,
                    default_workers(),
                    probed["peaks"].get(engine.device),
                    None if installed else folder,
                )
                answer = in_process(run, cell)
                row |= _compared(answer)
                if answer.get("too_slow"):
                    too_slow.add((model.name, engine.name))
    except KeyboardInterrupt:
        result["interrupted"] = True
        if rows and "failed" not in rows[-1] and "median_ms" not in rows[-1]:
            rows[-1]["failed"] = "interrupted"
    return result


def _cells(settings: Settings) -> list[tuple[ModelSpec, Engine, tuple[int, int], str]]:
    """(model, engine, size, why it cannot run), smaller sizes first. An engine that cannot run a model is left out, unless
    that leaves none or the user named it."""
    sizes = sorted(settings.sizes, key=lambda size: size[0] * size[1])
    found = []
    for model in settings.models:
        width, height = sizes[0]
        spec = StreamSpec(FrameLayout(width, height, pixel_format(settings.pixel_format)), scale=settings.scale)
        reasons = {engine.name: why_not(engine, model, spec) for engine in settings.engines}
        fitting = [engine for engine in settings.engines if not reasons[engine.name]]
        if settings.engines_named or not fitting:
            taking = [engine for engine in settings.engines if not engine.supports(model, spec)]
            fitting = taking or [settings.engines[0]]
        found += [(model, engine, size, reasons[engine.name]) for engine in fitting for size in sizes]
    return found


def _compared(answer: dict[str, Any]) -> dict[str, Any]:
    """A measured cell against its floor and against playing."""
    per_second = answer.get("in_betweens_per_second")
    if per_second is None:
        return answer
    return answer | {
        "times_floor": 1000 / per_second / answer["floor_ms"],
        "fits_24_to_60": per_second >= NEEDED_PER_SECOND,
    }


def in_process(target: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    """Run `target(*arguments, connection)` in a new process and merge the dicts it sends. A process that dies leaves
    `failed`. Ctrl+C is for the command alone: it ends the process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sender), daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited by the process, from its first moment on
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    sender.close()
    answer: dict[str, Any] = {}
    try:
        while True:
            answer |= receiver.recv()
    except EOFError:
        process.join()
    finally:
        process.kill()
        process.join()
        receiver.close()
    if process.exitcode and "failed" not in answer:
        answer["failed"] = _cause_of_death(process.exitcode)
    return answer


def _cause_of_death(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "out of memory: the system ended the process"
    if exit_code < 0:
        return f"crashed ({signal.Signals(-exit_code).name})"
    return f"ended with status {exit_code}; what it said is above"

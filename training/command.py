"""`python -m training drba-small --films FOLDER --validate FOLDER --out FOLDER`: see docs/training.md."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from drba.errors import DrbaError
from drba.models import find
from drba.networks.checkpoint import read_checkpoint
from drba.networks.shipping import ship

from . import clips
from .arguments import make_parser
from .plans import PLANS
from .train import Place, Training
from .validation import Validation


def main(arguments: list[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    try:
        return _run(options)
    except DrbaError as error:
        print(f"training: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.processes == 1:
        _train(0, options)
    else:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
        multiprocessing.spawn(_train, (options,), nprocs=options.processes)
    return 0


def _train(rank: int, options: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    processes = options.processes
    if processes > 1:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", rank=rank, world_size=processes, timeout=timedelta(hours=1))
    plan = PLANS[options.network]
    if options.steps:
        plan = replace(plan, stages=tuple(replace(s, steps=min(s.steps, options.steps)) for s in plan.stages))
    start = read_checkpoint(options.begin_with) if options.begin_with else None
    cache = options.cache.expanduser()
    if rank:  # the first process prepares the films
        distributed.barrier()
    films = clips.load(_films(options.films), cache) if options.films else []
    validation = Validation(clips.load(_films(options.validate), cache), options.out) if options.validate else None
    if processes > 1 and rank == 0:
        distributed.barrier()
    training = Training(plan, options.out, Place(rank, processes, _device(options.device)), start)
    training.run(films, validation)
    if options.ship and rank == 0:
        print(ship(find(plan.network), training.averaged.state_dict(), _card(plan.network, films, processes)))
    if processes > 1:
        distributed.destroy_process_group()


def _card(network: str, films: Sequence[clips.Clip], processes: int) -> dict[str, str]:
    return {
        "model": network,
        "licence": "MIT",
        "command": f"python -m training {network} --films FOLDER --processes {processes} --ship",
        "data": ", ".join(["drawn scenes", *(film.name for film in films)]),
    }


def _device(name: str | None) -> torch.device:
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _films(folder: Path) -> list[Path]:
    found = (
        sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".mkv", ".webm")) if folder.is_dir() else []
    )
    if not found:
        raise DrbaError(f"{folder} has no films; expected a folder of .mp4, .mkv or .webm files")
    return found

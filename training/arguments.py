"""What `python -m training` understands."""

from __future__ import annotations

import argparse
from pathlib import Path

from .plans import PLANS


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train a network of the package.")
    add = parser.add_argument
    add("network", choices=tuple(PLANS))
    add("--films", type=Path, help="folder of films to learn from; without, drawn scenes only")
    add("--validate", type=Path, help="folder of films to measure on now and then, never learned from")
    add("--out", type=Path, required=True, help="folder of checkpoints, log and pictures; goes on from there")
    add("--cache", type=Path, default=Path("~/.cache/drba-training"), help="folder of decoded films (9 GB)")
    add("--steps", type=int, help="at most this many in each stage, to try it out")
    add("--begin-with", type=Path, help="weights of an earlier training; then only the last stage is made")
    add("--ship", action="store_true", help="at the end put the weights into the package")
    add("--processes", type=int, default=1, help="on a CPU: one a core, each of one thread (2)")
    add("--device", help="PyTorch device; default: the card where there is one, else the CPU")
    return parser

"""`drba engines`: the TensorRT engines on this machine. Torch is imported by `build`, `verify` and `clean --stale` only."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drba.errors import DrbaError, InputError
from drba.models import find
from engines.built import request_for
from engines.engine_cache import EngineCache, Entry

if TYPE_CHECKING:
    from engines.build import Builder, EngineRequest

INTERRUPTED = 1
BUILD_POLL_S = 0.1
MIB = 1 << 20
SIZE_DEFAULT = (1920, 1080)
SIDE_MAX = 8192


@dataclass
class EngineSet:
    """The entries of one model at one size, in one precision, by one compiler for one card."""

    key: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)

    @property
    def title(self) -> str:
        scale = "" if self.key["scale"] == 1 else f" scale {self.key['scale']:g}"
        return f"{self.key['model']} {self.key['width']}x{self.key['height']}{scale} {self.key['precision']}"

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def used_s(self) -> float:
        return max(entry.used_s for entry in self.entries)

    def verdict(self, cache: EngineCache) -> dict[str, Any] | None:
        content = next((cache.read(entry) for entry in self.entries if entry.key["kind"] == "verdict"), None)
        return None if content is None else json.loads(content)


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "engines",
        help="build, list, check and remove TensorRT engines",
        description="An engine is a network that TensorRT has compiled for one NVIDIA card and one size of picture: the fastest "
        "way to run it. Building takes minutes, once; a film that needs one plays meanwhile. Without a card there are none.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    building = actions.add_parser("build", help="build and verify a model's engines now; playing does so by itself")
    building.add_argument("model", metavar="MODEL", help="a RIFE or DistilDRBA network of `drba models list`")
    building.add_argument("sizes", nargs="*", metavar="SIZE", help="of the film, such as 1280x720 (default: 1920x1080)")
    building.add_argument("--scale", type=float, default=1.0, metavar="S", help="as --scale of the player (default: 1)")
    building.set_defaults(run=run_build)

    listing = actions.add_parser("list", help="every engine that is kept, and how well it agrees with PyTorch")
    listing.set_defaults(run=run_list)

    verifying = actions.add_parser(
        "verify", help="check every file's checksum, and compare what they render with PyTorch"
    )
    verifying.set_defaults(run=run_verify)

    cleaning = actions.add_parser("clean", help="remove engines that cannot be used any more")
    which = cleaning.add_mutually_exclusive_group()
    which.add_argument("--stale", action="store_true", help="damaged, or of another version or card (the default)")
    which.add_argument("--all", action="store_true", help="all of them")
    cleaning.set_defaults(run=run_clean)


def make_builder() -> Builder:
    """InputError where TensorRT cannot be used here."""
    from engines.tensorrt import TensorRtBuilder

    return TensorRtBuilder()


def run_build(arguments: argparse.Namespace) -> int:
    model = find(arguments.model)
    if not model.splits:
        raise InputError(f"model {model.name} has no parts that TensorRT can run; expected a RIFE or DistilDRBA model")
    sizes = [parse_size(text) for text in arguments.sizes] or [SIZE_DEFAULT]
    builder, cache, status = make_builder(), EngineCache(), 0
    for width, height in sizes:
        request = request_for(model, width, height, arguments.scale, builder)
        status = max(status, _build(request, builder, cache))
    return status


def _build(request: EngineRequest, builder: Builder, cache: EngineCache) -> int:
    from engines.build import FINAL, EngineBuild

    build = EngineBuild(request, builder, cache)
    try:
        with _progress_bar() as show:
            while build.wait(BUILD_POLL_S) not in FINAL:
                show(build.message, build.progress)
    except KeyboardInterrupt:
        print("drba: cancelling; parts that are finished are kept", file=sys.stderr)
        build.cancel()
        build.wait()
        return INTERRUPTED
    if build.state != "done":
        print(f"drba: {build.message}", file=sys.stderr)
        return 1
    print(build.message)
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    cache = EngineCache()
    table = Table(box=None, pad_edge=False)
    for name in ("model", "size", "precision", "built by", "MiB", "last use", "state"):
        table.add_column(name, no_wrap=name != "state", justify="right" if name == "MiB" else "left")
    sets = engine_sets(cache)
    for found in sets:
        key = found.key
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.used_s))
        size = f"{key['width']}x{key['height']}" + ("" if key["scale"] == 1 else f" scale {key['scale']:g}")
        mib = f"{found.size_bytes / MIB:.1f}"
        table.add_row(key["model"], size, key["precision"], key["fingerprint"], mib, used, _state(found, cache))
    if sets:
        Console().print(table)
    else:
        print(f"no engines in {cache.folder}; `drba engines build MODEL` makes some, and so does playing with TensorRT")
    return 0


def _state(found: EngineSet, cache: EngineCache) -> str:
    verdict = found.verdict(cache)
    if verdict is None:
        return "not finished"
    return ("verified: " if verdict["accepted"] else "refused: ") + verdict["difference"]


def run_verify(arguments: argparse.Namespace) -> int:
    from engines.build import compared_again

    builder, cache, status = make_builder(), EngineCache(), 0
    sets = engine_sets(cache)
    if not sets:
        print("there are no engines; see `drba engines list`")
    for found in sets:
        damaged = [entry for entry in found.entries if cache.read(entry) is None]
        verdict = found.verdict(cache)
        if damaged:
            print(f"{found.title}: damaged ({len(damaged)} of {len(found.entries)} files); it will be built again")
            status = 1
        elif found.key["fingerprint"] != builder.fingerprint():
            print(f"{found.title}: files ok; not compared, it was built by {found.key['fingerprint']}")
        elif verdict is None or not verdict["accepted"]:
            print(f"{found.title}: {_state(found, cache)}")
        else:
            key = found.key
            try:
                request = request_for(find(key["model"]), key["width"], key["height"], key["scale"], builder)
                difference = compared_again(request, builder, cache, key["precision"])
            except DrbaError as error:
                print(f"drba: {error}", file=sys.stderr)
                status = 1
                continue
            if difference is None:
                print(f"{found.title}: files ok; not compared, the installed weights are others")
                continue
            print(f"{found.title}: {'ok' if difference.acceptable else 'WRONG, not used any more'}: {difference}")
            status = status if difference.acceptable else 1
    return status


def run_clean(arguments: argparse.Namespace) -> int:
    cache = EngineCache()
    before = cache.entries()
    if arguments.all:
        cache.clear()
        removed = before
    else:
        fingerprint = _current_fingerprint()
        removed = [entry for entry in before if _stale(entry, fingerprint) or cache.read(entry) is None]
        for entry in removed:
            cache.remove(entry.key)
    print(f"removed {len(removed)} files, {sum(entry.size_bytes for entry in removed) / MIB:.1f} MiB")
    return 0


def _current_fingerprint() -> str | None:
    """None where TensorRT is not here: then nobody can say what is of another version."""
    try:
        return make_builder().fingerprint()
    except DrbaError as error:
        print(f"drba: {error}; only damaged engines and those of older exporters are removed", file=sys.stderr)
        return None


def _stale(entry: Entry, fingerprint: str | None) -> bool:
    from engines.onnx_export import EXPORTER_VERSION

    key = entry.key
    other_version = fingerprint is not None and key.get("fingerprint") != fingerprint
    return other_version or key.get("exporter", EXPORTER_VERSION) != EXPORTER_VERSION


def engine_sets(cache: EngineCache) -> list[EngineSet]:
    """By model, size and precision; a compiler's own timings belong to none."""
    sets: dict[str, EngineSet] = {}
    for entry in cache.entries():
        if entry.key.get("kind") in ("engine", "verdict"):
            key = {name: value for name, value in entry.key.items() if name not in ("kind", "part")}
            sets.setdefault(json.dumps(key, sort_keys=True), EngineSet(key)).entries.append(entry)
    return sorted(sets.values(), key=lambda found: found.title)


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of text such as 1920x1080; InputError for anything else."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or not all(1 <= int(side) <= SIDE_MAX for side in match.groups()):
        raise InputError(f"size {text!r} is none; expected WIDTHxHEIGHT up to {SIDE_MAX}, such as 1920x1080")
    return int(match[1]), int(match[2])


@contextmanager
def _progress_bar() -> Iterator[Any]:
    """On a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda message, progress: bar.update(task, description=message, completed=progress)

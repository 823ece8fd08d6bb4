"""`drba models`: the weights on this machine. Torch is imported by `import` only."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drba import weights
from drba.errors import DrbaError, ModelError
from drba.models import ModelSpec, Part, find, models

if TYPE_CHECKING:
    from drba.downloads import Progress
    from drba.integrity import PartStatus

INTERRUPTED = 1


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "models",
        help="list, fetch, check and import the networks' weights",
        description="The networks that can draw in-betweens, and the files with their weights. The flow model needs none.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="every model, and which are installed")
    listing.set_defaults(run=run_list)

    fetching = actions.add_parser("fetch", help="download models; an interrupted download is gone on with")
    fetching.add_argument("names", nargs="+", metavar="NAME", help="as in `drba models list`")
    fetching.add_argument("--force", action="store_true", help="download again what is installed and intact")
    fetching.add_argument(
        "--mirror",
        metavar="URL",
        help="download from URL/PATH instead of https://github.com/PATH (digests still count)",
    )
    fetching.set_defaults(run=run_fetch)

    verifying = actions.add_parser("verify", help="compare installed files with their digests (checksums)")
    verifying.add_argument("names", nargs="*", metavar="NAME", help="(default: all that are installed)")
    verifying.set_defaults(run=run_verify)

    importing = actions.add_parser("import", help="install files of weights that you have already")
    importing.add_argument("path", type=Path, metavar="PATH", help=".pkl, .pth or .safetensors, or a folder")
    importing.add_argument("--model", metavar="NAME", help="which model it is, where its tensors do not tell")
    importing.add_argument("--force", action="store_true", help="replace an installed model by other tensors")
    importing.set_defaults(run=run_import)

    path = actions.add_parser("path", help="print the folder of the weights, or of one model's")
    path.add_argument("name", nargs="?", metavar="NAME", help="(default: the folder of all)")
    path.set_defaults(run=run_path)


def run_list(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("installed", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("description")
    for spec in models():
        files = [path for part in spec.parts if (path := weights.find_file(spec, part.name))]
        size = f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB" if files else ""
        table.add_row(spec.name, _installed(spec, files), size, spec.description)
    Console().print(table)
    return 0


def _installed(spec: ModelSpec, files: Sequence[Path]) -> str:
    if not spec.needs_weights:
        return "built in"
    if spec.shipped and files != [weights.find_shipped_file(spec)]:
        return "imported" if files else "not in this build"
    if spec.shipped:
        return "in the package"
    if 0 < len(files) < len(spec.parts):
        return f"{len(files)} of {len(spec.parts)} files"
    return "yes" if files else "no"


def run_fetch(arguments: argparse.Namespace) -> int:
    from drba.downloads import fetch

    status = 0
    for spec in _specs(arguments.names):
        if not spec.needs_weights:
            print(f"{spec.name}: built in, there is nothing to fetch")
            continue
        try:
            with progress_bar(spec) as progress:
                parts = fetch(spec, progress=progress, force=arguments.force, base_url=arguments.mirror)
        except KeyboardInterrupt:
            print("drba: interrupted; run the same command again to go on", file=sys.stderr)
            return INTERRUPTED
        except DrbaError as error:
            print(f"drba: {error}", file=sys.stderr)
            status = max(status, error.exit_status)
            continue
        for part in parts:
            news = "fetched" if part.new else "installed already"
            if part.path == weights.find_shipped_file(spec):
                news = "is that of the package again" if part.new else "is in the package, there is nothing to fetch"
            seen = ", first seen and on record now" if part.first_seen else ""
            print(f"{spec.name}: {part.part.name} {news} ({part.digest}{seen})")
    return status


@contextmanager
def progress_bar(spec: ModelSpec) -> Iterator[Progress]:
    """A bar a part on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, Any] = {}

    def show(part: Part, received: int, total: int | None) -> None:
        if part.name not in tasks:
            tasks[part.name] = bar.add_task(f"{spec.name} {part.name}", total=total)
        bar.update(tasks[part.name], completed=received, total=total)

    with bar:
        yield show


def run_verify(arguments: argparse.Namespace) -> int:
    from drba.integrity import verify

    chosen = _specs(arguments.names) if arguments.names else [spec for spec in models() if _has_files(spec)]
    if not chosen:
        print("no model is installed; see `drba models list`")
    status = 0
    for spec in chosen:
        for part in verify(spec):
            print(f"{spec.name}: {part.part.name} {_verdict(spec, part)}")
            if part.state in ("missing", "changed"):
                status = 1
    return status


def _verdict(spec: ModelSpec, part: PartStatus) -> str:
    remedy = "install drba-player again" if is_of_package(spec, part) else f"run `drba models fetch {spec.name}`"
    if part.state == "missing":
        return f"missing; {remedy}"
    if part.state == "changed":
        return f"changed: expected {part.expected}, got {part.actual}; {remedy}"
    if part.state == "recorded":
        return f"has no known digest; recorded {part.actual}"
    return f"ok ({part.actual}{'' if part.known else ', as recorded here'})"


def is_of_package(spec: ModelSpec, part: PartStatus) -> bool:
    """Whether only a new installation can mend it."""
    return spec.shipped and part.path == weights.find_shipped_file(spec)


def run_import(arguments: argparse.Namespace) -> int:
    from drba.networks.importing import import_file

    path = arguments.path.expanduser()
    if not path.exists():
        raise ModelError(f"weights {path} do not exist; expected a checkpoint or a folder of them")
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")  # about pickles that are refused anyway
    done = import_file(path, arguments.model, force=arguments.force)
    for item in done:
        news = "imported to" if item.new else "installed already in"
        origin = "the public file" if item.public else f"told by {item.evidence}"
        print(f"{item.source.name}: {item.target}, {origin}; {news} {item.path}")
    for spec in {item.target.spec.name: item.target.spec for item in done}.values():
        missing = [part.name for part in spec.parts if weights.find_file(spec, part.name) is None]
        if missing:
            print(f"{spec.name}: {', '.join(missing)} missing yet; import them or run `drba models fetch {spec.name}`")
    return 0


def run_path(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        print(weights.data_dir() / "weights")
        return 0
    spec = find(arguments.name)
    files = [path for part in spec.parts if (path := weights.find_file(spec, part.name))]
    print(files[0].parent if files else weights.model_dir(spec))
    return 0


def _specs(names: Sequence[str]) -> list[ModelSpec]:
    """In the order given, each once; an unknown name is an error before anything is done."""
    return list({spec.name: spec for spec in map(find, names)}.values())


def _has_files(spec: ModelSpec) -> bool:
    return any(weights.find_file(spec, part.name) for part in spec.parts)

"""`drba doctor`: what is here, what is wrong with it, and what to do about that."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import drba

if TYPE_CHECKING:
    from .check import Check, Examine

SCHEMA = 1
TIMEOUT_S = 90.0  # for all checks but the measurement together; each has tighter limits of its own
DESCRIPTION = """\
Looks at everything that DRBA depends on and says what it found: ok, info (as it is), warn (works, less well than it
could), problem (does not work). Each warning and problem comes with what to do about it. Nothing is changed and
nothing downloaded. The last lines are measured on this machine: how long the model that `--model auto` chooses takes for an
in-between, of the time there is when a film of 24 frames a second is shown at 60."""
EPILOG = "The exit status is 1 if there is a problem, else 0."
STYLES = {"ok": "green", "info": "dim", "warn": "yellow", "problem": "bold red"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor", help="check this machine, say what is wrong and what to do", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--no-measure", action="store_true", help="leave the measurement out: quicker by seconds")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    # A progress line, not for files and pipes.
    with Console(stderr=True).status("looking at this machine ..."):
        checks = examine(measure=not arguments.no_measure)
    if arguments.json:
        print(json.dumps(as_dict(checks), indent=1))
    else:
        show(checks)
    return 1 if any(check.state == "problem" for check in checks) else 0


def examine(*, measure: bool) -> list[Check]:
    """All checks, in the order in which they are shown."""
    from . import check_models
    from .check import run_checks

    checks = run_checks([*machine_checks(), *installation_checks()], TIMEOUT_S)
    if measure:  # alone, so that nothing of ours disturbs it
        for size in check_models.SIZES:
            one = [(f"speed:{size}", partial(check_models.check_speed, size))]
            checks += run_checks(one, check_models.MEASURE_TIMEOUT_S + 10)
    return checks


def machine_checks() -> list[tuple[str, Examine]]:
    """What `drba setup` needs to know first."""
    from . import check_gpu, check_mpv, check_system

    return [
        ("python", check_system.check_python),
        ("packages", check_system.check_packages),
        ("cpu", check_system.check_processor),
        ("nvidia-driver", check_gpu.check_driver),
        ("cuda", check_gpu.check_cuda),
        ("tensorrt", check_gpu.check_tensorrt),
        ("cupy", check_gpu.check_cupy),
        ("engines", check_gpu.check_engines),
        ("mpv", check_mpv.check_mpv),
        ("libmpv", check_mpv.check_libmpv),
        ("display", check_mpv.check_display),
        *((f"folder:{kind}", partial(check_system.check_folder_of, kind)) for kind in check_system.FOLDERS),
    ]


def installation_checks() -> list[tuple[str, Examine]]:
    """What `drba setup` sees to."""
    from . import check_models, check_mpv, check_system

    return [
        ("script", check_mpv.check_script),
        ("script-options", check_mpv.check_script_options),
        ("options", check_system.check_config),
        ("server", check_system.check_server),
        ("paired", check_system.check_paired),
        ("weights", check_models.check_weights),
        ("engine-cache", check_models.check_engine_cache),
        ("auto", check_models.check_auto),
    ]


def as_dict(checks: Sequence[Check]) -> dict[str, Any]:
    """What --json prints. `schema` changes when a field is removed or means something else; new ones may come any time."""
    from dataclasses import asdict

    return {
        "schema": SCHEMA,
        "version": drba.__version__,
        "ok": not any(check.state == "problem" for check in checks),
        "checks": [asdict(check) for check in checks],
    }


def show(checks: Sequence[Check], only: Callable[[Check], bool] = lambda check: True) -> None:
    """A table for people, then one line that sums up."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in filter(only, checks):
        found = Text(check.found)
        if check.remedy:
            found.append(f"\n-> {check.remedy}", "bold")
        table.add_row(Text(check.state, STYLES[check.state]), check.name, found)
    console = Console()
    console.print(table)
    problems = sum(check.state == "problem" for check in checks)
    warnings = sum(check.state == "warn" for check in checks)
    summary = f"{problems} problem{'' if problems == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}"
    console.print(summary, highlight=False)

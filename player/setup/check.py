"""One check of `drba doctor`, and running many of them so that none can spoil or hold up the rest."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

from drba.errors import DrbaError

#: `problem`: DRBA does not work, or not as asked for; `warn`: it works, less well than it could; `info`: as it is.
State = Literal["ok", "info", "warn", "problem"]
REPORT = "please report this with the output of `drba doctor --json`"


@dataclass(frozen=True)
class Check:
    """`name` is stable; where there are several of a kind, it is KIND:SUBJECT. `found` and `remedy` are for people, `data` has
    the same facts for programs."""

    name: str
    state: State
    found: str
    remedy: str = ""
    data: dict[str, Any] = field(default_factory=dict)


Examine = Callable[[], Iterable[Check]]


def run_checks(examinations: Sequence[tuple[str, Examine]], timeout_s: float) -> list[Check]:
    """Run all at once and return their checks in this order. What raises or takes longer than `timeout_s` becomes a
    problem under its name."""
    found: dict[str, list[Check]] = {}

    def work(name: str, examine: Examine) -> None:
        found[name] = _examined(name, examine)

    # daemons: one that hangs must not keep the program from ending
    threads = [threading.Thread(target=work, args=pair, name=pair[0], daemon=True) for pair in examinations]
    for thread in threads:
        thread.start()
    end = monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, end - monotonic()))
    late = f"did not finish within {timeout_s:g} s"
    return [check for name, _ in examinations for check in found.get(name, [Check(name, "problem", late, REPORT)])]


def _examined(name: str, examine: Examine) -> list[Check]:
    checks: list[Check] = []
    try:
        for check in examine():
            checks.append(check)  # noqa: PERF402 - what was found before an error counts
    except DrbaError as error:  # its line says what to do as well
        found, _, remedy = str(error).rpartition("; ")
        checks.append(Check(name, "problem", found or str(error), remedy if found else REPORT))
    except Exception as error:
        found = f"the check itself failed: {type(error).__name__}: {error}"
        checks.append(Check(name, "problem", found, REPORT, {"traceback": traceback.format_exc()}))
    return checks

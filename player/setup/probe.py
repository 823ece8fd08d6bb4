"""Asking other programs, and what may crash or hang, in processes of their own with a time limit."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_running: set[subprocess.Popen[bytes]] = set()
TEXT_BYTES = 1 << 20  # of an answer that are read; nothing we ask says more


@dataclass(frozen=True)
class Answer:
    """What a program said. `failure` is empty where it ended with status 0, else one line about how it did not."""

    out: str = ""
    err: str = ""
    failure: str = ""


def ask(
    command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None, folder: str | None = None
) -> Answer:
    """Run a program to its end; never raises for what it does, and never takes much longer than `timeout_s`.

    Output goes to files: a grandchild that keeps a pipe open would be waited for.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            return Answer(failure=f"{command[0]} cannot be run: {error.strerror}")
        _running.add(process)
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            return Answer(_text(out), _text(err), f"{command[0]} did not end within {timeout_s:g} s")
        finally:
            _running.discard(process)
        answer = Answer(_text(out), _text(err))
    if status == 0:
        return answer
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    words = (answer.err.strip() or answer.out.strip()).splitlines()
    return Answer(answer.out, answer.err, f"{command[0]} {how}{': ' + words[-1] if words else ''}")


def ask_module(module: str, *arguments: str, timeout_s: float) -> Answer:
    """Run a module of ours with this Python, not in the folder that the user is in: Python would look for modules there."""
    root = str(Path(__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return ask([sys.executable, "-m", module, *arguments], timeout_s, {"PYTHONPATH": search}, folder="/")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With its children. One that is stuck in the kernel, as a broken driver leaves it, is not waited for."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


@atexit.register
def _end_all() -> None:
    """Ctrl-C ends us, but not them: they have sessions of their own."""
    for process in list(_running):
        _kill(process)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(TEXT_BYTES).decode(errors="replace")

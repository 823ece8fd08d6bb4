"""Starting the server in the background: what the command is, and a process that outlives its starter."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from drba.errors import ServerError

from .logs import SERVER_STDERR, is_full, log_path, private_opener

STDERR_BYTES = 64 << 10  # what is kept of a server's crash output before the file starts anew
_children: list[subprocess.Popen[bytes]] = []  # kept so that they are reaped, and not complained about, when they end


def server_command(endpoint: str | None = None) -> list[str]:
    """The command line that starts a server, on the default endpoint or another."""
    command = [sys.executable, "-m", "server.main"]
    return command if endpoint is None else [*command, "--endpoint", endpoint]


class Launched:
    """A server that this process has started."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it in a session of its own, which neither Ctrl-C nor a closed terminal ends; ServerError if not."""
        reap()
        self._stderr_path = log_path(SERVER_STDERR)
        root = str(Path(__file__).resolve().parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
        try:
            with _open_stderr(self._stderr_path) as stderr:
                self._stderr_start = stderr.tell()
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # that another one is running: one of many may say so
                    stderr=stderr,
                    start_new_session=True,
                    cwd="/",  # not the film's folder: Python would look for modules there, and its disk be kept busy
                    env=environment,
                )
        except OSError as error:
            raise ServerError(f"server cannot be started ({command[0]}): {error.strerror}") from error
        _children.append(self._process)

    @property
    def exit_status(self) -> int | None:
        """None while it runs; 0 also when it found another server running."""
        return self._process.poll()

    def last_words(self) -> str:
        """The last line it wrote to stderr, for an error message."""
        lines: list[str] = []
        with contextlib.suppress(OSError), open(self._stderr_path, "rb") as file:
            file.seek(self._stderr_start)
            lines = file.read(STDERR_BYTES).decode(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'no message'} (see {self._stderr_path})"


def _open_stderr(path: Path) -> BinaryIO:
    """To append to; where the disk is full, what would be written there is lost, and the server starts all the same."""
    try:
        file = open(path, "ab", opener=private_opener)  # noqa: SIM115
    except OSError as error:
        if not is_full(error):
            raise
        return open(os.devnull, "ab")
    if file.tell() > STDERR_BYTES:
        file.truncate(0)
    return file


def reap() -> None:
    """Collect the exit status of started servers that have ended: an uncollected one stays in the process table."""
    _children[:] = [child for child in _children if child.poll() is None]

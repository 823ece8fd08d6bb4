"""The log files of the background processes: their names, and how the processes write them."""

from __future__ import annotations

import contextlib
import errno
import logging
import logging.handlers
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import cast

from drba.errors import ServerError

from .runtime import log_folder

SERVER = "server.log"
SERVER_STDERR = "server-stderr.log"  # what a server says before it has a log, and the stack where it crashes
BRIDGE = "bridge.log"  # of all bridges; lines have the process id
NAMES = (SERVER, SERVER_STDERR, BRIDGE)

LOG_BYTES = 1 << 20  # of one file; with one older file kept, a log never takes more than 2 MiB


def log_path(name: str) -> Path:
    """Where a log of NAMES is; the folder is made. ServerError if it cannot be."""
    return log_folder() / name


def private_opener(path: str, flags: int) -> int:
    """For `open`: a file that it makes is this user's alone. Logs name films."""
    return os.open(path, flags, 0o600)


class _PrivateHandler(logging.handlers.RotatingFileHandler):
    """A disk that is full costs lines of the log and nothing else: it is said once on stderr, and in the log when that can be
    written again."""

    def __init__(self, path: Path, *, delay: bool = False) -> None:
        super().__init__(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=delay)
        self._failed, self._why = 0, ""  # lines in a row that could not be written, and why

    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, self.mode, encoding=self.encoding, opener=private_opener)  # noqa: SIM115
        return cast(TextIOWrapper, file)

    def emit(self, record: logging.LogRecord) -> None:
        failed = self._failed
        super().emit(record)
        if failed and failed == self._failed:
            self._failed = 0
            text = f"{failed} lines could not be written when they came ({self._why}); some may be missing"
            super().emit(logging.LogRecord(record.name, logging.WARNING, "", 0, text, (), None))

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._failed += 1
        self._why = error.strerror or str(error)
        if self._failed == 1:
            _say(f"log {self.baseFilename} cannot be written: {self._why}; lines of it are lost until it can")


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be on the same disk, closed, or none
        print(line, file=sys.stderr, flush=True)


def is_full(error: OSError) -> bool:
    """Whether there is just no room, which another program may make any moment."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def rotating_handler(path: Path) -> logging.Handler:
    """Writes to `path`; ServerError if that is nothing that could be written. A full disk is no error."""
    try:
        try:
            handler = _PrivateHandler(path)
        except OSError as error:
            if not is_full(error):
                raise
            handler = _PrivateHandler(path, delay=True)
    except OSError as error:
        raise ServerError(f"log {path} cannot be written: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"))
    return handler

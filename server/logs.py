"""The log files of the background processes: their names, and how the processes write them."""

from __future__ import annotations

import logging
import logging.handlers
import os
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
    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, self.mode, encoding=self.encoding, opener=private_opener)  # noqa: SIM115
        return cast(TextIOWrapper, file)


def rotating_handler(path: Path) -> logging.Handler:
    """Writes to `path`; ServerError if that cannot be written."""
    try:
        handler = _PrivateHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        raise ServerError(f"log {path} cannot be written: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"))
    return handler

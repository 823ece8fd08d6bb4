"""The log files of the background processes: their names, and how the processes write them."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

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


def rotating_handler(path: Path) -> logging.Handler:
    """Writes to `path`; ServerError if that cannot be written."""
    try:
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        raise ServerError(f"log {path} cannot be written: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"))
    return handler

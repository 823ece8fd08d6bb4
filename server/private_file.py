"""Small files that are this user's alone: keys, and whom they are for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from drba.errors import ServerError
from drba.ownership import foreign_status
from drba.whole_files import write_whole

MAX_BYTES = 1 << 20


def read_private(path: Path) -> bytes | None:
    """The content; None where there is no such file. ServerError where another user could have read or written it, or a link
    leads elsewhere."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServerError(f"file {path} cannot be opened: {error.strerror}; expected a file, not a link") from error
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ServerError(f"{path} is no file; remove it, and pair again")
        if why := foreign_status(found, private=True):
            raise ServerError(f"file {path} {why}: others may have its keys; remove it, and pair again")
        return file.read(MAX_BYTES)


def write_private(path: Path, content: bytes) -> None:
    """All of it under this name, with mode 0600, or nothing. A link of that name is replaced, not followed. ServerError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, content, 0o600)
    except OSError as error:
        raise ServerError(f"file {path} cannot be written: {error.strerror}; check the folder's permissions") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes that ask for the same lock waiting: for reading, changing and writing a file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ServerError(f"lock {path} cannot be made: {error.strerror}") from error
    with os.fdopen(fd):
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield

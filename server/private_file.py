"""Small files that are this user's alone: keys, and whom they are for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from drba.errors import ServerError

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
        if found.st_uid != os.getuid():
            raise ServerError(
                f"file {path} belongs to user {found.st_uid}, expected {os.getuid()}; remove it, and pair again"
            )
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise ServerError(
                f"file {path} has mode {mode:04o}, expected 0600: others may have its keys; remove it, and pair again"
            )
        return file.read(MAX_BYTES)


def write_private(path: Path, content: bytes) -> None:
    """All of it under this name, with mode 0600, or nothing. A link of that name is replaced, not followed. ServerError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600, and new: no link is followed
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
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

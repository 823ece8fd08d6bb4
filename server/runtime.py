"""Where the server's socket, lock and log are: a private folder, owned and readable by this user alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path

import platformdirs

from drba.errors import ServerError
from drba.ownership import foreign

from .messages import VERSION

ENVIRONMENT = "DRBA_RUNTIME_DIR"  # overrides the folder of everything below; for tests and for several users of one id
MAX_SOCKET_PATH_BYTES = 107  # sun_path holds 108 with its NUL on Linux (104 on macOS, whose paths are short)
IPC = "ipc://"


def runtime_folder() -> Path:
    """The folder for socket and lock, created if missing; ServerError if others could get at it."""
    override, session_folder = os.environ.get(ENVIRONMENT), os.environ.get("XDG_RUNTIME_DIR")
    if override:
        folder = Path(override)
    elif session_folder and _is_mine(Path(session_folder)):
        folder = Path(session_folder) / "drba-player"
    else:
        folder = Path(tempfile.gettempdir()) / f"drba-player-{os.getuid()}"
    return private_folder(folder)


def _is_mine(folder: Path) -> bool:
    """After su or sudo the environment still names the other user's folder."""
    try:
        return folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def private_folder(folder: Path) -> Path:
    """Create a folder for this user alone, or check that an existing one is; ServerError otherwise."""
    remedy = f"remove it, or set {ENVIRONMENT} to a folder of your own"
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        found = folder.lstat()
    except OSError as error:
        raise ServerError(f"runtime folder {folder} cannot be created: {error.strerror}; {remedy}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ServerError(f"runtime folder {folder} is a link or a file, expected a folder; {remedy}")
    if found.st_uid != os.getuid():
        raise ServerError(f"runtime folder {folder} belongs to user {found.st_uid}, expected {os.getuid()}; {remedy}")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise ServerError(f"runtime folder {folder} has mode {mode:04o}, expected 0700; chmod 700 it, or {remedy}")
    return folder


def default_endpoint() -> str:
    """The private socket. Its name has the protocol's version: after an update the old server just runs out."""
    path = runtime_folder() / f"server-v{VERSION}.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        shorter = f"set {ENVIRONMENT} to a shorter one"
        raise ServerError(f"socket path {path} is longer than {MAX_SOCKET_PATH_BYTES} bytes; {shorter}")
    return f"{IPC}{path}"


def socket_path(endpoint: str) -> Path | None:
    """The file of a unix socket endpoint; None for any other."""
    return Path(endpoint.removeprefix(IPC)) if endpoint.startswith(IPC) else None


def log_folder() -> Path:
    """Where logs go, created if missing; they survive a restart of the machine unless the folder is overridden."""
    override = os.environ.get(ENVIRONMENT)
    folder = Path(override) if override else Path(platformdirs.user_log_dir("drba-player", appauthor=False))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"log folder {folder} cannot be created: {error.strerror}") from error
    if why := foreign(folder):
        raise ServerError(f"log folder {folder} {why}; remove it, or make it yours alone")
    return folder


class InstanceLock:
    """An exclusive lock that one server holds for as long as it lives; the kernel frees it however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take it; False if another process has it. ServerError if there cannot be a lock."""
        while True:
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise ServerError(f"lock {self._path} cannot be created: {error.strerror}") from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            # The last holder removes the file: what was locked may be a file that nobody else will ever find again.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(self._path)):
                    self._fd = fd
                    return True
            os.close(fd)

    def release(self) -> None:
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

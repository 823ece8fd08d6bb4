"""The folder of built engines: files by key, never trusted before their checksum was right.

An entry is `NAME.bin` and, written after it, its manifest `NAME.json` with the key, the SHA-256 and what is known about it;
NAME is a digest of the key. Whatever is missing, changed, of another key or not this user's own counts as absent: engines
are code. Several processes may use a folder at once (file locks where the system has them).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from drba.errors import EngineError
from drba.kept import CACHE_DIR_ENV, cache_folder
from drba.ownership import foreign, foreign_status
from drba.whole_files import write_whole

try:
    import fcntl
except ImportError:  # Windows: two processes at once are the user's to avoid there
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

LIMIT_BYTES = 8 << 30  # a model at one size is 20 to 150 MB
LEFTOVER_S = 3600  # files without a manifest may be ones that are being written; older ones are not
POLL_S = 0.2

Key = Mapping[str, Any]  # JSON values


@dataclass(frozen=True)
class Entry:
    """`used_s` is when it was last asked for, in seconds since the epoch; `content` the path of its bytes."""

    key: dict[str, Any]
    sha256: str
    size_bytes: int
    used_s: float
    manifest: Path

    @property
    def content(self) -> Path:
        return self.manifest.with_suffix(".bin")


class EngineCache:
    """EngineError where the folder cannot be made or written, or is not this user's alone."""

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder or cache_folder() / "engines"
        self.limit_bytes = limit_bytes
        self._held: dict[Path, IO[bytes]] = {}

    def get(self, key: Key) -> bytes | None:
        """The bytes kept for a key, or None; bytes that are not what was written are removed."""
        manifest = self._path(key)
        if not manifest.is_file():
            return None
        with self._locked():
            entry, content = _read_manifest(manifest), None
            if entry is not None and entry.key == dict(key):
                content = _read_checked(entry)
            if content is None:
                log.warning("engine cache: %s is damaged or not yours; it is removed", manifest.with_suffix(".bin"))
                self._delete(manifest)
                return None
            os.utime(manifest)
        return content

    def put(self, key: Key, content: bytes) -> None:
        """Keep bytes under a key, in the place of any before; the least recently used others make room."""
        manifest = self._path(key)
        about = {"key": dict(key), "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        try:
            with self._locked():
                write_whole(manifest.with_suffix(".bin"), content, 0o600)
                write_whole(manifest, (json.dumps(about, indent=1, sort_keys=True) + "\n").encode(), 0o600)
                self._make_room(keep=manifest)
        except OSError as error:
            raise EngineError(
                f"engine cache {self.folder} cannot be written ({error.strerror}); check space"
            ) from error

    def hold(self, key: Key) -> None:
        """Keep an entry from being evicted, by any process, until this one ends: it is in use."""
        manifest = self._path(key)
        if fcntl is not None and manifest not in self._held:
            with contextlib.suppress(OSError):
                file = manifest.open("rb")
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                self._held[manifest] = file

    def remove(self, key: Key) -> None:
        with self._locked():
            self._delete(self._path(key))

    def entries(self) -> list[Entry]:
        """Every entry with a readable manifest, the least recently used first; contents are not checked."""
        found = [_read_manifest(path) for path in self.folder.glob("*.json")] if self.folder.is_dir() else []
        return sorted((entry for entry in found if entry), key=lambda entry: entry.used_s)

    def read(self, entry: Entry) -> bytes | None:
        """An entry's bytes, None where they have not its checksum; it does not count as used."""
        with self._locked():
            return _read_checked(entry)

    def clear(self) -> None:
        """Remove everything that this class writes, readable or not."""
        if self.folder.is_dir():
            with self._locked():
                for pattern in ("*.json", "*.bin", "*.tmp"):
                    for path in self.folder.glob(pattern):
                        path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def building(self, still_wanted: Any) -> Iterator[None]:
        """Only one process builds at a time: a card that does two things at once measures neither. Calls
        `still_wanted()` while it waits, which ends the waiting by raising."""
        with self._open_lock("build.lock") as file:
            while fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    still_wanted()
                    time.sleep(POLL_S)
            yield

    def _path(self, key: Key) -> Path:
        digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._open_lock("lock") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _open_lock(self, name: str) -> IO[bytes]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if why := foreign(self.folder, private=True):
                raise EngineError(
                    f"engine cache {self.folder} {why}: engines are code; chmod 700 it, or set {CACHE_DIR_ENV}"
                )
            return (self.folder / name).open("ab")
        except OSError as error:
            raise EngineError(f"engine cache {self.folder} cannot be written ({error.strerror}); check it") from error

    def _make_room(self, keep: Path) -> None:
        entries = self.entries()
        total = sum(entry.size_bytes for entry in entries)
        for entry in entries:
            if total <= self.limit_bytes:
                break
            if entry.manifest != keep and not _in_use(entry.manifest):
                log.info("engine cache: %s makes room", entry.manifest.name)
                self._delete(entry.manifest)
                total -= entry.size_bytes
        for path in (*self.folder.glob("*.bin"), *self.folder.glob("*.tmp")):
            if not path.with_suffix(".json").exists() and time.time() - path.stat().st_mtime > LEFTOVER_S:
                path.unlink(missing_ok=True)

    def _delete(self, manifest: Path) -> None:
        manifest.unlink(missing_ok=True)
        manifest.with_suffix(".bin").unlink(missing_ok=True)


def _read_manifest(path: Path) -> Entry | None:
    content = _read_own(path)
    try:
        about = json.loads(content or b"")
        entry = Entry(about["key"], about["sha256"], about["bytes"], path.stat().st_mtime, path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if isinstance(entry.key, dict) and isinstance(entry.size_bytes, int) else None


def _read_checked(entry: Entry) -> bytes | None:
    content = _read_own(entry.content)
    return content if content is not None and hashlib.sha256(content).hexdigest() == entry.sha256 else None


def _read_own(path: Path) -> bytes | None:
    """The content of a plain file that is this user's alone, else None."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            return file.read() if stat.S_ISREG(status.st_mode) and not foreign_status(status, private=True) else None
    except OSError:
        return None


def _in_use(manifest: Path) -> bool:
    if fcntl is None:
        return False
    try:
        with manifest.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False

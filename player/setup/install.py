"""Putting our files into folders that belong to the viewer, and taking them out again, without ever losing what is theirs.

A record of what was written (path and sha256) tells a file that is as we left it, which may be updated and removed, from
one that the viewer has changed or made, which may not.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drba import weights
from drba.errors import DrbaError
from drba.integrity import write_atomically

#: `kept`: a file of the viewer's is in the way and was left; `replaced`: it is in the backup now.
Action = Literal["installed", "updated", "current", "kept", "replaced"]


@dataclass(frozen=True)
class Installed:
    path: Path
    action: Action
    backup: Path | None = None


@dataclass(frozen=True)
class Removed:
    """`state`: `left` for a file that was changed since, `gone` for one that was not there any more."""

    path: Path
    state: Literal["removed", "left", "gone"]


def record_path() -> Path:
    return weights.data_dir() / "installed.json"


def read_record() -> dict[str, str]:
    """{path: sha256 of what was written there}; DrbaError where the file is not what it should be."""
    path = record_path()
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DrbaError(
            f"record of installed files {path} cannot be read ({error}); delete it to start anew"
        ) from error
    if not isinstance(record, dict) or not all(isinstance(value, str) for value in record.values()):
        raise DrbaError(f"record of installed files {path} is not one; delete it to start anew")
    return record


def is_ours(path: Path) -> bool:
    """Whether the file is as we have put it there."""
    try:
        return not path.is_symlink() and read_record().get(str(path)) == _digest(path.read_bytes())
    except OSError:
        return False


def put(path: Path, content: bytes, *, force: bool = False) -> Installed:
    """Write a file, or leave it where it is the viewer's; with `force` theirs goes to a backup first.

    A link counts as the viewer's: it is never written through. DrbaError where a file or folder cannot be written.
    """
    record = read_record()  # first: without it nothing is written
    backup = None
    if path.is_symlink() or path.exists():
        found = _read(path)
        if found == content:
            return Installed(path, "current")
        if found is None or is_ours(path):
            action: Action = "updated"
        elif force:
            action, backup = "replaced", _back_up(path, found)
        else:
            return Installed(path, "kept")
    else:
        action = "installed"
    _make_folder(path.parent)
    write_atomically(path, content)  # by renaming: a link is replaced, not followed
    _write_record({**record, str(path): _digest(content)})
    return Installed(path, action, backup)


def remove_all() -> list[Removed]:
    """Remove every file that is as we have put it there. Folders stay."""
    record = read_record()
    done = []
    for name in list(record):
        path = Path(name)
        if not path.is_symlink() and not path.exists():
            done.append(Removed(path, "gone"))
        elif is_ours(path):
            try:
                path.unlink()
            except OSError as error:
                raise DrbaError(
                    f"{path} cannot be removed ({error.strerror}); check permissions of its folder"
                ) from error
            done.append(Removed(path, "removed"))
        else:
            done.append(Removed(path, "left"))
        del record[name]
        _write_record(record)
    return done


def _read(path: Path) -> bytes | None:
    """The content; None of a link that leads nowhere."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DrbaError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def _back_up(path: Path, content: bytes) -> Path:
    """Not beside it: mpv loads what lies in `scripts`."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    backup = weights.data_dir() / "backups" / f"{path.name}.{stamp}"
    number = 1
    while backup.exists():
        number += 1
        backup = backup.with_name(f"{path.name}.{stamp}-{number}")
    _make_folder(backup.parent)
    write_atomically(backup, content)
    return backup


def _write_record(record: dict[str, str]) -> None:
    path = record_path()
    if not record:
        path.unlink(missing_ok=True)
        return
    _make_folder(path.parent)
    write_atomically(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DrbaError(f"folder {folder} cannot be made ({error.strerror}); check its permissions") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

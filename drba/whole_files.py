"""Files that are there whole or not at all, also after a power cut and beside other programs."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, content: bytes, mode: int = 0o666, *, durable: bool = True) -> None:
    """All of it under this name or nothing. `mode` is less the process's umask; OSError.

    What need not be `durable` may be damaged by a power cut, and does not wait for the disk.
    """
    temporary = temporary_beside(path)
    try:
        # "x": nobody's link is followed.
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
        if durable:
            replace_durably(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A name that nobody can know before it is used."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def replace_durably(temporary: Path, path: Path) -> None:
    """Rename once the content is on the disk: a rename that outlives a power cut must not outlive its content."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)

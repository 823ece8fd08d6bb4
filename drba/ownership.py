"""Whether a file or folder is this user's own: what others could have put in the way is not used."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def foreign(path: Path, *, private: bool = False) -> str:
    """Why others may have had a hand in it, for the middle of a message; empty where they had not, or nothing is there.

    Its owner, and that of a link which leads to it, has to be this user or root, and not everybody may write to it.
    `private` is for what holds code or secrets: this user alone, and nobody else may even read it.
    """
    if not hasattr(os, "geteuid"):
        return ""
    try:
        link, status = path.lstat(), path.stat()
    except OSError:
        return ""
    return _of_another(link.st_uid, private) or foreign_status(status, private=private)


def foreign_status(status: os.stat_result, *, private: bool = False) -> str:
    """The same of an open file: nobody can exchange that for another one."""
    if not hasattr(os, "geteuid"):
        return ""
    mode = stat.S_IMODE(status.st_mode)
    if why := _of_another(status.st_uid, private):
        return why
    if private and mode & 0o077:
        return f"has mode {mode:04o}, expected {mode & 0o700:04o}"
    return f"can be written by everybody (mode {mode:04o})" if mode & 0o002 else ""


def _of_another(owner: int, private: bool) -> str:
    user = os.geteuid()
    return f"belongs to user {owner}, expected {user}" if owner != user and (private or owner != 0) else ""

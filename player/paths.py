"""Where the program's own files are."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from drba.errors import DrbaError


def lua_script() -> Path:
    """drba.lua: in the source tree, or where the installed package keeps its data."""
    candidates = (
        Path(__file__).resolve().parent.parent / "mpv-scripts" / "drba.lua",
        Path(sysconfig.get_path("data")) / "share" / "drba-player" / "drba.lua",
    )
    for path in candidates:
        if path.is_file():
            return path
    raise DrbaError(f"drba.lua is missing from this installation; expected it at {candidates[-1]}; install again")


def drba_program() -> str:
    """The `drba` command of this installation."""
    beside = Path(sys.executable).with_name("drba")
    return str(beside) if beside.is_file() else shutil.which("drba") or "drba"

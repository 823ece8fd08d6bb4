"""Where the program's own files are."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import drba
from drba.errors import DrbaError
from drba.kept import cache_folder


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


def demo_clip() -> Path:
    """The clip that the program draws itself; drawn once for each version, which takes some seconds."""
    clip = cache_folder() / f"demo-{drba.__version__}.mkv"
    if not clip.exists():
        from .demo.clip import make_demo

        print("drawing the demo clip ...", flush=True)
        make_demo(clip)
    return clip


def has_display() -> bool:
    """Whether mpv can open a window. On Linux without one it plays to its null output."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""Where mpv reads its configuration, found by mpv's own rules (options/path.c and osdep/path-*.c, read in 0.35 to 0.41)."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from drba.errors import DrbaError

SCRIPT = Path("scripts", "drba.lua")
OPTIONS = Path("script-opts", "drba.conf")


def find_config_folder(
    system: str,
    environment: Mapping[str, str],
    exists: Callable[[PurePath], bool],
    mpv_program: str | None = None,
) -> PurePath | None:
    """The folder whose `scripts` and `script-opts` mpv reads; None where mpv reads none.

    `system` is what platform.system() says, `exists` tells whether a path is there, `mpv_program` where mpv itself is
    (Windows only: a folder portable_config beside it comes first). macOS goes by the rules of Unix.
    """
    flavour = PureWindowsPath if system == "Windows" else PurePosixPath
    forced = environment.get("MPV_HOME")
    if forced is not None:  # set and empty, it turns configuration off
        return flavour(forced) if forced else None
    if system == "Windows":
        if mpv_program:
            portable = PureWindowsPath(mpv_program).parent / "portable_config"
            if exists(portable):
                return portable
        roaming = environment.get("APPDATA")
        return PureWindowsPath(roaming) / "mpv" if roaming else None
    home, xdg = environment.get("HOME"), environment.get("XDG_CONFIG_HOME")
    folder: PurePosixPath | None = None
    if xdg:
        folder = PurePosixPath(xdg) / "mpv"
    elif home:
        folder = PurePosixPath(home) / ".config" / "mpv"
    if home:
        before_xdg = PurePosixPath(home) / ".mpv"  # still used by those who have it and not the other
        if exists(before_xdg) and not (folder and exists(folder)):
            return before_xdg
    return folder


def find_here() -> Path | None:
    """The folder of this user's mpv, whether or not it exists; None where mpv reads none."""
    found = find_config_folder(platform.system(), os.environ, os.path.exists, shutil.which("mpv"))
    return Path(found) if found is not None else None


def script_installed() -> bool:
    """Whether this user's mpv loads drba.lua by itself."""
    folder = find_here()
    return folder is not None and (folder / SCRIPT).exists()


def config_folder() -> Path:
    """That of this user's mpv, whether or not it exists; DrbaError where there is none."""
    found = find_here()
    if found is None:
        raise DrbaError(
            "mpv reads no configuration here (MPV_HOME is empty, or HOME is not set); set HOME, or MPV_HOME to a folder"
        )
    return found


def script_path() -> Path:
    """Where mpv finds drba.lua by itself."""
    return config_folder() / SCRIPT


def options_path() -> Path:
    """Where drba.lua reads its options."""
    return config_folder() / OPTIONS

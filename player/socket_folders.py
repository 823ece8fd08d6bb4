"""The private folders that drba.lua makes for mpv's sockets: mpv removes its own, else its bridge does, else the next one."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from server.control import listening

PATTERN = "drba-mpv-??????????"  # as drba.lua has mktemp fill it in
SOCKET = "mpv.sock"


def remove_folder(folder: Path, socket: Path) -> None:
    """mpv was killed and could not clean up, or has done so already."""
    for remove, path in ((os.unlink, socket), (os.rmdir, folder)):
        with contextlib.suppress(OSError):
            remove(path)


def remove_dead(own: Path) -> None:
    """Remove the folders beside `own` whose mpv was killed together with its bridge: this user's, with a socket that nobody
    listens at. One without a socket may be an mpv's that is just starting."""
    for folder in own.parent.glob(PATTERN):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            socket = folder / SOCKET
            ours = folder != own and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if ours and socket.is_socket() and not listening(str(socket)):
                remove_folder(folder, socket)

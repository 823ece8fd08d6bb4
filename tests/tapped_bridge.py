"""`drba bridge` that notes each output frame it hands over, so that a test knows what is on the screen.

One line a frame in $DRBA_TEST_TAP: process, number, kind, and 1 where a source frame stands for an in-between that was not
there. $DRBA_TEST_MAX_FILE limits the bytes of any file that it makes, shared memory included.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from typing import Any

from player import cli
from player.stream import OutputStream

_frames = OutputStream.frames


@cache
def tap() -> int:
    """Opened with the first frame: a bridge closes at its start what mpv has handed down to it."""
    return os.open(os.environ["DRBA_TEST_TAP"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


async def tapped(self: Any) -> AsyncGenerator[Any, None]:
    stats = self._context.stats
    async with aclosing(_frames(self)) as frames:
        late = stats.late
        async for number, picture, kind in frames:
            missed, late = stats.late > late, stats.late
            yield number, picture, kind
            os.write(tap(), f"{os.getpid()} {number} {kind.value} {int(missed)}\n".encode())  # mpv's socket has it


if __name__ == "__main__":
    if limit := os.environ.get("DRBA_TEST_MAX_FILE"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    OutputStream.frames = tapped  # type: ignore[method-assign]
    sys.exit(cli.main())

"""Where an engine's error comes from, in a few words: a film asks a hundred times a second, and a traceback has twenty lines."""

from __future__ import annotations

import traceback

_KNOWN = "drba_where"  # an error that another process had raised brings it along


def where(error: BaseException) -> str:
    """Kind of an error and the line that raised it: a traceback's two most useful facts."""
    if known := getattr(error, _KNOWN, ""):
        return str(known)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def remember_where(error: BaseException, raised: BaseException) -> None:
    """Have `error`, which is sent to another process, say where `raised` came from."""
    setattr(error, _KNOWN, where(raised))

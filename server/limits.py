"""What the system lets a process have."""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

FILES = (
    1 << 16
)  # far more than there are players; some systems' own limit is a billion, which programs go through one by one


def allow_many_files() -> None:
    """As many open files as this user may have, where 1024 are usual: libzmq ends the process when none is left for a
    connection, and anything of this user's can connect."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

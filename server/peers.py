"""Who is connected, and how its death is noticed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field


@dataclass
class Peer:
    """A client, by its ZeroMQ routing id. `pidfd` becomes readable when its process ends; None if that is unknown."""

    identity: bytes
    pid: int | None = None
    pidfd: int | None = None
    heard_s: float = field(default_factory=time.monotonic)
    malformed_logged: bool = False

    def close(self) -> None:
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def local_pid(peer_address: str) -> int | None:
    """The process at the other end of a unix socket, as the kernel vouches for it.

    `peer_address` is ZeroMQ's property: "host:uid:gid:pid" for a unix socket on Linux, an address elsewhere. The pid is
    0 for a process of a container that this one cannot see.
    """
    fields = peer_address.split(":")
    if len(fields) != 4 or not fields[3].isdecimal():
        return None
    return int(fields[3]) or None


def open_pidfd(pid: int | None) -> int | None:
    """A descriptor that is readable once the process has ended; ProcessLookupError if it has already."""
    if pid is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:  # an old kernel: silence will tell
        return None

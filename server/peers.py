"""Who is connected, and how its death is noticed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import zmq

from .outgoing import Throughput


@dataclass(eq=False)
class Peer:
    """A client, by its ZeroMQ routing id. `pidfd` becomes readable when its process ends; None if that is unknown.
    `key` is the public key of a client on another machine, empty for one on this."""

    identity: bytes
    pid: int | None = None
    pidfd: int | None = None
    heard_s: float = field(default_factory=time.monotonic)
    malformed_logged: bool = False
    key: str = ""
    throughput: Throughput = field(default_factory=Throughput)  # of what is sent to another machine

    @property
    def remote(self) -> bool:
        return bool(self.key)

    def __str__(self) -> str:
        return f"{self.identity.hex()} ({f'key {self.key}' if self.remote else f'process {self.pid}'})"

    def close(self) -> None:
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def peer_pid(frame: zmq.Frame) -> int | None:
    """The process at the other end of the unix socket that a message came through, by the kernel's word; else None."""
    try:
        return pid_in_address(str(frame.get("Peer-Address")))
    except zmq.ZMQError:  # no such property on this system
        return None


def pid_in_address(peer_address: str) -> int | None:
    """The pid in ZeroMQ's "host:uid:gid:pid" of a unix socket on Linux; None for addresses of any other kind.

    It is 0, which means None too, for a process of a container that this process cannot see.
    """
    fields = peer_address.split(":")
    if len(fields) != 4 or not all(field.isdecimal() for field in fields[1:]):
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

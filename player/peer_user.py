"""Whose process is at the other end of a connection on this machine, by the kernel's word (Linux)."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable

TABLES = (
    "/proc/net/tcp",
    "/proc/net/tcp6",
)  # the second for clients with an IPv6 socket and an address such as ::ffff:127.0.0.1

Address = tuple[str, int]


def uid_of_listener(connection: socket.socket) -> int | None:
    """The user who listens at the other end of a unix socket; None where the system does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def uid_of_client(client: Address, server: Address) -> int | None:
    """The user of a TCP client's socket, addresses as the server sees them (IPv4); None where the kernel does not say."""
    for path in TABLES:
        try:
            with open(path, encoding="ascii") as table:
                uid = find_uid(table, client, server)
        except OSError:
            continue
        if uid is not None:
            return uid
    return None


def find_uid(table: Iterable[str], client: Address, server: Address) -> int | None:
    """In a table of proc_pid_net(5): `sl local_address rem_address st tx:rx tr:when retrnsmt uid ...`."""
    wanted = _hex(client), _hex(server)
    for line in table:
        fields = line.split()
        # Of an IPv6 address the last 32 bits are the IPv4 one that it stands for.
        if len(fields) > 7 and (fields[1][-13:], fields[2][-13:]) == wanted:
            return int(fields[7])
    return None


def _hex(address: Address) -> str:
    host, port = address
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"

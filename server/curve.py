"""ZeroMQ sockets over a network: encrypted and authenticated by libzmq's CURVE, both ends by their long-term keys.

The server shows that it has its key by the handshake, the client likewise, and the server then asks an authenticator (ZAP)
whether that client's key is on the list. A client that is not, or that speaks no CURVE, never gets a message through.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from drba.errors import ServerError

from .keys import Identity, paired, paired_path
from .messages import CHUNK_BYTES, MAX_HEADER_BYTES

#: Of one part, before and after the handshake: libzmq closes a connection that announces a larger one. CURVE adds 33 bytes.
MAX_PART_BYTES = CHUNK_BYTES + MAX_HEADER_BYTES
HANDSHAKE_MS = 5000  # after which a connection that has not shown who it is is closed
#: After which the kernel gives a connection up whose other end is silent or takes nothing, and what waits for it is freed. Not
#: libzmq's own heartbeats: 4.3.5 ends the process (`!_io_error`) when one is due on a connection that closed with its queue full.
DEAD_S = 15
HIGH_WATER = 64  # messages to or from one machine: its heartbeats of 10 s and more requests than it has at once
BUFFER_BYTES = 1 << 19  # of the kernel's: what is queued there is late, and nobody can take it back
ZAP_DOMAIN = b"drba"
LIST_AGE_S = 1.0  # how soon a machine that was removed is refused


def secure_server(socket: zmq.Socket[bytes], own: Identity) -> None:
    _limit(socket)
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = own.public.encode(), own.secret.encode()
    socket.zap_domain = ZAP_DOMAIN


def secure_client(socket: zmq.Socket[Any], own: Identity, server_key: str) -> None:
    _limit(socket)
    socket.curve_serverkey = server_key.encode()
    socket.curve_publickey, socket.curve_secretkey = own.public.encode(), own.secret.encode()


def _limit(socket: zmq.Socket[Any]) -> None:
    for option, value in (
        (zmq.MAXMSGSIZE, MAX_PART_BYTES),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, DEAD_S // 3),
        (zmq.TCP_KEEPALIVE_INTVL, DEAD_S // 3),
        (zmq.TCP_KEEPALIVE_CNT, 2),
        (zmq.TCP_MAXRT, DEAD_S * 1000),
        (zmq.SNDHWM, HIGH_WATER),
        (zmq.RCVHWM, HIGH_WATER),
        (zmq.SNDBUF, BUFFER_BYTES),
        (zmq.IPV6, 1),
    ):
        socket.setsockopt(option, value)


class AllowedClients:
    """The public keys of the clients that are paired now; the file is looked at once a second. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_s = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._keys: frozenset[str] = frozenset()

    def __contains__(self, key: object) -> bool:
        now_s = self._clock()
        if now_s - self._looked_s > LIST_AGE_S:
            self._looked_s = now_s
            self._read()
        return key in self._keys

    def _read(self) -> None:
        """A list that cannot be read, or that others could have written, lets nobody in."""
        try:
            found = os.stat(paired_path(), follow_symlinks=False)
        except OSError:
            self._keys, self._stamp = frozenset(), None
            return
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = frozenset(paired().clients.values())
            except ServerError:
                self._keys = frozenset()


class _Provider:
    """What pyzmq's authenticator asks for each client's key."""

    def __init__(self, allow: Callable[[str], bool]) -> None:
        self._allow = allow

    def callback(self, domain: str, key: bytes) -> bool:
        return self._allow(key.decode())


class Gatekeeper:
    """Answers libzmq's question whom to let in, in a thread, for all CURVE servers of a context."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allow: Callable[[str], bool]) -> None:
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(ZAP_DOMAIN.decode(), _Provider(allow))

    def stop(self) -> None:
        """Before the context ends."""
        self._authenticator.stop()


def client_key(frame: zmq.Frame) -> str:
    """The public key of the client that a message came from, by libzmq's word."""
    return str(frame.get("User-Id"))

"""Limits on the connections to the virtual files: what has not asked for one of them in time, and in few words, is cut off.

Everybody on this machine can connect to a port of 127.0.0.1. Whoever does not know a track's path has five seconds and 32 KiB,
and makes room first when there are many. One who knows it is mpv, which stops reading for as long as the viewer pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

REQUEST_TIMEOUT_S = 5.0  # from connecting until the whole request is there; mpv sends it at once
MAX_REQUEST_BYTES = (
    32 << 10
)  # that a connection may send in its life; mpv's request has some 200, with cookies some thousand
MAX_CONNECTIONS = 64  # mpv has one or two
BACKLOG = 16  # connections taken at once: fewer than it takes to cut off one that was taken just before


class Connections:
    """Makes protocols for `create_server`, each around one of `make_protocol`, and counts them. For one event loop."""

    def __init__(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        self._make_protocol = make_protocol
        self._open: dict[asyncio.BaseTransport, _Connection] = {}  # the oldest first

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._make_protocol())

    def admit(self, transport: asyncio.BaseTransport) -> None:
        """Its request is one for a track: from here on it takes as long as it likes."""
        if connection := self._open.get(transport):
            connection.admit()

    def opened(self, connection: _Connection) -> None:
        self._open[connection.transport] = connection
        if len(self._open) > MAX_CONNECTIONS:
            strangers = (other for other in self._open.values() if not other.admitted)
            next(strangers, connection).cut()

    def closed(self, connection: _Connection) -> None:
        self._open.pop(connection.transport, None)


class _Connection(asyncio.Protocol):
    """Passes everything on to `inner`, within the limits."""

    transport: asyncio.Transport

    def __init__(self, owner: Connections, inner: asyncio.Protocol) -> None:
        self.admitted = False
        self._owner, self._inner = owner, inner
        self._received_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def admit(self) -> None:
        self.admitted = True
        if self._timer is not None:
            self._timer.cancel()

    def cut(self) -> None:
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(REQUEST_TIMEOUT_S, self.cut)
        self._inner.connection_made(transport)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._owner.closed(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._received_bytes > MAX_REQUEST_BYTES:
            self.cut()
        else:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

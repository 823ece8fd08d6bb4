"""For tests over a network: paired machines (folders of one machine), a server that listens, a link that can be slow or stall."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers_server import Place, free_port, private_place, soon

from server import keys
from server.client import server_status
from server.keys import RemoteServer


@contextmanager
def machine(folder: Path) -> Iterator[None]:
    """What runs inside has the keys and paired machines of another machine."""
    before = os.environ["XDG_CONFIG_HOME"]
    os.environ["XDG_CONFIG_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ["XDG_CONFIG_HOME"] = before


@dataclass
class Desktop:
    """A machine whose server listens to a laptop, which is this process."""

    place: Place
    folder: Path
    port: int

    def through(self, port: int) -> RemoteServer:
        """The server, reached at another port of this machine."""
        with machine(self.folder):
            return RemoteServer("desktop", f"tcp://127.0.0.1:{port}", keys.identity().public)

    @property
    def server(self) -> RemoteServer:
        return self.through(self.port)


@contextmanager
def desktop(tmp_path: Path, *options: str, pair: bool = True) -> Iterator[Desktop]:
    """A fake drba-server that listens, with the laptop's key on its list."""
    with private_place() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "laptop"))
        made = Desktop(place, tmp_path / "desktop", free_port())
        laptop = keys.identity().public
        with machine(made.folder):
            keys.identity()
            if pair:
                keys.add_client("laptop", laptop)
            place.environment["XDG_CONFIG_HOME"] = str(made.folder)
            process = place.start("--listen", f"tcp://127.0.0.1:{made.port}", *options)
        if pair:
            keys.add_server("desktop", made.server.endpoint, made.server.key)
        try:
            soon(lambda: server_status() is not None)
            yield made
        finally:
            process.terminate()
            process.communicate(timeout=10)


class SlowLink:
    """A TCP proxy between client and server whose bandwidth and stalls a test decides. `bytes_per_s` limits each direction."""

    def __init__(self, port: int, bytes_per_s: float = float("inf")) -> None:
        self._target = port
        self.bytes_per_s = bytes_per_s
        self.open = asyncio.Event()  # while not set, nothing passes
        self.open.set()
        self.port = free_port()
        self.passed = [0, 0]  # bytes to and from the server
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> SlowLink:
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        for one in (writer, far_writer):  # as a real link: little of what was sent is on the way
            one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            one.transport.set_write_buffer_limits(high=0)
        for index, (source, target) in enumerate(((reader, far_writer), (far_reader, writer))):
            task = asyncio.ensure_future(self._pass(source, target, index))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, index: int) -> None:
        ready_s = time.monotonic()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while data := await source.read(1 << 14):
                await self.open.wait()
                ready_s = max(ready_s, time.monotonic()) + len(data) / self.bytes_per_s
                await asyncio.sleep(max(0.0, ready_s - time.monotonic()))
                await self.open.wait()
                target.write(data)
                self.passed[index] += len(data)
                await target.drain()
        target.close()


@contextlib.asynccontextmanager
async def stalled(link: SlowLink) -> AsyncIterator[None]:
    link.open.clear()
    try:
        yield
    finally:
        link.open.set()

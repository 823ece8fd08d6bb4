"""For tests over a network: paired machines (folders of one machine), a server that listens, a link that can be slow or stall."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers_server import DEADLINE_S, ROOT, free_port

from server import keys
from server.client import server_status
from server.keys import RemoteServer
from server.messages import VERSION, StatusReport


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

    name: str  # that it has on the laptop
    process: subprocess.Popen[str]
    runtime: Path
    config: Path
    port: int

    def through(self, port: int) -> RemoteServer:
        """The server, reached at another port of this machine."""
        with machine(self.config):
            return RemoteServer(self.name, f"tcp://127.0.0.1:{port}", keys.identity().public)

    @property
    def server(self) -> RemoteServer:
        return self.through(self.port)

    @property
    def status(self) -> StatusReport | None:
        """As its own user sees it."""
        return server_status(f"ipc://{self.runtime}/server-v{VERSION}.sock")

    @property
    def log(self) -> str:
        return (self.runtime / "server.log").read_text()


@contextmanager
def desktop(command: list[str], *, port: int | None = None, folder: Path | None = None) -> Iterator[Desktop]:
    """A drba-server (`command`) that listens, with this process's key on its list, and it on this one's. `folder` has the keys
    of one that was there before."""
    port = port or free_port()
    laptop = keys.identity().public
    with tempfile.TemporaryDirectory(prefix="drba-far-") as runtime, contextlib.ExitStack() as stack:
        config = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drba-keys-")))
        with machine(config):
            keys.add_client("laptop", laptop)
            environment = {
                **os.environ, "DRBA_RUNTIME_DIR": runtime, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(config)
            }  # fmt: skip
            listen = [*command, "--listen", f"tcp://127.0.0.1:{port}"]
            pipe = subprocess.PIPE
            process = subprocess.Popen(listen, env=environment, stdout=pipe, stderr=pipe, text=True)
            public = keys.identity().public
        name = keys.add_server("desktop", f"tcp://127.0.0.1:{port}", public)
        made = Desktop(name, process, Path(runtime), config, port)
        try:
            end_s = time.monotonic() + DEADLINE_S
            while made.status is None:
                assert process.poll() is None and time.monotonic() < end_s, process.communicate()
                time.sleep(0.01)
            yield made
            assert process.poll() is None, f"the server died: {process.communicate()}"
        finally:
            keys.remove(name)
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

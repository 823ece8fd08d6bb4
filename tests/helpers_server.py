"""For the tests of the server: real processes in a private folder, frames with known content, waits on conditions."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import mix

from drba.pixels import FrameLayout, Plane, pixel_format
from engines.base import SourceFrame, Triplet
from server.client import Client, Frame, FramePool, Session, StreamSpec, stop_server

ROOT = Path(__file__).resolve().parent.parent
FAKE_SERVER = Path(__file__).with_name("fake_server.py")
SMALL = FrameLayout(38, 21, pixel_format("yuv420p10le"))  # odd height, 16-bit samples
DEADLINE_S = 10.0  # for conditions that come true within milliseconds on an idle machine


def fake_command(*options: str) -> list[str]:
    return [sys.executable, str(FAKE_SERVER), *options]


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test in a loop of its own, and see that it leaves no task behind."""

    async def checked() -> None:
        await asyncio.wait_for(test, 30)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(checked())


async def eventually(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true in time"
        await asyncio.sleep(0.005)


def soon(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    asyncio.run(eventually(condition, timeout_s))


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Film:
    """A session with frames of random content that are decoded into slots when asked for."""

    def __init__(self, session: Session) -> None:
        self.session, self.pool, self.layout = session, session.pool, session.spec.layout

    @classmethod
    async def open(
        cls, client: Client, model: str = "mix", *, layout: FrameLayout = SMALL, slots: int = 40, shared: bool = True
    ) -> Film:
        pool = FramePool(layout.frame_bytes, slots, shared=shared)
        return cls(await client.open_session(StreamSpec(layout, model=model), pool))

    def planes(self, number: int) -> list[Plane]:
        """The content of a frame."""
        fmt, random = self.layout.format, np.random.default_rng(number)
        shapes = self.layout.plane_shapes
        return [random.integers(0, fmt.max_value, shape, endpoint=True).astype(fmt.dtype) for shape in shapes]

    def slot(self) -> int:
        slot = self.pool.acquire()
        assert slot is not None
        return slot

    def frame(self, number: int) -> Frame:
        """Decode a frame."""
        slot = self.slot()
        self.layout.copy(self.planes(number), self.pool.buffer(slot))
        return Frame(number, slot)

    def ask(self, middle: int, times: tuple[float, ...] = (0.75,), **options: int) -> asyncio.Future[Any]:
        """Ask for in-between frames around a frame, giving up all slots at once: the session holds what it needs."""
        frames = [self.frame(middle + step) for step in (-1, 0, 1)]
        outputs = [self.slot() for _ in times]
        answer = self.session.render(frames[1], times, outputs, previous=frames[0], following=frames[2], **options)
        self.pool.release(*outputs, *(frame.slot for frame in frames))
        return answer

    def expected(self, middle: int, at: float) -> bytes:
        """What the fake renderer makes of it."""
        sources = [SourceFrame(middle + step, self.planes(middle + step)) for step in (-1, 0, 1)]
        buffer = bytearray(self.layout.frame_bytes)
        mix(Triplet(*sources), at, self.layout.views(buffer))
        return bytes(buffer)

    def output(self, slot: int) -> bytes:
        """What is in a slot; right after an answer nobody has written to it again."""
        return bytes(self.pool.buffer(slot)[: self.layout.frame_bytes])

    async def close(self) -> None:
        await self.session.close()
        assert self.pool.free_slots == self.pool.slots, "every slot is given back"
        self.pool.close()


class Gate:
    """The pipe that requests of the model `gate:PATH` wait at."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        os.mkfifo(self.path)
        os.mkfifo(f"{self.path}-arrivals")
        self._fd = os.open(self.path, os.O_RDWR)  # a reader does not wait for a writer, then
        self._arrivals = os.open(f"{self.path}-arrivals", os.O_RDWR | os.O_NONBLOCK)

    @property
    def model(self) -> str:
        return f"gate:{self.path}"

    def arrived(self) -> bool:
        """Whether a request has come to the gate since the last one that was seen there."""
        try:
            return bool(os.read(self._arrivals, 1))
        except BlockingIOError:
            return False

    def let_through(self, requests: int) -> None:
        os.write(self._fd, bytes(requests))

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._arrivals)


class Place:
    """A private runtime folder, the gate in it, and what the servers started there have left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = Gate(folder)
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    @property
    def started(self) -> list[int]:
        """The servers that were started."""
        log = self.folder / "starts"
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def leftovers(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {
            "server.log",
            "server-stderr.log",
            "bridge.log",
            "starts",
            "gate",
            "gate-arrivals",
        }

    def start(self, *options: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(fake_command(*options), env=self.environment, stdout=pipe, stderr=pipe, text=True)


@contextmanager
def private_place() -> Iterator[Place]:
    """A folder whose servers are ended afterwards; nothing but logs may be left of them then."""
    shared_memory = set(os.listdir("/dev/shm"))
    with tempfile.TemporaryDirectory(prefix="drba-test-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRBA_RUNTIME_DIR", folder)
        patch.setenv("DRBA_TEST_START_LOG", f"{folder}/starts")
        made = Place(Path(folder))
        yield made
        made.gate.let_through(1000)  # for requests that a failed test has left waiting

        def all_gone() -> bool:
            """A server that a test gave up waiting for may come up only now: each time round stops what is there."""
            stop_server()
            return not any(map(alive, made.started))

        soon(all_gone)
        made.gate.close()
        assert made.leftovers() == set()
    soon(lambda: set(os.listdir("/dev/shm")) <= shared_memory)  # other programs use it for moments


def connect(*options: str, **arguments: Any) -> Coroutine[Any, Any, Client]:
    """Connect to the server of the private place; `options` are those of a server that is started."""
    return Client.connect(command=fake_command(*options), **arguments)

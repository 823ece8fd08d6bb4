"""A virtual file behind the bridge's HTTP server, without a film: pictures with known bytes, read by plain sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction

from drba.pixels import FrameLayout, pixel_format
from drba.timeline import OutputClock
from player.http_server import FrameServer, Track
from player.plan import Kind
from player.virtual_file import VirtualFile


class Pictures:
    """A stream of pictures whose bytes are all their number, modulo 251."""

    def __init__(self, file: VirtualFile, first: int) -> None:
        self._file, self._first = file, first

    async def frames(self) -> AsyncGenerator[tuple[int, memoryview, Kind], None]:
        for number in range(self._first, self._file.frames):
            yield number, memoryview(bytes([number % 251]) * self._file.layout.frame_bytes), Kind.SOURCE

    def close(self) -> None:
        pass


@dataclass
class Published:
    """A track and its address."""

    file: VirtualFile
    server: FrameServer
    url: str

    @property
    def path(self) -> str:
        return self.url.split(str(self.server.port), 1)[1]

    def content(self, first: int, count: int) -> bytes:
        """The file's bytes from `first` on, by its own arithmetic."""
        number, skip = self.file.locate(first)
        parts = [self.file.header[skip:]] if number < 0 else []
        skip = 0 if number < 0 else skip
        number = max(0, number)
        while sum(map(len, parts)) < count + skip and number < self.file.frames:
            parts += [self.file.prefix(number), bytes([number % 251]) * self.file.layout.frame_bytes]
            number += 1
        return b"".join(parts)[skip:][:count]

    def request(self, *lines: str, method: str = "GET", path: str | None = None, host: str | None = None) -> bytes:
        """A request as mpv makes it, with further header lines."""
        own = f"127.0.0.1:{self.server.port}" if host is None else host
        head = [f"{method} {self.path if path is None else path} HTTP/1.1", f"Host: {own}", *lines]
        return "\r\n".join([*head, "", ""]).encode("latin-1")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    async def answer(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status (0 for none), headers in lower case, and the body until the connection ends."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            data = await reader.read(-1)
        except ConnectionError:
            data = b""
        finally:
            writer.close()
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]) if first.startswith("HTTP/1") else 0, headers, body


@asynccontextmanager
async def published(
    frames: int = 400, size: tuple[int, int] = (64, 36), origin: str | None = None
) -> AsyncIterator[Published]:
    layout = FrameLayout(*size, pixel_format("gray"))
    file = VirtualFile(layout, OutputClock(Fraction(48)), frames)
    server = FrameServer()
    await server.start()
    try:
        yield Published(file, server, server.add(Track(file, lambda first: Pictures(file, first), origin)))
    finally:
        await server.stop()

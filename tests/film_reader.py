"""Opens films as the bridge does and reads them over HTTP as mpv does, without mpv."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from player.film import Film, FilmRequest
from player.http_server import FrameServer
from player.playhead import Playhead
from player.source import VideoSource
from player.virtual_file import PREFIX_BYTES
from server.client import Client
from server.keys import RemoteServer


@dataclass
class OpenFilm:
    """A film with its URL."""

    film: Film
    url: str

    async def read(self, first_byte: int, count: int | None = None) -> bytes:
        """Bytes from `first_byte` on, by a range request of that length or an open one that is left when `count` is read."""

        def fetch() -> bytes:
            request = urllib.request.Request(self.url, headers={"Range": f"bytes={first_byte}-"})
            with urllib.request.urlopen(request, timeout=30) as response:
                assert response.status == 206
                data: bytes = response.read(count)
                return data

        return await asyncio.to_thread(fetch)

    async def frames(self, first: int, count: int) -> list[bytes]:
        """The pictures of output frames."""
        file = self.film.file
        data = await self.read(file.offset_of(first), count * file.cluster_bytes)
        assert len(data) == count * file.cluster_bytes
        for k in range(count):
            start = k * file.cluster_bytes
            assert data[start : start + PREFIX_BYTES] == file.prefix(first + k)
        return [data[k * file.cluster_bytes + PREFIX_BYTES :][: file.layout.frame_bytes] for k in range(count)]

    async def all_frames(self) -> list[bytes]:
        return await self.frames(0, self.film.file.frames)


@asynccontextmanager
async def open_film(
    path: Path, *, playhead: Playhead | None = None, remote: RemoteServer | None = None, **request: object
) -> AsyncIterator[OpenFilm]:
    client = await Client.connect(remote=remote)
    http = FrameServer()
    await http.start()
    film = await Film.open(FilmRequest(str(path), **request), playhead or Playhead())  # type: ignore[arg-type]
    try:
        await film.attach(client)
        yield OpenFilm(film, http.add(film.track))
    finally:
        await http.stop()
        await film.close()
        await client.close()


def source_frames(path: Path) -> list[tuple[Fraction, bytes]]:
    """Every decoded frame of a film: its time and its planes as one tightly packed buffer."""
    source = VideoSource(str(path))
    frames = []
    for decoded in source.frames_from(Fraction(0)):
        buffer = bytearray(decoded.layout.frame_bytes)
        decoded.layout.copy(decoded.planes(), buffer)
        frames.append((decoded.time_s, bytes(buffer)))
    source.close()
    return frames

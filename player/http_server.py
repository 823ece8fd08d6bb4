"""The virtual files over HTTP on 127.0.0.1, with byte ranges. mpv's reading pace is the pace of everything behind it."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from aiohttp import web

from .plan import Kind
from .virtual_file import PREFIX_BYTES, VirtualFile

log = logging.getLogger(__name__)

#: A piece of this size is handed to the socket at once; what it does not take waits for mpv to read.
CHUNK_BYTES = 1 << 20


class FrameStream(Protocol):
    """Output frames in order from one place on."""

    def frames(self) -> AsyncGenerator[tuple[int, memoryview, Kind], None]: ...

    def close(self) -> None: ...


class Track:
    """One virtual file and where its frames come from. The newest reader gets the frames; an older one is cut off."""

    def __init__(self, file: VirtualFile, open_stream: Callable[[int], FrameStream]) -> None:
        self.file = file
        self.open_stream = open_stream
        #: Where the film's data turned out to end, once a reader has got there; None while it may be whole.
        self.end_byte: int | None = None
        self.on_frame: Callable[[int, Kind], None] = lambda number, kind: None
        self._reader: asyncio.Task[object] | None = None

    def take_over(self) -> None:
        """Make the current task the only reader."""
        before, self._reader = self._reader, asyncio.current_task()
        if before is not None and before is not self._reader and not before.done():
            before.cancel()

    def close(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.cancel()


class FrameServer:
    """Serves tracks under unguessable paths."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{token}/video.mkv", self._serve)  # answers HEAD too
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        for track in self._tracks.values():
            track.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def add(self, track: Track) -> str:
        """Publish a track; returns its URL."""
        token = secrets.token_urlsafe(24)
        self._tracks[token] = track
        return f"http://127.0.0.1:{self.port}/{token}/video.mkv"

    def remove(self, track: Track) -> None:
        track.close()
        self._tracks = {token: kept for token, kept in self._tracks.items() if kept is not track}

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        track = self._tracks.get(request.match_info["token"])
        # A page in the viewer's browser can name this address, but neither this Host nor a request without an Origin.
        if track is None or request.host != f"127.0.0.1:{self.port}" or "Origin" in request.headers:
            raise web.HTTPNotFound
        size = track.file.size
        first, last = _parse_range(request.headers.get("Range"), size)
        if track.end_byte is not None and first >= track.end_byte:
            # FFmpeg asks again, for eleven seconds, where a connection ended early. It takes this for the end of the file.
            return web.Response(status=206, headers={"Content-Range": f"bytes {first}-{first}/{first}"})
        response = web.StreamResponse(
            status=206 if "Range" in request.headers else 200,
            headers={"Accept-Ranges": "bytes", "Content-Type": "video/x-matroska", "Cache-Control": "no-store"},
        )
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        response.content_length = last - first + 1
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if request.transport is not None:
            # A drain then means that the kernel has everything: only then may a frame's memory be used again.
            request.transport.set_write_buffer_limits(high=0)
        try:
            missing = await _send(response, track, first, last)
        except ConnectionError:
            log.debug("the reader of byte %d went away", first)
            return response
        if missing and request.transport is not None:
            # The data ended before the length that the container states; only a closed connection says so to the reader.
            log.info("the film ends %d bytes before its stated length", missing)
            track.end_byte = last + 1 - missing
            request.transport.close()
        return response


async def _send(response: web.StreamResponse, track: Track, first: int, last: int) -> int:
    """Write bytes `first`..`last`; returns how many of them do not exist."""
    file = track.file
    remaining = last - first + 1

    async def write(piece: memoryview) -> None:
        nonlocal remaining
        piece = piece[:remaining]
        for start in range(0, len(piece), CHUNK_BYTES):
            await response.write(piece[start : start + CHUNK_BYTES])
        remaining -= len(piece)

    number, skip = file.locate(first)
    if number < 0:
        await write(memoryview(file.header)[skip:])
        number, skip = 0, 0
    if remaining <= 0:
        return 0
    track.take_over()
    # The head of the first cluster needs no frame: a reader that only looks for the first time stamp is served at once.
    await write(memoryview(file.prefix(number))[skip:])
    skip = max(0, skip - PREFIX_BYTES)
    if remaining <= 0:
        return 0
    stream = track.open_stream(number)
    try:
        async with aclosing(stream.frames()) as frames:
            async for shown, picture, kind in frames:
                if shown != number:
                    await write(memoryview(file.prefix(shown)))
                await write(picture[: file.layout.frame_bytes][skip:])
                skip = 0
                track.on_frame(shown, kind)
                if remaining <= 0:
                    return 0
    finally:
        stream.close()
    return remaining


_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def _parse_range(header: str | None, size: int) -> tuple[int, int]:
    """(first, last) byte asked for; HTTPRequestRangeNotSatisfiable for anything but one satisfiable range."""
    if header is None:
        return 0, size - 1
    match = _RANGE.fullmatch(header.strip())
    if match and match[1]:
        first, last = int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
        if first <= last:
            return first, last
    elif match and match[2] and int(match[2]) > 0:
        return max(0, size - int(match[2])), size - 1
    raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})

"""The virtual files over HTTP on 127.0.0.1, with byte ranges. mpv's reading pace is the pace of everything behind it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from aiohttp import web

from .http_connections import BACKLOG, Connections
from .peer_user import uid_of_client
from .plan import Kind
from .virtual_file import PREFIX_BYTES, VirtualFile

log = logging.getLogger(__name__)

#: A piece of this size is handed to the socket at once; what it does not take waits for mpv to read.
CHUNK_BYTES = 1 << 20
STOP_TIMEOUT_S = 0.5  # for what is being answered


class FrameStream(Protocol):
    """Output frames in order from one place on."""

    def frames(self) -> AsyncGenerator[tuple[int, memoryview, Kind], None]: ...

    def close(self) -> None: ...


class Track:
    """One virtual file and where its frames come from. The newest reader gets the frames; an older one is cut off."""

    def __init__(self, file: VirtualFile, open_stream: Callable[[int], FrameStream], origin: str | None = None) -> None:
        """`origin` is what the viewer has mpv say to web servers, ours included; else only web pages say one."""
        self.file = file
        self.origin = origin
        self.open_stream = open_stream
        #: Where the film's data turned out to end, once a reader has got there; None while it may be whole.
        self.end_byte: int | None = None
        self.on_frame: Callable[[int, Kind], None] = lambda number, kind: None
        self.refusal_logged = False
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
    """Serves tracks under unguessable paths, one request a connection. docs/security.md says to whom, and to whom not."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}  # by path
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._connections: Connections | None = None
        self.port = 0

    async def start(self) -> None:
        # What is malformed, or cut off, is no event: anybody on this machine can send it, as often as they like.
        quiet = logging.getLogger(f"{__name__}.refused")
        quiet.setLevel(logging.CRITICAL)
        self._server = web.Server(
            self._serve, handler_cancellation=True, access_log=None, logger=quiet, lingering_time=0.0
        )
        self._connections = Connections(self._server)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connections, "127.0.0.1", 0, backlog=BACKLOG)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for track in self._tracks.values():
            track.close()
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            await self._server.shutdown(STOP_TIMEOUT_S)

    def add(self, track: Track) -> str:
        """Publish a track; returns its URL."""
        path = f"/{secrets.token_urlsafe(24)}/video.mkv"
        self._tracks[path] = track
        return f"http://127.0.0.1:{self.port}{path}"

    def remove(self, track: Track) -> None:
        track.close()
        self._tracks = {path: kept for path, kept in self._tracks.items() if kept is not track}

    def _find(self, path: str) -> Track | None:
        """In a time that says nothing about how much of a path was right."""
        asked = path.encode(errors="surrogateescape")
        found = [track for own, track in self._tracks.items() if secrets.compare_digest(own.encode(), asked)]
        return found[0] if found else None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        track = self._find(request.raw_path)
        response: web.StreamResponse
        try:
            if track is None:
                response = web.Response(status=404)
            elif why := self._refusal(request, track):
                if not track.refusal_logged:  # once: whoever has found out a path may ask a thousand times a second
                    track.refusal_logged = True
                    log.warning("a request for the film is refused: %s", why)
                response = web.Response(status=404)
            elif request.method not in ("GET", "HEAD"):
                response = web.Response(status=405, headers={"Allow": "GET, HEAD"})
            elif request.can_read_body:
                response = web.Response(status=413)
            else:
                response = await self._serve_track(request, track)
        except ConnectionError:
            log.debug("who asked has gone away")
            response = web.Response(status=400)
        except Exception:
            log.exception("a request for the film")
            if request.transport is not None:
                request.transport.close()  # an answer could come in the middle of the film's bytes
            response = web.Response(status=500)
        response.force_close()
        return response

    def _refusal(self, request: web.BaseRequest, track: Track) -> str:
        """Why a request that knows the path is none of mpv's; empty for mpv's own."""
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        if host != f"127.0.0.1:{self.port}":  # a name that a web page had pointed here (DNS rebinding)
            return f"it is for {host!r}, expected 127.0.0.1:{self.port}"
        if "Sec-Fetch-Site" in request.headers or origin not in (None, track.origin):
            return f"a web page asks (origin {origin!r})"
        uid = _uid_of(request)
        if uid not in (None, os.geteuid()):
            return f"user {uid} asks, expected {os.geteuid()}"
        return ""

    async def _serve_track(self, request: web.BaseRequest, track: Track) -> web.StreamResponse:
        assert self._connections is not None
        size = track.file.size
        asked = request.headers.get("Range")
        wanted = parse_range(asked, size)
        if wanted is None:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        first, last = wanted
        if track.end_byte is not None and first >= track.end_byte:
            # FFmpeg asks again, for eleven seconds, where a connection ended early. It takes this for the end of the file.
            return web.Response(status=206, headers={"Content-Range": f"bytes {first}-{first}/{first}"})
        if request.transport is not None:
            self._connections.admit(request.transport)
        response = web.StreamResponse(
            status=200 if asked is None else 206,
            headers={"Accept-Ranges": "bytes", "Content-Type": "video/x-matroska", "Cache-Control": "no-store"},
        )
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        response.content_length = last - first + 1
        response.force_close()
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if request.transport is not None:
            # A drain then means that the kernel has everything: only then may a frame's memory be used again.
            request.transport.set_write_buffer_limits(high=0)
        missing = await _send(response, track, first, last)
        if missing and request.transport is not None:
            # The data ended before the length that the container states; only a closed connection says so to the reader.
            log.info("the film ends %d bytes before its stated length", missing)
            track.end_byte = last + 1 - missing
            request.transport.close()
        return response


def _uid_of(request: web.BaseRequest) -> int | None:
    """The user whose process asks; None where that cannot be known."""
    if request.transport is None:
        return None
    client, server = (request.transport.get_extra_info(name) for name in ("peername", "sockname"))
    return uid_of_client(client, server) if client and server else None


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


_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")  # longer ones are no file's


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first, last) byte that a Range header asks for; None for anything but one range that can be satisfied."""
    if header is None:
        return 0, size - 1
    match = _RANGE.fullmatch(header.strip())
    if match and match[1]:
        first, last = int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
        return (first, last) if first <= last else None
    if match and match[2] and int(match[2]) > 0:
        return max(0, size - int(match[2])), size - 1
    return None

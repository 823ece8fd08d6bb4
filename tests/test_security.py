"""What docs/security.md says is kept out: web pages, other users of the machine, traps in folders, models that are code."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from typing import Any

import pytest
from http_track import Published, published

from player import http_connections
from player.http_connections import MAX_CONNECTIONS, MAX_REQUEST_BYTES
from player.http_server import parse_range
from player.peer_user import find_uid, uid_of_client


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


# --- web pages --------------------------------------------------------------------------------------------------------


def test_the_player_gets_what_it_asks_for_and_nobody_else_anything() -> None:
    async def test() -> None:
        async with published() as film:
            whole = film.content(0, film.file.size)
            assert len(whole) == film.file.size
            assert await ask(film) == (200, whole)
            assert await ask(film, "Range: bytes=100-") == (206, whole[100:])
            assert await ask(film, "Range: bytes=100-199", method="HEAD") == (206, b"")
            for foreign in (
                ("Origin: https://evil.example",),
                ("Origin: null",),
                ("Origin:",),
                ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),  # <video src=...>
                ("Sec-Fetch-Site: same-origin",),  # a name of theirs that leads here
            ):
                assert await ask(film, *foreign) == (404, b""), foreign
            port = film.server.port
            for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}", "127.0.0.1", "", f"[::1]:{port}"):
                assert await ask(film, host=host) == (404, b""), host
            for path in (
                "/",
                "/video.mkv",
                film.path + "/",
                film.path[:-1],
                film.path + "?",
                film.path.upper(),
                film.url,
            ):
                assert await ask(film, path=path) == (404, b""), path
            assert await ask(film, path=film.path[:5] + "\u00ff" + film.path[6:]) in ((400, b""), (404, b""))
            for method in ("POST", "PUT", "OPTIONS", "DELETE", "TRACE", "PATCH"):
                assert await ask(film, method=method) == (405, b""), method
            assert await ask(film, "Content-Length: 5") == (413, b"")
            assert await ask(film, "Transfer-Encoding: chunked") == (413, b"")
            status, headers, _ = await film.answer(film.request("Range: bytes=0-9"))
            assert status == 206 and not [name for name in headers if name.startswith("access-control")]
            assert headers["connection"] == "close"

    run(test())


async def ask(film: Published, *lines: str, **request: str) -> tuple[int, bytes]:
    status, _, body = await film.answer(film.request(*lines, **request))
    return status, body if status in (200, 206, 404) else b""


def test_an_origin_that_the_viewer_has_mpv_say_to_every_server_is_no_web_page() -> None:
    async def test() -> None:
        async with published(origin="https://site.example") as film:
            assert (await ask(film, "Origin: https://site.example", "Range: bytes=0-9"))[0] == 206
            assert (await ask(film, "Range: bytes=0-9"))[0] == 206
            assert (await ask(film, "Origin: https://evil.example"))[0] == 404

    run(test())


def test_paths_are_as_good_as_keys_and_differ() -> None:
    async def test() -> None:
        async with published() as one, published() as two:
            tokens = {film.path.split("/")[1] for film in (one, two)}
            assert len(tokens) == 2 and all(len(token) == 32 for token in tokens), "192 random bits each"
            assert (await ask(one, path=two.path))[0] == 404

    run(test())


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, (0, 999)),
        ("bytes=0-", (0, 999)),
        ("bytes=10-19", (10, 19)),
        ("bytes=10-5000", (10, 999)),
        ("bytes=-10", (990, 999)),
        ("bytes=-5000", (0, 999)),
        ("bytes=-0", None),
        ("bytes=-", None),
        ("bytes=20-10", None),
        ("bytes=1000-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=0x1-", None),
        ("bytes=+1-", None),
        ("bytes=\u0663-", None),  # a digit elsewhere
        ("bytes=" + "9" * 5000 + "-", None),  # more than Python makes a number of
        ("frames=1-2", None),
        ("", None),
    ],
)
def test_only_one_range_that_the_file_has_is_served(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert parse_range(header, 1000) == wanted


# --- who does not ask, or not listen ----------------------------------------------------------------------------------


def test_who_does_not_finish_a_request_is_cut_off_and_a_paused_player_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "REQUEST_TIMEOUT_S", 0.3)

    async def test() -> None:
        async with published(frames=4000, size=(256, 144)) as film:
            reader, writer = await film.connect()
            writer.write(film.request())
            assert await reader.readuntil(b"\r\n\r\n")
            slow = [await film.connect() for _ in range(3)]
            slow[1][1].write(b"GET / HTTP/1.1\r\n")
            slow[2][1].write(film.request(path="/wrong")[:-2])
            for other, _ in slow:
                assert await closed(other)
            assert film.file.size > 100_000_000, "far more than the sockets and the reader hold"
            got = await reader.readexactly(film.file.size)  # as long as it paused, it reads on now
            assert got == film.content(0, film.file.size)
            writer.close()

    run(test())


async def closed(reader: asyncio.StreamReader) -> bool:
    """Until the other end closes; whether it said nothing before."""
    try:
        return await reader.read(-1) == b""
    except ConnectionError:
        return True


def test_a_request_without_end_is_cut_off() -> None:
    async def test() -> None:
        async with published() as film:
            for endless in (b"GET /" + b"a" * MAX_REQUEST_BYTES, film.request()[:-2] + b"a: b\r\n" * MAX_REQUEST_BYTES):
                status, _, _ = await film.answer(endless)
                assert status in (0, 400)
            assert (await ask(film, "Range: bytes=0-9"))[0] == 206

    run(test())


def test_many_connections_that_say_nothing_keep_the_player_neither_out_nor_from_reading_on() -> None:
    async def test() -> None:
        async with published(frames=4000, size=(256, 144)) as film:
            reader, writer = await film.connect()
            writer.write(film.request("Range: bytes=5000-"))
            await reader.readuntil(b"\r\n\r\n")
            idle = [await film.connect() for _ in range(3 * MAX_CONNECTIONS)]
            assert (await ask(film, "Range: bytes=0-9"))[0] == 206
            while sum(not other.at_eof() for other, _ in idle) > MAX_CONNECTIONS:
                await asyncio.sleep(0.001)
            assert await reader.readexactly(1_000_000) == film.content(5000, 1_000_000)
            for _, other in (*idle, (reader, writer)):
                other.close()

    run(test())


# --- other users ------------------------------------------------------------------------------------------------------

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:A4F3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 686118 1 0 100 0 0 10 0
   1: 0100007F:A4F3 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 686119 1 0 100 0 0 10 0
   2: 0100007F:D431 0100007F:A4F3 01 00000000:00000000 00:00000000 00000000  1001        0 686120 1 0 100 0 0 10 0
   3: 0000000000000000FFFF00000100007F:D432 0000000000000000FFFF00000100007F:A4F3 01 0:0 00:0 0  1002        0 686121
"""


def test_the_kernel_says_whose_a_connection_is() -> None:
    server = ("127.0.0.1", 0xA4F3)
    assert find_uid(TABLE.splitlines(), ("127.0.0.1", 0xD431), server) == 1001
    assert find_uid(TABLE.splitlines(), ("127.0.0.1", 0xD432), server) == 1002
    assert find_uid(TABLE.splitlines(), ("127.0.0.1", 0xD433), server) is None
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        assert uid_of_client(client.getsockname(), listening.getsockname()) == os.geteuid()

"""A card in another room: an encrypted server, strangers and hostile friends at its door, networks that are slow or stall."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from film_reader import open_film
from helpers_server import DEADLINE_S, Film, eventually, fake_command, free_port, private_place, run, soon
from mpv_driver import Mpv
from remote_helpers import Desktop, SlowLink, desktop, machine, stalled

from drba.errors import InputError, ServerError
from drba.pixels import FrameLayout, pixel_format
from player.cli import main
from player.film import Film as PlayedFilm
from player.plan import Kind
from player.playhead import Playhead
from player.servers import Servers
from player.setup.check_system import check_paired
from server import keys
from server import messages as m
from server.client import Client, Frame, FramePool, Session, StreamSpec, server_status
from server.client_session import Link
from server.curve import MAX_PART_BYTES, secure_client
from server.frame_codec import DELTA
from server.keys import Identity, RemoteServer
from server.outgoing import Throughput
from server.protocol import parse_reply, serialize

REAL = [sys.executable, "-m", "server.main"]
HD = FrameLayout(640, 360, pixel_format("yuv420p"))


@pytest.fixture(scope="module")
def _laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with machine(tmp_path_factory.mktemp("laptop")), private_place():
        yield


@pytest.fixture(scope="module")
def far(_laptop: None) -> Iterator[Desktop]:
    """A fake server that listens."""
    with desktop(fake_command("--workers", "2")) as made:
        yield made


@pytest.fixture(scope="module")
def real(_laptop: None) -> Iterator[Desktop]:
    """The program, with the flow model."""
    with desktop(REAL) as made:
        yield made


# --- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [HD, FrameLayout(38, 21, pixel_format("yuv420p10le"))], ids=["720p", "odd, 10 bit"])
def test_frames_over_the_network_are_the_computed_ones_bit_for_bit(far: Desktop, layout: FrameLayout) -> None:
    async def test() -> None:
        async with await Client.connect(remote=far.server) as client:
            film = await Film.open(client, layout=layout)
            assert film.session.transport == "inline" and client.workers == 2
            assert film.session.outgoing is not None and film.session.outgoing.encodes
            for middle in (7, 8, 9, 10, 11, 12):
                result = await film.ask(middle, (0.75, 1.25))
                assert [film.output(slot) for slot in result.outputs] == [
                    film.expected(middle, t) for t in (0.75, 1.25)
                ]
                assert 0 < result.render_ms < result.round_trip_ms
            assert result.link_ms > 0
            await eventually(lambda: client._throughput.waiting == 0)
            film.session.outgoing.encodes = False  # the next one is raw, whatever would be faster
            result = await film.ask(20)
            assert film.output(result.outputs[0]) == film.expected(20, 0.75)
            await film.close()

    run(test())


def test_a_server_that_was_restarted_is_found_again(_laptop: None, tmp_path: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with contextlib.AsyncExitStack() as stack:
            with desktop(fake_command(), port=port, folder=tmp_path) as first:
                client = await stack.enter_async_context(await Client.connect(remote=first.server))
                film = await Film.open(client)
                await film.ask(5)
            await eventually(lambda: not client.connected)
            with pytest.raises(ServerError, match="no frame can be rendered now"):
                await film.ask(6)
            with desktop(fake_command(), port=port, folder=tmp_path):
                await film.session.wait_ready(DEADLINE_S)
                result = await film.ask(7)
                assert film.output(result.outputs[0]) == film.expected(7, 0.75) and client.restarts == 1
                await film.close()

    run(test())


def test_a_key_file_that_is_not_private_is_said_and_leaves_nothing_open(far: Desktop, tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(ServerError, match="has mode 0644, expected 0600"):
            await Client.connect(remote=far.server)

    with machine(tmp_path):
        keys.identity()
        keys.identity_path().chmod(0o644)
        run(test())


# --- the door ---------------------------------------------------------------------------------------------------------


def test_plain_tcp_is_refused_in_one_line(_laptop: None, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    done = subprocess.run([*REAL, "--endpoint", endpoint], capture_output=True, text=True, timeout=20)
    assert done.returncode == InputError.exit_status
    assert done.stderr == (
        f"drba-server: --endpoint {endpoint}: plain TCP is not served; expected ipc://PATH, or use --listen {endpoint}\n"
    )
    with pytest.raises(InputError, match="plain TCP is not used; pair with that machine"):
        asyncio.run(Client.connect(endpoint=endpoint))
    assert main(["status", "--server", endpoint]) == InputError.exit_status
    assert "is not paired with this machine" in capsys.readouterr().err


def ask(socket: zmq.Socket[bytes], *parts: bytes, wait_ms: int = 5000) -> m.Message | None:
    socket.send_multipart(parts)
    return parse_reply(socket.recv_multipart())[0] if socket.poll(wait_ms) else None


def knock(
    context: zmq.Context[zmq.Socket[bytes]], far: Desktop, own: Identity | None, key: str = ""
) -> zmq.Socket[bytes]:
    made = context.socket(zmq.DEALER)
    made.linger = 0
    if own is not None:
        secure_client(made, own, key or far.server.key)
    made.connect(far.server.endpoint)
    return made


def test_whoever_is_not_paired_gets_nothing(far: Desktop) -> None:
    """No CURVE, the right key of the server with an unknown one of its own, another server's key."""
    before = far.status
    with zmq.Context() as context:
        strangers = [Identity(*(key.decode() for key in zmq.curve_keypair())) for _ in range(2)]
        for own, key in ((None, ""), (strangers[0], ""), (keys.identity(), strangers[1].public)):
            with knock(context, far, own, key) as made:
                assert ask(made, *serialize(m.Hello()), wait_ms=250) is None  # type: ignore[arg-type]
        with knock(context, far, keys.identity()) as made:
            assert isinstance(ask(made, *serialize(m.Hello())), m.Welcome)  # type: ignore[arg-type]
    after = far.status
    assert before and after and (after.malformed, after.sessions) == (before.malformed, ())


def test_nothing_large_is_taken_from_a_stranger(far: Desktop) -> None:
    """A connection that announces a command of more than a part is closed, long before it has sent that."""
    greeting = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
    for size, closed in ((MAX_PART_BYTES + 1, True), (MAX_PART_BYTES // 2, False)):
        with socket.create_connection(("127.0.0.1", far.port), timeout=5) as stranger:
            stranger.sendall(greeting + b"\x06" + size.to_bytes(8, "big"))
            stranger.settimeout(0.5)
            received = b""
            try:
                while data := stranger.recv(4096):
                    received += data
                was_closed = True
            except TimeoutError:
                was_closed = False
            except ConnectionError:
                was_closed = True
            assert was_closed is closed and len(received) <= 64
    assert far.status is not None


def test_a_machine_that_was_removed_is_refused_while_it_plays(_laptop: None) -> None:
    async def test(far: Desktop) -> None:
        async with await Client.connect(remote=far.server) as client:
            film = await Film.open(client)
            await film.ask(5)
            with machine(far.config):
                assert keys.remove("laptop")
            await eventually(lambda: far.status is not None and far.status.sessions == ())
            await eventually(lambda: not client.connected)
            assert "no longer paired" in far.log
            await film.close()
        with pytest.raises(ServerError, match=r"desktop.* \(tcp://.*\) does not answer: .* or it is no longer paired"):
            await Client.connect(remote=far.server, timeout_s=0.5)

    with desktop(fake_command()) as far:
        run(test(far))


# --- hostile friends --------------------------------------------------------------------------------------------------


def opening(session: int = 1, model: str = "mix", engine: str = "auto", shared: m.SharedMemory | None = None) -> m.Open:
    return m.Open(session, 38, 21, "gray", "bt709", False, model, engine, 1.0, True, shared)


def test_another_machine_may_not_name_what_is_on_this_one(far: Desktop, tmp_path: Path) -> None:
    fifo = tmp_path / "gate"
    with zmq.Context() as context, knock(context, far, keys.identity()) as made:
        for message, words in (
            (opening(shared=m.SharedMemory(1, 0, 4, 4096)), "open.shared names memory of a process"),
            (opening(model=f"gate:{fifo}"[:64]), "open.model and open.engine are no names"),
            (opening(model="../../flow"), "are no names"),
            (opening(model="/etc/passwd"), "are no names"),
            (opening(engine="a b"), "are no names"),
            (m.Stop(), "another machine cannot stop this server"),
        ):
            answer = ask(made, *serialize(message))  # type: ignore[arg-type]
            assert isinstance(answer, m.Failure) and answer.code == m.FailureCode.REFUSED and words in answer.message
    assert far.status is not None and far.process.poll() is None and not fifo.exists()


def test_another_machine_cannot_take_all_sessions_nor_name_this_ones(far: Desktop) -> None:
    async def test() -> None:
        endpoint = f"ipc://{far.runtime}/server-v{m.VERSION}.sock"
        async with (
            await Client.connect(endpoint=endpoint, start=False) as own,
            await Client.connect(remote=far.server) as guest,
        ):
            film = await Film.open(own)
            films = [await Film.open(guest, "noop", slots=1) for _ in range(m.MAX_REMOTE_SESSIONS)]
            with pytest.raises(ServerError, match="8 sessions of other machines are open"):
                await Film.open(guest, "noop", slots=1)
            await (await Film.open(own)).close()
            with zmq.Context() as context, context.socket(zmq.DEALER) as thief:
                thief.linger = 0
                thief.setsockopt(zmq.ROUTING_ID, own._identity)
                secure_client(thief, keys.identity(), far.server.key)
                thief.connect(far.server.endpoint)
                thief.send_multipart(serialize(m.Close(film.session.id)))
                assert await asyncio.to_thread(ask, thief, *serialize(m.Hello()))
            await film.ask(5)
            for made in (film, *films):
                await made.close()

    run(test())


def test_broken_messages_of_another_machine_are_answered_and_nothing_is_unpacked_from_them(far: Desktop) -> None:
    frame = 38 * 21
    request = m.Render(1, 0, 9, 1, 2, None, 1.0, 1.0, (0.5,), ((1, 0), (2, 1)), (), DELTA)
    bomb = (
        bytes((2, 1, 0x84, 1))
        + (1 << 30).to_bytes(4, "little")
        + (1 << 20).to_bytes(4, "little")
        + (16).to_bytes(4, "little")
    )
    with zmq.Context() as context, knock(context, far, keys.identity()) as made:
        assert isinstance(ask(made, *serialize(opening())), m.Opened)  # type: ignore[arg-type]
        for parts, words in (
            ([b""], "header is not msgpack"),
            ([b"\xc6" + bytes(70_000)], "header has 70001 bytes"),
            (serialize(request, [bomb, bomb]), "frame has parts of 1073741824 bytes, expected 798"),
            (serialize(request, [bytes(frame), bytes(frame)]), "and says 0, expected them to agree"),
            (serialize(request, [bomb] * 4), "render has 4 payloads, expected 1 for each frame"),
        ):
            made.send_multipart(parts)
            answers = []
            while not answers or isinstance(answers[-1], m.Received):
                assert made.poll(5000)
                answers.append(parse_reply(made.recv_multipart())[0])
            assert isinstance(answers[-1], m.Failure) and words in answers[-1].message, answers
        assert isinstance(ask(made, *serialize(m.Hello())), m.Welcome)  # type: ignore[arg-type]
    soon(lambda: far.status is not None)


def test_a_machine_that_floods_the_server_takes_nothing_from_this_ones_films(far: Desktop) -> None:
    """It sends as fast as it can and reads nothing, until this machine's player has had its frames."""
    stop = threading.Event()

    def flood(made: zmq.Socket[bytes]) -> None:
        hello = serialize(m.Hello())
        while not stop.is_set():
            with contextlib.suppress(zmq.Again):
                made.send_multipart(hello, zmq.NOBLOCK)

    async def test(made: zmq.Socket[bytes]) -> None:
        endpoint = f"ipc://{far.runtime}/server-v{m.VERSION}.sock"
        async with await Client.connect(endpoint=endpoint, start=False) as own:
            film = await Film.open(own)
            flooding = asyncio.ensure_future(asyncio.to_thread(flood, made))
            try:
                for middle in range(5, 25):
                    result = await asyncio.wait_for(film.ask(middle), 2.0)
                    assert film.output(result.outputs[0]) == film.expected(middle, 0.75)
            finally:
                stop.set()
                await flooding
            await film.close()

    with zmq.Context() as context, knock(context, far, keys.identity()) as made:
        assert isinstance(ask(made, *serialize(m.Hello())), m.Welcome)  # type: ignore[arg-type]
        run(test(made))


# --- slow and stalling networks ---------------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_stalled_network_fails_requests_bounds_what_waits_and_comes_back(
    far: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.connection.REMOTE_LOST_BEATS", 7)

    async def test() -> None:
        async with SlowLink(far.port) as link, await Client.connect(remote=far.through(link.port)) as client:
            film = await Film.open(client, layout=HD, slots=200)
            await film.ask(5)
            for away_s in (0.4, 1.3, 2.2):  # not noticed, noticed, another connection
                async with stalled(link):
                    asked = []
                    end_s = time.monotonic() + away_s
                    while time.monotonic() < end_s:
                        if film.session.room and film.session.answers:
                            asked.append(film.ask(100 + len(asked)))
                        await asyncio.sleep(0.02)
                    assert len(asked) <= 8, "what cannot leave is not asked for"
                back_s = time.monotonic()
                await film.session.wait_ready(3.0)
                assert film.session.answers
                await eventually(lambda: film.session.room, 3.0)
                assert (await asyncio.wait_for(film.ask(9), 3.0)).outputs
                assert time.monotonic() - back_s < 3.0
                await asyncio.gather(*asked, return_exceptions=True)
            await eventually(lambda: film.session.in_flight == 0)
            assert film.pool.free_slots == film.pool.slots
            await film.close()

    run(test())


def test_silence_is_a_stall_where_messages_are_quick_and_the_network_itself_where_they_are_not() -> None:
    async def test() -> None:
        layout = FrameLayout(2, 2, pixel_format("gray"))
        pool = FramePool(layout.frame_bytes, 4, shared=False)
        link = Link(
            lambda *_: None, lambda *_: None, lambda: None, lambda _: None, lambda: False, Throughput(), lambda: True
        )
        session = Session(1, StreamSpec(layout, model="flow"), pool, link)
        session.take(m.Opened(1, "flow", "cpu", "inline", ""), ())
        slots = [pool.acquire() for _ in range(3)]
        for request, (send_ms, heard) in enumerate(((20.0, False), (900.0, True), (20.0, False)), 1):
            frames = [Frame(request + step, slot) for step, slot in enumerate(slots[:2]) if slot is not None]
            answer = session.render(frames[0], [1.5], [slots[2] or 0], following=frames[1])
            session.take(m.Rendered(1, 0, request, 5.0, send_ms, ""), [memoryview(bytes(layout.frame_bytes))])
            assert (await answer).link_ms == send_ms and session.heard is heard
        pool.release(*(slot for slot in slots if slot is not None))
        pool.close()

    run(test())


class HeldUp:
    """How long this process did not get on with its own work, in all: then it cannot judge others."""

    total_s = 0.0

    async def watch(self) -> None:
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.01)
            self.total_s += max(0.0, time.monotonic() - before_s - 0.02)


AHEAD_S = 1.0  # of film that the viewer's player has read


async def watched(
    film: PlayedFilm, playhead: Playhead, during: Callable[[float, PlayedFilm], None]
) -> tuple[list[tuple[float, Kind]], float]:
    """Play a film to its end as mpv does: what each output frame was, by when it was read, and by how much the latest one kept
    the player waiting. `during` is called at every frame, with the seconds since the start."""
    rate = float(film.rate)
    seen: list[tuple[float, Kind]] = []
    worst_s = 0.0
    stream, held_up = film.track.open_stream(0), HeldUp()
    watching = asyncio.ensure_future(held_up.watch())
    began_s: float | None = None
    async for number, _, kind in stream.frames():
        now_s = time.monotonic()
        began_s = now_s if began_s is None else began_s
        playing_s = max(0.0, now_s - began_s - 0.1)
        playhead.observe(playing_s)
        worst_s = max(worst_s, playing_s - number / rate)
        seen.append((now_s - began_s, kind))
        during(now_s - began_s, film)
        await asyncio.sleep(max(0.0, number / rate - playing_s - AHEAD_S))
    stream.close()
    watching.cancel()
    if held_up.total_s > 1.0:
        pytest.skip(f"the machine is too busy to tell: this process was held up for {held_up.total_s:.1f} s")
    return seen, worst_s


@pytest.fixture(scope="module")
def long_clip(clip_folder: Path) -> Path:
    """Motion all over."""
    path = clip_folder / "remote.mkv"
    source = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=9"]
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *encode], check=True, stdin=subprocess.DEVNULL)
    return path


def share(seen: list[tuple[float, Kind]], since_s: float, until_s: float) -> float:
    """Of in-betweens among the output frames read in that time."""
    kinds = [kind for at_s, kind in seen if since_s <= at_s < until_s]
    return sum(kind is Kind.INTERPOLATED for kind in kinds) / max(1, len(kinds))


#: Nothing passes from the first to the second; little from the third on. Wi-Fi before and between.
STALL_S, BACK_S, SLOW_S, END_S = 1.8, 4.8, 6.0, 9.0
WIFI_BYTES_PER_S = 2e7
SLOW_BYTES_PER_S = 7.5e5  # both ways: less than what every in-between takes (encoded), more than what half of them take


@pytest.mark.alone
def test_a_film_plays_on_through_a_stall_and_takes_what_a_slow_network_carries(real: Desktop, long_clip: Path) -> None:
    async def test() -> None:
        async with SlowLink(real.port, WIFI_BYTES_PER_S) as link:
            playhead = Playhead()
            levels: list[tuple[float, int]] = []
            free: list[int] = []

            def during(now_s: float, film: PlayedFilm) -> None:
                if STALL_S < now_s < BACK_S:
                    free.append(film._pool.free_slots)
                levels.append((now_s, film._context.controller.index))
                link.bytes_per_s = SLOW_BYTES_PER_S if now_s > SLOW_S else WIFI_BYTES_PER_S
                (link.open.clear if STALL_S < now_s < BACK_S else link.open.set)()

            async with open_film(long_clip, playhead=playhead, remote=real.through(link.port), fps="60") as opened:
                source = len(opened.film._context.controller.levels) - 1
                seen, worst_s = await watched(opened.film, playhead, during)
                told = opened.film.level_stats()["levels"]

        def places(since_s: float, until_s: float) -> set[int]:
            return {place for at_s, place in levels if since_s <= at_s < until_s}

        if share(seen, 1.0, STALL_S) <= 0.3:
            pytest.skip("the machine is too busy to tell: it renders too little for a network that is quick, too")
        assert worst_s < 0.2, "the player was never kept waiting"
        assert min(free) > 0, "the decoder always had room"
        assert places(0.0, SLOW_S) == {0}, ("the stall was not blamed on the level", told)
        assert share(seen, STALL_S + 1.2, BACK_S) == 0, "nothing came through"
        assert share(seen, SLOW_S - 0.5, SLOW_S) > 0.3, "back within three seconds"
        assert places(END_S - 1.0, END_S).isdisjoint({0, source}), ("what the network carries", told)
        assert share(seen, END_S - 1.0, END_S) > 0.1

    run(test())


# --- two servers ------------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_while_the_named_server_is_away_this_machine_renders_and_gives_back(
    _laptop: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RETRY_S", "AWAY_S", "BACK_S"):
        monkeypatch.setattr(f"player.servers.{name}", 0.2)
    monkeypatch.setattr("server.client.REMOTE_TIMEOUT_S", 0.5)

    async def test() -> None:
        port = free_port()
        with desktop(fake_command(), port=port, folder=tmp_path) as made:
            remote = made.server
        servers = Servers(remote)
        servers.start()
        try:
            await changing(servers, remote, port)
        finally:
            await servers.close()

    async def changing(servers: Servers, remote: RemoteServer, port: int) -> None:
        used = await servers.client()
        assert used.remote is None
        assert servers.second_choice(used) == f"{remote.name} does not answer: this machine renders until it does"
        assert await servers.better_than(used) is None
        with desktop(fake_command(), port=port, folder=tmp_path):
            used = await better(servers, used)
            assert used.remote == remote and servers.second_choice(used) == ""
        used = await better(servers, used)
        assert used.remote is None
        with desktop(fake_command(), port=port, folder=tmp_path):
            used = await better(servers, used)
            assert used.remote == remote

    async def better(servers: Servers, used: Client) -> Client:
        end_s = time.monotonic() + DEADLINE_S
        while (found := await servers.better_than(used)) is None:
            assert time.monotonic() < end_s
            await asyncio.sleep(0.02)
        return found

    run(test())


def test_a_film_in_mpv_is_rendered_by_the_other_machine(real: Desktop, long_clip: Path) -> None:
    with Mpv([long_clip], script_opts={"drba-server": real.name, "drba-auto": "always", "drba-fps": "2x"}) as mpv:
        mpv.wait_log("DRBA on")
        report = real.status
        assert report is not None and [session.transport for session in report.sessions][:1] == ["inline"]
        assert mpv.is_on
        stats = last_stats(mpv)
        assert stats["server"] == real.name and stats["server_connected"]
    own = server_status()
    assert own is None or own.rendered == 0, "this machine's own server was not needed"


def last_stats(mpv: Mpv) -> dict[str, Any]:
    def found() -> Any:
        messages = (event["args"] for event in reversed(mpv.events) if event["event"] == "client-message")
        return next((args[1] for args in messages if args[0] == "drba-stats"), None)

    stats: dict[str, Any] = json.loads(mpv.wait_for(found))
    return stats


def test_status_and_doctor_see_the_other_machine(far: Desktop, capsys: pytest.CaptureFixture[str]) -> None:
    keys.add_server("attic", f"tcp://127.0.0.1:{free_port()}", zmq.curve_keypair()[0].decode())
    assert main(["status", "--server", far.name]) == 0
    assert f"process {far.process.pid}" in capsys.readouterr().out
    checks = {check.name: check for check in check_paired()}
    assert checks[f"paired:{far.name}"].state == "ok"
    assert checks["paired:attic"].state == "warn" and "drba pair --remove attic" in checks["paired:attic"].remedy
    keys.remove("attic")

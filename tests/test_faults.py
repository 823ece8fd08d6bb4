"""What can go wrong around a film: it plays on, in-betweens come back, the log has a line, nothing is left behind.

benchmarks/faults.py does the same more often and for longer, and prints how long it took (docs/reliability.md).
"""

from __future__ import annotations

import ast
import asyncio
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import clips
import pytest
from fault_play import BACK_S, Place, Play, WallClock, full, kill, stopped, tiny_disk, until
from helpers_server import Film, connect, eventually, private_place, run, soon
from helpers_server import Place as ServerPlace
from test_mpv import slack

import drba.integrity
import player.sessions
from drba.errors import ServerError
from drba.kept import KeptFacts
from player.levels import ModelAtScale
from player.sessions import GIVEN_UP_S, HANGS_S, Sessions
from player.socket_folders import remove_dead
from server.client import RenderResult, server_status
from server.logs import rotating_handler
from server.messages import VERSION
from server.runtime import InstanceLock
from server.shared import FramePool

ROOT = Path(__file__).resolve().parent.parent
DAY_S = 86_400


@pytest.fixture(scope="module")
def film(clip_folder: Path) -> Path:
    return clips.cached(clip_folder, "half.mkv", replace(clips.SMALL, seconds=30)).path


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("f"))  # short: it holds a socket
    yield made
    assert made.left_behind() == []


@pytest.fixture
def server_place() -> Iterator[ServerPlace]:
    with private_place() as made:
        yield made


class Faults:
    """A play that things happen to, one after the other."""

    def __init__(self, play: Play) -> None:
        self.play, self.place = play, play.place
        began_s = time.monotonic()
        try:
            play.on()
            #: Where starting takes long, starting again does.
            self._limit_s = max(BACK_S * slack(), 2 * (time.monotonic() - began_s))
            play.back(time.monotonic(), BACK_S * slack())
        except AssertionError:
            if not any("DRBA on" in line for line in play.mpv.log):
                raise
            pytest.skip(
                "the machine is too busy to tell: it has not two in-betweens one after the other without a fault"
            )
        self._warnings = len(self.place.warnings())

    def over(self, ended_s: float, said: str = "", lines: int = 1) -> None:
        """The cause ended then: in-betweens are back soon, and the logs have said something in so many lines of warning."""
        assert self.play.back(ended_s) < self._limit_s
        if said:
            until(lambda: any(said in line for line in self._new()))
        assert len(self._new()) <= lines, self._new()
        self._warnings = len(self.place.warnings())

    def _new(self) -> list[str]:
        return self.place.warnings()[self._warnings :]

    def plays_on(self, seconds: float) -> None:
        assert self.play.plays_on(seconds) < min(0.5 * slack(), seconds)


# --- processes that die and hang --------------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_film_outlives_servers_and_bridges_that_die_and_hang(place: Place, film: Path) -> None:
    with Play(place, film) as play:
        faults = Faults(play)
        for _ in range(3):
            kill(play.server)
            ended_s = time.monotonic()
            faults.plays_on(0.5)
            faults.over(ended_s, "the server has gone away")
        with stopped(play.server):
            faults.plays_on(2)
        faults.over(time.monotonic(), "the server has not answered for 1.0 s")
        kill(play.bridge)
        ended_s = time.monotonic()
        faults.plays_on(0.5)
        faults.over(ended_s, lines=0)
        assert [line for line in play.mpv.log if "bridge ended" in line]
        with stopped(play.bridge):
            faults.plays_on(2)
            play.mpv.wait_log("the bridge does not answer: the film's own picture until it does")
            assert not play.mpv.is_on
        faults.over(time.monotonic(), lines=1)  # the server's answers may have been late too


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["raise", "hang"])
def test_a_film_outlives_workers_that_fail(fault: str, place: Place, film: Path) -> None:
    with place.server(), Play(place, film) as play:
        faults = Faults(play)
        place.fault.write_text(fault)
        faults.plays_on(2)
        if fault == "raise":  # on a busy machine nothing may have been asked for yet
            until(lambda: any("on fire" in line for line in place.warnings()))
        place.fault.write_text("")
        faults.over(time.monotonic(), "on fire" if fault == "raise" else "a worker hung", lines=1)
        if fault == "raise":
            play.mpv.wait_for(lambda: any("renders again" in line for line in place.log_lines()))


def test_of_mpv_and_its_bridge_killed_together_nothing_stays_for_long(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("m")  # short: it holds sockets
    for name, listens in (("drba-mpv-aaaaaaaaaa", False), ("drba-mpv-bbbbbbbbbb", True), ("drba-mpv-cccccccccc", None)):
        (tmp_path / name).mkdir(mode=0o700)
        if listens is not None:
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(tmp_path / name / "mpv.sock"))
                if listens:
                    left.listen()
                    kept = socket.socket(fileno=os.dup(left.fileno()))
    with kept:
        remove_dead(tmp_path / "drba-mpv-dddddddddd")
    assert {path.name[-1] for path in tmp_path.iterdir()} == {"b", "c"}, "a living one's, and one that is just made"


class FakeSession:
    """As far as Sessions looks at one."""

    answers, outgoing = True, None

    def __init__(self) -> None:
        self.in_flight = 0
        self.given_up = ""

    def give_up(self, reason: str) -> None:
        self.given_up = reason


def sessions_at(now: list[float], monkeypatch: pytest.MonkeyPatch) -> tuple[Sessions, FakeSession, ModelAtScale]:
    monkeypatch.setattr(player.sessions, "time", SimpleNamespace(monotonic=lambda: now[0]))
    session, renderer = FakeSession(), ModelAtScale("flow", 1.0)
    sessions = Sessions(None)  # type: ignore[arg-type]
    sessions.put(renderer, session)  # type: ignore[arg-type]
    return sessions, session, renderer


def answer(sessions: Sessions, session: FakeSession, renderer: ModelAtScale, took_s: float) -> None:
    session.in_flight -= 1
    result = RenderResult(0, (), 10.0, took_s * 1000)
    sessions.answered(renderer, result, alone=not session.in_flight)


def ask(sessions: Sessions, session: FakeSession, renderer: ModelAtScale) -> None:
    session.in_flight += 1
    sessions.asked(renderer)


def test_a_worker_that_hangs_is_noticed_and_in_the_end_its_server_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    sessions, session, renderer = sessions_at(now, monkeypatch)
    ask(sessions, session, renderer)
    for _ in range(300):
        now[0] += 0.1
        assert sessions.answers(renderer), "what was never rendered with may have to be loaded first"
    answer(sessions, session, renderer, 0.02)
    ask(sessions, session, renderer)
    hung_at = None
    for _ in range(int(GIVEN_UP_S * 10) + 5):
        now[0] += 0.1
        if not sessions.answers(renderer) and hung_at is None:
            hung_at = now[0]
    assert hung_at is not None and HANGS_S <= hung_at - 130 <= HANGS_S + 0.5
    assert session.given_up == "a request was not rendered within 10 s: another server is started"


def test_a_process_that_was_stopped_itself_blames_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    sessions, session, renderer = sessions_at(now, monkeypatch)
    ask(sessions, session, renderer)
    answer(sessions, session, renderer, 0.02)
    ask(sessions, session, renderer)
    assert sessions.answers(renderer)
    now[0] += 60
    assert sessions.answers(renderer) and not session.given_up


def test_an_answer_that_took_seconds_once_is_not_believed_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    sessions, session, renderer = sessions_at(now, monkeypatch)
    ask(sessions, session, renderer)
    answer(sessions, session, renderer, 5.0)
    assert sessions.latency_s(renderer) > 2
    for _ in range(8):  # a third of a second of film
        assert sessions.idle(renderer)
        ask(sessions, session, renderer)
        answer(sessions, session, renderer, 0.02)
    assert sessions.latency_s(renderer) < 0.05


def test_a_server_that_is_given_up_is_replaced(server_place: ServerPlace) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client, server_place.gate.model)
            waiting, first = film.ask(5), client.server_pid
            film.session.give_up("a request was not rendered")
            with pytest.raises(ServerError, match="a request was not rendered"):
                await waiting
            await film.session.wait_ready(10)
            assert client.restarts == 1 and client.server_pid != first
            server_place.gate.let_through(1)
            await film.ask(6)
            await film.close()

    run(test())


# --- disks that are full ----------------------------------------------------------------------------------------------


def test_a_server_starts_and_renders_with_its_logs_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server_place: ServerPlace
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(server_place.folder))
    monkeypatch.delenv("DRBA_RUNTIME_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def test() -> None:
        async with await connect() as client:
            film, broken = await Film.open(client), await Film.open(client, "boom")
            for _ in range(50):
                with pytest.raises(ServerError, match="on fire"):
                    await broken.ask(5)
            result = await film.ask(5)
            assert film.output(result.outputs[0]) == film.expected(5, 0.75)
            await film.close()
            await broken.close()

    with tiny_disk(tmp_path):
        with full(tmp_path):
            run(test())
            status = server_status()
            assert status is not None
        os.kill(status.pid, signal.SIGTERM)
        log = tmp_path / "drba-player" / "log" / "server.log"
        soon(lambda: "lines could not be written when they came (No space left on device)" in log.read_text())
        soon(lambda: server_status() is None)
        errors = log.with_name("server-stderr.log").read_text()
        assert "Traceback" not in errors and errors.count("\n") <= 1
    monkeypatch.undo()
    (server_place.folder / "drba-player").rmdir()


def test_a_log_on_a_full_disk_says_so_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with tiny_disk(tmp_path):
        with full(tmp_path):
            handler = rotating_handler(tmp_path / "a.log")
            for number in range(500):
                handler.handle(logging.LogRecord("x", logging.INFO, "", 0, f"line {number}", (), None))
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "there is room again", (), None))
        handler.close()
        lines = (tmp_path / "a.log").read_text().splitlines()
    assert "there is room again" in lines[-2] and "lines could not be written" in lines[-1]
    assert capfd.readouterr().err.count("\n") == 1


def test_a_fact_that_cannot_be_kept_is_one_line_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path))
    with tiny_disk(tmp_path):
        facts = KeptFacts("levels.json")
        facts.write({"a": 1})
        with full(tmp_path):
            facts.write({"a": 2, "b": "x" * 5000})
            assert facts.read() == {"a": 1}
            assert {path.name for path in tmp_path.iterdir()} == {"levels.json", "stuff"}
        assert len(caplog.records) == 1 and "No space left on device" in caplog.text


def test_a_fact_is_written_before_mpvs_end_can_end_the_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mpv kills what it has started: waiting for the disk would leave half of it."""
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(drba.integrity.os, "fsync", lambda fd: pytest.fail("it waits for the disk"))
    KeptFacts("levels.json").write({"a": 1})


# --- clocks -----------------------------------------------------------------------------------------------------------

#: The wall clock, which is set and jumps, is asked for dates that people read, and for the age of files.
WALL_CLOCK = {
    "engines/engine_cache.py",  # leftovers are removed under the lock that they are written under, whatever their age
    "player/engines_cli.py",  # when an engine was used last
    "player/setup/install.py",  # the name of a copy
    "player/bench/matrix.py",  # the date of a table
}


def test_nothing_that_waits_or_measures_asks_the_wall_clock() -> None:
    found = set()
    for path in (path for layer in ("drba", "engines", "server", "player") for path in (ROOT / layer).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in (
                    "time.time",
                    "time.time_ns",
                    "time.localtime",
                    "time.strftime",
                    "datetime.now",
                    "datetime.utcnow",
                ):
                    found.add(str(path.relative_to(ROOT)))
    assert found == WALL_CLOCK
    assert "os.time" not in (ROOT / "mpv-scripts" / "drba.lua").read_text()


@pytest.mark.alone
def test_the_wall_clock_may_jump(server_place: ServerPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's, which would drop a silent client after half a minute and end after ten idle ones."""
    clock = WallClock(tmp_path)
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)

    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client)
            for jump_s in (DAY_S, -2 * DAY_S, 0, 800 * DAY_S):
                clock.set(jump_s)
                result = await film.ask(5)
                assert film.output(result.outputs[0]) == film.expected(5, 0.75)
                await asyncio.sleep(0.3)  # a beat, at which silence and idleness are looked at
            assert client.restarts == 0 and client.connected
            await film.close()
        # Its end is what it logs next, by the clock as it is now.
        await eventually(lambda: len({line[:4] for line in server_place.log.splitlines()}) >= 2)

    run(test())


# --- what others have taken -------------------------------------------------------------------------------------------


def test_without_shared_memory_frames_travel_in_messages_and_the_log_says_so(
    server_place: ServerPlace, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def test() -> None:
        async with await connect() as client:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
            try:
                film = await Film.open(client)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert film.session.transport == "inline"
            result = await film.ask(5)
            assert film.output(result.outputs[0]) == film.expected(5, 0.75)
            await film.close()

    run(test())
    assert caplog.text.count("no shared memory (File too large): frames travel in messages") == 1


def test_a_film_too_large_for_memory_is_refused_in_one_line() -> None:
    files = len(os.listdir("/proc/self/fd"))
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), before[1]))
    try:
        with pytest.raises(ServerError, match=r"no memory for 40 frames of 48600 KiB: .*; close other programs"):
            FramePool(7680 * 4320 * 3 // 2, 40)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert len(os.listdir("/proc/self/fd")) == files


def hold(path: Path) -> subprocess.Popen[bytes]:
    """Another program that has the lock."""
    code = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


@pytest.mark.alone
def test_a_lock_that_is_held_keeps_a_server_away_no_longer_than_it_is_held(server_place: ServerPlace) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client)
            os.kill(client.server_pid or 0, signal.SIGKILL)
            with hold(server_place.folder / f"server-v{VERSION}.lock") as holder:
                with pytest.raises(ServerError):
                    await film.ask(5)
                starts = len(server_place.started)
                await eventually(lambda: len(server_place.started) > starts)
                holder.kill()
            ended_s = time.monotonic()
            await film.session.wait_ready(10)
            assert time.monotonic() - ended_s < BACK_S * slack()
            await film.ask(5)
            await film.close()

    run(test())


def test_a_stranger_at_the_servers_socket_is_driven_out(server_place: ServerPlace) -> None:
    path = server_place.folder / f"server-v{VERSION}.sock"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()

        async def test() -> None:
            async with await connect() as client:
                film = await Film.open(client)
                await film.ask(5)
                await film.close()

        run(test())


def test_a_stranger_that_moves_in_while_no_server_can_start_is_driven_out(server_place: ServerPlace) -> None:
    """Found by benchmarks/faults.py: the client stayed connected to it for ten seconds."""
    path = server_place.folder / f"server-v{VERSION}.sock"

    async def test(stranger: socket.socket) -> None:
        async with await connect() as client:
            film = await Film.open(client)
            os.kill(client.server_pid, signal.SIGKILL)
            with hold(server_place.folder / f"server-v{VERSION}.lock") as holder:
                await eventually(lambda: not client.connected)
                starts = len(server_place.started)
                film.session.wake()
                await eventually(lambda: len(server_place.started) > starts)  # and found nobody at the socket before
                path.unlink(missing_ok=True)
                stranger.bind(str(path))
                stranger.listen()
                holder.kill()
            ended_s = time.monotonic()
            await film.session.wait_ready(20)
            assert time.monotonic() - ended_s < BACK_S * slack()
            await film.close()

    with socket.socket(socket.AF_UNIX) as stranger:
        run(test(stranger))


def test_the_lock_of_a_killed_server_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path) as holder:
        lock = InstanceLock(path)
        assert not lock.acquire()
        holder.kill()
    assert lock.acquire()
    lock.release()


@pytest.mark.alone
def test_two_players_that_start_at_once_share_a_server_and_its_successor(place: Place, film: Path) -> None:
    with Play(place, film) as one, Play(place, film) as other:
        plays: list[Any] = [Faults(one), Faults(other)]
        kill(one.server)
        ended_s = time.monotonic()
        for faults in plays:
            faults.over(ended_s, lines=4)
        assert len(until(lambda: len(place.status().sessions) >= 2 and place.status()).sessions) >= 2
        servers = [pid for pid in place.processes() if b"server.main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        until(lambda: sum(Path(f"/proc/{pid}").exists() for pid in servers) == 1)

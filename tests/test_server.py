"""Server and client over real sockets, as real processes: results, recovery, sharing, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq
from helpers_server import DEADLINE_S, SMALL, Film, Gate, alive, eventually, fake_command, free_port, run, soon

import server.connection
from drba.errors import InputError, ModelError, ServerError
from drba.pixels import FrameLayout, pixel_format
from engines.base import StreamSpec
from server import messages as m
from server.client import Client, FramePool, RequestDropped, server_status, stop_server
from server.protocol import parse_reply, serialize
from server.runtime import InstanceLock, default_endpoint, private_folder, socket_path

ROOT = Path(__file__).resolve().parent.parent


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
        return {path.name for path in self.folder.iterdir()} - {"server.log", "server-stderr.log", "starts", "gate"}

    def start(self, *options: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(fake_command(*options), env=self.environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    shared_memory = set(os.listdir("/dev/shm"))
    with tempfile.TemporaryDirectory(prefix="drba-test-") as folder:
        monkeypatch.setenv("DRBA_RUNTIME_DIR", folder)
        monkeypatch.setenv("DRBA_TEST_START_LOG", f"{folder}/starts")
        made = Place(Path(folder))
        yield made
        made.gate.let_through(1000)
        stop_server()
        soon(lambda: not any(map(alive, made.started)))
        made.gate.close()
        assert made.leftovers() == set()
    assert set(os.listdir("/dev/shm")) == shared_memory


def connect(*options: str, **arguments: Any) -> Any:
    return Client.connect(command=fake_command(*options), **arguments)


# --- results ----------------------------------------------------------------------------------------------------------


def test_shared_inline_and_tcp_give_the_computed_frames_bit_for_bit(place: Place) -> None:
    async def test() -> None:
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        async with await connect() as client, await connect("--endpoint", endpoint, endpoint=endpoint) as remote:
            for owner, shared, transport in (
                (client, True, "shared"),
                (client, False, "inline"),
                (remote, True, "inline"),
            ):
                film = await Film.open(owner, shared=shared)
                assert (film.session.transport, film.session.model, film.session.engine) == (transport, "mix", "fake")
                for middle in (7, 8, 9):
                    result = await film.ask(middle, (0.75, 1.25))
                    assert [film.output(slot) for slot in result.outputs] == [
                        film.expected(middle, at) for at in (0.75, 1.25)
                    ]
                    assert 0 < result.render_ms < result.round_trip_ms
                await film.close()
        assert stop_server(endpoint)

    run(test())


@pytest.mark.parametrize("shared", [True, False])
def test_frames_the_server_has_seen_are_not_sent_again(place: Place, shared: bool) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client, shared=shared)
            attached: list[list[int]] = []
            link = film.session._link

            def spy(message: m.Message, payloads: Any) -> None:
                if isinstance(message, m.Render):
                    attached.append([number for number, _ in message.attached])
                    assert len(payloads) == (0 if shared else len(message.attached))
                link.send(message, payloads)

            film.session._link = replace(link, send=spy)
            frames = {number: film.frame(number) for number in range(5)}
            output = film.slot()
            for middle in (1, 2, 3, 2):
                await film.session.render(
                    frames[middle], [0.5], [output], previous=frames[middle - 1], following=frames[middle + 1]
                )
                assert film.output(output) == film.expected(middle, 0.5)
            assert attached == [[0, 1, 2], [3], [4], []]
            for slot in (output, *(frame.slot for frame in frames.values())):
                film.pool.release(slot)
            await film.close()

    run(test())


@pytest.mark.parametrize("shared", [True, False])
def test_a_server_that_lacks_frames_asks_for_them(place: Place, shared: bool) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client, shared=shared)
            first = film.frame(5)
            film.pool.release(first.slot)  # the next frame gets this slot
            film.session._known.put(4, None, slot=first.slot if shared else None)  # what the server never saw
            film.session._known.put(5, None, slot=None if shared else 5)
            result = await film.ask(5)
            assert film.output(result.outputs[0]) == film.expected(5, 0.75)
            await film.close()

    run(test())


def test_a_session_that_the_server_dropped_is_opened_again(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client)
            await film.ask(5)
            film.session._link.send(m.Close(film.session.id), ())  # as the server does after half a minute of silence
            answers = [film.ask(6), film.ask(7)]
            for middle, answer in zip((6, 7), answers, strict=True):
                result = await answer
                assert film.output(result.outputs[0]) == film.expected(middle, 0.75)
            assert client.restarts == 0
            await film.close()

    run(test())


def test_a_failing_request_fails_alone(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            broken, film = await Film.open(client, "boom"), await Film.open(client)
            for _ in range(2):
                with pytest.raises(ServerError, match="rendering failed: the device is on fire"):
                    await broken.ask(5)
                await film.ask(5)
            status = server_status()
            assert status is not None and (status.failed, status.rendered) == (2, 2)
            await broken.close()
            await film.close()

    run(test())


def test_a_session_that_cannot_be_opened_says_why(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            with pytest.raises(ModelError, match="'missing' has no weights; expected a file; run drba download"):
                await Film.open(client, "missing")
            films = [await Film.open(client, "noop", slots=1) for _ in range(m.MAX_SESSIONS)]
            with pytest.raises(ServerError, match="16 sessions are open already; close a player"):
                await Film.open(client, "noop", slots=1)
            for film in films:
                await film.close()
            await (await Film.open(client, "noop", slots=1)).close()

    run(test())


# --- queue ------------------------------------------------------------------------------------------------------------


def test_requests_of_a_cancelled_generation_are_not_rendered(place: Place) -> None:
    async def test() -> None:
        async with await connect("--workers", "1") as client:
            film = await Film.open(client, place.gate.model)
            old = [film.ask(middle) for middle in range(5, 9)]
            film.session.cancel(1)
            new = film.ask(20)
            late = film.ask(30, generation=0)
            for answer in (*old[1:], late):
                with pytest.raises(RequestDropped):
                    await answer
            assert not old[0].done(), "the one that was being rendered is finished"
            place.gate.let_through(2)
            assert film.output((await old[0]).outputs[0]) == film.expected(5, 0.75)
            assert (await new).generation == 1
            status = server_status()
            assert status is not None and (status.rendered, status.dropped) == (2, 4)
            await film.close()

    run(test())


def test_two_sessions_share_the_server_fairly(place: Place) -> None:
    async def test() -> None:
        async with await connect("--workers", "1") as one, await connect() as two:
            greedy, modest = await Film.open(one, place.gate.model, slots=60), await Film.open(two, place.gate.model)
            order: list[str] = []
            answers = [greedy.ask(middle) for middle in range(5, 17)]
            for answer in answers:
                answer.add_done_callback(lambda _: order.append("greedy"))
            await eventually(lambda: server_status().sessions[0].queued == 11)  # type: ignore[union-attr]
            few = [modest.ask(middle) for middle in range(5, 9)]
            for answer in few:
                answer.add_done_callback(lambda _: order.append("modest"))
            await eventually(lambda: server_status().sessions[1].queued == 4)  # type: ignore[union-attr]
            place.gate.let_through(16)
            await asyncio.gather(*answers, *few)
            assert max(index for index, name in enumerate(order) if name == "modest") <= 10, order
            await greedy.close()
            await modest.close()

    run(test())


def test_a_full_queue_refuses(place: Place) -> None:
    async def test() -> None:
        async with await connect("--workers", "1") as client:
            film = await Film.open(client, place.gate.model, slots=300)
            answers = [film.ask(middle) for middle in range(5, 5 + m.MAX_QUEUED + 2)]
            with pytest.raises(ServerError, match="has 64 requests waiting; ask for less ahead"):
                await answers[-1]
            closing = asyncio.ensure_future(film.session.close())
            for answer in answers[1:-1]:
                with pytest.raises(RequestDropped):
                    await answer
            assert not closing.done(), "a worker still writes to the pool"
            place.gate.let_through(1)
            await closing
            assert answers[0].done() and not answers[0].exception()
            await film.close()

    run(test())


# --- life cycle -------------------------------------------------------------------------------------------------------


def test_clients_that_start_at_once_end_with_one_server(place: Place) -> None:
    async def test() -> None:
        clients = await asyncio.gather(connect(), connect(), connect())
        assert len({client.server_pid for client in clients}) == 1
        await eventually(lambda: len(place.started) == 3 and sum(map(alive, place.started)) == 1)
        for client in clients:
            film = await Film.open(client)
            await film.ask(5)
            await film.close()
            await client.close()
        assert alive(clients[0].server_pid), "it is kept warm"

    run(test())


def test_a_killed_server_is_replaced_and_knows_nothing(place: Place) -> None:
    async def test() -> None:
        async with await connect("--workers", "1") as client:
            film, waiting = await Film.open(client), await Film.open(client, place.gate.model)
            frames = [film.frame(number) for number in range(3)]
            output = film.slot()
            triplet = {"previous": frames[0], "following": frames[2]}
            await film.session.render(frames[1], [0.5], [output], **triplet)
            lost = [waiting.ask(5), waiting.ask(6)]
            killed = client.server_pid
            os.kill(killed, signal.SIGKILL)
            start_s = asyncio.get_running_loop().time()
            for answer in lost:
                with pytest.raises(ServerError, match="the server has gone away"):
                    await answer
            assert asyncio.get_running_loop().time() - start_s < 1
            with pytest.raises(ServerError, match="no frame can be rendered now: the server has gone away"):
                await film.ask(5)
            await film.session.wait_ready(DEADLINE_S)
            assert client.restarts == 1 and client.connected and client.server_pid != killed
            film.pool.buffer(output)[:4] = b"old!"
            await film.session.render(frames[1], [0.5], [output], **triplet)
            assert film.output(output) == film.expected(1, 0.5)
            for slot in (output, *(frame.slot for frame in frames)):
                film.pool.release(slot)
            await film.close()
            await waiting.close()

    run(test())


def test_a_server_that_hangs_fails_requests_and_may_come_back(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client)
            await film.ask(5)
            os.kill(client.server_pid, signal.SIGSTOP)
            answer = film.ask(6)
            with pytest.raises(ServerError, match=r"the server has not answered for 1\.0 s"):
                await answer
            assert not client.connected and film.session.in_flight == 1, "it may still write to these slots"
            with pytest.raises(ServerError, match="no frame can be rendered now: the server does not answer"):
                await film.ask(7)
            os.kill(client.server_pid, signal.SIGCONT)
            await eventually(lambda: film.session.in_flight == 0 and client.connected)
            await film.ask(8)
            assert client.restarts == 0
            await film.close()

    run(test())


def test_a_server_that_hangs_for_good_is_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.connection, "HEARTBEAT_INTERVAL_S", 0.02)

    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client)
            hung = client.server_pid
            os.kill(hung, signal.SIGSTOP)
            await eventually(lambda: client.restarts == 1 and film.session.ready)
            assert not alive(hung)
            await film.ask(8)
            await film.close()

    run(test())


def test_an_idle_server_ends_and_is_started_again_when_needed(place: Place) -> None:
    async def test() -> None:
        async with await connect("--idle-timeout", "0.4") as client:
            film = await Film.open(client)
            await film.ask(5)
            first = client.server_pid
            await eventually(lambda: not alive(first))
            assert place.leftovers() == set()
            await eventually(lambda: not client.connected)
            assert len(place.started) == 1, "nobody needs it yet"
            with pytest.raises(ServerError, match=r"the server has ended \(idle for 0.4 s\)"):
                await film.ask(6)
            await film.session.wait_ready(DEADLINE_S)
            await film.ask(6)
            assert client.restarts == 1 and "ending: idle" in place.log
            await film.close()

    run(test())


def test_a_busy_server_is_not_idle(place: Place) -> None:
    async def test() -> None:
        async with await connect("--idle-timeout", "0.2") as client:
            film = await Film.open(client, place.gate.model)
            answer = film.ask(5)
            status = await asyncio.to_thread(wait_for_uptime, 1.0)
            assert status.pid == client.server_pid and not answer.done()
            place.gate.let_through(1)
            await answer
            await film.close()

    run(test())


def wait_for_uptime(uptime_s: float) -> m.StatusReport:
    reports: list[m.StatusReport] = []

    def old_enough() -> bool:
        report = server_status()
        assert report is not None
        reports.append(report)
        return report.uptime_s > uptime_s

    soon(old_enough)
    return reports[-1]


def test_a_stopped_server_says_goodbye(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            assert await asyncio.to_thread(stop_server)
            await eventually(lambda: not client.connected)
            assert not alive(client.server_pid) or place.leftovers() == set()
            await client.wait_connected()
            assert client.restarts == 1

    run(test())
    assert stop_server() and not stop_server() and server_status() is None


def test_termination_signal_ends_it_in_order(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            os.kill(client.server_pid, signal.SIGTERM)
            await eventually(lambda: not alive(client.server_pid))
            assert place.leftovers() == set() and "ending: SIGTERM" in place.log

    run(test())


CLIENT_PROGRAM = """
import asyncio
from helpers_server import Film, fake_command
from server.client import Client
async def main():
    film = await Film.open(await Client.connect(command=fake_command()))
    await film.ask(5)
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_session_of_a_killed_client_is_dropped(place: Place) -> None:
    environment = {**place.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", CLIENT_PROGRAM]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None and client.stdout.readline() == "ready\n"
        status = server_status()
        assert status is not None and [session.pid for session in status.sessions] == [client.pid]
        client.kill()
    soon(lambda: server_status().sessions == ())  # type: ignore[union-attr]
    assert "dropped: its process has ended" in place.log
    maps = Path(f"/proc/{status.pid}/maps")
    soon(lambda: "drba-frames" not in maps.read_text())


def test_a_second_server_leaves_at_once(place: Place) -> None:
    with place.start() as first:
        soon(lambda: server_status() is not None)
        with place.start() as second:
            output, _ = second.communicate(timeout=DEADLINE_S)
        assert second.returncode == 0 and "one is already running" in output
        assert stop_server() and first.wait(DEADLINE_S) == 0


def test_a_server_that_cannot_start_says_why(place: Place) -> None:
    async def test() -> None:
        with pytest.raises(
            ServerError, match=r"ended with status 1 while starting: no such device \(see .*stderr.log\)"
        ):
            await Client.connect(command=[sys.executable, "-c", "raise SystemExit('no such device')"])
        with pytest.raises(ServerError, match=r"cannot be started \(/nowhere\): No such file"):
            await Client.connect(command=["/nowhere"])
        with pytest.raises(ServerError, match=r"no server answers at ipc://.*; start drba-server"):
            await Client.connect(start=False)
        with pytest.raises(ServerError, match="cannot be used: Invalid argument"):
            await Client.connect(endpoint="nonsense", start=False)

    run(test())


def test_malformed_messages_are_answered_and_logged_once(place: Place) -> None:
    with place.start(), zmq.Context() as context, context.socket(zmq.DEALER) as client:
        soon(lambda: server_status() is not None)
        client.setsockopt(zmq.LINGER, 0)
        client.connect(default_endpoint())

        def ask(*parts: bytes) -> m.Message:
            client.send_multipart(parts)
            assert client.poll(5000)
            return parse_reply(client.recv_multipart())[0]

        for parts in ([b""], [b"\xc1"], [b"\x80", b"x"], [b"x" * 100_000], [b"\x80"] * 80):
            answer = ask(*parts)
            assert isinstance(answer, m.Failure) and answer.code in ("malformed", "version")
        unknown = m.Render(7, 0, 9, 1, 2, 3, 1.0, 1.0, (0.5,), (), (1,))
        assert ask(*serialize(unknown)) == m.Need(7, 0, 9, (), True)  # type: ignore[arg-type]
        opening = m.Open(7, 38, 21, "gray", "bt709", False, "mix", "auto", 1.0, True, None)
        assert ask(*serialize(opening)) == m.Opened(7, "mix", "fake", "inline")  # type: ignore[arg-type]
        answer = ask(*serialize(unknown))  # type: ignore[arg-type]
        assert isinstance(answer, m.Failure) and (answer.session, answer.request) == (7, 9)
        assert "this session is inline" in answer.message
        inline = m.Render(7, 0, 10, 1, 2, 3, 1.0, 1.0, (0.5,), ((2, 0),), ())
        assert ask(*serialize(inline, [bytes(38 * 21)])) == m.Need(7, 0, 10, (1, 3), False)  # type: ignore[arg-type]
        answer = ask(*serialize(inline, [b"short"]))  # type: ignore[arg-type]
        assert isinstance(answer, m.Failure) and "payload has 5 bytes, expected 798" in answer.message
        assert isinstance(ask(*serialize(m.Hello())), m.Welcome)  # type: ignore[arg-type]
        status = server_status()
        assert status is not None and status.malformed == 7
        assert place.log.count("WARNING") == 1
        stop_server()


def test_a_client_that_is_silent_loses_its_session(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys, server.service as s, fake_server as f; s.SILENCE_S = s.TICK_S = 0.2;"
        "sys.exit(f.main([], open_renderer=f.open_fake))"
    )
    environment = {**place.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen([sys.executable, "-c", program], env=environment), zmq.Context() as context:
        soon(lambda: server_status() is not None)
        client = context.socket(zmq.DEALER)
        client.connect(default_endpoint())
        client.send_multipart(serialize(m.Open(7, 8, 8, "gray", "bt709", False, "mix", "auto", 1.0, True, None)))
        assert client.poll(5000)
        soon(lambda: "silent for 0.2 s" in place.log)
        assert server_status().sessions == ()  # type: ignore[union-attr]
        client.close(0)
        stop_server()


# --- the folder -------------------------------------------------------------------------------------------------------


def test_runtime_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRBA_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = socket_path(default_endpoint())
    assert path == tmp_path / "drba-player" / "server-v1.sock"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert socket_path(default_endpoint()) == tmp_path / f"drba-player-{os.getuid()}" / "server-v1.sock"
    monkeypatch.setenv("DRBA_RUNTIME_DIR", str(tmp_path / ("long" * 30)))
    with pytest.raises(ServerError, match="is longer than 107 bytes; set DRBA_RUNTIME_DIR to a shorter one"):
        default_endpoint()


def test_a_folder_that_others_could_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "open").mkdir(mode=0o755)
    for name, words in (
        ("file", "is a link or a file, expected a folder"),
        ("link", "is a link or a file"),
        ("open", "has mode 0755, expected 0700; chmod 700 it"),
        ("file/below", "cannot be created: Not a directory"),
    ):
        with pytest.raises(ServerError, match=words):
            private_folder(tmp_path / name)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ServerError, match=r"belongs to user \d+, expected 12345"):
        private_folder(tmp_path)


def test_lock_is_one_processes_and_leaves_no_file(tmp_path: Path) -> None:
    first, second = InstanceLock(tmp_path / "lock"), InstanceLock(tmp_path / "lock")
    assert first.acquire() and not second.acquire()
    first.release()
    assert list(tmp_path.iterdir()) == []
    assert second.acquire() and not first.acquire()
    second.release()


def test_input_that_cannot_work_is_refused_here(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            pool = FramePool(100, 2)
            with pytest.raises(ServerError, match="slots of 4096 bytes, expected 1382400 or more"):
                await client.open_session(StreamSpec(FrameLayout(1280, 720, pixel_format("yuv420p"))), pool)
            film = await Film.open(client)
            frames = [film.frame(number) for number in range(2)]
            with pytest.raises(ValueError, match="2 output slots for 1 times"):
                film.session.render(frames[0], [1.5], [8, 9], following=frames[1])
            with pytest.raises(ValueError, match="one slot twice"):
                film.session.render(frames[0], [1.5], [frames[1].slot], following=frames[1])
            for frame in frames:
                film.pool.release(frame.slot)
            await film.close()
            pool.close()

    run(test())


def test_server_refuses_options_out_of_range(place: Place) -> None:
    for options in (["--idle-timeout", "0"], ["--idle-timeout", "nan"], ["--workers", "0"]):
        with place.start(*options) as process:
            _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == InputError.exit_status
        assert errors.startswith(f"drba-server: {options[0]} is") and errors.count("\n") == 1
    assert SMALL.frame_bytes

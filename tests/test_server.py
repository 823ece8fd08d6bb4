"""Server and client as real processes over real sockets: starting, dying, recovering, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from helpers_server import DEADLINE_S, ROOT, Film, Place, alive, connect, eventually, private_place, run, soon

import server.connection
from drba.errors import InputError, ServerError
from server import messages as m
from server.client import Client, server_status, stop_server
from server.protocol import serialize
from server.runtime import InstanceLock, default_endpoint, private_folder, socket_path


@pytest.fixture
def place() -> Iterator[Place]:
    with private_place() as made:
        yield made


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


def test_a_session_is_opened_also_if_the_server_dies_meanwhile(place: Place) -> None:
    """Found by the soak: a film whose server was killed while a level's session was opened did without that level."""

    async def test() -> None:
        async with await connect() as client:
            os.kill(client.server_pid, signal.SIGSTOP)
            opening = asyncio.ensure_future(Film.open(client))
            await eventually(lambda: client._sessions)
            os.kill(client.server_pid, signal.SIGKILL)
            film = await opening
            assert film.output((await film.ask(5)).outputs[0]) == film.expected(5, 0.75)
            await film.close()

    run(test())


def test_a_session_is_opened_also_if_the_server_dies_just_before(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the soak: the next film began in the moment in which a server died, and was opened by nobody for two minutes."""

    async def test() -> None:
        async with await connect() as client:
            wait_connected, waits = client.wait_connected, []

            async def and_then_it_dies(*arguments: float) -> None:
                await wait_connected(*arguments)
                waits.append(client.server_pid)
                if len(waits) == 1:
                    os.kill(client.server_pid, signal.SIGKILL)
                    await eventually(lambda: not client.connected)

            monkeypatch.setattr(client, "wait_connected", and_then_it_dies)
            film = await Film.open(client)
            assert film.output((await film.ask(5)).outputs[0]) == film.expected(5, 0.75)
            await film.close()

    run(test())


def test_a_session_that_kills_each_server_is_given_up(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            with pytest.raises(ServerError, match="the server has gone away"):
                await Film.open(client, "deadly")
            await client.wait_connected()
            assert client.restarts == 3 and not client._sessions

    run(test())


def test_servers_that_keep_dying_are_replaced_less_and_less_quickly(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            waited_s = []
            for deaths in (1, 2, 3):
                os.kill(client.server_pid, signal.SIGKILL)
                await eventually(lambda: not client.connected)
                start_s = asyncio.get_running_loop().time()
                await eventually(lambda: len(place.started) == deaths + 1)  # noqa: B023
                waited_s.append(asyncio.get_running_loop().time() - start_s)
                await client.wait_connected()
                assert client.restarts == deaths
            assert waited_s[1] > 0.1 and waited_s[2] > 0.2, waited_s

    run(test())


@pytest.mark.alone
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


@pytest.mark.alone
@pytest.mark.parametrize("stopped", [True, False])
def test_a_worker_that_hung_is_told_of_unless_its_server_was_stopped(stopped: bool, place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client, place.gate.model)
            place.gate.let_through(1)
            await film.ask(5)
            assert place.gate.arrived()
            answer = film.ask(6)
            await eventually(place.gate.arrived)
            if stopped:
                os.kill(client.server_pid, signal.SIGSTOP)
            time.sleep(1.5)
            if stopped:
                os.kill(client.server_pid, signal.SIGCONT)
            place.gate.let_through(1)
            await asyncio.gather(answer, return_exceptions=True)  # given up when the server did not answer
            await eventually(lambda: client.connected and film.session.in_flight == 0)
            await film.close()

    run(test())
    assert ("a worker hung" in place.log) is not stopped


@pytest.mark.alone
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


@pytest.mark.alone
def test_a_server_that_hangs_cannot_be_connected_to(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            os.kill(client.server_pid, signal.SIGSTOP)
            with pytest.raises(ServerError, match="is there but does not answer; kill it"):
                await connect(timeout_s=0.7)
            os.kill(client.server_pid, signal.SIGCONT)
        with pytest.raises(ServerError, match="this client is closed"):
            await Film.open(client)

    run(test())


@pytest.mark.alone
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


@pytest.mark.alone
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


def test_welcome_names_the_models_that_are_installed_by_then(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path))

    async def test() -> None:
        async with await connect() as client:
            assert client.models == ("flow",)
            file = tmp_path / "weights" / "rife-4.6" / "flownet.pkl"
            file.parent.mkdir(parents=True)
            file.touch()
            async with await connect() as later:
                assert later.models == ("flow", "rife-4.6") and later.server_pid == client.server_pid

    run(test())


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


@pytest.mark.alone
def test_a_client_that_is_silent_loses_its_session(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys, server.service as s, fake_server as f; s.SILENCE_S = s.TICK_S = 0.2;"
        "sys.exit(f.main([], open_renderer=f.open_fake))"
    )
    environment = {**place.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with zmq.Context() as context, subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        client = context.socket(zmq.DEALER)
        try:
            soon(lambda: server_status() is not None)
            client.connect(default_endpoint())
            client.send_multipart(serialize(m.Open(7, 8, 8, "gray", "bt709", False, "mix", "auto", 1.0, True, None)))
            assert client.poll(5000)
            soon(lambda: "silent for 0.2 s" in place.log)
            assert server_status().sessions == ()  # type: ignore[union-attr]
            stop_server()
        finally:
            client.close(0)
            process.terminate()


# --- the folder -------------------------------------------------------------------------------------------------------


def test_runtime_folder_is_private(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path = tmp_path_factory.mktemp("run")  # a short path, as sockets need
    monkeypatch.delenv("DRBA_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = socket_path(default_endpoint())
    assert path == tmp_path / "drba-player" / "server-v3.sock"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert socket_path(default_endpoint()) == tmp_path / f"drba-player-{os.getuid()}" / "server-v3.sock"
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


def test_server_refuses_options_out_of_range(place: Place) -> None:
    for options in (["--idle-timeout", "0"], ["--idle-timeout", "nan"], ["--workers", "0"]):
        with place.start(*options) as process:
            _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == InputError.exit_status
        assert errors.startswith(f"drba-server: {options[0]} is") and errors.count("\n") == 1

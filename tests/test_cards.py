"""Several cards behind one socket, each with a process of its own: `DRBA_DEVICES=cpu,cpu` has two real ones."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_server import SMALL, Film, Place, alive, connect, eventually, private_place, run

from drba.errors import InputError, ModelError, ServerError
from engines.cards import Card
from server import messages as m
from server.cards import Cards, find_devices
from server.client import FramePool, StreamSpec, server_status
from server.shared import SharedFrames

SPEC = StreamSpec(SMALL, model="rife-4.6")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("DRBA_DEVICES", "cpu,cpu")
    with private_place() as made:
        yield made


def children(pid: int) -> list[int]:
    """The living processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return sorted(filter(alive, found))


async def status() -> m.StatusReport:
    report = await asyncio.to_thread(server_status)
    assert report is not None
    return report


async def check(film: Film, middle: int) -> None:
    """The film's in-betweens are the computed ones, bit for bit."""
    result = await film.ask(middle, (0.75, 1.25))
    assert [film.output(slot) for slot in result.outputs] == [film.expected(middle, at) for at in (0.75, 1.25)]


def test_streams_go_to_the_card_with_the_fewest_and_flow_to_none(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            flow = await Film.open(client, "flow")
            assert children(client.server_pid or 0) == [], "no process before there is something for it"
            films = [await Film.open(client) for _ in range(3)]
            await films[1].close()
            films.append(await Film.open(client))
            report = await status()
            assert [session.card for session in report.sessions] == ["", "0 cpu", "0 cpu", "1 cpu"]
            assert len(children(client.server_pid or 0)) == 2
            await asyncio.gather(*(check(film, middle) for film in (films[0], *films[2:]) for middle in (3, 4, 5)))
            for film in (flow, films[0], *films[2:]):
                await film.close()

    run(test())


def test_frames_of_an_inline_session_travel_through_the_pair(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client, shared=False)
            assert film.session.transport == "inline"
            for middle in (3, 4, 5):
                await check(film, middle)
            await film.close()

    run(test())


def test_a_killed_process_fails_its_requests_at_once_and_the_other_card_feels_nothing(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            struck, other = await Film.open(client, place.gate.model), await Film.open(client)
            (first, second) = children(client.server_pid or 0)
            waiting = [struck.ask(5), struck.ask(6), struck.ask(7)]
            await eventually(place.gate.arrived)
            os.kill(first, signal.SIGKILL)
            for answer in waiting:
                with pytest.raises(ServerError, match=r"card 0 cpu has ended \(SIGKILL\)|cancelled|no frame can be"):
                    await asyncio.wait_for(answer, 1.0)
            await check(other, 5)
            place.gate.let_through(100)
            await check(struck, 8)  # it is opened again by itself
            assert client.restarts == 0 and alive(second)

            async def restarted() -> bool:
                film = await Film.open(client)
                cards = [session.card for session in (await status()).sessions]
                await check(film, 5)
                await film.close()
                return "0 cpu" in cards

            while not await restarted():  # not more often than once a second; until then the other card takes all
                pass
            assert first not in children(client.server_pid or 0) and len(children(client.server_pid or 0)) == 2
            await struck.close()
            await other.close()

    run(test())


def test_a_process_that_hangs_keeps_its_own_streams_waiting_only_and_not_the_servers_end(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            hanging, other = await Film.open(client), await Film.open(client)
            (first, _) = children(client.server_pid or 0)
            os.kill(first, signal.SIGSTOP)
            waiting = [hanging.ask(middle) for middle in range(5, 15)]
            for middle in range(5, 15):
                await check(other, middle)
            assert not any(answer.done() for answer in waiting)
            await other.close()
            server = client.server_pid or 0
            os.kill(server, signal.SIGTERM)
            await eventually(lambda: not alive(server), 15)
            assert not alive(first)
            for answer in waiting:
                with pytest.raises(ServerError):
                    await answer
            await hanging.close()

    run(test())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_server(place: Place, how: signal.Signals) -> None:
    async def test() -> None:
        async with await connect() as client:
            films = [await Film.open(client) for _ in range(2)]
            server = client.server_pid or 0
            started = children(server)
            assert len(started) == 2
            os.kill(server, how)
            await eventually(lambda: not any(map(alive, started)))
            if how is signal.SIGKILL:
                await eventually(lambda: client.restarts == 1)  # the next one puts away what this one has left
            for film in films:
                await film.close()

    run(test())


def test_errors_of_a_process_come_through_as_they_are(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            with pytest.raises(ModelError, match="run drba download missing"):
                await Film.open(client, "missing")
            film = await Film.open(client, "boom")
            for middle in (5, 6, 7):
                with pytest.raises(ServerError, match="rendering failed: the device is on fire"):
                    await film.ask(middle)
            assert len(children(client.server_pid or 0)) == 1, "the process goes on"
            (line,) = [line for line in place.log.splitlines() if "on fire" in line]
            assert "RuntimeError at " in line and "fake_server.py:" in line, "one line for all, which names the place"
            await film.close()

    run(test())


def test_a_process_that_cannot_be_started_is_said_after_two_attempts() -> None:
    cards = Cards(["/nowhere"], 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRBA_DEVICES", "cpu,cpu")
        with pytest.raises(ServerError, match="the process of card 0 cpu cannot be started: No such file"):
            cards.open(SPEC, None)
        leaving = Cards(["false"], 2)
        with pytest.raises(ServerError, match=r"the process of card . cpu has ended \(exit status 1\)"):
            leaving.open(SPEC, None)


@pytest.mark.parametrize("found", [[], [Card("NVIDIA T4", "GPU-1")]], ids=["no card", "one card"])
def test_without_a_choice_of_cards_there_is_no_other_process(
    found: list[Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.cards.find_cards", lambda: (tuple(found), ""))
    assert Cards(["/nowhere"], 2).open(SPEC, None) is None


def test_each_process_sees_its_card_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    two = tuple(Card("NVIDIA H200", f"GPU-{n}") for n in "ab")
    monkeypatch.setattr("server.cards.find_cards", lambda: (two, ""))
    assert [(device.name, device.environment) for device in find_devices()] == [
        ("0 NVIDIA H200", {"CUDA_VISIBLE_DEVICES": "GPU-a"}),
        ("1 NVIDIA H200", {"CUDA_VISIBLE_DEVICES": "GPU-b"}),
    ]
    monkeypatch.setenv("DRBA_DEVICES", "tpu")
    with pytest.raises(InputError, match="DRBA_DEVICES is 'tpu', expected cpu,cpu"):
        find_devices()


def test_a_frame_is_found_in_shared_memory_by_where_its_planes_are() -> None:
    pool = FramePool(SMALL.frame_bytes, 4)
    assert pool.shared is not None
    frames = SharedFrames(pool.shared, SMALL.frame_bytes)
    for slot in range(4):
        assert frames.slot_of(SMALL.views(frames.buffer(slot))) == slot
    with pytest.raises(ValueError, match="not in this shared memory"):
        frames.slot_of(SMALL.views(bytearray(SMALL.frame_bytes)))
    pool.close()

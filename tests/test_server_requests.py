"""Requests over real sockets: results, what is sent, order, refusals. One server process serves these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import zmq
from helpers_server import Film, Place, connect, eventually, private_place, run, soon

from drba.errors import ModelError, ServerError
from drba.pixels import FrameLayout, pixel_format
from server import messages as m
from server.client import FramePool, RequestDropped, StreamSpec, server_status, stop_server
from server.protocol import parse_reply, serialize
from server.runtime import default_endpoint


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with private_place() as made, made.start("--workers", "1", "--idle-timeout", "60"):
        soon(lambda: server_status() is not None)
        yield made
        made.gate.let_through(1000)
        stop_server()


def status() -> m.StatusReport:
    report = server_status()
    assert report is not None
    return report


# --- results ----------------------------------------------------------------------------------------------------------


def test_shared_and_inline_give_the_computed_frames_bit_for_bit(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            for shared, transport in ((True, "shared"), (False, "inline")):
                film = await Film.open(client, shared=shared)
                assert (film.session.transport, film.session.model, film.session.engine) == (transport, "mix", "fake")
                for middle in (7, 8, 9):
                    result = await film.ask(middle, (0.75, 1.25))
                    assert [film.output(slot) for slot in result.outputs] == [
                        film.expected(middle, at) for at in (0.75, 1.25)
                    ]
                    assert 0 < result.render_ms < result.round_trip_ms
                await film.close()

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
            film.session._frames.known.put(4, None, slot=first.slot if shared else None)  # what the server never saw
            film.session._frames.known.put(5, None, slot=None if shared else 5)
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
            before = status()
            broken, film = await Film.open(client, "boom"), await Film.open(client)
            for _ in range(2):
                with pytest.raises(ServerError, match="rendering failed: the device is on fire"):
                    await broken.ask(5)
                await film.ask(5)
            after = status()
            assert (after.failed - before.failed, after.rendered - before.rendered) == (2, 2)
            (line,) = [line for line in place.log.splitlines() if "on fire" in line]
            assert "RuntimeError at " in line, "one line for all of a session, which names the place"
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
        async with await connect() as client:
            before = status()
            film = await Film.open(client, place.gate.model)
            old = [film.ask(5)]
            await eventually(place.gate.arrived)
            old += [film.ask(middle) for middle in range(6, 9)]
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
            assert place.gate.arrived() and not place.gate.arrived()
            after = status()
            assert (after.rendered - before.rendered, after.dropped - before.dropped) == (2, 4)
            await film.close()

    run(test())


def test_two_sessions_share_the_server_fairly(place: Place) -> None:
    async def test() -> None:
        async with await connect() as one, await connect() as two:
            greedy = await Film.open(one, place.gate.model, slots=60)
            modest = await Film.open(two, place.gate.model)
            before = status().rendered
            many = [greedy.ask(5)]
            await eventually(place.gate.arrived)
            many += [greedy.ask(middle) for middle in range(6, 17)]
            await eventually(lambda: status().sessions[0].queued == 11)
            few = [modest.ask(middle) for middle in range(5, 9)]
            await eventually(lambda: status().sessions[1].queued == 4)
            place.gate.let_through(11)
            await eventually(lambda: status().rendered == before + 11)
            assert [session.rendered for session in status().sessions] == [7, 4], "those that came last did not wait"
            place.gate.let_through(5)
            await asyncio.gather(*many, *few)
            assert sum(place.gate.arrived() for _ in range(99)) == 15
            await greedy.close()
            await modest.close()

    run(test())


def test_a_full_queue_refuses(place: Place) -> None:
    async def test() -> None:
        async with await connect() as client:
            film = await Film.open(client, place.gate.model, slots=300)
            answers = [film.ask(5)]
            await eventually(place.gate.arrived)
            answers += [film.ask(middle) for middle in range(6, 6 + m.MAX_QUEUED + 1)]
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


# --- refusals ---


def test_malformed_messages_are_answered_and_logged_once(place: Place) -> None:
    before = status().malformed
    warnings = place.log.count("WARNING")
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.setsockopt(zmq.LINGER, 0)
        client.connect(default_endpoint())

        def ask(*parts: bytes) -> m.Message:
            client.send_multipart(parts)
            assert client.poll(5000)
            return parse_reply(client.recv_multipart())[0]

        for parts in ([b""], [b"\xc1"], [b"\x80", b"x"], [b"x" * 100_000], [b"\x80"] * 80):
            answer = ask(*parts)
            assert isinstance(answer, m.Failure) and answer.code in ("malformed", "version")
        unknown = m.Render(7, 0, 9, 1, 2, 3, 1.0, 1.0, (0.5,), (), (1,), "")
        assert ask(*serialize(unknown)) == m.Need(7, 0, 9, (), True)  # type: ignore[arg-type]
        opening = m.Open(7, 38, 21, "gray", "bt709", False, "mix", "auto", 1.0, True, None)
        assert ask(*serialize(opening)) == m.Opened(7, "mix", "fake", "inline", "a fake of mix")  # type: ignore[arg-type]
        answer = ask(*serialize(unknown))  # type: ignore[arg-type]
        assert isinstance(answer, m.Failure) and (answer.session, answer.request) == (7, 9)
        assert "this session is inline" in answer.message
        inline = m.Render(7, 0, 10, 1, 2, 3, 1.0, 1.0, (0.5,), ((2, 0),), (), "")
        assert ask(*serialize(inline, [bytes(38 * 21)])) == m.Need(7, 0, 10, (1, 3), False)  # type: ignore[arg-type]
        answer = ask(*serialize(inline, [b"short"]))  # type: ignore[arg-type]
        assert isinstance(answer, m.Failure) and "frame has parts of 5 bytes, expected 798" in answer.message
        assert isinstance(ask(*serialize(m.Hello())), m.Welcome)  # type: ignore[arg-type]
        assert status().malformed - before == 7
        assert place.log.count("WARNING") - warnings == 1


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

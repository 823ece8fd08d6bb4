"""What another machine's requests and answers may keep of this one's memory."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fake_server import FakeRenderer
from helpers_server import FAKE_SERVER, Film, run
from remote_helpers import desktop

from drba.pixels import FrameLayout, Plane, pixel_format
from engines.base import StreamRenderer, StreamSpec, Triplet
from engines.swap import SwappingRenderer
from server import backlog
from server import messages as m
from server.cards import Cards
from server.client import Client
from server.dispatch import Dispatcher
from server.frame_codec import split
from server.peers import Peer

UHD = FrameLayout(3840, 2160, pixel_format("yuv420p10le"))
SMALL = FrameLayout(160, 90, pixel_format("yuv420p"))


class Socket:
    """Takes answers, and has sent them when the test says so."""

    def __init__(self) -> None:
        self.answers: list[m.Message] = []
        self.done = False

    def send(self, peer: Peer, message: m.Message, payloads: Sequence[Any] = ()) -> Socket | None:
        self.answers.append(message)
        return self if payloads and peer.remote else None

    def refused(self) -> list[m.Failure]:
        return [
            answer for answer in self.answers if isinstance(answer, m.Failure) and answer.code == m.FailureCode.BUSY
        ]


class Server:
    """A dispatcher with one session; nothing is rendered before `may_render` is set, and then noise, which does not pack."""

    def __init__(self, peer: Peer, layout: FrameLayout = SMALL) -> None:
        self.socket, self.peer, self.may_render = Socket(), peer, threading.Event()
        self.request_bytes = 7 * layout.frame_bytes  # three frames as they came, three unpacked, one answer
        self._parts = split(bytes(layout.frame_bytes))  # of the frame that all requests bring
        self.dispatcher = Dispatcher(
            self._open, Cards(("no", "card"), 1), 2, lambda: (), self.socket.send, lambda: None
        )
        kind = layout.format.name
        opening = m.Open(1, layout.width, layout.height, kind, "bt709", False, "flow", "auto", 1.0, True, None)
        self.dispatcher.handle(peer, opening, ())
        self.until(lambda: self.socket.answers)

    def _open(self, spec: StreamSpec) -> StreamRenderer:
        server = self

        noise = np.random.default_rng(1)

        class Waiting(FakeRenderer):
            def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
                assert server.may_render.wait(20)
                for plane in outputs[0]:
                    plane[...] = noise.integers(0, 256, plane.shape)

        return SwappingRenderer(Waiting(spec), "waits")

    def until(self, condition: Any) -> None:
        end_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end_s
            self.dispatcher.finish_results()
            time.sleep(0.001)

    def ask(self, count: int) -> None:
        """Requests that each bring three frames and want one."""
        for number in range(len(self.socket.answers), len(self.socket.answers) + count):
            frames = range(10 + 3 * number, 13 + 3 * number)
            attached = tuple((frame, place) for place, frame in enumerate(frames))
            request = m.Render(1, 0, number, *frames, 1.0, 1.0, (0.5,), attached, (), "")
            self.dispatcher.handle(self.peer, request, self._parts * 3)

    def stop(self) -> None:
        self.may_render.set()
        assert self.dispatcher.stop(20)


def far() -> Peer:
    return Peer(b"far", key="k" * 40)


def test_requests_of_another_machine_wait_until_they_are_a_gibibyte() -> None:
    """Without the limit 64 of them did: 9 GiB of the frames that came alone."""
    server = Server(far(), UHD)
    fit = (1 << 30) // server.request_bytes
    server.ask(12)
    refused = server.socket.refused()
    assert len(refused) == 12 - fit == 6
    waiting, more = fit * server.request_bytes, server.request_bytes
    assert refused[0].message == (
        f"session 1 has {waiting} bytes waiting, expected at most 1073741824 with this request's {more}; ask for less ahead"
    )
    server.dispatcher.handle(server.peer, m.Cancel(1, 1), ())
    server.ask(1)  # of the cancelled generation
    server.stop()
    dropped = sum(isinstance(answer, m.Dropped) for answer in server.socket.answers)
    assert dropped >= fit - 2 + 1, "two may have been running"
    assert len(server.socket.answers) == 1 + 12 + 1, "each is answered once"


@pytest.mark.parametrize(("peer", "taken"), [(far(), 1), (Peer(b"near"), 5)])
def test_one_request_is_taken_however_large_and_this_machines_own_are_not_counted(
    peer: Peer, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_BYTES", 1000)
    server = Server(peer)
    server.ask(5)
    assert len(server.socket.refused()) == 5 - taken
    server.stop()


def test_answers_that_nobody_reads_count_until_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(far())
    monkeypatch.setattr(backlog, "MAX_BYTES", 2 * server.request_bytes)
    server.may_render.set()

    def ask() -> m.Message:
        before = len(server.socket.answers)
        server.ask(1)
        server.until(lambda: len(server.socket.answers) > before)
        return server.socket.answers[-1]

    answers = [ask() for _ in range(20)]
    assert isinstance(answers[6], m.Rendered) and isinstance(answers[8], m.Failure), (
        "seven answers are a request's bytes"
    )
    server.socket.done = True
    assert isinstance(ask(), m.Rendered)
    server.stop()


SMALL_LIMIT = (
    "import runpy, sys; import server.backlog; server.backlog.MAX_BYTES = 200_000; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def test_a_film_over_the_network_is_not_refused_for_what_has_been_sent() -> None:
    """Two requests reach the limit; fifty go through one after the other."""

    async def test() -> None:
        async with await Client.connect(remote=far.server) as client:
            film = await Film.open(client, layout=SMALL)
            for middle in range(5, 55):
                answer = await film.ask(middle)
                assert film.output(answer.outputs[0]) == film.expected(middle, 0.75)
            await film.close()

    with desktop([sys.executable, "-c", SMALL_LIMIT, str(FAKE_SERVER)]) as far:
        run(test())

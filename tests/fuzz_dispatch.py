"""Messages that are each in order, in no order at all: what the server does about them, without sockets.

Two clients open, replace and close sessions that other messages name, ask for frames that were never sent, cancel, and use each
other's numbers. Whatever comes, each request is answered exactly once.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fake_server import open_fake
from fuzzing import Fuzzer

from drba.errors import ProtocolError
from server import messages as m
from server.cards import Cards
from server.dispatch import Dispatcher
from server.peers import Peer
from server.shared import FramePool

MODELS = ("mix", "mix", "mix", "noop", "boom", "missing")
WEIGHTS = {"render": 30, "open": 2, "cancel": 1, "close": 1}
SLOTS = 80
ANSWERS = (m.Rendered, m.Need, m.Dropped, m.Failure)


class DispatchFuzzer:
    """`step` as often as wanted, then `end`, which says how many requests had which answer."""

    def __init__(self, seed: int) -> None:
        self._fuzzer = Fuzzer(seed)
        self._kinds = [kind for kind in m.REQUESTS if kind not in (m.Stop, m.Hello)]
        self._weights = [WEIGHTS.get(kind.label, 1) for kind in self._kinds]
        self._pool = FramePool(64 << 10, SLOTS)
        self._peers = [Peer(b"one", os.getpid()), Peer(b"two", os.getpid())]
        self._asked: set[tuple[bytes, int, int]] = set()
        self._answered: Counter[tuple[bytes, int, int]] = Counter()
        self._answers: Counter[str] = Counter()
        logging.getLogger("drba.server").setLevel(logging.CRITICAL)  # engines that fail are meant to
        cards = Cards(("no", "card"), 1)
        self._dispatcher = Dispatcher(open_fake, cards, 2, lambda: ("flow",), self._send, lambda: None)

    def _send(self, peer: Peer, message: m.Message, payloads: Sequence[Any] = ()) -> None:
        message.check()
        if isinstance(message, ANSWERS) and getattr(message, "request", None) is not None:
            self._answer(peer, message)

    def _answer(self, peer: Peer, message: Any) -> None:
        self._answered[peer.identity, message.session, message.request] += 1
        self._answers[message.label] += 1

    def step(self) -> None:
        fuzzer = self._fuzzer
        rng = fuzzer.random
        peer = rng.choice(self._peers)
        (kind,) = rng.choices(self._kinds, self._weights)
        message: Any = fuzzer.valid(kind)
        payloads: list[bytes] = []
        if isinstance(message, m.Open):
            shared = self._pool.shared if rng.random() < 0.6 else message.shared
            message = replace(
                message, session=rng.randrange(1, 4), model=rng.choice(MODELS), engine="auto", shared=shared
            )
        elif isinstance(message, m.Render):
            message = replace(message, request=len(self._asked))
            size = rng.choice((64, 96, 693, 8 * 21, 33 * 8 * 3 * 2))
            payloads = [] if message.output_slots else [bytes(size) for _ in message.attached]
            self._asked.add((peer.identity, message.session, message.request))
        elif hasattr(message, "session"):
            message = replace(message, session=rng.randrange(1, 4))
        try:
            self._dispatcher.handle(peer, message, payloads)
        except ProtocolError as error:  # the server says so in a Failure
            assert not isinstance(message, m.Render) or getattr(error, "request", None) == message.request
            if isinstance(message, m.Render):
                self._answer(peer, m.Failure(message.session, message.request, "malformed", str(error)))
        self._dispatcher.finish_results()

    def end(self) -> Counter[str]:
        """AssertionError unless each request has had its one answer."""
        end_s = time.monotonic() + 20
        while self._dispatcher.busy and time.monotonic() < end_s:
            self._dispatcher.finish_results()
            time.sleep(0.001)
        assert self._dispatcher.stop(20)
        wrong = {asked: self._answered[asked] for asked in self._asked if self._answered[asked] != 1}
        assert not wrong, wrong
        assert self._answered.keys() == self._asked
        self._pool.close()
        return self._answers

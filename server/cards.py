"""Several cards behind one socket: each has a process of its own, and a new stream goes to the card with the fewest."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence

from drba.errors import InputError
from engines.base import StreamSpec
from engines.cards import VISIBLE_ENV, find_cards

from .card import CardLost, CardProcess, Device, RemoteRenderer
from .shared import SharedFrames

DEVICES_ENV = "DRBA_DEVICES"  # for tests: `cpu,cpu` stands for two cards
ATTEMPTS = 2  # to open a stream: a card's process may die of another stream at that moment
RESTART_INTERVAL_S = (
    1.0  # between two starts of one card's process: one that dies at once must not keep the machine busy
)


def card_command() -> list[str]:
    """The command line that starts a card's process."""
    return [sys.executable, "-m", "server.card_process"]


def find_devices() -> list[Device]:
    """The cards of this machine; InputError for a value of DRBA_DEVICES that means nothing."""
    chosen = os.environ.get(DEVICES_ENV)
    if chosen is None:
        return [Device(f"{n} {card.name}".strip(), {VISIBLE_ENV: card.pin}) for n, card in enumerate(find_cards()[0])]
    names = [name.strip() for name in chosen.split(",")]
    if set(names) != {"cpu"}:
        raise InputError(f"{DEVICES_ENV} is {chosen!r}, expected cpu,cpu,...")
    return [Device(f"{n} cpu", {VISIBLE_ENV: ""}) for n in range(len(names))]


class Card:
    """A device and its process: started with the first stream, and again when one comes after it died."""

    def __init__(self, device: Device, command: Sequence[str], workers: int) -> None:
        self._device, self._command, self._workers = device, command, workers
        self._process: CardProcess | None = None
        self._started_s = float("-inf")

    @property
    def streams(self) -> int:
        return self._process.streams if self._process is not None and not self._process.lost else 0

    @property
    def rest_s(self) -> float:
        """How long to wait before the process can be started again; 0 while it lives."""
        if self._process is None or not self._process.lost:
            return 0.0
        return max(0.0, self._started_s + RESTART_INTERVAL_S - time.monotonic())

    def process(self) -> CardProcess:
        """The living process."""
        if self._process is None or self._process.lost:
            time.sleep(self.rest_s)
            self._started_s = time.monotonic()
            self._process = CardProcess(self._device, self._command, self._workers)
        return self._process

    def end(self) -> None:
        if self._process is not None:
            self._process.end()


class Cards:
    """All cards of this machine. None is looked for before a network is to be opened. Safe to use from several threads."""

    def __init__(self, command: Sequence[str], workers: int) -> None:
        self._command, self._workers = command, workers
        self._lock = threading.Lock()  # of everything below, and of the cards
        self._found: list[Card] | None = None
        self._ended = False

    def open(self, spec: StreamSpec, memory: SharedFrames | None) -> RemoteRenderer | None:
        """Open a stream on the card with the fewest; None where there is no choice of cards, or the stream needs none."""
        if spec.model == "flow" or spec.engine == "cpu":
            return None
        for attempt in range(ATTEMPTS):
            renderer = self._place(spec, memory)
            if renderer is None:
                return None
            try:
                renderer.open()
                return renderer
            except CardLost:
                if attempt == ATTEMPTS - 1:
                    raise
        return None

    def _place(self, spec: StreamSpec, memory: SharedFrames | None) -> RemoteRenderer | None:
        with self._lock:
            if self._found is None:
                self._found = [Card(device, self._command, self._workers) for device in find_devices()]
            if len(self._found) < 2:
                return None
            if self._ended:
                raise CardLost("the server is ending")
            card = min(self._found, key=lambda card: (card.rest_s > 0, card.streams))
            return card.process().add(spec, memory)

    def end(self) -> None:
        """End all processes."""
        with self._lock:
            self._ended = True
            for card in self._found or ():
                card.end()

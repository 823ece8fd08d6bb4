"""How many bytes one session of another machine keeps here: those of requests that wait and of answers that are not sent."""

from __future__ import annotations

from collections import deque
from typing import Protocol

#: A player has 8 requests on the way (client_session.MAX_ON_NETWORK). 24 -> 60 of 2160p with 10 bits that is 0.9 GB: for each
#: request the frame that it brings, as it came and unpacked, and two and a half in-betweens.
MAX_BYTES = 1 << 30


class Sending(Protocol):
    """As zmq.MessageTracker."""

    @property
    def done(self) -> bool: ...


class Backlog:
    """Belongs to the I/O thread. Bytes of a request are added once and removed once; those of an answer go when it has been sent.
    What the other machine says that it has got does not count: it could say so of what it never reads."""

    def __init__(self) -> None:
        self._waiting = 0
        self._leaving: deque[tuple[int, Sending]] = deque()  # in the order of sending, which is that of their ends

    @property
    def bytes(self) -> int:
        while self._leaving and self._leaving[0][1].done:
            self._leaving.popleft()
        return self._waiting + sum(size for size, _ in self._leaving)

    def refusal(self, size: int) -> str:
        """Why a request of so many bytes may not wait; empty if it may. One always may, for there are films of any size."""
        held = self.bytes
        if not held or held + size <= MAX_BYTES:
            return ""
        return f"{held} bytes waiting, expected at most {MAX_BYTES} with this request's {size}; ask for less ahead"

    def add(self, size: int) -> None:
        self._waiting += size

    def remove(self, size: int) -> None:
        self._waiting -= size

    def sending(self, size: int, sending: Sending) -> None:
        """An answer of so many bytes is handed to the socket."""
        self._leaving.append((size, sending))

"""A session's frames at the client: which of them a request has to bring along, and those that an answer brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from drba.errors import ProtocolError, ServerError
from drba.pixels import FrameLayout

from .frame_codec import decode, parts_per_frame
from .known import KnownFrames
from .messages import INLINE_FRAMES, Render
from .protocol import Buffer
from .shared import FramePool


class ClientFrames:
    """`transport` is what the server chose: with `shared` it reads and writes the pool's slots itself, with `inline` frames
    travel in messages. `known` are the frames that it has."""

    def __init__(self, layout: FrameLayout, pool: FramePool) -> None:
        self.transport = ""
        self.known: KnownFrames[None] = KnownFrames(1)
        self._layout = layout
        self._pool = pool

    def opened(self, transport: str) -> None:
        """The server has the session, and none of its frames."""
        self.transport = transport
        self.known = KnownFrames(self._pool.slots if transport == "shared" else INLINE_FRAMES)

    def attach(
        self, message: Render, slot_of: Mapping[int, int], outputs: Sequence[int]
    ) -> tuple[Render, list[Buffer]]:
        """The request with what the server lacks of its frames (`slot_of`, by number), and the bytes of those that travel."""
        inline = self.transport == "inline"
        attached: list[tuple[int, int]] = []
        frames: list[Buffer] = []
        for number, slot in slot_of.items():
            if self.known.holds(number, None if inline else slot):
                continue
            self.known.put(number, None, slot=None if inline else slot)
            attached.append((number, len(frames) if inline else slot))
            if inline:
                frames.append(self._bytes(slot))
        if not inline:
            self.known.forget_slots(outputs)
        return replace(message, attached=tuple(attached), output_slots=() if inline else tuple(outputs)), frames

    def take(self, outputs: Sequence[int], encoding: str, payloads: Sequence[memoryview]) -> ServerError | None:
        """Put an answer's frames into their slots; the error if they are none. Safe in a thread of its own."""
        frames = outputs if self.transport == "inline" else ()
        count = parts_per_frame(self._layout.frame_bytes)
        if len(payloads) != count * len(frames):
            return ServerError(
                f"the server sent {len(payloads)} payloads, expected {count} for each of {len(frames)} frames"
            )
        try:
            for place, slot in enumerate(frames):
                parts = payloads[place * count : (place + 1) * count]
                decode(parts, encoding, self._layout, self._bytes(slot))
        except ProtocolError as error:
            return ServerError(f"the server sent a frame that cannot be read: {error}")
        return None

    def _bytes(self, slot: int) -> memoryview:
        return self._pool.buffer(slot)[: self._layout.frame_bytes]

"""One stream at the server: its frames, its renderer, and how a request becomes a job. No sockets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drba.errors import ProtocolError
from engines.base import EngineState, SourceFrame, StreamRenderer, StreamSpec, Triplet

from .known import KnownFrames
from .messages import INLINE_FRAMES, Open, Render, SessionReport
from .peers import Peer
from .protocol import Buffer
from .shared import SharedFrames

FrameBuffer = NDArray[np.uint8]
_serials = itertools.count(1)


class MissingFrames(Exception):
    """The request names frames that the session does not hold."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(f"frames {list(numbers)} are not known")
        self.numbers = tuple(numbers)


class ServerSession:
    """The state behind one Open. Used by the I/O thread alone, but for `renderer.render` and `close_renderer`.

    `serial` identifies it within the server's life: a client may open an id again while the old one's last job runs.
    """

    def __init__(self, peer: Peer, message: Open, memory: SharedFrames | None) -> None:
        self.peer = peer
        self.serial = next(_serials)
        self.message = message
        self.layout = message.layout
        self.renderer: StreamRenderer | None = None  # set by the thread that opens it, and `card`,
        self.card = ""
        self.ready = False  # which the I/O thread knows from here on
        self.told: EngineState | None = None  # what the client knows of the engine
        self.rendered = self.dropped = self.failed = 0
        self.render_ms_sum = 0.0
        self.memory = memory
        self._frames: KnownFrames[FrameBuffer] = KnownFrames(memory.slots if memory else INLINE_FRAMES)

    @property
    def id(self) -> int:
        return self.message.session

    @property
    def transport(self) -> str:
        return "shared" if self.memory else "inline"

    @property
    def spec(self) -> StreamSpec:
        message = self.message
        return StreamSpec(
            layout=self.layout,
            matrix=message.matrix,
            full_range=message.full_range,
            model=message.model,
            engine=message.engine,
            scale=message.scale,
            linear=message.linear,
        )

    def admit(self, request: Render, payloads: Sequence[Buffer]) -> RenderJob:
        """Take the request's frames and make it a job; MissingFrames or ProtocolError where that cannot be.

        The frames it brings are known from here on even if the request itself is refused: the client counts on it.
        """
        self._check_places(request, payloads)
        attached = dict(request.attached)
        found: dict[int, FrameBuffer] = {}
        for number in request.frames:  # in this order at both ends, so that both forget the same frames
            buffer = self._take_frame(number, attached.get(number), payloads)
            if buffer is not None:
                found[number] = buffer
        self._frames.forget_slots(request.output_slots)
        if missing := [number for number in request.frames if number not in found]:
            raise MissingFrames(missing)
        outputs = [self.memory.buffer(slot) for slot in request.output_slots] if self.memory else None
        return RenderJob(self, request, self._triplet(request, found), outputs)

    def _take_frame(self, number: int, place: int | None, payloads: Sequence[Buffer]) -> FrameBuffer | None:
        if place is None:
            return self._frames.get(number)
        buffer = self.memory.buffer(place) if self.memory else self._own(payloads[place])
        self._frames.put(number, buffer, slot=place if self.memory else None)
        return buffer

    def _check_places(self, request: Render, payloads: Sequence[Buffer]) -> None:
        if self.memory is None:
            if request.output_slots:
                raise ProtocolError("render.output_slots has slots, expected none: this session is inline")
            for payload in payloads:
                if len(payload) != self.layout.frame_bytes:
                    raise ProtocolError(f"payload has {len(payload)} bytes, expected {self.layout.frame_bytes}")
            return
        if not request.output_slots:
            raise ProtocolError("render.output_slots is empty, expected a slot a time: this session shares memory")
        highest = max(*(place for _, place in request.attached), *request.output_slots, 0)
        if highest >= self.memory.slots:
            raise ProtocolError(f"render names slot {highest}, expected one of {self.memory.slots}")

    def _own(self, payload: Buffer) -> FrameBuffer:
        frame = np.frombuffer(payload, np.uint8)
        # ZeroMQ delivers at any address; planes of 16-bit samples must not begin at an odd one
        aligned = frame.ctypes.data % self.layout.format.sample_bytes == 0
        return frame if aligned else frame.copy()

    def _triplet(self, request: Render, found: dict[int, FrameBuffer]) -> Triplet:
        sources = {number: SourceFrame(number, self.layout.views(buffer)) for number, buffer in found.items()}
        return Triplet(
            previous=None if request.previous is None else sources[request.previous],
            middle=sources[request.middle],
            following=None if request.following is None else sources[request.following],
            interval_before=request.interval_before,
            interval_after=request.interval_after,
        )

    def close_renderer(self) -> None:
        """Free the renderer; called once, by any thread, when no job of the session is left."""
        renderer, self.renderer = self.renderer, None
        if renderer is not None:
            renderer.close()

    def report(self, queued: int) -> SessionReport:
        message = self.message
        state = self.told or EngineState(message.model, message.engine)
        return SessionReport(
            session=message.session,
            pid=self.peer.pid or 0,
            width=message.width,
            height=message.height,
            pixel_format=message.pixel_format,
            model=state.model,
            engine=state.engine,
            building=state.building,
            progress=state.progress,
            card=self.card,
            transport=self.transport,
            queued=queued,
            rendered=self.rendered,
            dropped=self.dropped,
            failed=self.failed,
            render_ms=self.render_ms_sum / self.rendered if self.rendered else 0.0,
        )


@dataclass
class RenderJob:
    """A request that has all it needs. `outputs` are the client's slots, or None to answer with payloads."""

    session: ServerSession
    request: Render
    triplet: Triplet
    outputs: list[FrameBuffer] | None

    def run(self) -> list[FrameBuffer]:
        """Render, by any thread; the payloads of the answer."""
        renderer, layout = self.session.renderer, self.session.layout
        assert renderer is not None  # jobs are admitted after opening, and closing waits for them
        targets = self.outputs
        if targets is None:
            targets = [np.empty(layout.frame_bytes, np.uint8) for _ in self.request.times]
        renderer.render(self.triplet, self.request.times, [layout.views(target) for target in targets])
        return targets if self.outputs is None else []

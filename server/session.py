"""One stream at the server: its frames, its renderer, and how a request becomes a job. No sockets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drba.errors import ProtocolError
from engines.base import EngineState, SourceFrame, StreamRenderer, StreamSpec, Triplet

from .backlog import Backlog
from .frame_codec import parts_per_frame, split
from .known import KnownFrames
from .messages import INLINE_FRAMES, MAX_ANSWER_BYTES, Open, Render, SessionReport
from .outgoing import Outgoing, Packed, pack
from .peers import Peer
from .protocol import Buffer
from .received import ReceivedFrame
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
        self.failing = 0  # requests that failed since its renderer was last known to work, the newest one at `failed_s`
        self.failed_s = 0.0
        self.hung_s = -math.inf  # when a worker last came back from hanging
        self.render_ms_sum = 0.0
        self.memory = memory
        # Over a network only: between processes of one machine nothing is faster than the bytes themselves.
        self.outgoing = Outgoing(peer.throughput) if peer.remote else None
        self.backlog = Backlog() if peer.remote else None  # of this machine's the memory is its user's own
        self._frames: KnownFrames[FrameBuffer | ReceivedFrame] = KnownFrames(memory.slots if memory else INLINE_FRAMES)

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
        places = self._taken(request, payloads)
        found: dict[int, FrameBuffer | ReceivedFrame] = {}
        for number in request.frames:  # in this order at both ends, so that both forget the same frames
            if number in places:
                slot, frame = places[number]
                self._frames.put(number, frame, slot=slot)
                found[number] = frame
            elif (known := self._frames.get(number)) is not None:
                found[number] = known
        self._frames.forget_slots(request.output_slots)
        if missing := [number for number in request.frames if number not in found]:
            raise MissingFrames(missing)
        outputs = [self.memory.buffer(slot) for slot in request.output_slots] if self.memory else None
        packed = [frame for frame in found.values() if isinstance(frame, ReceivedFrame)]
        kept = self.layout.frame_bytes * (len(request.attached) + len(request.times))
        kept += sum(memoryview(payload).nbytes for payload in payloads)
        return RenderJob(self, request, self._triplet(request, found), outputs, packed, kept)

    def _taken(
        self, request: Render, payloads: Sequence[Buffer]
    ) -> dict[int, tuple[int | None, FrameBuffer | ReceivedFrame]]:
        """The attached frames by number, with their slots; ProtocolError, and none is taken, if one of them is wrong."""
        if self.memory is None:
            if request.output_slots:
                raise ProtocolError("render.output_slots has slots, expected none: this session is inline")
            answer_bytes = len(request.times) * self.layout.frame_bytes
            if answer_bytes > MAX_ANSWER_BYTES:
                raise ProtocolError(
                    f"render.times asks for {answer_bytes} bytes in one answer, expected at most {MAX_ANSWER_BYTES}"
                )
            count = parts_per_frame(self.layout.frame_bytes)
            if len(payloads) != count * len(request.attached):
                raise ProtocolError(f"render has {len(payloads)} payloads, expected {count} for each frame")
            return {
                number: (
                    None,
                    ReceivedFrame(payloads[place * count : (place + 1) * count], request.encoding, self.layout),
                )
                for number, place in request.attached
            }
        if not request.output_slots:
            raise ProtocolError("render.output_slots is empty, expected a slot a time: this session shares memory")
        if payloads:
            raise ProtocolError(f"render has {len(payloads)} payloads, expected none: this session shares memory")
        highest = max(*(place for _, place in request.attached), *request.output_slots, 0)
        if highest >= self.memory.slots:
            raise ProtocolError(f"render names slot {highest}, expected one of {self.memory.slots}")
        return {number: (place, self.memory.buffer(place)) for number, place in request.attached}

    def _triplet(self, request: Render, found: dict[int, FrameBuffer | ReceivedFrame]) -> Triplet:
        sources = {
            number: SourceFrame(number, self.layout.views(frame.buffer if isinstance(frame, ReceivedFrame) else frame))
            for number, frame in found.items()
        }
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
    """A request that has all it needs. `outputs` are the client's slots, or None to answer with payloads; `packed` are the
    frames of the triplet that may have to be unpacked first."""

    session: ServerSession
    request: Render
    triplet: Triplet
    outputs: list[FrameBuffer] | None
    packed: Sequence[ReceivedFrame] = field(default=())
    bytes: int = 0

    def run(self) -> Packed:
        """Render, by any thread; the payloads of the answer. ProtocolError if a frame that came was damaged."""
        session, layout = self.session, self.session.layout
        renderer = session.renderer
        assert renderer is not None  # jobs are admitted after opening, and closing waits for them
        for frame in self.packed:
            frame.unpack()
        targets = self.outputs
        if targets is None:
            targets = [np.empty(layout.frame_bytes, np.uint8) for _ in self.request.times]
        renderer.render(self.triplet, self.request.times, [layout.views(target) for target in targets])
        if self.outputs is not None:
            return Packed([])
        if session.outgoing is None:
            return Packed([part for target in targets for part in split(target.data)])
        encoding, trial = session.outgoing.next()
        return pack([target.data for target in targets], layout, encoding, trial=trial)

"""A stream at the client: requests in flight, the frames the server has, and what answers mean. No sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from drba.errors import DrbaError, InputError, ModelError, ServerError
from engines.base import EngineState, StreamSpec

from . import messages as m
from .client_frames import ClientFrames
from .deadline import Deadline
from .frame_codec import RAW, split
from .outgoing import Outgoing, Packed, Throughput, pack
from .protocol import Buffer
from .shared import FramePool

MAX_RESENDS = 3  # of one request that the server lacks frames of; more means that the two ends do not agree
#: Requests unanswered over a network, beyond which no film needs one more: they would only be late, and keep newer ones waiting.
MAX_ON_NETWORK = 8
SLOW_MS = 250.0  # that a request keeps the network busy: then silence is no stall, but how that network is
STALL_POLL_S = 0.05
CLOSE_TIMEOUT_S = 2.0  # for the last answers, until which the server may still write into slots


@dataclass(frozen=True)
class Link:
    """What a session needs of its client: to send, to be opened again, to be forgotten, to know a server that hangs and be rid
    of it. `send_packed` (a thread makes the payloads) and `throughput` are there over a network."""

    send: Callable[[m.Message, Sequence[Buffer]], None]
    send_packed: Callable[[m.Message, Callable[[], Packed], Callable[[Packed], None]], None] | None
    ask_reopen: Callable[[], None]
    forget: Callable[[int], object]
    stalled: Callable[[], bool]
    throughput: Throughput | None = None
    quiet: Callable[[], bool] = lambda: False
    give_up: Callable[[str], None] = lambda reason: None


class RequestDropped(ServerError):
    """The request was not rendered because its generation was cancelled or its session closed."""


class RenderFailed(ServerError):
    """The server is there, but its worker could not render the request."""


@dataclass(frozen=True)
class Frame:
    """A source frame: its number, unique within the session's life, and the pool's slot that holds it."""

    number: int
    slot: int


@dataclass(frozen=True)
class RenderResult:
    """The frames are in the slots given as `outputs`. `render_ms` was spent by a worker, `round_trip_ms` seen here. `link_ms`
    is how long the request or its answer, whichever is longer, keeps the network busy; 0 on one machine."""

    generation: int
    outputs: tuple[int, ...]
    render_ms: float
    round_trip_ms: float
    link_ms: float = 0.0


@dataclass
class _Pending:
    """A request that has not been answered. Its slots are retained until it is: the server may write to them."""

    message: m.Render  # without attachments; they are decided when it is sent
    slot_of: dict[int, int]  # by frame number
    outputs: tuple[int, ...]
    answer: asyncio.Future[RenderResult]
    asked_s: float
    link_ms: float = 0.0
    resends: int = 0
    parked: bool = False  # waits for the session to be opened again


class Session:
    """One stream; from `Client.open_session`. Belongs to the client's event loop.

    `state` (with `model` and `engine`) and `transport` (`shared` or `inline`) are what the server chose; `on_engine` is
    called after every change of `state`. While the server is away or being restarted every request fails at once; the
    session is opened again by itself.
    """

    def __init__(
        self,
        session_id: int,
        spec: StreamSpec,
        pool: FramePool,
        link: Link,
        on_engine: Callable[[EngineState], None] = lambda state: None,
    ) -> None:
        self.id = session_id
        self.spec = spec
        self.pool = pool
        self.state = EngineState(spec.model, spec.engine)
        self.generation = 0
        self._link = link
        self._on_engine = on_engine
        self._why_not = "the session is being opened"
        self._opening: asyncio.Future[None] | None = None
        self._frames = ClientFrames(spec.layout, pool)
        self.outgoing: Outgoing | None = None  # over a network
        self._link_ms = 0.0  # of the newest request
        self._unpacking: set[asyncio.Task[None]] = set()
        self._pending: dict[int, _Pending] = {}
        self._requests = 0
        self._settled = asyncio.Event()
        self._ready = asyncio.Event()
        self._closed = self._refused = False

    # --- for the player -----------------------------------------------------------------------------------------------

    @property
    def model(self) -> str:
        return self.state.model

    @property
    def engine(self) -> str:
        return self.state.engine

    @property
    def transport(self) -> str:
        return self._frames.transport

    @property
    def ready(self) -> bool:
        """Whether the server has it open; a request fails at once while not."""
        return self._ready.is_set()

    @property
    def refused(self) -> bool:
        """Whether the server that is there has said that it cannot open it."""
        return self._refused

    @property
    def in_flight(self) -> int:
        """Requests without an answer; their slots are retained."""
        return len(self._pending)

    @property
    def room(self) -> bool:
        """Whether one more request makes sense."""
        return self.outgoing is None or len(self._pending) < MAX_ON_NETWORK

    @property
    def answers(self) -> bool:
        """Whether it is open and the server answers; while not, every request fails."""
        return self.ready and not self._link.stalled()

    @property
    def heard(self) -> bool:
        """Whether what is late now says something about the level: not while the network stalls."""
        stalls = self.outgoing is not None and self._link_ms < SLOW_MS and self._link.quiet()
        return self.answers and not stalls

    async def wait_ready(self, timeout_s: float) -> None:
        """Until requests can be made (again): for programs that would rather wait than go on without. ServerError."""
        if not self.ready and not self._closed:
            self._link.ask_reopen()
        deadline = Deadline(timeout_s)
        try:
            while not self.answers:
                await asyncio.wait_for(self._ready.wait(), deadline.remaining_s)
                if self._link.stalled():
                    if deadline.passed:
                        raise ServerError(f"the server did not answer within {timeout_s:g} s")
                    await asyncio.sleep(STALL_POLL_S)
        except TimeoutError:
            raise ServerError(f"the session was not ready within {timeout_s:g} s: {self._why_not}") from None

    def render(
        self,
        middle: Frame,
        times: Sequence[float],
        outputs: Sequence[int],
        *,
        previous: Frame | None = None,
        following: Frame | None = None,
        interval_before: float = 1.0,
        interval_after: float = 1.0,
        generation: int | None = None,
    ) -> asyncio.Future[RenderResult]:
        """Ask for the triplet's frames at `times` (0 previous, 1 middle, 2 following), one output slot a time.

        The caller holds all slots when calling; this session retains them until the server has answered, so they may be
        released while the answer is awaited or after it was given up. `generation` is the current one by default.
        The answer is a RenderResult, or RequestDropped, or ServerError; a wrong request raises ProtocolError here.
        """
        frames = [frame for frame in (previous, middle, following) if frame is not None]
        if len(outputs) != len(times):
            raise ValueError(f"render has {len(outputs)} output slots for {len(times)} times")
        if len({*outputs, *(frame.slot for frame in frames)}) != len(outputs) + len(frames):
            raise ValueError("render has one slot twice, expected different ones for all frames and outputs")
        answer: asyncio.Future[RenderResult] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_mark_retrieved)
        if why_not := self._unavailable():
            answer.set_exception(ServerError(f"no frame can be rendered now: {why_not}"))
            return answer
        self._requests += 1
        message = m.Render(
            session=self.id,
            generation=self.generation if generation is None else generation,
            request=self._requests,
            previous=previous.number if previous else None,
            middle=middle.number,
            following=following.number if following else None,
            interval_before=float(interval_before),
            interval_after=float(interval_after),
            times=tuple(map(float, times)),
            attached=(),
            output_slots=(),
            encoding=RAW,
        )
        message.check()
        slot_of = {frame.number: frame.slot for frame in frames}
        pending = _Pending(message, slot_of, tuple(outputs), answer, time.perf_counter())
        self.pool.retain(*slot_of.values(), *outputs)
        self._pending[message.request] = pending
        self._transmit(pending)
        return answer

    def _unavailable(self) -> str:
        """Why no request can be made now, after asking for the session to be opened if that helps; empty if one can."""
        if not self.ready and not self._closed:
            self._link.ask_reopen()
        elif not self._closed:
            return "the server does not answer" if self._link.stalled() else ""
        return self._why_not

    def wake(self) -> None:
        """Have the session opened again if it is not ready; a server that ended while idle is started."""
        if not self.ready and not self._closed:
            self._link.ask_reopen()

    def give_up(self, reason: str) -> None:
        """Have another server started in the place of this one, whose workers hang; nothing where it is another machine's."""
        self._link.give_up(reason)

    def cancel(self, generation: int) -> None:
        """Drop the requests of generations below `generation`, which is that of requests from here on."""
        self.generation = max(self.generation, generation)
        if self.ready:
            self._link.send(m.Cancel(self.id, self.generation), ())

    def cancel_build(self) -> None:
        """Give up the engine that is being built for this session, if one is; what renders it now goes on."""
        if self.ready:
            self._link.send(m.CancelBuild(self.id), ())

    async def close(self) -> None:
        """End the session; requests that are not being rendered are dropped. Afterwards nothing writes to the pool."""
        if self._closed:
            return
        self._closed = True
        self._why_not = "the session is closed"
        self._link.send(m.Close(self.id), ())
        deadline = Deadline(CLOSE_TIMEOUT_S)
        try:
            while self._pending:
                self._settled.clear()
                await asyncio.wait_for(self._settled.wait(), deadline.remaining_s)
        except TimeoutError:
            pass
        finally:
            await asyncio.gather(*self._unpacking, return_exceptions=True)
            self.lose("the session is closed")
            self._link.forget(self.id)

    # --- for the client -----------------------------------------------------------------------------------------------

    def open(self) -> asyncio.Future[None]:
        """Ask the server to open this session; done when it is, or failed with what the server says."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_future()
            self._opening.add_done_callback(_mark_retrieved)
            self._link.send(self._open_message(), ())
        return self._opening

    def reopen(self) -> None:
        """Open the session again on a server that does not know it; nothing if that is under way, or was refused.

        What a server refused once (a missing model) it would refuse at every frame: that is not asked again.
        """
        if not self.ready and not self._closed and not self._refused:
            self.open()

    def _open_message(self) -> m.Open:
        spec = self.spec
        return m.Open(
            session=self.id,
            width=spec.layout.width,
            height=spec.layout.height,
            pixel_format=spec.layout.format.name,
            matrix=spec.matrix,
            full_range=spec.full_range,
            model=spec.model,
            engine=spec.engine,
            scale=float(spec.scale),
            linear=spec.linear,
            shared=None if self._link.send_packed else self.pool.shared,
        )

    def take(self, message: m.Message, payloads: Sequence[memoryview]) -> None:
        """An answer of the server's to this session."""
        match message:
            case m.Opened():
                self._opened(message)
            case m.Rendered():
                self._rendered(message, payloads)
            case m.Received():
                if self.outgoing is not None:
                    self.outgoing.arrived((self.id, message.request), message.at_ms / 1000)
            case m.Engine():
                self._engine_is(
                    EngineState(message.model, message.engine, message.note, message.building, message.progress)
                )
            case m.Dropped(request=request):
                if pending := self._settle(request):
                    _fail(pending.answer, RequestDropped("the request was cancelled before it was rendered"))
            case m.Need():
                self._need(message)
            case m.Failure(request=None):
                self._open_failed(_error(message))
            case m.Failure(request=int(request)):
                if pending := self._settle(request):
                    _fail(pending.answer, _error(message))

    def stall(self, reason: str) -> None:
        """The server does not answer: nobody should wait for it, but it may still write to the slots."""
        for pending in self._pending.values():
            _fail(pending.answer, ServerError(reason))

    def lose(self, reason: str) -> None:
        """The server is gone, or this session's place in it, with all it knew."""
        self._ready.clear()
        self._refused = False
        if not self._closed:
            self._why_not = reason
        for request in list(self._pending):
            if pending := self._settle(request):
                _fail(pending.answer, ServerError(reason))
        if self._opening is not None:
            _fail(self._opening, ServerError(reason))

    def _opened(self, message: m.Opened) -> None:
        self._frames.opened(message.transport)
        throughput = self._link.throughput
        self.outgoing = None if throughput is None else Outgoing(throughput)
        self._ready.set()
        if self.generation:
            self._link.send(m.Cancel(self.id, self.generation), ())
        for pending in list(self._pending.values()):
            if pending.parked:
                pending.parked = False
                self._transmit(pending)
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(None)
        self._engine_is(EngineState(message.model, message.engine, message.note))

    def _engine_is(self, state: EngineState) -> None:
        self.state = state
        self._on_engine(state)

    def _open_failed(self, error: DrbaError) -> None:
        if self._opening is not None:
            _fail(self._opening, error)
        self.lose(str(error))
        self._refused = True

    def _transmit(self, pending: _Pending) -> None:
        """Send a request with the frames that the server lacks."""
        message, frames = self._frames.attach(pending.message, pending.slot_of, pending.outputs)
        outgoing, send_packed = self.outgoing, self._link.send_packed
        if outgoing is None or send_packed is None or not frames:
            self._link.send(message, [part for frame in frames for part in split(frame)])
            return
        encoding, trial = outgoing.next()

        def sent(packed: Packed) -> None:
            outgoing.sent((self.id, message.request), packed)
            pending.link_ms = outgoing.send_ms(packed)

        work = partial(pack, frames, self.spec.layout, encoding, trial=trial)
        send_packed(replace(message, encoding=encoding), work, sent)

    def _need(self, message: m.Need) -> None:
        pending = self._pending.get(message.request)
        if pending is None:
            return
        pending.resends += 1
        if pending.resends > MAX_RESENDS:
            self._settle(message.request)
            _fail(pending.answer, ServerError(f"the server asked for the same frames {MAX_RESENDS} times"))
        elif message.unknown_session:
            pending.parked = True
            self._ready.clear()
            self._why_not = "the session is being opened again"
            self._link.ask_reopen()
        else:
            for number in message.frames:
                self._frames.known.forget(number)
            self._transmit(pending)

    def _rendered(self, message: m.Rendered, payloads: Sequence[memoryview]) -> None:
        pending = self._pending.get(message.request)
        if pending is None:
            return
        if self.transport == "shared" and not payloads:
            self._finish(message, None)
            return
        if message.encoding == RAW:
            self._finish(message, self._frames.take(pending.outputs, message.encoding, payloads))
            return
        self.pool.retain(*pending.outputs)  # a thread writes to them, even if the request is settled meanwhile
        unpacking = asyncio.ensure_future(self._unpack(pending, message, payloads))
        self._unpacking.add(unpacking)
        unpacking.add_done_callback(self._unpacking.discard)

    async def _unpack(self, pending: _Pending, message: m.Rendered, payloads: Sequence[memoryview]) -> None:
        try:
            error = await asyncio.to_thread(self._frames.take, pending.outputs, message.encoding, payloads)
        finally:
            self.pool.release(*pending.outputs)
        self._finish(message, error)

    def _finish(self, message: m.Rendered, error: ServerError | None) -> None:
        pending = self._settle(message.request)
        if pending is None:
            return
        self._link_ms = max(pending.link_ms, message.send_ms)
        if error is not None:
            _fail(pending.answer, error)
        elif not pending.answer.done():
            round_trip_ms = (time.perf_counter() - pending.asked_s) * 1000
            pending.answer.set_result(
                RenderResult(message.generation, pending.outputs, message.render_ms, round_trip_ms, self._link_ms)
            )

    def _settle(self, request: int) -> _Pending | None:
        """The request has its answer, or never will: its slots are the caller's alone again."""
        pending = self._pending.pop(request, None)
        if pending is None:
            return None
        self.pool.release(*pending.slot_of.values(), *pending.outputs)
        self._settled.set()
        return pending


def _error(message: m.Failure) -> DrbaError:
    kinds = {m.FailureCode.MODEL: ModelError, m.FailureCode.INPUT: InputError, m.FailureCode.RENDER: RenderFailed}
    return kinds.get(message.code, ServerError)(message.message)


def _fail(answer: asyncio.Future[RenderResult] | asyncio.Future[None], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _mark_retrieved(answer: asyncio.Future[RenderResult] | asyncio.Future[None]) -> None:
    """An answer that nobody waits for any more is no error worth a traceback."""
    if not answer.cancelled():
        answer.exception()

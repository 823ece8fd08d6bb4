"""The messages between player and server, protocol version 3, and their limits. docs/protocol.md says what they mean.

Records are frozen; `check` raises ProtocolError saying what was found and what is expected. Bytes: see protocol.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from drba.errors import InputError, ProtocolError
from drba.pixels import FrameLayout, pixel_format

from .fields import Record, boolean, integer, number, optional, pair, record, sequence, text

VERSION = 3

MAX_SIDE = 16384  # pixels; the largest texture that GPUs and H.265 level 6.2 (8192 x 4320) leave room for
MAX_FRAME_BYTES = 512 << 20  # 16384 x 16384 at 8 bit 4:2:0 is 403 MB; more would let one message exhaust a desktop
MAX_ATTACHED = 3  # frames one request can bring: a triplet
MAX_ANSWER_BYTES = (
    1 << 30
)  # of frames that travel in one answer: ten of 8K, two of the largest; 64 of those would be 32 GiB
MAX_TIMES = 64  # output frames of one request: 12 fps shown at 240 Hz needs 20, a 1/4 s gap at 240 Hz 60
MAX_SLOTS = 1024  # of one shared memory: 40 s of 24 fps film, far beyond any look-ahead
MAX_SLOT_BYTES = MAX_FRAME_BYTES + (1 << 20)  # a slot may be padded to a (huge) page
MAX_ID = (1 << 53) - 1  # exact in every language's double
MAX_SESSION_ID = (1 << 31) - 1
MAX_PID = (1 << 22) * 1024  # Linux stops at 2^22; other systems need not
MAX_HEADER_BYTES = 64 << 10  # a full StatusReport is below 8 KiB, so this is malformed or hostile
CHUNK_BYTES = 1 << 20  # a frame travels in parts of so much: a network's connection need not take anything larger
MAX_PARTS = 1 + MAX_TIMES * (MAX_FRAME_BYTES // CHUNK_BYTES)
MAX_SESSIONS = 16  # open at the server at once: every one holds device memory
MAX_REMOTE_SESSIONS = 8  # of them, of other machines together: this machine's own players have the rest
MAX_WORKERS = 64
MAX_QUEUED = 64  # requests waiting in one session; a player looks ahead about 1 s
MAX_TEXT = 4000  # an error line with a path in it
INLINE_FRAMES = 8  # frames kept for an inline session: a triplet each for two workers and two to spare

Name = Annotated[str, text(64)]
SessionId = Annotated[int, integer(0, MAX_SESSION_ID)]
Id = Annotated[int, integer(0, MAX_ID)]
Pid = Annotated[int, integer(1, MAX_PID)]
Count = Annotated[int, integer(0, MAX_ID)]
Flag = Annotated[bool, boolean]
Line = Annotated[str, text(MAX_TEXT)]
Side = Annotated[int, integer(1, MAX_SIDE)]
Seconds = Annotated[float, number(0, 1e12)]
Millis = Annotated[float, number(0, 1e12)]

_id = integer(0, MAX_ID)
_slot = integer(0, MAX_SLOTS - 1)


class FailureCode:
    """What went wrong, for programs; `Failure.message` is the same for people."""

    MALFORMED = "malformed"  # the message breaks the protocol
    VERSION = "version"  # the header has another version
    NOT_READY = "not_ready"  # the session is still being opened
    BUSY = "busy"  # MAX_QUEUED requests or MAX_SESSIONS sessions are reached
    INPUT = "input"  # opening: the user asked for what cannot work (InputError)
    MODEL = "model"  # opening: the model is unknown or has no weights (ModelError)
    OPEN = "open"  # opening failed in any other way
    RENDER = "render"  # the engine failed on this request
    REFUSED = "refused"  # another machine asked for what only this one's user may have


class Message(Record):
    """Base of the messages; `label` is the header's `type`."""


# --- client to server -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello(Message):
    """First message of a client, and its heartbeat afterwards. Answered by Welcome."""

    label: ClassVar[str] = "hello"


@dataclass(frozen=True)
class SharedMemory(Record):
    """The memfd `fd` of process `pid`, at least slots * slot_bytes long; slot n begins at n * slot_bytes."""

    label: ClassVar[str] = "shared"
    pid: Pid
    fd: Annotated[int, integer(0, (1 << 31) - 1)]
    slots: Annotated[int, integer(1, MAX_SLOTS)]
    slot_bytes: Annotated[int, integer(1, MAX_SLOT_BYTES)]


@dataclass(frozen=True)
class Open(Message):
    """Prepare a renderer for a stream under an id of the client's choice; opening an id again replaces it."""

    label: ClassVar[str] = "open"
    session: SessionId
    width: Side
    height: Side
    pixel_format: Name
    matrix: Name
    full_range: Flag
    model: Name
    engine: Name
    scale: Annotated[float, number(1 / 16, 16)]
    linear: Flag
    shared: Annotated[SharedMemory | None, optional(record(SharedMemory))]

    @property
    def layout(self) -> FrameLayout:
        return FrameLayout(self.width, self.height, pixel_format(self.pixel_format))

    def check_together(self) -> None:
        try:
            frame_bytes = self.layout.frame_bytes
        except InputError as error:
            raise ProtocolError(f"open.pixel_format: {error}") from error
        if frame_bytes > MAX_FRAME_BYTES:
            raise ProtocolError(f"open asks for frames of {frame_bytes} bytes, expected at most {MAX_FRAME_BYTES}")
        if self.shared is not None and self.shared.slot_bytes < frame_bytes:
            raise ProtocolError(
                f"shared.slot_bytes is {self.shared.slot_bytes}, expected a frame's {frame_bytes} or more"
            )


@dataclass(frozen=True)
class Render(Message):
    """Render the triplet's frames at `times` (0 previous, 1 middle, 2 following). Answered exactly once.

    `attached` brings frames that the server has not seen: (frame number, slot) with shared memory, (frame number, index
    of the frame among the payloads) inline. `output_slots` has one slot a time with shared memory and is empty inline.
    `encoding` is that of the payloads, empty for raw frames.
    """

    label: ClassVar[str] = "render"
    session: SessionId
    generation: Id
    request: Id
    previous: Annotated[int | None, optional(_id)]
    middle: Id
    following: Annotated[int | None, optional(_id)]
    interval_before: Annotated[float, number(1e-9, 1e9)]
    interval_after: Annotated[float, number(1e-9, 1e9)]
    times: Annotated[tuple[float, ...], sequence(number(0, 2), MAX_TIMES)]
    attached: Annotated[tuple[tuple[int, int], ...], sequence(pair(_id, _slot), MAX_ATTACHED)]
    output_slots: Annotated[tuple[int, ...], sequence(_slot, MAX_TIMES)]
    encoding: Name

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of the frames the triplet has."""
        return tuple(n for n in (self.previous, self.middle, self.following) if n is not None)

    def check_together(self) -> None:
        if not self.times:
            raise ProtocolError("render.times is empty, expected at least one time")
        if len(self.frames) == 1 or len(set(self.frames)) != len(self.frames):
            raise ProtocolError(f"render has frames {self.frames}, expected two or three different ones")
        for side, present, wanted in (
            ("previous", self.previous is not None, min(self.times) < 1),
            ("following", self.following is not None, max(self.times) > 1),
        ):
            if wanted and not present:
                raise ProtocolError(f"render.times reach the {side} frame, which the triplet lacks")
        numbers = [number for number, _ in self.attached]
        places = [place for _, place in self.attached]
        if len(set(numbers)) != len(numbers) or not set(numbers) <= set(self.frames):
            raise ProtocolError(f"render.attached has frames {numbers}, expected different ones of {self.frames}")
        if self.output_slots and len(self.output_slots) != len(self.times):
            raise ProtocolError(f"render.output_slots has {len(self.output_slots)} slots for {len(self.times)} times")
        if len({*places, *self.output_slots}) != len(places) + len(self.output_slots):
            raise ProtocolError("render names one slot twice, expected different slots for all frames and outputs")


@dataclass(frozen=True)
class Received(Message):
    """Over a network, by either end: the Render or Rendered of this request has arrived with its payloads, and so has all
    that was sent before it. `at_ms` is when, by the receiver's clock."""

    label: ClassVar[str] = "received"
    session: SessionId
    request: Id
    at_ms: Millis


@dataclass(frozen=True)
class Cancel(Message):
    """Drop the session's requests of generations below `generation` that are not being rendered yet."""

    label: ClassVar[str] = "cancel"
    session: SessionId
    generation: Id


@dataclass(frozen=True)
class Close(Message):
    label: ClassVar[str] = "close"
    session: SessionId


@dataclass(frozen=True)
class CancelBuild(Message):
    """Give up the engine that is being built for the session; what renders it now goes on. Answered by Engine, if one is
    being built; other sessions that wait for the same engine still get it."""

    label: ClassVar[str] = "cancel_build"
    session: SessionId


@dataclass(frozen=True)
class Status(Message):
    """Ask for a StatusReport."""

    label: ClassVar[str] = "status"


@dataclass(frozen=True)
class Stop(Message):
    """Ask the server to end. Answered by Goodbye."""

    label: ClassVar[str] = "stop"


# --- server to client -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Welcome(Message):
    """`version` is that of the package; the protocol's is in every header. `workers`: requests rendered at once."""

    label: ClassVar[str] = "welcome"
    version: Name
    pid: Pid
    models: Annotated[tuple[str, ...], sequence(text(64), 256)]
    workers: Annotated[int, integer(1, MAX_WORKERS)]


@dataclass(frozen=True)
class Opened(Message):
    """`transport` is what is used from here on: `shared` or `inline`; `note` says for people why it is this engine."""

    label: ClassVar[str] = "opened"
    session: SessionId
    model: Name
    engine: Name
    transport: Name
    note: Line


@dataclass(frozen=True)
class Engine(Message):
    """What renders the session has changed, or what is being built to take over (`building`, empty for nothing)."""

    label: ClassVar[str] = "engine"
    session: SessionId
    model: Name
    engine: Name
    building: Name
    progress: Annotated[float, number(0, 1)]
    note: Line


@dataclass(frozen=True)
class Rendered(Message):
    """Done: outputs are in their slots, or follow as payloads in the order of the request's times, in `encoding` (empty:
    raw). `send_ms` is how long they keep the network busy, by the server's measurements; 0 without one."""

    label: ClassVar[str] = "rendered"
    session: SessionId
    generation: Id
    request: Id
    render_ms: Millis
    send_ms: Millis
    encoding: Name


@dataclass(frozen=True)
class Need(Message):
    """The request was put away because the server lacks `frames`, or the whole session: attach them and ask again."""

    label: ClassVar[str] = "need"
    session: SessionId
    generation: Id
    request: Id
    frames: Annotated[tuple[int, ...], sequence(_id, MAX_ATTACHED)]
    unknown_session: Flag


@dataclass(frozen=True)
class Dropped(Message):
    """The request's generation was cancelled, or its session closed, before it was rendered."""

    label: ClassVar[str] = "dropped"
    session: SessionId
    generation: Id
    request: Id


@dataclass(frozen=True)
class Failure(Message):
    label: ClassVar[str] = "failure"
    session: Annotated[int | None, optional(integer(0, MAX_SESSION_ID))]
    request: Annotated[int | None, optional(_id)]
    code: Name
    message: Line


@dataclass(frozen=True)
class SessionReport(Record):
    """One open session; `pid` is the client's, 0 if unknown; `card` the one that it is on, empty where there is no choice;
    `render_ms` the mean over its requests."""

    label: ClassVar[str] = "session"
    session: SessionId
    pid: Annotated[int, integer(0, MAX_PID)]
    width: Side
    height: Side
    pixel_format: Name
    model: Name
    engine: Name
    building: Name
    progress: Annotated[float, number(0, 1)]
    card: Name
    transport: Name
    queued: Count
    rendered: Count
    dropped: Count
    failed: Count
    render_ms: Millis


@dataclass(frozen=True)
class StatusReport(Message):
    """Counts are since the server's start, closed sessions included; `idle_s` is the time since the last work."""

    label: ClassVar[str] = "status_report"
    version: Name
    pid: Pid
    uptime_s: Seconds
    idle_s: Seconds
    workers: Count
    rendered: Count
    dropped: Count
    failed: Count
    malformed: Count
    sessions: Annotated[tuple[SessionReport, ...], sequence(record(SessionReport), MAX_SESSIONS)]


@dataclass(frozen=True)
class Goodbye(Message):
    """The server ends in good order (idle, or asked to); `reason` is for people."""

    label: ClassVar[str] = "goodbye"
    reason: Line


REQUESTS: tuple[type[Message], ...] = (Hello, Open, Render, Received, Cancel, Close, CancelBuild, Status, Stop)
REPLIES: tuple[type[Message], ...] = (
    Welcome,
    Opened,
    Engine,
    Rendered,
    Received,
    Need,
    Dropped,
    Failure,
    StatusReport,
    Goodbye,
)

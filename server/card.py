"""The server's end of a card's process: starts it, asks it, notices its death. Safe to use from several threads."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np

from drba.errors import ServerError
from drba.pixels import Plane
from engines.base import EngineState, SourceFrame, StreamSpec, Triplet

from .card_messages import (
    Answered,
    Asked,
    CancelStreamBuild,
    CloseStream,
    Logged,
    OpenStream,
    Question,
    RenderStream,
    Report,
    StreamChanged,
)
from .messages import MAX_TIMES
from .shared import FramePool, SharedFrames

log = logging.getLogger("drba.server")

MAX_COPIES = 4 * (3 + MAX_TIMES)  # frames of an inline stream's requests that are being rendered: four of the largest


class CardLost(ServerError):
    """The card's process has ended; nothing it had is left."""


@dataclass(frozen=True)
class Device:
    """A card, or a share of the processor: `environment` makes a process see it alone. Names differ."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)


class CardProcess:
    """One process. `lost` says why it has ended, once it has; it is not started again."""

    def __init__(self, device: Device, command: Sequence[str], workers: int) -> None:
        """ServerError if it cannot be started."""
        self.device = device
        self.lost = ""
        self._ending = False
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()  # of the tables; never held while sending, which waits for a process that hangs
        self._sending = threading.Lock()
        self._waiting: dict[int, Future[None]] = {}
        self._streams: dict[int, RemoteRenderer] = {}
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = ["--fd", str(theirs.fileno()), "--workers", str(workers)]
            try:
                self._process = subprocess.Popen(
                    [*command, *arguments],
                    stdin=subprocess.DEVNULL,
                    cwd="/",  # Python looks for modules where it is started: that may be any folder
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **device.environment},
                )
            except OSError as error:
                ours.close()
                raise ServerError(f"the process of card {device.name} cannot be started: {error.strerror}") from error
        self._connection = Connection(ours.detach())
        log.info("card %s: process %d", device.name, self._process.pid)
        threading.Thread(target=self._read, name=f"card {device.name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def streams(self) -> int:
        return len(self._streams)

    def add(self, spec: StreamSpec, memory: SharedFrames | None) -> RemoteRenderer:
        """A place for a stream, which is not opened yet; the caller closes it."""
        renderer = RemoteRenderer(self, next(self._numbers), spec, memory)
        with self._lock:
            self._streams[renderer.stream] = renderer
        return renderer

    def ask(self, question: Question) -> None:
        """Wait for the answer; CardLost at once when the process ends meanwhile, or has ended."""
        number, answer = next(self._numbers), Future[None]()
        with self._lock:
            if self.lost:
                raise CardLost(self.lost)
            self._waiting[number] = answer
        with contextlib.suppress(OSError), self._sending:  # it has ended: `_read` says so to all who wait
            self._connection.send(Asked(number, question))
        answer.result()

    def forget(self, stream: int) -> None:
        with self._lock:
            self._streams.pop(stream, None)

    def end(self) -> None:
        """End the process, whatever it is doing: it has nothing to put in order, and may be stuck in a driver."""
        self._ending = True
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._take(self._connection.recv())
        status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        with self._lock:
            self.lost = f"the process of card {self.device.name} has ended ({how})"
            waiting, self._waiting = self._waiting, {}
            streams = list(self._streams.values())
        if not self._ending:
            log.warning("%s; %d streams were on it", self.lost, len(streams))
        for answer in waiting.values():
            answer.set_exception(CardLost(self.lost))
        for stream in streams:
            stream.changed()

    def _take(self, report: Report) -> None:
        match report:
            case Answered(number, error):
                with self._lock:
                    answer = self._waiting.pop(number)
                if error is None:
                    answer.set_result(None)
                else:
                    answer.set_exception(error)
            case StreamChanged(stream, state):
                with self._lock:
                    renderer = self._streams.get(stream)
                if renderer is not None:
                    renderer.state = state
                    renderer.changed()
            case Logged(level, line):
                log.log(level, "card %s: %s", self.device.name, line)


class RemoteRenderer:
    """A stream's renderer in a card's process, which maps the stream's shared memory too: frames stay where they are.

    Where the client shares none, frames are copied into memory of this renderer's own, and back.
    """

    def __init__(self, card: CardProcess, stream: int, spec: StreamSpec, memory: SharedFrames | None) -> None:
        self.card = card
        self.stream = stream
        self.state = EngineState(spec.model, spec.engine)
        self._spec = spec
        self._pool: FramePool | None = None
        if memory is None:
            # Far more than are used at a time: a slot takes memory when it is first written to, and the last one is reused.
            self._pool = FramePool(spec.layout.frame_bytes, MAX_COPIES)
            if self._pool.shared is None:
                raise ServerError("several cards need memory that processes can share, which this system lacks")
            memory = SharedFrames(self._pool.shared, spec.layout.frame_bytes)
        self._memory = memory
        self._changed: Callable[[], None] = lambda: None

    @property
    def model(self) -> str:
        return self.state.model

    @property
    def engine(self) -> str:
        return self.state.engine

    @property
    def lost(self) -> str:
        return self.card.lost

    def open(self) -> None:
        """Open it in the process; its errors, and CardLost. Closed where that fails."""
        try:
            self.card.ask(OpenStream(self.stream, self._spec, self._memory.memory))
        except BaseException:
            self._forget()
            raise

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def changed(self) -> None:
        self._changed()

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        sources = [frame for frame in (triplet.previous, triplet.middle, triplet.following) if frame is not None]
        with self._slots([frame.planes for frame in sources], outputs) as (held, written):
            slot_of = {frame.number: slot for frame, slot in zip(sources, held, strict=True)}

            def placed(frame: SourceFrame) -> tuple[int, int]:
                return frame.number, slot_of[frame.number]

            self.card.ask(
                RenderStream(
                    self.stream,
                    placed(triplet.previous) if triplet.previous else None,
                    placed(triplet.middle),
                    placed(triplet.following) if triplet.following else None,
                    triplet.interval_before,
                    triplet.interval_after,
                    tuple(times),
                    tuple(written),
                )
            )

    @contextlib.contextmanager
    def _slots(
        self, sources: Sequence[Sequence[Plane]], outputs: Sequence[Sequence[Plane]]
    ) -> Iterator[tuple[list[int], list[int]]]:
        """The slots of frames, for as long as one request takes."""
        if self._pool is None:
            yield [self._memory.slot_of(planes) for planes in sources], [self._memory.slot_of(p) for p in outputs]
            return
        layout, slots = self._spec.layout, []
        try:
            for _ in (*sources, *outputs):
                slot = self._pool.acquire()
                if slot is None:
                    raise ServerError(f"more than {MAX_COPIES} frames of one stream are being rendered")
                slots.append(slot)
            held, written = slots[: len(sources)], slots[len(sources) :]
            for planes, slot in zip(sources, held, strict=True):
                layout.copy(planes, self._pool.buffer(slot))
            yield held, written
            for planes, slot in zip(outputs, written, strict=True):
                for plane, rendered in zip(planes, self._pool.views(slot, layout), strict=True):
                    np.copyto(plane, rendered)
        finally:
            self._pool.release(*slots)

    def cancel_build(self) -> None:
        with contextlib.suppress(CardLost):
            self.card.ask(CancelStreamBuild(self.stream))

    def close(self) -> None:
        with contextlib.suppress(CardLost):
            self.card.ask(CloseStream(self.stream))
        self._forget()

    def _forget(self) -> None:
        self.card.forget(self.stream)
        if self._pool is not None:
            self._pool.close()

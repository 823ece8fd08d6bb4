"""Decoding in a thread of its own: source frames in pool slots, with all that planning needs to know of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count, takewhile

from server.shared import FramePool

from .follow import Follower
from .plan import Relation
from .relations import Describer, SceneOptions, shown_from
from .source import DecodedFrame, VideoSource

log = logging.getLogger(__name__)

#: Source frames decoded ahead of planning: a key frame's cost is spread, and memory stays small.
LOOK_AHEAD = 4
POLL_S = 0.05  # how soon a decoder that waits for room notices that its place was left


@dataclass
class SourceSlot:
    """A decoded frame in the pool. `number` is unique in the film's life."""

    number: int
    time_s: Fraction  # on the player's clock
    slot: int
    to_previous: Relation


@dataclass
class Run:
    """Decoding from one place on. `frames` ends with None where decoding ended."""

    frames: asyncio.Queue[SourceSlot | None]
    jumped_back: bool = False  # it ended where the film's times do, not the film
    room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(LOOK_AHEAD))
    stopped: threading.Event = field(default_factory=threading.Event)
    finished: Future[None] | None = None


class Decoder:
    """Decodes one film. `start` and `stop` belong to the event loop; one run at a time."""

    def __init__(self, source: VideoSource, pool: FramePool, offset_s: Fraction, options: SceneOptions, matrix: str):
        self._source = source
        self._pool = pool
        self._offset_s = offset_s
        self._options = options
        self._matrix = matrix
        self.follower = Follower(source.info)
        self._numbers = count()
        self._thread = ThreadPoolExecutor(1, "decoder")

    def start(self, time_s: Fraction) -> Run:
        """Begin with the frame before the one shown at `time_s` on the player's clock."""
        run = Run(asyncio.Queue())
        run.finished = self._thread.submit(self._decode, run, time_s + self._offset_s, asyncio.get_running_loop())
        return run

    def stop(self, run: Run) -> None:
        """End a run and give back the frames that nobody took. Call once, when nothing takes from `run.frames` any more."""
        run.stopped.set()
        assert run.finished is not None
        loop = asyncio.get_running_loop()
        run.finished.add_done_callback(lambda _: _soon(loop, self._drain, run))

    def _drain(self, run: Run) -> None:
        while not run.frames.empty():
            item = run.frames.get_nowait()
            if item is not None:
                self._pool.release(item.slot)

    def close(self) -> None:
        """Close the source once the last run has noticed that it was stopped. Does not wait."""
        self._thread.submit(self._source.close)
        self._thread.shutdown(wait=False)

    # --- in the decoding thread ---------------------------------------------------------------------------------------

    def _decode(self, run: Run, from_s: Fraction, loop: asyncio.AbstractEventLoop) -> None:
        info = self._source.info
        describe = Describer(info.layout, self._options, self._matrix, info.colour.full_range)
        try:
            frames = takewhile(lambda _: not run.stopped.is_set(), self._source.frames_from(from_s))
            last: DecodedFrame | None = None
            for frame in shown_from(frames, from_s):
                self.follower.decoded(last, frame, self._offset_s)
                self._push(run, frame, describe, loop)
                last = frame
            if self._source.jumped_back and last is not None:
                self.follower.jumped_back(last, self._offset_s)
                run.jumped_back = True
        except Exception:
            log.exception("decoding stopped")
        finally:
            _soon(loop, run.frames.put_nowait, None)

    def _push(self, run: Run, frame: DecodedFrame, describe: Describer, loop: asyncio.AbstractEventLoop) -> None:
        while not run.room.acquire(timeout=POLL_S):
            if run.stopped.is_set():
                return
        slot = None
        while slot is None:
            if run.stopped.is_set():
                return
            slot = self._pool.acquire(POLL_S)
        self._source.info.layout.copy(frame.planes(), self._pool.buffer(slot))
        to_previous = describe.relation(self._pool.views(slot, self._source.info.layout), frame.time_s)
        item = SourceSlot(next(self._numbers), frame.time_s - self._offset_s, slot, to_previous)
        _soon(loop, run.frames.put_nowait, item)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    """Have the event loop make a call, unless it has ended: a bridge ends with its mpv and does not wait for its decoders."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        log.debug("the event loop ended before the decoder")

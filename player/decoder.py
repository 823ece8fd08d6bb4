"""Decoding in a thread of its own: source frames in pool slots, with all that planning needs to know of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count

from drba import scene
from drba.pixels import FrameLayout
from server.shared import FramePool

from .plan import Relation, relation
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
    room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(LOOK_AHEAD))
    stopped: threading.Event = field(default_factory=threading.Event)
    finished: Future[None] | None = None


@dataclass(frozen=True)
class SceneOptions:
    """Scene-cut detection: whether, and below which SSIM (0..1)."""

    detect: bool = True
    threshold: float = scene.DEFAULT_THRESHOLD


class Decoder:
    """Decodes one film. `start` and `stop` belong to the event loop; one run at a time."""

    def __init__(self, source: VideoSource, pool: FramePool, offset_s: Fraction, options: SceneOptions, matrix: str):
        self._source = source
        self._pool = pool
        self._offset_s = offset_s
        self._options = options
        self._matrix = matrix
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
        run.finished.add_done_callback(lambda _: loop.call_soon_threadsafe(self._drain, run))

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
        describe = _Describer(
            self._source.info.layout, self._options, self._matrix, self._source.info.colour.full_range
        )
        waiting: deque[DecodedFrame] = deque(maxlen=2)  # the frame shown at `from_s` and the one before it
        started = False
        try:
            for frame in self._source.frames_from(from_s):
                if run.stopped.is_set():
                    return
                if not started and frame.time_s <= from_s:
                    waiting.append(frame)
                    continue
                started = True
                while waiting:
                    self._push(run, waiting.popleft(), describe, loop)
                self._push(run, frame, describe, loop)
            while waiting:
                self._push(run, waiting.popleft(), describe, loop)
        except Exception:
            log.exception("decoding stopped")
        finally:
            _hand_over(loop, run, None)

    def _push(self, run: Run, frame: DecodedFrame, describe: _Describer, loop: asyncio.AbstractEventLoop) -> None:
        while not run.room.acquire(timeout=POLL_S):
            if run.stopped.is_set():
                return
        slot = None
        while slot is None:
            if run.stopped.is_set():
                return
            slot = self._pool.acquire(POLL_S)
        self._source.info.layout.copy(frame.planes(), self._pool.buffer(slot))
        to_previous = describe.relation(self._pool, slot, frame.time_s)
        _hand_over(loop, run, SourceSlot(next(self._numbers), frame.time_s - self._offset_s, slot, to_previous))


def _hand_over(loop: asyncio.AbstractEventLoop, run: Run, item: SourceSlot | None) -> None:
    try:
        loop.call_soon_threadsafe(run.frames.put_nowait, item)
    except RuntimeError:
        log.debug("the event loop ended before the decoder")


class _Describer:
    """Compares each frame with the one before it."""

    def __init__(self, layout: FrameLayout, options: SceneOptions, matrix: str, full_range: bool | None) -> None:
        self._layout = layout
        self._options = options
        self._matrix = matrix
        self._full_range = bool(full_range)
        self._last: tuple[Fraction, scene.Thumbnail | None, scene.Signature] | None = None

    def relation(self, pool: FramePool, slot: int, time_s: Fraction) -> Relation:
        planes = pool.views(slot, self._layout)
        signature = scene.held_signature(planes[0], self._layout.format.depth)
        thumbnail = None
        if self._options.detect:
            thumbnail = scene.thumbnail(planes, self._layout, self._matrix, self._full_range)
        last, self._last = self._last, (time_s, thumbnail, signature)
        if last is None:
            return Relation.CUT
        last_s, last_thumbnail, last_signature = last
        held = scene.is_held(last_signature, signature)
        cut = (
            not held
            and thumbnail is not None
            and last_thumbnail is not None
            and scene.is_cut(last_thumbnail, thumbnail, self._options.threshold)
        )
        return relation(time_s - last_s, cut=cut, held=held)

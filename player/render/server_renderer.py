"""A renderer whose frames are made by a drba-server, this machine's or another's."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from drba.errors import EngineError, ServerError
from drba.pixels import Plane
from engines.base import EngineState, SourceFrame, StreamSpec, Triplet
from server.client import Client, Frame, FramePool, Session
from server.keys import find_server

KEPT_FRAMES = 8  # source frames in the pool: those of the triplets being rendered
POOL_SLOTS = 40
ATTEMPTS = 3  # of one request: the server may die once and be restarted
READY_TIMEOUT_S = 60.0
T = TypeVar("T")


def _connected(server: str | None) -> Coroutine[Any, Any, Client]:
    if server is None or server.startswith("ipc://"):
        return Client.connect(endpoint=server, start=server is None)
    return Client.connect(remote=find_server(server))


class ServerRenderer:
    """`engines.base.Renderer` over a connection, with an event loop in a thread of its own."""

    def __init__(self, spec: StreamSpec, server: str | None) -> None:
        """`server` None is this user's, started if there is none; else an ipc:// endpoint or a paired machine, as `find_server`
        takes it. ServerError, ModelError, InputError."""
        self._layout = spec.layout
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server-client", daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._slots: OrderedDict[int, int] = OrderedDict()  # by frame number, oldest first
        self._pool = FramePool(spec.layout.frame_bytes, POOL_SLOTS)
        self._began_with: tuple[str, str] | None = None  # model and engine of all frames
        self._client: Client | None = None
        try:
            self._client = self._call(_connected(server))
            self._session: Session = self._call(self._client.open_session(spec, self._pool))
        except BaseException:
            self.close()
            raise

    @property
    def state(self) -> EngineState:
        return self._session.state

    @property
    def model(self) -> str:
        return self._session.model

    @property
    def engine(self) -> str:
        return self._session.engine

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        given = (triplet.previous, triplet.middle, triplet.following)
        frames = [None if frame is None else Frame(frame.number, self._slot_of(frame)) for frame in given]
        slots = [self._acquire() for _ in times]
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._call(self._ask(frames, times, slots, triplet))
                    break
                except ServerError:
                    if attempt == ATTEMPTS:
                        raise
            for slot, planes in zip(slots, outputs, strict=True):
                for made, out in zip(self._pool.views(slot, self._layout), planes, strict=True):
                    np.copyto(out, made)
        finally:
            self._pool.release(*slots, *(frame.slot for frame in frames if frame is not None))

    def close(self) -> None:
        if self._client is not None:
            self._call(self._client.close())
            self._client = None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._pool.close()

    async def _ask(
        self, frames: Sequence[Frame | None], times: Sequence[float], slots: Sequence[int], triplet: Triplet
    ) -> None:
        await self._session.wait_ready(READY_TIMEOUT_S)
        now = (self._session.model, self._session.engine)
        if self._began_with is None:
            self._began_with = now
        if now != self._began_with:  # it built a better one, or was restarted without the old one
            raise EngineError(
                f"the server renders with {' on '.join(now)} now, this film was begun with {' on '.join(self._began_with)}; "
                "start again with --force"
            )
        previous, middle, following = frames
        assert middle is not None
        await self._session.render(
            middle,
            times,
            slots,
            previous=previous,
            following=following,
            interval_before=triplet.interval_before,
            interval_after=triplet.interval_after,
        )

    def _slot_of(self, frame: SourceFrame) -> int:
        """The slot that holds a source frame, retained for the caller."""
        with self._lock:
            slot = self._slots.get(frame.number)
            if slot is None:
                slot = self._acquire()
                self._layout.copy(list(frame.planes), self._pool.buffer(slot))
                self._slots[frame.number] = slot
                while len(self._slots) > KEPT_FRAMES:
                    _, old = self._slots.popitem(last=False)
                    self._pool.release(old)
            self._pool.retain(slot)
            return slot

    def _acquire(self) -> int:
        while True:
            slot = self._pool.acquire(READY_TIMEOUT_S)
            if slot is not None:
                return slot

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()

"""One connection of a client to one server process: greeting, heartbeat, and how its end is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from drba.errors import ProtocolError, ServerError

from .curve import secure_client
from .deadline import Deadline
from .keys import RemoteServer, identity
from .messages import MAX_FRAME_BYTES, Goodbye, Hello, Message, Received, Rendered, Welcome
from .outgoing import Packed
from .peers import peer_pid
from .protocol import Buffer, parse_reply, serialize

log = logging.getLogger("drba.client")

GREETING_INTERVAL_S = 0.1  # between Hellos until the first Welcome
HEARTBEAT_INTERVAL_S = 0.25
QUIET_BEATS = 2  # (0.3 to 0.5 s) after which a network is suspected: what is late now is late for it,
AFTER_QUIET_S = 1.0  # and for so long after: what waited meanwhile comes first
STALLED_BEATS = 4  # unanswered heartbeats (1 s) after which requests fail: the film goes on with source frames
LOST_BEATS = 40  # (10 s) after which the server is given up: loading a model can keep Python's lock for seconds
#: (4 s) over a network, which is tried with a new connection then: TCP waits as long again as the network was away.
REMOTE_LOST_BEATS = 16
RECONNECT_MS = 20  # between attempts to connect while a server starts
REMOTE_RECONNECT_MS = 250
HIGH_WATER = 1024
LINGER_MS = 100  # for a Close to leave


Pack = Callable[[], Packed]
OnSent = Callable[[Packed], None]


class Connection:
    """`on_message` gets every message but Welcome. `on_stalled` is called when the server stops answering, `on_lost`
    once when the connection has ended without a Goodbye. Belongs to one event loop."""

    def __init__(
        self,
        context: zmq.asyncio.Context,
        endpoint: str,
        routing_id: bytes,
        on_message: Callable[[Message, Sequence[memoryview]], None],
        on_stalled: Callable[[str], None],
        on_lost: Callable[[str], None],
        remote: RemoteServer | None = None,
    ) -> None:
        self.welcome: Welcome | None = None
        self.local_pid: int | None = None  # of the server, if it is on this machine, by the kernel's word
        self.unanswered_beats = 0
        self._quiet_until_s = float("-inf")
        self._endpoint = endpoint
        self._on_message, self._on_stalled, self._on_lost = on_message, on_stalled, on_lost
        self._welcomed = asyncio.Event()
        self._ended = False
        self._remote = remote is not None
        self._lost_beats = REMOTE_LOST_BEATS if remote else LOST_BEATS
        # Frames are packed by another thread; whatever is sent after them waits for its turn.
        self._unpacked: asyncio.Queue[tuple[Message, Pack, OnSent]] = asyncio.Queue()
        self._packing = False
        keys = identity() if remote is not None else None  # before there is a socket, which an error would leave open
        self._socket = context.socket(zmq.DEALER)
        for option, value in (
            (zmq.ROUTING_ID, routing_id),
            (zmq.SNDHWM, HIGH_WATER),
            (zmq.RCVHWM, HIGH_WATER),
            (zmq.LINGER, LINGER_MS),
            (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
            (zmq.RECONNECT_IVL, REMOTE_RECONNECT_MS if remote else RECONNECT_MS),
        ):
            self._socket.setsockopt(option, value)
        if remote is not None and keys is not None:
            secure_client(self._socket, keys, remote.key)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._close_sockets()
            raise ServerError(f"endpoint {endpoint} cannot be used: {error.strerror}") from error
        self._tasks = [
            asyncio.ensure_future(task) for task in (self._read(), self._watch(), self._beat(), self._pack())
        ]

    @property
    def ended(self) -> bool:
        """Nothing is sent any more; only `close` is left to do."""
        return self._ended

    @property
    def quiet(self) -> bool:
        """Whether nothing comes through, or only just does again."""
        return self.unanswered_beats >= QUIET_BEATS or time.monotonic() < self._quiet_until_s

    @property
    def stalled(self) -> bool:
        return self.unanswered_beats >= STALLED_BEATS

    async def greet(self, timeout_s: float) -> Welcome | None:
        """Say Hello until the server answers; None if it does not in time."""
        deadline = Deadline(timeout_s)
        while self.welcome is None and not deadline.passed:
            self.send(Hello())  # again and again: an earlier one may have gone to a server that was just ending
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._welcomed.wait(), deadline.at_most(GREETING_INTERVAL_S))
        return self.welcome

    def reconnect(self, routing_id: bytes) -> None:
        """Connect anew, to whoever listens now; only before there was a Welcome. Under another id: a server that had the old
        connection after all must not take the one for the other."""
        if self.welcome is None and not self._ended:
            self._socket.disconnect(self._endpoint)
            self._socket.setsockopt(zmq.ROUTING_ID, routing_id)
            self._socket.connect(self._endpoint)

    def send(self, message: Message, payloads: Sequence[Buffer] = ()) -> None:
        """Queue a message; the order of calls is kept. Payloads must not change until the message is answered."""
        if self._packing:
            parts: list[Buffer] = list(payloads)
            self.send_packed(message, lambda: Packed(parts), lambda packed: None)
        elif not self._ended:
            self._send_now(message, payloads)

    def send_packed(self, message: Message, pack: Pack, on_sent: OnSent) -> None:
        """Queue a message whose payloads another thread makes; `on_sent` is called when they are handed to the socket."""
        if not self._ended:
            self._packing = True
            self._unpacked.put_nowait((message, pack, on_sent))

    async def _pack(self) -> None:
        while True:
            message, pack, on_sent = await self._unpacked.get()
            try:
                packed = await asyncio.to_thread(pack)
            except Exception:
                log.exception("frames could not be packed")
                continue
            if not self._ended:
                self._send_now(message, packed.parts)
                on_sent(packed)
            self._packing = not self._unpacked.empty()

    def _send_now(self, message: Message, payloads: Sequence[Buffer]) -> None:
        # zmq.asyncio sends at once where it can: nothing has to wait for this future for the order to be kept
        sent = asyncio.ensure_future(self._socket.send_multipart(serialize(message, payloads), copy=not payloads))
        sent.add_done_callback(self._sent)

    def _sent(self, sent: asyncio.Future[Any]) -> None:
        if not sent.cancelled() and (error := sent.exception()) is not None:
            self._end(f"sending failed: {error}")

    def give_up(self, reason: str) -> None:
        """The server is of no use any more: `on_lost` is called."""
        self._end(reason)

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._socket.linger = 0  # the slots of what it has not sent may change from now on
            if self.welcome is not None:
                self._on_lost(reason)

    async def _read(self) -> None:
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            if self.unanswered_beats >= QUIET_BEATS:
                self._quiet_until_s = time.monotonic() + AFTER_QUIET_S
            self.unanswered_beats = 0
            try:
                message, payloads = parse_reply([frame.buffer for frame in frames])
                if isinstance(message, Welcome):
                    self.welcome = message
                    self.local_pid = peer_pid(frames[0])
                    self._welcomed.set()
                else:
                    self._ended |= isinstance(message, Goodbye)  # that it goes away now is no surprise
                    if self._remote and payloads and isinstance(message, Rendered):
                        self.send(Received(message.session, message.request, time.monotonic() * 1000))
                    self._on_message(message, [memoryview(payload) for payload in payloads])
            except ProtocolError as error:
                log.warning("the server's message is dropped: %s", error)
            except Exception:
                log.exception("the server's message could not be handled")

    async def _watch(self) -> None:
        """The unix socket closes with the server's process: this sees a crash within milliseconds."""
        while True:
            await recv_monitor_message(self._monitor)
            if self.welcome is not None:
                self._end("the server has gone away")

    async def _beat(self) -> None:
        # Beats are counted, not seconds: when this process itself was held up, one beat passes, however long it took.
        await self._welcomed.wait()
        while not self._ended:
            self.send(Hello())
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            self.unanswered_beats += 1
            silence_s = self.unanswered_beats * HEARTBEAT_INTERVAL_S
            if self.unanswered_beats == STALLED_BEATS:
                self._on_stalled(f"the server has not answered for {silence_s:.1f} s")
            elif self.unanswered_beats >= self._lost_beats:
                self._end(f"the server has not answered for {silence_s:.0f} s")

    async def close(self) -> None:
        """End it from this side; `on_lost` is not called. What was sent still leaves, if the server takes it."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._close_sockets()

    def _close_sockets(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()

"""The server's sockets: one thread that takes messages and sends answers. It never renders; no message ends it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from drba.errors import ProtocolError, ServerError

from . import messages as m
from .cards import Cards
from .curve import AllowedClients, Gatekeeper, client_key, secure_server
from .dispatch import Dispatcher, OpenRenderer
from .keys import Identity
from .peers import Peer, open_pidfd, peer_pid
from .protocol import Buffer, MalformedMessage, parse_request, serialize

log = logging.getLogger("drba.server")

SILENCE_S = 30.0  # a client that says nothing for so long is gone; clients send a Hello several times a second
TICK_S = 0.5  # how often silence and idleness are looked at
LATE_S = 0.25  # after which this process was not late for its own clock but stopped
STOP_TIMEOUT_S = 5.0  # for the running requests when the server ends; one takes milliseconds, a stuck driver forever
LINGER_MS = 500  # for the last answers to leave
HANDSHAKE_MS = 10_000  # for a connection to say what it is: one that does not holds a file open
HIGH_WATER = 1024  # messages queued to or from one client; each is answered once, so a living client has far fewer
BATCH = 32  # messages taken before results are looked at again
MAX_PEERS_PER_KEY = (
    32  # clients of another machine, each under a routing id of its choice: far more than films that it shows
)
#: Messages a second of one machine; a film sends a hundred or two. More are not looked at.
MAX_PER_KEY_S = 2000


class Server:
    """Serves this user's clients, and those of other machines where it listens, from `run` until `request_stop`, a Stop
    message or the idle timeout. Use once."""

    def __init__(
        self,
        open_renderer: OpenRenderer,
        *,
        endpoint: str,
        workers: int,
        idle_timeout_s: float,
        models: Callable[[], Sequence[str]],
        cards: Cards,
        listen: str | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Bind `endpoint`, and with `listen` (tcp://ADDRESS:PORT) a second one for paired machines, to which `identity` is shown;
        ServerError if that fails. `open_renderer` may be slow: it has threads of its own. `models` names what Welcome offers,
        each time anew: models are installed while a server runs. `idle_timeout_s` may be infinite."""
        self._endpoints = [endpoint]
        self._idle_timeout_s = idle_timeout_s
        self._peers: dict[tuple[str, bytes], Peer] = {}  # by key, empty for this machine's, and routing id
        self._by_pidfd: dict[int, Peer] = {}
        self._counted: dict[str, tuple[int, int]] = {}  # by key: a second of the clock, and messages in it
        self._lost: list[Peer] = []
        self._stop_reason: str | None = None
        self._woke_s = time.monotonic()
        # A pipe, not an inproc socket: threads and signal handlers write to it without a socket of their own.
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._gatekeeper: Gatekeeper | None = None
        self._allowed = AllowedClients()
        self._local = self._bound_socket(endpoint)
        self._remote: zmq.Socket[bytes] | None = None
        if listen is not None and identity is not None:
            self._gatekeeper = Gatekeeper(self._context, lambda key: key in self._allowed)
            self._remote = self._bound_socket(listen, identity)
            self._endpoints.append(listen)
        self._sockets = [self._local] if self._remote is None else [self._local, self._remote]
        self._poller = zmq.Poller()
        for socket in self._sockets:
            self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._wake_read, zmq.POLLIN)
        self._dispatcher = Dispatcher(open_renderer, cards, workers, models, self._send, self._wake)

    def _bound_socket(self, endpoint: str, identity: Identity | None = None) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, m.MAX_FRAME_BYTES)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # say when a client is gone instead of losing its answer silently
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a client that reconnects under its id takes its sessions over
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        if hasattr(os, "geteuid"):
            # Besides the folder's mode: whatever becomes of that, the kernel says who connects to a unix socket.
            socket.setsockopt(zmq.IPC_FILTER_UID, os.geteuid())
        if identity is not None:
            secure_server(socket, identity)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            if self._gatekeeper is not None:
                self._gatekeeper.stop()
            self._context.destroy(linger=0)
            raise ServerError(f"server cannot listen on {endpoint}: {error.strerror}") from error
        return socket

    def request_stop(self, reason: str) -> None:
        """End `run` soon; callable from any thread and from signal handlers."""
        self._stop_reason = self._stop_reason or reason
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: nothing is left to wake
            os.write(self._wake_write, b"\0")

    def run(self) -> bool:
        """Serve until stopped. False if an engine did not come back, so that its thread is still there."""
        log.info("process %d listens on %s", os.getpid(), " and ".join(self._endpoints))
        ended = False
        try:
            while self._stop_reason is None:
                self._step()
            log.info("ending: %s", self._stop_reason)
            ended = self._dispatcher.stop(STOP_TIMEOUT_S)
            for peer in self._peers.values():
                self._send(peer, m.Goodbye(self._stop_reason))
        finally:
            self._close()
        log.info("ended after %d requests", self._dispatcher.counts.rendered)
        return ended

    def _close(self) -> None:
        for peer in self._peers.values():
            peer.close()
        if self._gatekeeper is not None:
            self._gatekeeper.stop()
        for socket in self._sockets:
            socket.close(LINGER_MS)
        self._context.term()
        # The wake pipe stays open: a thread that is still opening a renderer may write to it.

    def _step(self) -> None:
        until_idle_s = self._dispatcher.active_s + self._idle_timeout_s - time.monotonic()
        # at least 1 ms: poll counts whole milliseconds, and 0 of them would spin through the last one
        events = dict(self._poller.poll(max(1, int(min(TICK_S, until_idle_s) * 1000))))
        woke_s, self._woke_s = self._woke_s, time.monotonic()
        if self._woke_s - woke_s > TICK_S + LATE_S:
            self._dispatcher.stood_still(self._woke_s - woke_s)
        if self._wake_read in events:
            os.read(self._wake_read, 4096)
        self._dispatcher.finish_results()
        for socket in self._sockets:
            if socket in events:
                self._take_messages(socket)
        for fd in events.keys() & self._by_pidfd.keys():
            self._drop_peer(self._by_pidfd[fd], "its process has ended")
        self._look_at_clocks()

    def _look_at_clocks(self) -> None:
        now_s = time.monotonic()
        for peer in list(self._peers.values()):
            if now_s - peer.heard_s > SILENCE_S:
                self._drop_peer(peer, f"silent for {SILENCE_S:g} s")
            elif peer.remote and peer.key not in self._allowed:
                self._drop_peer(peer, "its machine is no longer paired")
        while self._lost:
            self._drop_peer(self._lost.pop(), "its connection is gone")
        if self._dispatcher.stop_asked:
            self._stop_reason = "asked to stop"
        elif self._dispatcher.busy:
            self._dispatcher.active_s = now_s
        elif now_s - self._dispatcher.active_s >= self._idle_timeout_s:
            self._stop_reason = f"idle for {self._idle_timeout_s:g} s"

    # --- messages -----------------------------------------------------------------------------------------------------

    def _take_messages(self, socket: zmq.Socket[bytes]) -> None:
        for _ in range(BATCH):
            if not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            self._take(socket.recv_multipart(zmq.NOBLOCK, copy=False), remote=socket is self._remote)

    def _take(self, frames: Sequence[zmq.Frame], remote: bool) -> None:
        """One message, whatever it is."""
        identity, key = frames[0].bytes, client_key(frames[-1]) if remote else ""
        if remote and (key not in self._allowed or self._too_many(key)):
            return  # removed after it was let in, or flooding: libzmq cannot close one client's connection
        peer = self._peers.get((key, identity)) or self._add_peer(identity, frames[-1], key)
        if peer is None:
            return
        peer.heard_s = time.monotonic()
        try:
            message, payloads = parse_request([frame.buffer for frame in frames[1:]])
            if remote and payloads and isinstance(message, m.Render):
                self._send(peer, m.Received(message.session, message.request, peer.heard_s * 1000))
            self._dispatcher.handle(peer, message, payloads)
        except ProtocolError as error:
            self._refuse(peer, error)
        except Exception:  # a bug here must not take every player's server away
            log.exception("a message could not be handled")
            self._send(peer, m.Failure(None, None, m.FailureCode.MALFORMED, "internal error, see the server's log"))

    def _too_many(self, key: str) -> bool:
        second = int(time.monotonic())
        counted, count = self._counted.get(key, (second, 0))
        self._counted[key] = second, (count + 1 if counted == second else 1)
        return self._counted[key][1] > MAX_PER_KEY_S

    def _refuse(self, peer: Peer, error: ProtocolError) -> None:
        self._dispatcher.counts.malformed += 1
        if not peer.malformed_logged:  # once a client: a broken one repeats itself many times a second
            peer.malformed_logged = True
            log.warning("client %s: %s", peer, error)
        line = str(error)[: m.MAX_TEXT]
        if isinstance(error, MalformedMessage):
            self._send(peer, m.Failure(error.session, error.request, error.code, line))
        else:
            self._send(peer, m.Failure(None, None, m.FailureCode.MALFORMED, line))

    def _send(self, peer: Peer, message: m.Message, payloads: Sequence[Buffer] = ()) -> zmq.MessageTracker | None:
        """What is returned, for payloads to another machine, is done once libzmq has let go of them."""
        parts: list[Any] = [peer.identity, *serialize(message, payloads)]
        socket = self._remote if peer.remote else self._local
        assert socket is not None
        tracker = None
        if peer.remote and payloads:
            # Not copied however small: libzmq says when it is done with memory of ours only.
            tracked = [zmq.Frame(part, track=True, copy=False, copy_threshold=0) for part in parts[-len(payloads) :]]
            parts[-len(payloads) :] = tracked
            tracker = zmq.MessageTracker(*tracked)
        try:
            socket.send_multipart(parts, zmq.NOBLOCK, copy=not payloads)
        except zmq.ZMQError as error:
            if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN):
                raise
            self._lost.append(peer)  # disconnected, or has not read HIGH_WATER answers
        return tracker

    # --- clients ------------------------------------------------------------------------------------------------------

    def _add_peer(self, identity: bytes, frame: zmq.Frame, key: str) -> Peer | None:
        """None for a client whose process has ended already."""
        same = [peer for peer in self._peers.values() if peer.key == key] if key else []
        if len(same) >= MAX_PEERS_PER_KEY:
            self._drop_peer(min(same, key=lambda peer: peer.heard_s), "its machine has too many")
        pid = None if key else peer_pid(frame)
        try:
            peer = Peer(identity, pid, open_pidfd(pid), key=key)
        except ProcessLookupError:
            return None
        self._peers[key, identity] = peer
        if peer.pidfd is not None:
            self._poller.register(peer.pidfd, zmq.POLLIN)
            self._by_pidfd[peer.pidfd] = peer
        return peer

    def _drop_peer(self, peer: Peer, why: str) -> None:
        if self._peers.get((peer.key, peer.identity)) is not peer:
            return
        log.info("client %s is dropped: %s", peer, why)
        del self._peers[peer.key, peer.identity]
        self._dispatcher.end_sessions(peer)
        if peer.pidfd is not None:
            self._poller.unregister(peer.pidfd)
            del self._by_pidfd[peer.pidfd]
        peer.close()

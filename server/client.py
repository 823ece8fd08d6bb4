"""The player's end: finds or starts the server, and gets over its death. For asyncio; one event loop a client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
from collections.abc import Callable, Sequence

import zmq.asyncio

from drba.errors import InputError, ServerError
from engines.base import EngineState as EngineState
from engines.base import StreamSpec as StreamSpec

from . import messages as m
from .client_session import Frame as Frame
from .client_session import Link
from .client_session import RenderFailed as RenderFailed
from .client_session import RenderResult as RenderResult
from .client_session import RequestDropped as RequestDropped
from .client_session import Session as Session
from .connection import Connection, OnSent, Pack
from .control import listening
from .control import server_status as server_status
from .control import stop_server as stop_server
from .deadline import Deadline
from .keys import TCP, RemoteServer
from .launch import Launched, reap, server_command
from .outgoing import Throughput
from .protocol import Buffer
from .runtime import default_endpoint, socket_path
from .shared import FramePool as FramePool

log = logging.getLogger("drba.client")

CONNECT_TIMEOUT_S = 10.0  # to find or start a server; starting takes 0.3 s on an idle machine
EXISTING_TIMEOUT_S = 0.3  # for a server that is already there to answer
OPEN_TIMEOUT_S = 120.0  # to load a model, with PyTorch from a slow disk
OPENINGS = 3  # of a session whose server dies meanwhile; more would mean that opening it is what kills it
RELAUNCH_INTERVAL_S = 1.0  # when the started server found another one that does not answer yet
#: Before another attempt to get a server back; doubled each time. The film shows source frames meanwhile, so a server that dies
#: again and again is waited for no longer than a viewer should be; starting one costs a third of a second.
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 1.0
REMOTE_TIMEOUT_S = 2.0  # for a server of another machine to answer a new connection
REMOTE_RETRY_S = 0.5  # between two attempts: the network may be back any moment
STABLE_S = 10.0  # a server that lived so long did not die of what it was asked first


class Client:
    """A connection to the server that is kept up: when the server dies, requests fail at once, a new server is started
    and the sessions are opened again, while the caller goes on with source frames.

    `restarts` counts the times another server process took the place of the last one, also after an idle time.
    """

    def __init__(
        self, endpoint: str | None, start: bool, command: Sequence[str] | None, remote: RemoteServer | None = None
    ) -> None:
        """Use `connect` instead."""
        if remote is None and endpoint is not None and endpoint.startswith(TCP):
            raise InputError(
                f"server {endpoint}: plain TCP is not used; pair with that machine (drba pair) and name it"
            )
        self.restarts = 0
        self.remote = remote
        self._endpoint = remote.endpoint if remote else endpoint or default_endpoint()
        self._start = start and remote is None
        self._last_retry_s = REMOTE_RETRY_S if remote else LAST_RETRY_S
        self._attempt_s = REMOTE_TIMEOUT_S if remote else CONNECT_TIMEOUT_S
        self._command = list(command) if command else server_command(endpoint)
        self._context = zmq.asyncio.Context(io_threads=1)
        self._identity = new_identity()
        self._connection: Connection | None = None
        self._welcome: m.Welcome | None = None
        self._throughput = Throughput()  # of the network, to a remote server
        self._sessions: dict[int, Session] = {}
        self._session_ids = 0
        self._connected = asyncio.Event()
        self._reconnecting: asyncio.Task[None] | None = None
        self._why_not = "not connected"
        self._retry_s = 0.0  # the first server that dies is replaced at once
        self._connected_s = 0.0
        self._closed = False

    @classmethod
    async def connect(
        cls,
        *,
        endpoint: str | None = None,
        start: bool = True,
        command: Sequence[str] | None = None,
        remote: RemoteServer | None = None,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> Client:
        """Connect to the running server, or `start` one with `command`; or to the `remote` one, which nobody starts from here.
        ServerError if there is none in time, InputError for an endpoint that is not used without keys."""
        client = cls(endpoint, start, command, remote)
        try:
            await client._establish(Deadline(timeout_s))
        except BaseException:
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether the server is there and answers."""
        return self._connected.is_set() and not self._stalled()

    @property
    def server_pid(self) -> int | None:
        return self._welcome.pid if self._welcome else None

    @property
    def server_version(self) -> str:
        return self._welcome.version if self._welcome else ""

    @property
    def workers(self) -> int | None:
        """Requests that the server renders at once."""
        return self._welcome.workers if self._welcome else None

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the server offers."""
        return self._welcome.models if self._welcome else ()

    async def wait_connected(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Until the server is there, waking it if it has gone to sleep; ServerError if it is not in time."""
        if self._closed:
            raise ServerError("this client is closed; connect another")
        self._wake()
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        except TimeoutError:
            raise ServerError(f"no server within {timeout_s:g} s: {self._why_not}") from None

    async def open_session(
        self,
        spec: StreamSpec,
        pool: FramePool,
        *,
        timeout_s: float = OPEN_TIMEOUT_S,
        on_engine: Callable[[EngineState], None] = lambda state: None,
    ) -> Session:
        """Open a stream whose frames are in `pool`, which the caller closes after the session. `on_engine` hears what
        renders it and what is being built to take over, now and after every change.

        ServerError, ModelError or InputError if it cannot be opened; ProtocolError if the spec is beyond the limits.
        """
        if pool.slot_bytes < spec.layout.frame_bytes:
            raise ServerError(f"pool has slots of {pool.slot_bytes} bytes, expected {spec.layout.frame_bytes} or more")
        deadline = Deadline(timeout_s)
        await self.wait_connected(deadline.remaining_s)
        self._session_ids += 1
        link = Link(
            self._send,
            self._send_packed if self.remote else None,
            self._reopen,
            lambda session_id: self._sessions.pop(session_id, None),
            self._stalled,
            self._throughput if self.remote else None,
            self._quiet,
            self._give_up,
        )
        session = Session(self._session_ids, spec, pool, link, on_engine)
        self._sessions[session.id] = session
        try:
            await asyncio.wait_for(self._open(session), deadline.remaining_s)
        except BaseException as error:
            await session.close()
            if isinstance(error, TimeoutError):
                raise ServerError(f"the session was not opened within {timeout_s:g} s") from None
            raise
        return session

    async def _open(self, session: Session) -> None:
        """Also where the server dies meanwhile: the film, or one of its levels, would be without in-betweens for good."""
        for left in reversed(range(OPENINGS)):
            # What is asked of a server that has gone is lost, and nobody asks again.
            while not self._connected.is_set():
                await self.wait_connected(self._attempt_s)
            try:
                if not session.ready:
                    await asyncio.shield(session.open())
                return
            except ServerError:
                if session.refused or not left:
                    raise

    async def close(self) -> None:
        """Close all sessions and the connection; the server stays for others. May be called twice."""
        if self._closed:
            return
        await asyncio.gather(*(session.close() for session in list(self._sessions.values())))
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        await self._disconnect()
        reap()
        await asyncio.to_thread(self._context.term)  # waits, at most LINGER_MS, for the last messages to leave

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _establish(self, deadline: Deadline) -> None:
        """Connect, starting a server where there is none. Leaves no connection behind when it fails."""
        while True:
            connection = Connection(
                self._context,
                self._endpoint,
                self._identity,
                self._on_message,
                self._on_stalled,
                self._on_lost,
                self.remote,
            )
            try:
                welcome = await self._find_or_start(connection, deadline)
            except BaseException:
                await connection.close()
                raise
            if not connection.ended:
                break
            await connection.close()  # the server said Welcome and Goodbye in one breath: its idle time was up
        if self._welcome is not None and welcome.pid != self._welcome.pid:
            self.restarts += 1
        self._connection, self._welcome = connection, welcome
        self._connected_s = asyncio.get_running_loop().time()
        self._connected.set()

    async def _find_or_start(self, connection: Connection, deadline: Deadline) -> m.Welcome:
        if self.remote is not None:
            if welcome := await connection.greet(deadline.at_most(REMOTE_TIMEOUT_S)):
                return welcome
            raise ServerError(
                f"{self.remote.name} ({self._endpoint}) does not answer: it is off, drba-server --listen does not run there, "
                "or it is no longer paired with this machine"
            )
        path = socket_path(self._endpoint)
        if path is None or listening(str(path)):  # else there is nobody to wait for
            welcome = await connection.greet(deadline.at_most(EXISTING_TIMEOUT_S))
            if welcome is not None:
                return welcome
        if not self._start:
            raise ServerError(f"no server answers at {self._endpoint}; start drba-server")
        pause_s, taken = 0.1, False
        while not deadline.passed:
            taken = taken or (path is not None and listening(str(path)))
            launched = Launched(self._command)
            reconnected = Deadline(RELAUNCH_INTERVAL_S)
            # Exit status 0 means that it found another server, which is starting (then it answers soon) or ending (then
            # the next one started gets its place).
            while not deadline.passed and launched.exit_status is None:
                if welcome := await connection.greet(deadline.at_most(0.05)):
                    return welcome
                if taken and reconnected.passed:  # who had the socket before has the connection, and keeps it
                    self._identity = new_identity()
                    connection.reconnect(self._identity)
                    reconnected = Deadline(RELAUNCH_INTERVAL_S)
            if launched.exit_status:
                line = launched.last_words()
                raise ServerError(f"the server ended with status {launched.exit_status} while starting: {line}")
            busy = path is None or listening(str(path))
            if welcome := await connection.greet(deadline.at_most(RELAUNCH_INTERVAL_S if busy else pause_s)):
                return welcome
            pause_s = min(2 * pause_s, RELAUNCH_INTERVAL_S)
        if path is not None and listening(str(path)):
            raise ServerError(f"the server at {self._endpoint} is there but does not answer; kill it")
        raise ServerError(f"no server answers at {self._endpoint}, and none could be started in time; see its log")

    async def _disconnect(self) -> None:
        self._connected.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _stalled(self) -> bool:
        return self._connection is not None and self._connection.stalled

    def _quiet(self) -> bool:
        return self._connection is not None and self._connection.quiet

    def _send(self, message: m.Message, payloads: Sequence[Buffer]) -> None:
        if self._connection is not None:
            self._connection.send(message, payloads)

    def _send_packed(self, message: m.Message, pack: Pack, on_sent: OnSent) -> None:
        if self._connection is not None:
            self._connection.send_packed(message, pack, on_sent)

    def _on_message(self, message: m.Message, payloads: Sequence[memoryview]) -> None:
        if isinstance(message, m.Goodbye):
            self._server_left(f"the server has ended ({message.reason})")
            if self.remote is not None:  # nobody starts that one from here: it is looked for until it is back
                self._wake()
            return
        session_id = getattr(message, "session", None)
        if session_id is None:
            log.warning("the server reports: %s", message)
        elif session_id in self._sessions:
            self._sessions[session_id].take(message, payloads)

    def _on_stalled(self, reason: str) -> None:
        log.warning("%s", reason)
        for session in self._sessions.values():
            session.stall(reason)

    def _on_lost(self, reason: str) -> None:
        """The server crashed or hangs. Its successor is started at once."""
        log.warning("%s", reason)
        if self._stalled() and self._start:
            self._kill_server()
        self._server_left(reason)
        self._wake()

    def _server_left(self, reason: str) -> None:
        """Without `_wake`, the next server is started when there is work for it."""
        self._connected.clear()
        self._why_not = reason
        for session in list(self._sessions.values()):
            session.lose(reason)

    def _give_up(self, reason: str) -> None:
        """Its workers hang, though it answers."""
        if self._start and self._connection is not None and self.connected:
            self._kill_server()
            self._connection.give_up(reason)

    def _kill_server(self) -> None:
        """End a server that hangs: it holds the lock that its successor needs.

        The process cannot be another one by now: the unix socket to it is open.
        """
        if self._connection is not None and self._connection.local_pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self._connection.local_pid, signal.SIGKILL)

    # --- getting over it ----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Get a server in the background, if there is none."""
        if not self._closed and not self._connected.is_set() and self._reconnecting is None:
            self._reconnecting = asyncio.ensure_future(self._reconnect())

    def _reopen(self) -> None:
        """A session found that it is not open."""
        if not self._connected.is_set():
            self._wake()
            return
        for session in self._sessions.values():
            session.reopen()

    async def _reconnect(self) -> None:
        if asyncio.get_running_loop().time() - self._connected_s > STABLE_S:
            self._retry_s = 0.0
        try:
            await self._disconnect()
            while not self._connected.is_set():
                await asyncio.sleep(self._retry_s)
                self._retry_s = min(max(self._retry_s * 2, FIRST_RETRY_S), self._last_retry_s)
                try:
                    await self._establish(Deadline(self._attempt_s))
                except ServerError as error:
                    if str(error) != self._why_not:  # once, though another machine may be off for hours
                        log.warning("%s; trying again", error)
                    self._why_not = str(error)
        finally:
            self._reconnecting = None
        log.info("connected to the server again, process %s", self.server_pid)
        for session in self._sessions.values():
            session.reopen()


def new_identity() -> bytes:
    """A routing id, which must not begin with NUL."""
    return b"c" + secrets.token_bytes(15)

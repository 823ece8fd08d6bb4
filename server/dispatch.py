"""What the server does about each message and each result. No sockets: answers leave through a function it is given."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from drba import __version__
from drba.errors import DrbaError, InputError, ModelError, ProtocolError
from engines.base import StreamRenderer, StreamSpec

from . import messages as m
from .backlog import Sending
from .cards import Cards
from .deadline import Deadline
from .failures import where
from .peers import Peer
from .protocol import Buffer, MalformedMessage
from .scheduler import Submitted
from .session import MissingFrames, RenderJob, ServerSession
from .shared import SharedFrames
from .workers import JobResult, WorkerPool

log = logging.getLogger("drba.server")

#: What another machine may name: models and engines of the registries, nothing that could be a path.
REMOTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MODELS_AGE_S = 1.0
WORKS_S = 2.0  # without a failed request, after which a session's renderer is said to work again
HANG_MS = 1000.0  # of rendering a picture, and
HANG_TIMES = 10.0  # as long as usual: then a worker hung
STUCK_TIMEOUT_S = 1.0  # for workers after the processes that they waited for were ended

OpenRenderer = Callable[[StreamSpec], StreamRenderer]
#: What it returns for payloads to another machine is done once they have left this process.
Send = Callable[[Peer, m.Message, Sequence[Buffer]], Sending | None]


@dataclass
class Counts:
    """Requests since the server's start."""

    rendered: int = 0
    dropped: int = 0
    failed: int = 0
    malformed: int = 0


@dataclass(frozen=True)
class _OpenResult:
    session: ServerSession
    error: Exception | None


@dataclass(frozen=True)
class _EngineChanged:
    session: ServerSession


class Dispatcher:
    """Sessions, workers and counts. All methods belong to the I/O thread; `wake` is called by others, when
    `finish_results` has something to do."""

    def __init__(
        self,
        open_renderer: OpenRenderer,
        cards: Cards,
        workers: int,
        models: Callable[[], Sequence[str]],
        send: Send,
        wake: Callable[[], None],
    ) -> None:
        self.counts = Counts()
        self.started_s = self.active_s = time.monotonic()  # active: when there last was work
        self.stop_asked = False
        self._stood_s, self._stood_until_s = 0.0, -math.inf
        self._open_renderer = open_renderer
        self._cards = cards
        self._models = models
        self._models_then: tuple[str, ...] = ()
        self._models_s = float("-inf")
        self._send_parts = send
        self._wake = wake
        self._workers = workers
        self._sessions: dict[tuple[Peer, int], ServerSession] = {}  # by client and its own number
        self._opening = 0
        self._done: deque[JobResult | _OpenResult | _EngineChanged] = deque()
        # By card, "" for this process: sessions of a card that hangs must not keep the others' workers waiting.
        self._pools = {"": WorkerPool(workers, self._post)}

    @property
    def busy(self) -> bool:
        """Whether there is work: an engine that a paused player waits for counts."""
        building = any(session.told and session.told.building for session in self._sessions.values())
        return bool(self._opening or self._done or building or any(pool.busy for pool in self._pools.values()))

    def _pool(self, session: ServerSession) -> WorkerPool:
        if session.card not in self._pools:
            self._pools[session.card] = WorkerPool(self._workers, self._post)
        return self._pools[session.card]

    # --- messages -----------------------------------------------------------------------------------------------------

    def handle(self, peer: Peer, message: m.Message, payloads: Sequence[Buffer]) -> None:
        """ProtocolError if the message does not fit its session."""
        match message:
            case m.Hello():
                self._send(peer, m.Welcome(__version__, os.getpid(), self._offered(peer), self._workers))
            case m.Status():
                self._send(peer, self._status(peer))
            case m.Stop() if peer.remote:
                line = "another machine cannot stop this server; run drba stop on the one that it runs on"
                self._send(peer, m.Failure(None, None, m.FailureCode.REFUSED, line))
            case m.Stop():
                self.stop_asked = True
            case m.Received():
                session = self._sessions.get((peer, message.session))
                if session is not None and session.outgoing is not None:
                    session.outgoing.arrived((message.session, message.request), message.at_ms / 1000)
            case m.Open():
                self.active_s = time.monotonic()
                self._open(peer, message)
            case m.Render():
                self.active_s = time.monotonic()
                self._render(peer, message, payloads)
            case m.Cancel():
                session = self._sessions.get((peer, message.session))
                if session is not None and session.ready:
                    self._drop(self._pool(session).cancel(session, message.generation))
            case m.CancelBuild():
                session = self._sessions.get((peer, message.session))
                if session is not None and session.renderer is not None:
                    # A thread of its own: a card's process is asked, and it may hang.
                    threading.Thread(target=session.renderer.cancel_build, name="cancel", daemon=True).start()
            case m.Close():
                self.end_session(peer, message.session)

    def _send(self, peer: Peer, message: m.Message, payloads: Sequence[Buffer] = ()) -> Sending | None:
        return self._send_parts(peer, message, payloads)

    def _offered(self, peer: Peer) -> tuple[str, ...]:
        """The models that are installed. They are files: for other machines, which may flood, looked for once a second."""
        now_s = time.monotonic()
        if not peer.remote or now_s - self._models_s > MODELS_AGE_S:
            self._models_s, self._models_then = now_s, tuple(self._models())
        return self._models_then

    def _render(self, peer: Peer, request: m.Render, payloads: Sequence[Buffer]) -> None:
        session = self._sessions.get((peer, request.session))
        if session is None:
            self._send(peer, m.Need(request.session, request.generation, request.request, (), True))
            return
        if not session.ready:
            self._fail(peer, request, m.FailureCode.NOT_READY, f"session {session.id} is still being opened")
            return
        try:
            job = session.admit(request, payloads)
        except MissingFrames as missing:
            self._send(peer, m.Need(request.session, request.generation, request.request, missing.numbers, False))
            return
        except ProtocolError as error:
            header = {"session": request.session, "request": request.request}
            raise MalformedMessage(str(error), m.FailureCode.MALFORMED, header) from error
        backlog = session.backlog
        if backlog is not None:
            if why := backlog.refusal(job.bytes):
                self._fail(peer, request, m.FailureCode.BUSY, f"session {session.id} has {why}")
                return
            backlog.add(job.bytes)
        outcome = self._pool(session).submit(job)
        if outcome is Submitted.CANCELLED:
            self._drop([job])
        elif outcome is Submitted.FULL:
            if backlog is not None:
                backlog.remove(job.bytes)
            line = f"session {session.id} has {m.MAX_QUEUED} requests waiting; ask for less ahead"
            self._fail(peer, request, m.FailureCode.BUSY, line)

    def _drop(self, jobs: Iterable[RenderJob]) -> None:
        for job in jobs:
            self.counts.dropped += 1
            job.session.dropped += 1
            if job.session.backlog is not None:
                job.session.backlog.remove(job.bytes)
            request = job.request
            self._send(job.session.peer, m.Dropped(request.session, request.generation, request.request))

    def _fail(self, peer: Peer, request: m.Render, code: str, line: str) -> None:
        self._send(peer, m.Failure(request.session, request.request, code, line[: m.MAX_TEXT]))

    def _status(self, peer: Peer) -> m.StatusReport:
        """Another machine hears of its own sessions only."""
        told = [session for session in self._sessions.values() if peer.key in ("", session.peer.key)]
        now_s = time.monotonic()
        return m.StatusReport(
            version=__version__,
            pid=os.getpid(),
            uptime_s=now_s - self.started_s,
            idle_s=0.0 if self.busy else now_s - self.active_s,
            workers=self._workers * len(self._pools),
            rendered=self.counts.rendered,
            dropped=self.counts.dropped,
            failed=self.counts.failed,
            malformed=self.counts.malformed,
            sessions=tuple(session.report(self._pool(session).queued(session)) for session in told),
        )

    # --- sessions -----------------------------------------------------------------------------------------------------

    def _open(self, peer: Peer, message: m.Open) -> None:
        self.end_session(peer, message.session)
        if refusal := self._refusal(peer, message):
            code, line = refusal
            self._send(peer, m.Failure(message.session, None, code, line))
            return
        if max(len(self._sessions), self._opening) >= m.MAX_SESSIONS:
            line = f"{m.MAX_SESSIONS} sessions are open already; close a player"
            self._send(peer, m.Failure(message.session, None, m.FailureCode.BUSY, line))
            return
        session = ServerSession(peer, message, _map_memory(peer, message))
        self._sessions[peer, session.id] = session
        self._opening += 1
        # A thread of its own: loading a network takes seconds.
        threading.Thread(target=self._run_open, args=(session,), name="open", daemon=True).start()

    def _refusal(self, peer: Peer, message: m.Open) -> tuple[str, str] | None:
        """Code and line of what another machine cannot have."""
        if not peer.remote:
            return None
        if message.shared is not None:
            return (
                m.FailureCode.REFUSED,
                "open.shared names memory of a process; another machine's frames travel in messages",
            )
        if not (REMOTE_NAME.fullmatch(message.model) and REMOTE_NAME.fullmatch(message.engine)):
            return m.FailureCode.REFUSED, "open.model and open.engine are no names; expected those of `drba models`"
        if sum(session.peer.remote for session in self._sessions.values()) >= m.MAX_REMOTE_SESSIONS:
            return m.FailureCode.BUSY, f"{m.MAX_REMOTE_SESSIONS} sessions of other machines are open; close a player"
        return None

    def _run_open(self, session: ServerSession) -> None:
        error: Exception | None = None
        try:
            remote = self._cards.open(session.spec, session.memory)
            if remote is not None:
                session.card = remote.card.device.name
            session.renderer = remote if remote is not None else self._open_renderer(session.spec)
        except Exception as raised:
            error = raised
        self._post(_OpenResult(session, error))

    def _opened(self, session: ServerSession, error: Exception | None) -> None:
        self._opening -= 1
        peer = session.peer
        wanted = self._sessions.get((peer, session.id)) is session
        if error is not None:
            expected = isinstance(error, DrbaError)  # a missing model, say: the line says it all
            log.error("session %d cannot be opened: %s", session.id, error, exc_info=None if expected else error)
            if wanted:
                self.end_session(peer, session.id)
                line = str(error) or type(error).__name__
                self._send(peer, m.Failure(session.id, None, _open_code(error), line[: m.MAX_TEXT]))
            return
        if not wanted:  # closed or replaced meanwhile
            self._pool(session).close_renderer(session)
            return
        renderer = session.renderer
        assert renderer is not None
        session.ready = True
        self._pool(session).add(session)
        session.told = state = renderer.state
        size = f"{session.layout.width}x{session.layout.height} {session.layout.format.name}"
        where = f"{session.transport}, card {session.card}" if session.card else session.transport
        log.info("session %d of client %s: %s, %s, %s", session.id, peer, size, state.note, where)
        note = "" if state.building else state.note[: m.MAX_TEXT]
        self._send(peer, m.Opened(session.id, state.model, state.engine, session.transport, note))
        if state.building:
            self._tell_engine(session)
        renderer.watch(lambda: self._post(_EngineChanged(session)))
        self._engine_changed(session)  # what happened before anybody watched

    def _engine_changed(self, session: ServerSession) -> None:
        renderer = session.renderer
        if renderer is None or self._sessions.get((session.peer, session.id)) is not session:
            return
        if renderer.lost:  # the player opens it again with its next request, on a card that works
            log.warning("session %d of client %s: %s", session.id, session.peer, renderer.lost)
            self.end_session(session.peer, session.id)
        elif (state := renderer.state) != session.told:
            session.told = state
            self._tell_engine(session)

    def _tell_engine(self, session: ServerSession) -> None:
        state = session.told
        assert state is not None
        note = state.note[: m.MAX_TEXT]
        told = m.Engine(session.id, state.model, state.engine, state.building, state.progress, note)
        self._send(session.peer, told)

    def end_session(self, peer: Peer, session_id: int) -> None:
        """Forget a session, if it is open, and drop its requests; its renderer goes with the last one that runs."""
        session = self._sessions.pop((peer, session_id), None)
        if session is None:
            return
        if session.ready:
            self._drop(self._pool(session).retire(session))
        log.info("session %d of client %s closed", session.id, peer)

    def end_sessions(self, peer: Peer) -> None:
        for owner, session_id in list(self._sessions):
            if owner is peer:
                self.end_session(peer, session_id)

    # --- results ------------------------------------------------------------------------------------------------------

    def _post(self, result: JobResult | _OpenResult | _EngineChanged) -> None:
        self._done.append(result)
        self._wake()

    def finish_results(self) -> None:
        """Answer what the workers have done since the last call."""
        while self._done:
            self.active_s = time.monotonic()
            match self._done.popleft():
                case _OpenResult(session, error):
                    self._opened(session, error)
                case _EngineChanged(session):
                    self._engine_changed(session)
                case JobResult() as result:
                    self._rendered(result)

    def _rendered(self, result: JobResult) -> None:
        job, session = result.job, result.job.session
        peer, backlog = session.peer, session.backlog
        if backlog is not None:
            backlog.remove(job.bytes)
        if result.error is not None:
            self.counts.failed += 1
            session.failed += 1
            session.failing += 1
            session.failed_s = time.monotonic()
            line = f"rendering failed: {str(result.error) or type(result.error).__name__}"
            if session.failing == 1:  # once until it works again: a film asks a hundred times a second
                log.error("session %d of client %s: %s (%s)", session.id, peer, line, where(result.error))
            self._fail(peer, job.request, m.FailureCode.RENDER, line)
            return
        self._renders_again(session)
        self._tell_a_hang(session, result.render_ms)
        self.counts.rendered += 1
        session.rendered += 1
        session.render_ms_sum += result.render_ms
        request = job.request
        packed, outgoing = result.packed, session.outgoing
        send_ms = outgoing.send_ms(packed) if outgoing else 0.0
        done = m.Rendered(
            request.session, request.generation, request.request, result.render_ms, send_ms, packed.encoding
        )
        sending = self._send(peer, done, packed.parts)
        if backlog is not None and sending is not None:
            backlog.sending(packed.bytes, sending)
        if outgoing is not None:
            outgoing.sent((request.session, request.request), packed)

    def stood_still(self, seconds: float) -> None:
        """This process did nothing until now for so long: it was stopped, or the machine slept. No worker hung meanwhile."""
        self._stood_s, self._stood_until_s = seconds, time.monotonic()

    def _renders_again(self, session: ServerSession) -> None:
        """Said when nothing has failed for a while: what fails now and then is one fault, not many."""
        if session.failing and time.monotonic() - session.failed_s > WORKS_S:
            log.info(
                "session %d of client %s renders again, %d requests failed", session.id, session.peer, session.failing
            )
            session.failing = 0

    def _tell_a_hang(self, session: ServerSession, render_ms: float) -> None:
        """Said of a picture that took very much longer than the session's do, and once of those that hung together."""
        now_s, usual_ms = time.monotonic(), session.render_ms_sum / max(1, session.rendered)
        if now_s - render_ms / 1000 < self._stood_until_s:
            render_ms -= self._stood_s * 1000
        if not session.rendered or render_ms < max(HANG_MS, HANG_TIMES * usual_ms):
            return
        if now_s - session.hung_s > render_ms / 1000:
            took = f"{render_ms / 1000:.1f} s instead of {usual_ms:.0f} ms"
            log.warning("session %d of client %s: a worker hung, a picture took %s", session.id, session.peer, took)
        session.hung_s = now_s

    def stop(self, timeout_s: float) -> bool:
        """End all sessions, wait for the workers and answer what they have done; False if one does not come back."""
        for session in list(self._sessions.values()):
            self.end_session(session.peer, session.id)
        deadline = Deadline(timeout_s)
        ended = [pool.stop(deadline.remaining_s) for pool in self._pools.values()]
        self._cards.end()
        if not all(ended):  # what waited for a process that hung has failed now
            ended = [pool.stop(STUCK_TIMEOUT_S) for pool in self._pools.values()]
        self.finish_results()
        return all(ended)


def _map_memory(peer: Peer, message: m.Open) -> SharedFrames | None:
    """The client's memory; None, for inline frames, if there is none or it cannot be had."""
    if message.shared is None or peer.pid is None:
        return None
    # The kernel's word for who the client is, not the client's: in another pid namespace its own number is another's.
    memory = m.SharedMemory(peer.pid, message.shared.fd, message.shared.slots, message.shared.slot_bytes)
    try:
        return SharedFrames(memory, message.layout.frame_bytes)
    except ProtocolError as error:
        log.warning("session %d of process %d goes on inline: %s", message.session, peer.pid, error)
        return None


def _open_code(error: Exception) -> str:
    if isinstance(error, ModelError):
        return m.FailureCode.MODEL
    return m.FailureCode.INPUT if isinstance(error, InputError) else m.FailureCode.OPEN

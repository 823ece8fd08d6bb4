"""The threads that render. They take jobs from the scheduler and report results; they never touch a socket."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .deadline import Deadline
from .messages import MAX_QUEUED
from .outgoing import Packed
from .scheduler import Scheduler, Submitted
from .session import RenderJob, ServerSession

log = logging.getLogger("drba.server")


@dataclass(frozen=True)
class JobResult:
    """`error` is what the engine raised, None for success; `render_ms` the time the worker spent."""

    job: RenderJob
    packed: Packed
    error: Exception | None
    render_ms: float


class WorkerPool:
    """`count` threads that serve all sessions. Every method is safe to call from any thread.

    `on_result` is called by the workers, one call a job that was run. A session's renderer is closed by a worker, after
    the session's last job: freeing a device's memory may take long.
    """

    def __init__(self, count: int, on_result: Callable[[JobResult], None]) -> None:
        self._on_result = on_result
        self._changed = threading.Condition()
        self._scheduler: Scheduler[int, RenderJob] = Scheduler(MAX_QUEUED)
        self._retired: dict[int, ServerSession] = {}
        self._chores: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._threads = [threading.Thread(target=self._work, name=f"render-{i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def add(self, session: ServerSession) -> None:
        with self._changed:
            self._scheduler.add_lane(session.serial)

    def submit(self, job: RenderJob) -> Submitted:
        with self._changed:
            outcome = self._scheduler.submit(job.session.serial, job.request.generation, job)
            if outcome is Submitted.QUEUED:
                self._changed.notify()
            return outcome

    def cancel(self, session: ServerSession, generation: int) -> list[RenderJob]:
        """The jobs that will not be run."""
        with self._changed:
            return self._scheduler.cancel(session.serial, generation)

    def retire(self, session: ServerSession) -> list[RenderJob]:
        """End a session: the jobs that will not be run. Its renderer is closed when the running ones are done."""
        with self._changed:
            dropped, gone = self._scheduler.retire(session.serial)
            if gone:
                self._chores.append(session.close_renderer)
                self._changed.notify()
            else:
                self._retired[session.serial] = session
            return dropped

    def close_renderer(self, session: ServerSession) -> None:
        """Close the renderer of a session that was never added."""
        with self._changed:
            self._chores.append(session.close_renderer)
            self._changed.notify()

    def queued(self, session: ServerSession) -> int:
        with self._changed:
            return self._scheduler.queued(session.serial)

    @property
    def busy(self) -> bool:
        with self._changed:
            return self._scheduler.busy or bool(self._chores)

    def stop(self, timeout_s: float) -> bool:
        """Finish what is running and the chores; False if a worker does not come back in time."""
        deadline = Deadline(timeout_s)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(deadline.remaining_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        # No names in this loop: a thread that waits here must not keep the last job's session, and its memory, alive.
        while self._wait():
            self._do_next()

    def _wait(self) -> bool:
        """Until there is something to do; False when there never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._chores or self._scheduler.waiting)
            return bool(self._chores or self._scheduler.waiting)

    def _do_next(self) -> None:
        with self._changed:
            chore = self._chores.popleft() if self._chores else None
            taken = None if chore else self._scheduler.take()
        if chore is not None:
            _run_chore(chore)
        elif taken is not None:
            serial, job = taken
            result = _run_job(job)
            with self._changed:
                if self._scheduler.finished(serial, result.render_ms):
                    self._chores.append(self._retired.pop(serial).close_renderer)
            self._on_result(result)


def _run_job(job: RenderJob) -> JobResult:
    start_s = time.perf_counter()
    packed = Packed([])
    error: Exception | None = None
    try:
        packed = job.run()
    except Exception as raised:  # an engine may raise anything, and the other sessions must not feel it
        error = raised
    return JobResult(job, packed, error, (time.perf_counter() - start_s) * 1000)


def _run_chore(chore: Callable[[], None]) -> None:
    try:
        chore()
    except Exception:
        log.exception("closing a renderer failed")

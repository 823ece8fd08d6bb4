"""Output frames in order from one place of the film on: decoded, planned, rendered by the server, never late."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from fractions import Fraction

from drba.errors import ProtocolError
from drba.timeline import OutputClock
from server.client import Frame, RenderResult, Session
from server.shared import FramePool

from .decoder import Decoder, Run, SourceSlot
from .plan import Kind, PlannedOutput
from .playhead import Playhead
from .stats import Stats
from .triplets import PlannedTriplet, TripletWalk

log = logging.getLogger(__name__)

#: Output frames planned ahead of the one being sent: enough to keep two workers busy at 24 -> 60 fps.
QUEUED_OUTPUTS = 10
#: A frame must be at mpv this long before it is shown: it still has to travel and pass mpv's own queues.
DELIVERY_S = 0.05
#: A film whose data ends this much before the length its container states is filled up with its last frame; a larger gap
#: (a truncated file) ends the stream there.
FILL_UP_S = 1
SLOT_POLL_S = 0.002
#: While the server is away, mpv gets source frames for this much film ahead and no more: what it has read once stays
#: without in-betweens.
LEAD_WITHOUT_SERVER_S = 0.5
SERVER_POLL_S = 0.02


@dataclass
class Job:
    """One output frame on its way. The slots it holds are released by `done`."""

    plan: PlannedOutput
    fallback: int  # slot of the source frame that stands for it
    output: int | None = None
    answer: asyncio.Future[RenderResult] | None = None


@dataclass
class StreamContext:
    """What every stream of a film shares."""

    clock: OutputClock
    frames: int  # length of the film in output frames
    pool: FramePool
    decoder: Decoder
    playhead: Playhead
    stats: Stats
    session: Session | None = None  # None while no server can be had: source frames only
    generation: int = 0
    latency_s: float = field(default=0.05)  # of a triplet, from asking to having it; smoothed


class OutputStream:
    """The output frames from `first` on. Iterate `frames()` once, then `close()`."""

    def __init__(self, context: StreamContext, first: int) -> None:
        self._context = context
        self._first = first
        self._start_s = float(context.clock.time_s(first))
        self._opened_at = context.playhead.clock()
        context.generation += 1
        self._generation = context.generation
        if context.session is not None:
            context.session.cancel(self._generation)
        self._run: Run = context.decoder.start(context.clock.time_s(first))
        self._jobs: asyncio.Queue[Job | None] = asyncio.Queue(QUEUED_OUTPUTS)
        self._planner = asyncio.ensure_future(self._plan())
        self._window: list[SourceSlot] = []

    async def frames(self) -> AsyncGenerator[tuple[int, memoryview, Kind], None]:
        """(number, picture, what it is); the picture is valid until the next one is asked for.

        A frame that is not ready when it is due is replaced by the nearest source frame.
        """
        context = self._context
        while True:
            job = await self._jobs.get()
            if job is None:
                return
            try:
                kind = job.plan.kind
                slot = job.fallback
                if kind is Kind.INTERPOLATED:
                    if await self._in_time(job):
                        assert job.output is not None
                        slot = job.output
                    else:
                        kind = Kind.SOURCE
                        context.stats.late += 1
                context.stats.count(kind)
                yield job.plan.number, context.pool.buffer(slot), kind
            finally:
                self._release(job)

    def close(self) -> None:
        """Stop decoding, drop what the server has not begun, give back all slots.

        Not a coroutine: a reader that goes away is cancelled by its connection and by its successor, and a second
        cancellation must not interrupt this.
        """
        self._context.decoder.stop(self._run)
        if self._context.session is not None:
            self._context.session.cancel(self._generation + 1)
        self._planner.add_done_callback(lambda _: self._give_back())
        self._planner.cancel()

    def _give_back(self) -> None:
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is not None:
                self._release(job)
        for source in self._window:
            self._context.pool.release(source.slot)
        self._window.clear()

    def _seconds_until(self, number: int) -> float:
        time_s = float(self._context.clock.time_s(number))
        return self._context.playhead.seconds_until(time_s, self._start_s, self._opened_at)

    async def _in_time(self, job: Job) -> bool:
        if job.answer is None:
            return False
        while not job.answer.done():
            slack_s = self._seconds_until(job.plan.number) - DELIVERY_S
            if slack_s <= 0:
                return False
            # Looked at again from time to time: the viewer may pause, seek or change the speed meanwhile.
            await asyncio.wait([job.answer], timeout=min(slack_s, 0.25))
        return job.answer.exception() is None

    def _release(self, job: Job) -> None:
        self._context.pool.release(job.fallback)
        if job.output is not None:
            self._context.pool.release(job.output)

    # --- planning -----------------------------------------------------------------------------------------------------

    async def _plan(self) -> None:
        """Take source frames as they come; each in turn is the middle one."""
        walk: TripletWalk[SourceSlot] = TripletWalk(self._context.clock, self._first)
        frames = self._context.frames
        try:
            while walk.number < frames:
                following = await self._next_source()
                end = self._end(walk.middle) if following is None and walk.middle is not None else frames
                triplet = walk.feed(following, end)
                if triplet is not None:
                    await self._submit(triplet)
                    if triplet.previous is not None:
                        self._forget(triplet.previous)
                if following is None:
                    break
        except Exception:
            log.exception("planning stopped at output frame %d", walk.number)
        await self._jobs.put(None)

    def _end(self, last: SourceSlot) -> int:
        """First output frame after the film, when `last` is its last frame."""
        frames = self._context.frames
        data_end = self._context.clock.frames_until(last.time_s + Fraction(1, 24))
        return frames if frames - data_end <= FILL_UP_S * self._context.clock.rate else min(frames, data_end)

    async def _next_source(self) -> SourceSlot | None:
        source = await self._run.frames.get()
        self._run.room.release()
        if source is not None:
            self._window.append(source)
        return source

    def _forget(self, source: SourceSlot) -> None:
        self._window.remove(source)
        self._context.pool.release(source.slot)

    async def _submit(self, triplet: PlannedTriplet[SourceSlot]) -> None:
        interpolated = [plan for plan in triplet.outputs if plan.kind is Kind.INTERPOLATED]
        if interpolated:
            await self._server_or_need(interpolated[0].number)
        wanted = [plan for plan in interpolated if self._worth_asking(plan)]
        outputs: dict[int, int] = {}
        try:
            for plan in wanted:
                outputs[plan.number] = await self._output_slot()
            answer = self._ask(wanted, list(outputs.values()), triplet) if wanted else None
            for plan in triplet.outputs:
                shown = triplet.shown(plan)
                output = outputs.get(plan.number)
                job = Job(plan, shown.slot, output, answer if output is not None else None)
                self._context.pool.retain(shown.slot)
                try:
                    await self._jobs.put(job)
                except asyncio.CancelledError:
                    self._context.pool.release(shown.slot)
                    raise
                outputs.pop(plan.number, None)  # the job's now
        finally:
            for slot in outputs.values():
                self._context.pool.release(slot)

    async def _server_or_need(self, number: int) -> None:
        """Wait until the server is there, or mpv needs the frame soon."""
        context = self._context
        while (session := context.session) is None or not session.ready:
            if session is not None:
                session.wake()
            time_s = float(context.clock.time_s(number))
            lead_s = context.playhead.lead_s(time_s, self._start_s, self._opened_at)
            if not context.playhead.known or lead_s < LEAD_WITHOUT_SERVER_S:
                return
            await asyncio.sleep(SERVER_POLL_S)

    def _worth_asking(self, plan: PlannedOutput) -> bool:
        """Whether it can be ready: what cannot is not begun, so that the frames after it can be."""
        session = self._context.session
        if session is None or not session.ready:
            return False
        return self._seconds_until(plan.number) - DELIVERY_S > self._context.latency_s

    def _ask(
        self, wanted: list[PlannedOutput], outputs: list[int], triplet: PlannedTriplet[SourceSlot]
    ) -> asyncio.Future[RenderResult] | None:
        context = self._context
        assert context.session is not None
        middle, before, after = triplet.middle, triplet.before, triplet.after
        try:
            answer = context.session.render(
                Frame(middle.number, middle.slot),
                [plan.time for plan in wanted if plan.time is not None],
                outputs,
                previous=Frame(before.number, before.slot) if before else None,
                following=Frame(after.number, after.slot) if after else None,
                interval_before=triplet.interval_before,
                interval_after=triplet.interval_after,
                generation=self._generation,
            )
        except ProtocolError:
            log.exception("request refused")
            return None
        answer.add_done_callback(self._measure)
        return answer

    def _measure(self, answer: asyncio.Future[RenderResult]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            result = answer.result()
            self._context.latency_s += 0.1 * (result.round_trip_ms / 1000 - self._context.latency_s)
            self._context.stats.rendered(result.render_ms)

    async def _output_slot(self) -> int:
        while (slot := self._context.pool.acquire()) is None:
            await asyncio.sleep(SLOT_POLL_S)
        return slot

"""Output frames in order from one place of the film on: decoded, planned, rendered by the server, never late."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

from drba.errors import ProtocolError
from drba.timeline import OutputClock
from server.client import Frame, RenderFailed, RenderResult
from server.shared import FramePool

from .controller import Controller
from .decoder import Decoder, Run, SourceSlot
from .lead import Lead
from .levels import Level, ModelAtScale
from .plan import Kind, PlannedOutput
from .playhead import Playhead
from .sessions import Sessions
from .stats import Stats
from .triplets import PlannedTriplet, TripletWalk

log = logging.getLogger(__name__)

#: Output frames planned ahead of the one being sent: enough to keep two workers busy at 24 -> 60 fps.
QUEUED_OUTPUTS = 10
#: A film whose data ends this much before the length its container states is filled up with its last frame; a larger gap
#: (a truncated file) ends the stream there.
FILL_UP_S = 1
#: Where the film's times jump back the last picture stands until the script has gone over to the film's own track.
HELD_S = 60
SLOT_POLL_S = 0.002
#: While nobody draws (the server is away, or rendering fails), mpv gets source frames for this much film ahead and no more:
#: what it has read once stays without in-betweens.
LEAD_WITHOUT_SERVER_S = 0.5
SERVER_POLL_S = 0.02
#: Slots that in-betweens leave to source frames: a server that does not answer must not stop the decoder.
SLOTS_FOR_SOURCE = 8
PROBE_TIME = 1.25  # of the in-between that a probe renders


@dataclass
class Job:
    """One output frame on its way. The slots it holds are released by `done`."""

    plan: PlannedOutput
    level: Level  # that planned it
    fallback: int  # slot of the source frame that stands for it
    output: int | None = None
    answer: asyncio.Future[RenderResult] | None = None

    @property
    def slots(self) -> list[int]:
        return [self.fallback] if self.output is None else [self.fallback, self.output]


@dataclass
class StreamContext:
    """What every stream of a film shares."""

    clock: OutputClock
    frames: int  # length of the film in output frames
    pool: FramePool
    decoder: Decoder
    playhead: Playhead
    stats: Stats
    sessions: Sessions
    controller: Controller
    frame_s: Fraction  # how long the film's last frame is shown
    fill_up: bool  # whether `frames` is what the container states
    generation: int = 0
    queued: int = 0  # output frames planned and not yet handed over
    on_level: Callable[[], None] = field(default=lambda: None)  # the level has changed

    def workers_of(self, renderer: ModelAtScale) -> int:
        """In-betweens of a renderer that are made at once, as its levels have it."""
        return next((level.workers for level in self.controller.levels if level.renderer == renderer), 1)

    def next_generation(self) -> int:
        self.generation += 1
        return self.generation


class OutputStream:
    """The output frames from `first` on. Iterate `frames()` once, then `close()`."""

    def __init__(self, context: StreamContext, first: int) -> None:
        self._context = context
        self._first = first
        self._start_s = float(context.clock.time_s(first))
        self._opened_at = context.playhead.clock()
        self._generation = context.next_generation()
        context.sessions.cancel(self._generation)
        context.controller.stream_started()
        self._run: Run = context.decoder.start(context.clock.time_s(first))
        self._jobs: asyncio.Queue[Job | None] = asyncio.Queue(QUEUED_OUTPUTS)
        self._planner = asyncio.ensure_future(self._plan())
        self._window: list[SourceSlot] = []
        self._nobody_draws = False  # the server is away, or rendering fails

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
                context.queued = self._jobs.qsize()
                kind = job.plan.kind
                slot = job.fallback
                late = False
                if kind is Kind.INTERPOLATED:
                    if await self._in_time(job):
                        assert job.output is not None
                        slot = job.output
                    else:
                        kind, late = Kind.SOURCE, True
                        context.stats.late += 1
                context.stats.count(kind, job.level.name)
                self._control(job, late)
                yield job.plan.number, context.pool.buffer(slot), kind
            finally:
                self._release(job)

    def close(self) -> None:
        """Stop decoding, drop what the server has not begun, give back all slots.

        Not a coroutine: a reader that goes away is cancelled by its connection and by its successor, and a second
        cancellation must not interrupt this.
        """
        self._context.decoder.stop(self._run)
        self._context.sessions.cancel(self._generation + 1)
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

    def _control(self, job: Job, late: bool) -> None:
        """Have the controller see a frame that is being handed over. What is late, and a buffer that shrinks, while nothing is
        heard of the server say nothing about the level."""
        context, controller = self._context, self._context.controller
        before = controller.level
        heard = before.renderer is None or context.sessions.heard(before.renderer)
        controller.handed_over(
            job.level,
            late=late and heard,
            lead_s=self._lead_s(job.plan.number),
            over_network=context.sessions.over_network(before.renderer),
        )
        if heard and controller.decide(context.playhead.speed, context.sessions.ready):
            log.info("level: %s (%s)", controller.level.name, controller.why)
            renderer = before.renderer
            if (
                renderer not in (None, controller.level.renderer)
                and context.sessions.latency_s(renderer) > controller.lead.now_s
            ):
                # What the server has queued for the old renderer would only be late, and keep the new one waiting.
                self._generation = context.next_generation()
                context.sessions.cancel(self._generation)
            context.on_level()

    def _lead_s(self, number: int) -> float:
        time_s = float(self._context.clock.time_s(number))
        return self._context.playhead.lead_s(time_s, self._start_s, self._opened_at)

    def _slack_s(self, number: int) -> float:
        """Wall-clock seconds until an output frame is late; infinite while nothing moves."""
        playhead = self._context.playhead
        if playhead.paused or playhead.speed <= 0:
            return math.inf
        return (self._lead_s(number) - self._context.controller.lead.reserve_s) / playhead.speed

    async def _in_time(self, job: Job) -> bool:
        if job.answer is None:
            return False
        while not job.answer.done():
            slack_s = self._slack_s(job.plan.number)
            if slack_s <= 0:
                return False
            # Looked at again from time to time: the viewer may pause, seek or change the speed meanwhile.
            await asyncio.wait([job.answer], timeout=min(slack_s, 0.25))
        return job.answer.exception() is None

    def _release(self, job: Job) -> None:
        self._context.pool.release(*job.slots)

    # --- planning -----------------------------------------------------------------------------------------------------

    async def _plan(self) -> None:
        """Take source frames as they come; each in turn is the middle one."""
        walk: TripletWalk[SourceSlot] = TripletWalk(self._context.clock, self._first)
        frames = self._context.frames
        try:
            while walk.number < frames:
                following = await self._next_source()
                end = frames
                if following is None and self._run.jumped_back:
                    end = min(frames, walk.number + math.ceil(HELD_S * self._context.clock.rate))
                elif following is None and walk.middle is not None:
                    end = self._end(walk.middle)
                level = self._context.controller.level
                triplet = walk.feed(following, end, level.drawn)
                if triplet is not None:
                    await self._submit(triplet, level)
                    self._probe(triplet)
                    if triplet.previous is not None:
                        self._forget(triplet.previous)
                if following is None:
                    break
        except Exception:
            log.exception("planning stopped at output frame %d", walk.number)
        await self._jobs.put(None)

    def _end(self, last: SourceSlot) -> int:
        """First output frame after the film, when `last` is its last frame."""
        context = self._context
        data_end = context.clock.frames_until(last.time_s + context.frame_s)
        if context.fill_up and context.frames - data_end <= FILL_UP_S * context.clock.rate:
            return context.frames
        return min(context.frames, data_end)

    async def _next_source(self) -> SourceSlot | None:
        source = await self._run.frames.get()
        self._run.room.release()
        if source is not None:
            self._window.append(source)
        return source

    def _forget(self, source: SourceSlot) -> None:
        self._window.remove(source)
        self._context.pool.release(source.slot)

    async def _submit(self, triplet: PlannedTriplet[SourceSlot], level: Level) -> None:
        pool, sessions = self._context.pool, self._context.sessions
        sessions.want(self._context.controller.wanted())
        drawn = [plan for plan in triplet.outputs if plan.kind is Kind.INTERPOLATED]
        answer: asyncio.Future[RenderResult] | None = None
        outputs: dict[float | None, int] = {}  # slot of the in-between at each of the triplet's times
        try:
            if triplet.outputs and (drawn or level.renderer is None):
                await self._server_or_need(level.renderer, triplet.outputs[0].number)
            if drawn and level.renderer is not None:
                for plan in drawn:
                    if plan.time not in outputs and self._worth_asking(level.renderer, plan.number):
                        slot = await self._output_slot(level.renderer, plan.number)
                        if slot is not None:
                            outputs[plan.time] = slot
                if outputs:
                    answer = self._ask(level.renderer, triplet, outputs)
                elif sessions.answers(level.renderer):
                    sessions.doubt(level.renderer)
            for plan in triplet.outputs:
                output = outputs.get(plan.time) if answer is not None and plan.time is not None else None
                job = Job(plan, level, triplet.shown(plan).slot, output, answer if output is not None else None)
                pool.retain(*job.slots)
                try:
                    await self._jobs.put(job)
                except asyncio.CancelledError:
                    self._release(job)
                    raise
        finally:
            pool.release(*outputs.values())

    async def _server_or_need(self, renderer: ModelAtScale | None, number: int) -> None:
        """Wait until somebody draws, or mpv needs the frame soon."""
        context, sessions = self._context, self._context.sessions
        while context.controller.failing or (renderer is not None and not sessions.answers(renderer)):
            if session := sessions.get(renderer):
                session.wake()
            if not self._nobody_draws and sessions.hangs(renderer):
                # What waits behind the request that hangs would only be late.
                self._generation = context.next_generation()
                sessions.cancel(self._generation)
            self._nobody_draws = True
            if not context.playhead.known or self._lead_s(number) < LEAD_WITHOUT_SERVER_S:
                return
            await asyncio.sleep(SERVER_POLL_S)
        if self._nobody_draws:
            self._nobody_draws = False
            context.controller.lead = Lead()  # what was ahead is gone: from here on as after a seek

    def _worth_asking(self, renderer: ModelAtScale, number: int) -> bool:
        """Whether it can be ready: what cannot is not begun, so that the frames after it can be. One is asked for anyway where no
        other is under way: else a slow second, long over, would be believed until doubts have worn it away."""
        sessions = self._context.sessions
        if not (sessions.answers(renderer) and sessions.room(renderer)):
            return False
        return self._slack_s(number) > sessions.latency_s(renderer) or sessions.idle(renderer)

    def _ask(
        self, renderer: ModelAtScale, triplet: PlannedTriplet[SourceSlot], outputs: Mapping[float | None, int]
    ) -> asyncio.Future[RenderResult] | None:
        session = self._context.sessions.get(renderer)
        assert session is not None
        middle, before, after = triplet.middle, triplet.before, triplet.after
        times = [time for time in outputs if time is not None]
        alone = not session.in_flight
        try:
            answer = session.render(
                Frame(middle.number, middle.slot),
                times,
                list(outputs.values()),
                previous=Frame(before.number, before.slot) if before else None,
                following=Frame(after.number, after.slot) if after else None,
                interval_before=triplet.interval_before,
                interval_after=triplet.interval_after,
                generation=self._generation,
            )
        except ProtocolError:
            log.exception("request refused")
            return None
        self._context.sessions.asked(renderer)
        answer.add_done_callback(partial(self._measure, renderer, len(times), alone))
        return answer

    def _measure(self, renderer: ModelAtScale, count: int, alone: bool, answer: asyncio.Future[RenderResult]) -> None:
        context = self._context
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, RenderFailed):
            context.sessions.answered(renderer, None)
            context.controller.failed(renderer)
        elif not answer.cancelled() and error is None:
            result = answer.result()
            context.sessions.answered(renderer, result, alone=alone)
            # A network that takes longer than a worker is what sets the pace: there is one of it for all workers.
            link_ms = result.link_ms * context.workers_of(renderer)
            pace_ms = max(result.render_ms, link_ms)
            context.controller.rendered(renderer, pace_ms / count, by_network=link_ms > result.render_ms)
            if renderer == context.controller.level.renderer:  # else a probe's
                context.stats.rendered(result.render_ms / count)

    def _probe(self, triplet: PlannedTriplet[SourceSlot]) -> None:
        """Have another level's renderer measured, if the controller wants to know; the picture is thrown away."""
        context = self._context
        if not triplet.moving or (renderer := context.controller.probe(context.sessions.answers)) is None:
            return
        if context.sessions.room(renderer) and (slot := context.pool.acquire()) is not None:
            self._ask(renderer, triplet, {PROBE_TIME: slot})
            context.pool.release(slot)

    async def _output_slot(self, renderer: ModelAtScale, number: int) -> int | None:
        """None where one is free too late for the in-between to be ready in time."""
        pool = self._context.pool
        while pool.free_slots <= SLOTS_FOR_SOURCE or (slot := pool.acquire()) is None:
            if not self._worth_asking(renderer, number):
                return None
            await asyncio.sleep(SLOT_POLL_S)
        return slot

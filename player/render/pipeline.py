"""Rendering output frames to segments: decoding and planning, engines, and the encoder, each in threads of its own.

    decode and plan (1 thread) -> render (as many as the engine gains from) -> encode in order (the caller's thread)

The queues between them are bounded by memory. Nothing depends on their timing: a segment's frames are a function of the job, the
source and the segment's place, so that interrupted, distributed and uninterrupted renders are the same.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

from av.video.frame import VideoFrame

from drba.pixels import Plane
from engines import ENGINES
from engines.base import Renderer, SourceFrame, Triplet

from ..plan import Kind, PlannedOutput, Relation
from ..relations import Describer, shown_from
from ..source import VideoSource
from ..triplets import PlannedTriplet, TripletWalk
from .encoder import SegmentWriter
from .frames import FrameMaker
from .job import RenderJob
from .progress import Counts
from .segments import Segment, begins_segment, scene_start

#: Output frames between planning and encoding: enough that neither a slow key frame nor the flush of an encoder stops the engine.
QUEUE_BYTES = 512 << 20
MIN_QUEUED, MAX_QUEUED = 8, 48
POLL_S = 0.1  # how soon a thread that waits for room notices that all is to stop

#: Triplets on their way at a card: one copied up, one rendered, one copied down.
DEVICE_WORKERS = 3

NO_END = 1 << 62


class Stopped(Exception):
    """The render was asked to stop."""


@dataclass
class _Source:
    """A decoded frame. `number` is unique among those of a run."""

    number: int
    time_s: Fraction  # on the output clock
    to_previous: Relation
    planes: list[Plane]
    picture: VideoFrame | None = None  # as the encoder gets it, made once

    def for_engine(self) -> SourceFrame:
        return SourceFrame(self.number, self.planes)


@dataclass(frozen=True)
class _Output:
    """One output frame in order; `begins_segment` where the encoder starts anew before it."""

    plan: PlannedOutput
    picture: Callable[[], VideoFrame]
    begins_segment: bool


class Pipeline:
    """Renders one stretch of a job. Use `run` once."""

    def __init__(
        self,
        job: RenderJob,
        source: VideoSource,
        renderer: Renderer,
        folder: Path,
        counts: Counts,
        stop: threading.Event,
        cores: int | None = None,
    ) -> None:
        """`stop` ends the run early, `counts` is kept up to date; both may be shared with other threads. `cores` of the processor
        are for interpolating (None: all)."""
        self._job = job
        self._source = source
        self._renderer = renderer
        self._folder = folder
        self._counts = counts
        self._stop = stop
        self._cores = cores or os.cpu_count() or 1
        self._maker = FrameMaker(source.info.layout, job.encoder.width, job.encoder.height)
        fitting = QUEUE_BYTES // source.info.layout.frame_bytes
        self._queue: queue.Queue[_Output | Exception | None] = queue.Queue(max(MIN_QUEUED, min(MAX_QUEUED, fitting)))
        self._ended = threading.Event()

    def run(self, first: int, end: int | None = None, *, keep_rest: Path | None = None) -> list[Segment]:
        """Write whole segments from output frame `first` (where one begins) to `end` (likewise; None: the job's end).

        Returns them. When stopped, what was rendered of the segment being written is kept as the file `keep_rest`, if given,
        and `Stopped` is raised; any other error leaves whole segments only.
        """
        done: list[Segment] = []
        self._counts.workers = worker_count(self._renderer, self._cores)
        workers = ThreadPoolExecutor(self._counts.workers, "render")
        planner = threading.Thread(target=self._plan, args=(first, end, workers), name="decode")
        planner.start()
        try:
            self._encode(first, done, keep_rest)
        finally:
            self._ended.set()
            planner.join()
            workers.shutdown(cancel_futures=True)
        return done

    # --- encoding, in the caller's thread -----------------------------------------------------------------------------

    def _encode(self, first: int, done: list[Segment], keep_rest: Path | None) -> None:
        writer: SegmentWriter | None = None
        start = number = first
        try:
            for output in self._in_order():
                began = time.perf_counter()
                if output.begins_segment and writer is not None:
                    self._finish(writer, Segment(start, number), done)
                    writer = None
                self._counts.encode_s += time.perf_counter() - began
                began = time.perf_counter()
                picture = output.picture()
                self._counts.wait_s += time.perf_counter() - began
                began = time.perf_counter()
                if writer is None:
                    start = number
                    writer = SegmentWriter(self._folder, self._job.encoder)
                writer.write(picture)
                number += 1
                self._counts.count(output.plan.kind)
                self._counts.encode_s += time.perf_counter() - began
            if writer is not None:
                self._finish(writer, Segment(start, number), done)
                writer = None
        except Stopped:
            if writer is not None and keep_rest is not None:
                writer.finish(keep_rest)
                writer = None
            raise
        finally:
            if writer is not None:
                writer.abandon()

    def _finish(self, writer: SegmentWriter, segment: Segment, done: list[Segment]) -> None:
        writer.finish(self._folder / segment.file_name)
        done.append(segment)

    def _in_order(self) -> Iterator[_Output]:
        while True:
            began = time.perf_counter()
            while True:
                if self._stop.is_set():
                    raise Stopped
                try:
                    item = self._queue.get(timeout=POLL_S)
                    break
                except queue.Empty:
                    continue
            self._counts.wait_s += time.perf_counter() - began
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    # --- decoding and planning, in a thread ---------------------------------------------------------------------------

    def _plan(self, first: int, end: int | None, workers: ThreadPoolExecutor) -> None:
        with contextlib.suppress(Stopped):
            try:
                self._walk(first, end, workers)
                self._put(None)
            except Exception as error:
                if isinstance(error, Stopped):
                    raise
                self._put(error)

    def _walk(self, first: int, end: int | None, workers: ThreadPoolExecutor) -> None:
        job = self._job
        walk: TripletWalk[_Source] = TripletWalk(job.clock, first)
        segment_first = first
        scene_starts: set[int] = set()
        limit = min(value for value in (end, job.end, NO_END) if value is not None)
        for frame, film_end in described(job, self._source, first, self._counts):
            if frame is not None and frame.to_previous is Relation.CUT:
                scene_starts.add(scene_start(job.rate, frame.time_s))
            triplet = walk.feed(frame, min(limit, film_end))
            if triplet is None:
                continue
            segment_first = self._submit(triplet, segment_first, scene_starts, workers)
            if walk.number >= limit:
                return

    def _submit(
        self,
        triplet: PlannedTriplet[_Source],
        segment_first: int,
        scene_starts: set[int],
        workers: ThreadPoolExecutor,
    ) -> int:
        """Hand the triplet's output frames on; returns the first frame of the segment of the last one."""
        groups: list[tuple[bool, list[PlannedOutput]]] = [(False, [])]
        for plan in triplet.outputs:
            scene_begins = plan.number in scene_starts
            if begins_segment(plan.number, segment_first, self._job.segment_frames, scene_begins=scene_begins):
                segment_first = plan.number
                groups.append((True, []))
            groups[-1][1].append(plan)
        for begins, plans in groups:
            # One request for each segment: what is rendered together is so too where the segment is rendered alone.
            wanted = [plan for plan in plans if plan.kind is Kind.INTERPOLATED]
            rendered = self._render(triplet, wanted, workers) if wanted else {}
            for plan in plans:
                picture = rendered.get(plan.number) or self._source_picture(triplet.shown(plan))
                self._put(_Output(plan, picture, begins and plan is plans[0]))
        return segment_first

    def _render(
        self, triplet: PlannedTriplet[_Source], wanted: list[PlannedOutput], workers: ThreadPoolExecutor
    ) -> dict[int, Callable[[], VideoFrame]]:
        before, after = triplet.before, triplet.after
        request = Triplet(
            before.for_engine() if before else None,
            triplet.middle.for_engine(),
            after.for_engine() if after else None,
            triplet.interval_before,
            triplet.interval_after,
        )
        times = [plan.time for plan in wanted if plan.time is not None]
        answer = workers.submit(self._render_now, request, times)
        return {plan.number: _taken(answer, index) for index, plan in enumerate(wanted)}

    def _render_now(self, request: Triplet, times: list[float]) -> list[VideoFrame]:
        began = time.perf_counter()
        made = [self._maker.empty() for _ in times]
        self._renderer.render(request, times, [planes for _, planes in made])
        for frame, _ in made:
            self._maker.pad(frame)
        self._counts.rendered(time.perf_counter() - began)
        return [frame for frame, _ in made]

    def _source_picture(self, source: _Source) -> Callable[[], VideoFrame]:
        def picture() -> VideoFrame:
            if source.picture is None:
                source.picture = self._maker.copy(source.planes)
            return source.picture

        return picture

    def _put(self, item: _Output | Exception | None) -> None:
        while not (self._stop.is_set() or self._ended.is_set()):
            try:
                self._queue.put(item, timeout=POLL_S)
                return
            except queue.Full:
                continue
        raise Stopped


def _taken(answer: Future[list[VideoFrame]], index: int) -> Callable[[], VideoFrame]:
    return lambda: answer.result()[index]


def worker_count(renderer: Renderer, cores: int) -> int:
    """The flow model runs on one core a call. A network on a card wants its next triplets' frames copied meanwhile; on the
    processor it keeps all cores busy by itself."""
    if renderer.model == "flow":
        return cores
    devices = {engine.name: engine.device for engine in ENGINES}
    return DEVICE_WORKERS if devices.get(renderer.engine) == "cuda" else 1


def described(
    job: RenderJob, source: VideoSource, first: int, counts: Counts | None = None
) -> Iterator[tuple[_Source | None, int]]:
    """Source frames from the one before the one shown at output frame `first` on, and None at the end of the film.

    With each comes the first output frame after the film, as far as it is known: NO_END until the end.
    """
    info = source.info
    describe = Describer(info.layout, job.scene, job.spec(info).matrix, info.colour.full_range)
    from_s = job.start_s + job.clock.time_s(first)
    frames = shown_from(source.frames_around(from_s), from_s)
    last = None
    began = time.perf_counter()
    for number, frame in enumerate(chain(frames, [None])):
        if frame is None:
            yield None, job.film_end(last, info) if last is not None else 0
            return
        last = frame
        planes = frame.planes()
        item = _Source(number, frame.time_s - job.start_s, describe.relation(planes, frame.time_s), planes)
        if counts is not None:
            counts.decode_s += time.perf_counter() - began
        yield item, NO_END
        began = time.perf_counter()


def scan(job: RenderJob, source: VideoSource) -> tuple[list[int], int]:
    """Output frames with which scenes begin, ascending, and the first one after the film: what `segments.split` needs."""
    scene_starts: set[int] = set()
    film_end = 0
    for item, end in described(job, source, job.first):
        film_end = end
        if item is not None and item.to_previous is Relation.CUT:
            scene_starts.add(scene_start(job.rate, item.time_s))
    return sorted(scene_starts), film_end

"""One film on a Ray cluster: find where scenes begin, render the segments between on any worker, collect their files.

The segments are those of a render in one process, so either kind goes on where the other was interrupted. A worker reads the
source itself, from a path that all machines share; its segment comes back through Ray, so that the folder of segments, and all
that resuming needs of it, stays this machine's alone.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from drba.errors import InputError, MediaError, ServerError
from drba.pixels import Plane
from engines import StreamSpec, open_renderer
from engines.base import Triplet

from ..cluster import Cluster, Share
from ..plan import Relation
from ..source import VideoSource
from .encoder import TEMPORARY, move_into_place
from .job import RenderJob
from .pipeline import Pipeline, Stopped, described
from .progress import Counts
from .run import Prepared, finish
from .segments import Segment, scene_start, split
from .settled import settled

#: Film that one call of the scan looks at: long enough that seeking is nothing, short enough to keep many workers busy.
SCAN_S = 60
#: A stretch is looked at from so much before it: how a frame relates to the one before needs that one.
SCAN_LEAD_S = 1

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stretch:
    """Output frames `first` <= k < `end` of a job in JSON; `end` None: to the end of the film."""

    job: str
    first: int
    end: int | None


@dataclass(frozen=True)
class Scenes:
    """What is known of a stretch: output frames with which scenes begin, and the first one after the film (0: not seen)."""

    starts: tuple[int, ...]
    film_end: int


@dataclass(frozen=True)
class Rendered:
    """A segment's file, and `Counts.numbers` of it."""

    content: bytes
    numbers: dict[str, float]


def render_on_cluster(prepared: Prepared, cluster: Cluster, counts: Counts, stop: threading.Event, say: Say) -> None:
    """Render the segments that are missing, and join all. `Stopped` where `stop` was set."""

    def check() -> None:
        if stop.is_set():
            raise Stopped

    distribution = Distribution(cluster, prepared.job, say, check)
    segments = distribution.segments()
    there = prepared.folder.all_segments()
    distribution.render([segment for segment in segments if segment not in there], prepared.folder.path, counts)
    finish(prepared)


class Elsewhere:
    """Stands for the renderers on other machines: a Renderer that knows its names and draws nothing."""

    def __init__(self, model: str, engine: str) -> None:
        self.model, self.engine = model, engine

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        raise NotImplementedError("frames are rendered on the cluster's workers")

    def close(self) -> None:
        pass


def settled_on(cluster: Cluster, path: str) -> Callable[[StreamSpec], Elsewhere]:
    """How the renderers of a film are opened on a cluster: one worker settles what "auto" is, and that it has model and film."""

    def open_elsewhere(spec: StreamSpec) -> Elsewhere:
        share = share_of(cluster, spec.model, spec.engine)
        ((_, names),) = cluster.run(settle, [(spec, os.path.abspath(path))], share, lambda _, attempts: None)
        return Elsewhere(*names)

    return open_elsewhere


def share_of(cluster: Cluster, model: str, engine: str) -> Share:
    """A network keeps a whole card busy, or all cores of a machine; the flow model one core."""
    if model == "flow" or engine == "cpu":
        return Share()
    if cluster.gpus and not engine.endswith("cpu"):
        return Share(1, 1)
    return Share(cluster.least_cpus)


class Distribution:
    """A job, its model and engine settled, on a cluster. `say` gets a line where a worker died; `check` is called while waiting
    and may raise."""

    def __init__(self, cluster: Cluster, job: RenderJob, say: Say, check: Callable[[], None] = lambda: None) -> None:
        self._cluster = cluster
        self._job = job
        self._say = say
        self._check = check

    def segments(self) -> list[Segment]:
        """Those that a render in one process makes, found by all workers together."""
        scenes = [
            found for _, found in self._cluster.run(find_scenes, self._stretches(), Share(), self._died, self._check)
        ]
        starts = sorted({start for found in scenes for start in found.starts})
        film_end = max(found.film_end for found in scenes)
        if film_end <= self._job.first:
            raise InputError(f"{self._job.path}: no frame to render; the film has {film_end} at this rate")
        return split(self._job.first, film_end, starts, self._job.segment_frames)

    def _stretches(self) -> list[Stretch]:
        source = self._job.open_source()
        info = source.info
        source.close()
        job = self._job.to_json()
        step = int(SCAN_S * self._job.rate)
        firsts = list(range(self._job.first, self._job.expected_end(info), step)) if info.duration_known else []
        firsts = firsts or [self._job.first]
        return [Stretch(job, first, end) for first, end in zip(firsts, [*firsts[1:], self._job.end], strict=True)]

    def render(self, segments: list[Segment], folder: Path, counts: Counts) -> None:
        """Write the files of `segments` to `folder` as they come; `counts` grows by each."""
        job = self._job.to_json()
        wanted = [Stretch(job, segment.first, segment.end) for segment in segments]
        share = share_of(self._cluster, self._job.model, self._job.engine)
        counts.processes = counts.workers = self._cluster.workers(share)
        for stretch, rendered in self._cluster.run(render_segment, wanted, share, self._died, self._check):
            assert stretch.end is not None
            _keep(rendered.content, folder, Segment(stretch.first, stretch.end))
            counts.add(rendered.numbers)

    def _died(self, stretch: Stretch, attempts: int) -> None:
        begin_s = float(stretch.first / self._job.rate)
        end = "the end" if stretch.end is None else f"{float(stretch.end / self._job.rate):.1f}"
        self._say(
            f"a worker died over {begin_s:.1f}-{end} s of the film; that part is done again (attempt {attempts + 1})"
        )


def _keep(content: bytes, folder: Path, segment: Segment) -> None:
    temporary = folder / f".{os.getpid()}.{TEMPORARY}"
    try:
        temporary.write_bytes(content)
        move_into_place(temporary, folder / segment.file_name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise MediaError(f"{folder}: cannot be written ({error.strerror})") from error


# --- on a worker ------------------------------------------------------------------------------------------------------


def settle(film: tuple[StreamSpec, str]) -> tuple[str, str]:
    """Names of the model and the engine that this machine takes."""
    spec, path = film
    _check_reachable(path)
    renderer = settled(open_renderer(spec), spec)
    renderer.close()
    return renderer.model, renderer.engine


def find_scenes(stretch: Stretch) -> Scenes:
    """Where scenes begin in a stretch, by decoding it."""
    job, source = _opened(stretch)
    starts = set()
    film_end = 0
    try:
        lead = max(job.first, stretch.first - int(SCAN_LEAD_S * job.rate))
        for frame, film_end in described(job, source, lead):
            if frame is None:
                break
            number = scene_start(job.rate, frame.time_s)
            if stretch.end is not None and number >= stretch.end:
                film_end = stretch.end  # at least
                break
            if frame.to_previous is Relation.CUT and number >= stretch.first:
                starts.add(number)
    finally:
        source.close()
    return Scenes(tuple(sorted(starts)), film_end)


def render_segment(stretch: Stretch) -> Rendered:
    """Render a stretch that is one segment."""
    job, source = _opened(stretch)
    counts = Counts()
    try:
        renderer = settled(open_renderer(job.spec(source.info)), job.spec(source.info))
        try:
            with TemporaryDirectory(prefix="drba-render-") as folder:
                pipeline = Pipeline(job, source, renderer, Path(folder), counts, threading.Event(), cores=1)
                segments = pipeline.run(stretch.first, stretch.end)
                if [(segment.first, segment.end) for segment in segments] != [(stretch.first, stretch.end)]:
                    raise ServerError(
                        f"{job.path}: {segments} instead of {stretch.first}-{stretch.end}; did the film change?"
                    )
                content = (Path(folder) / segments[0].file_name).read_bytes()
        finally:
            renderer.close()
    finally:
        source.close()
    return Rendered(content, counts.numbers())


def _opened(stretch: Stretch) -> tuple[RenderJob, VideoSource]:
    job = RenderJob.from_json(stretch.job)
    _check_reachable(job.path)
    return job, job.open_source()


def _check_reachable(path: str) -> None:
    if not os.path.exists(path):
        raise InputError(
            f"{path}: no such file on {socket.gethostname()}; a cluster's machines need the film under one path (shared storage)"
        )

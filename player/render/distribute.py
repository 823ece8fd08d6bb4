"""One film on a Ray cluster: find where scenes begin, render the segments between on any worker, collect their files.

The segments are those of a render in one process, so either kind goes on where the other was interrupted. A worker reads the
source itself, from a path that all machines share; its segment comes back through Ray, so that the folder of segments, and all
that resuming needs of it, stays this machine's alone.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from drba.errors import InputError, ServerError
from engines import open_renderer

from ..cluster import Cluster, Share
from ..plan import Kind, Relation
from ..source import VideoSource
from .encoder import TEMPORARY, move_into_place
from .job import RenderJob
from .pipeline import Pipeline, described
from .progress import Counts
from .segments import Segment, scene_start, split

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
    """A segment's file, and its frames by kind."""

    content: bytes
    frames: dict[str, int]


class Distribution:
    """A job on a cluster. `say` gets a line for everything that the user should know."""

    def __init__(self, cluster: Cluster, job: RenderJob, say: Say) -> None:
        """Settle model and engine by what the cluster's machines have. ServerError or the worker's own error."""
        self._cluster = cluster
        self._say = say
        self._share = Share()
        if job.model != "flow":
            # A network keeps a whole card busy, or all cores of a machine.
            self._share = Share(1, 1) if cluster.gpus and not job.engine.endswith("cpu") else Share(cluster.least_cpus)
        self.job = self._settled(job)

    def _settled(self, job: RenderJob) -> RenderJob:
        everything = [Stretch(job.to_json(), job.first, job.end)]
        ((_, (model, engine)),) = self._cluster.run(settle, everything, self._share, self._died)
        return replace(job, model=model, engine=engine)

    def segments(self) -> list[Segment]:
        """Those that a render in one process makes, found by all workers together."""
        scenes = [found for _, found in self._cluster.run(find_scenes, self._stretches(), Share(), self._died)]
        starts = sorted({start for found in scenes for start in found.starts})
        film_end = max(found.film_end for found in scenes)
        if film_end <= self.job.first:
            raise InputError(f"{self.job.path}: no frame to render; the film has {film_end} at this rate")
        return split(self.job.first, film_end, starts, self.job.segment_frames)

    def _stretches(self) -> list[Stretch]:
        source = self.job.open_source()
        info = source.info
        source.close()
        job = self.job.to_json()
        step = int(SCAN_S * self.job.rate)
        firsts = list(range(self.job.first, self.job.expected_end(info), step)) if info.duration_known else []
        firsts = firsts or [self.job.first]
        return [Stretch(job, first, end) for first, end in zip(firsts, [*firsts[1:], self.job.end], strict=True)]

    def render(self, segments: list[Segment], folder: Path, counts: Counts) -> None:
        """Write the files of `segments` to `folder` as they come; `counts` grows by each."""
        job = self.job.to_json()
        wanted = [Stretch(job, segment.first, segment.end) for segment in segments]
        for stretch, rendered in self._cluster.run(render_segment, wanted, self._share, self._died):
            assert stretch.end is not None
            temporary = folder / f".{os.getpid()}.{TEMPORARY}"
            temporary.write_bytes(rendered.content)
            move_into_place(temporary, folder / Segment(stretch.first, stretch.end).file_name)
            for kind, frames in rendered.frames.items():
                setattr(counts, kind, getattr(counts, kind) + frames)

    def _died(self, stretch: Stretch, attempts: int) -> None:
        begin_s = float(stretch.first / self.job.rate)
        end = "the end" if stretch.end is None else f"{float(stretch.end / self.job.rate):.1f}"
        self._say(
            f"a worker died over {begin_s:.1f}-{end} s of the film; that part is done again (attempt {attempts + 1})"
        )


# --- on a worker ------------------------------------------------------------------------------------------------------


def settle(stretch: Stretch) -> tuple[str, str]:
    """Names of the model and the engine that this machine takes."""
    job, source = _opened(stretch)
    try:
        renderer = open_renderer(job.spec(source.info))
        renderer.close()
    finally:
        source.close()
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
        renderer = open_renderer(job.spec(source.info))
        try:
            with TemporaryDirectory(prefix="drba-render-") as folder:
                pipeline = Pipeline(job, source, renderer, Path(folder), counts, threading.Event())
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
    return Rendered(content, {kind.value: getattr(counts, kind.value) for kind in Kind})


def _opened(stretch: Stretch) -> tuple[RenderJob, VideoSource]:
    job = RenderJob.from_json(stretch.job)
    if "://" not in job.path and not os.path.exists(job.path):
        raise InputError(
            f"{job.path}: not on {socket.gethostname()}; a cluster's machines need the film under one path, on shared storage"
        )
    return job, job.open_source()

"""One film from request to output file: prepare, render the segments that are missing, join."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import av

from drba.errors import DrbaError, InputError
from engines import Renderer, StreamSpec, open_renderer

from ..source import StreamInfo, VideoSource, check_input
from .encoder import count_frames
from .job import RenderJob
from .join import Piece, join
from .pipeline import Pipeline, Stopped
from .prepare import RenderRequest, make_job
from .progress import Counts
from .settled import Say, settled
from .streams import check_video, container_format, plan_streams
from .work_folder import WorkFolder, check_output, folder_of, is_begun

#: A film whose pictures end so much before its stated length (often that of the sound) is worth a word.
MISSING_S = 2


@dataclass(frozen=True)
class Destination:
    """Where the output goes: `force` overwrites, `resume` goes on with an interrupted render."""

    path: Path
    force: bool = False
    resume: bool = False


@dataclass
class Prepared:
    """A render that can begin. `done` output frames exist already; `end` is expected, exact only at the end."""

    job: RenderJob
    source: VideoSource
    info: StreamInfo
    renderer: Renderer
    folder: WorkFolder
    output: Path
    notes: list[str]

    @property
    def first_missing(self) -> int:
        segments = self.folder.segments()
        return segments[-1].end if segments else self.job.first

    @property
    def total(self) -> int:
        """Output frames, as far as it is known."""
        return max(0, self.job.expected_end(self.info) - self.job.first)

    def close(self) -> None:
        self.renderer.close()
        self.source.close()
        self.folder.close()


Open = Callable[[StreamSpec], Renderer]


def opener(server: str | None, say: Say = lambda text: None, stop: threading.Event | None = None) -> Open:
    """How renderers are opened: in this process (None), or at a server ("" is this user's own). See `settled`
    for `say` and `stop`."""

    def open_at_server(spec: StreamSpec) -> Renderer:
        from .server_renderer import ServerRenderer  # asyncio and sockets, for nobody else

        return settled(ServerRenderer(spec, server or None), spec, say, stop)

    return (lambda spec: settled(open_renderer(spec), spec, say, stop)) if server is None else open_at_server


def prepare(request: RenderRequest, destination: Destination, open_engine: Open) -> Prepared:
    """Everything that can be wrong is found here, before hours of work: DrbaError with one line."""
    output = destination.path
    check_input(request.path)
    if "://" in request.path:
        raise InputError(f"{request.path}: a URL; rendering needs a file, download it first")
    format_name = container_format(output)
    check_output(output, request.path, force=destination.force, resume=destination.resume)
    source = VideoSource(request.path)
    try:
        asked = {name: value for name, value in asdict(request).items() if name != "path"}
        folder = WorkFolder.resume(output, request.path, asked) if destination.resume else None
        if folder is None and is_begun(output) and not destination.force:
            raise InputError(
                f"{folder_of(output)}: an unfinished render; go on with --resume, or start again with --force"
            )
        try:
            if folder is not None:
                job, notes = folder.job, [f"going on with {folder.path}"]
            else:
                job, notes = make_job(request, source)
                check_video(format_name, job.encoder.codec, output)
            with av.open(request.path) as container:
                notes += [kept.note for kept in plan_streams(container, job.stream, format_name) if kept.note]
            renderer = open_engine(job.spec(source.info))
        except BaseException:
            if folder is not None:
                folder.close()
            raise
        if folder is None:
            # "auto" is settled once: a resumed render must not measure again and choose another.
            job = replace(job, model=renderer.model, engine=renderer.engine)
            folder = WorkFolder.create(output, job, asked)
        return Prepared(job, source, source.info, renderer, folder, output, notes)
    except BaseException:
        source.close()
        raise


def render(prepared: Prepared, counts: Counts, stop: threading.Event) -> None:
    """Render what is missing and write the output. `Stopped` where `stop` was set: see `keep_so_far`."""
    first = prepared.first_missing
    pipeline = Pipeline(prepared.job, prepared.source, prepared.renderer, prepared.folder.path, counts, stop)
    pipeline.run(first, keep_rest=prepared.folder.rest)
    finish(prepared)


def finish(prepared: Prepared) -> None:
    """Join the segments, of which none is missing, and remove the work folder."""
    pieces = prepared.folder.pieces()
    if not pieces:
        raise InputError("--range holds no frame of the film")
    end, folder = prepared.first_missing, prepared.folder
    join(prepared.job, prepared.info, pieces, end, prepared.output, before_rename=folder.note_joined)
    prepared.folder.remove()


def shortcomings(prepared: Prepared, frames: int) -> list[str]:
    """What is wrong with a source that was rendered to `frames` output frames in all."""
    notes = []
    if skipped := prepared.source.skipped_packets:
        notes.append(f"{prepared.job.path}: {skipped} damaged packets were skipped; frames are missing there")
    missing_s = (prepared.total - frames) / prepared.job.rate
    if prepared.info.duration_known and missing_s > MISSING_S:
        notes.append(f"{prepared.job.path}: its pictures end {float(missing_s):.1f} s before the length that it states")
    return notes


def keep_so_far(prepared: Prepared) -> Path | None:
    """Make what a stopped render has into a file that plays; None where there is nothing, or no room for it."""
    folder = prepared.folder
    pieces, end = folder.pieces(), prepared.first_missing
    if folder.rest.exists():
        pieces.append(Piece(folder.rest, end))
        end += count_frames(folder.rest)
    if not pieces:
        return None
    target = folder.so_far(prepared.output)
    try:
        join(prepared.job, prepared.info, pieces, end, target, partial=True)
    except DrbaError:
        return None
    folder.rest.unlink(missing_ok=True)
    return target


__all__ = ["Destination", "Prepared", "Stopped", "finish", "keep_so_far", "opener", "prepare", "render", "shortcomings"]

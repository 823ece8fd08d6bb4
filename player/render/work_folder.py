"""The folder beside the output in which a render is kept until it is whole: its segments, and what they were made from."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import drba
from drba.errors import InputError, MediaError

from .encoder import TEMPORARY, sync_folder
from .job import RenderJob
from .join import JOINING, Piece
from .segments import Segment, contiguous

try:
    import fcntl
except ImportError:  # Windows: two renders of one output are not noticed there
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
JOINED = "joined.json"
REST = "rest.mp4"  # what was rendered of a segment when it was stopped


def folder_of(output: Path) -> Path:
    return output.with_name(output.name + ".drba-part")


def is_begun(output: Path) -> bool:
    """Whether there is a work folder that says what it was made from."""
    return (folder_of(output) / MANIFEST).exists()


class WorkFolder:
    """Held by one process at a time; `close` lets go of it, `remove` deletes it."""

    def __init__(self, path: Path, job: RenderJob, lock: Any) -> None:
        """Use `create` or `resume`."""
        self.path = path
        self.job = job
        self._lock = lock

    @classmethod
    def create(cls, output: Path, job: RenderJob, asked: dict[str, Any]) -> WorkFolder:
        """An empty one in place of one that may be there. `asked` is all that the user can ask for that changes frames."""
        path = folder_of(output)
        manifest = {"version": drba.__version__, "source": identity(job.path), "asked": asked, "job": job.to_json()}
        temporary = path / f".{MANIFEST}"
        try:
            if is_begun(output):
                _take(path).close()
                shutil.rmtree(path)
            elif path.exists():  # killed when it was being made; anything else in it is not ours, and stops this
                temporary.unlink(missing_ok=True)
                path.rmdir()
            path.mkdir()
            temporary.write_text(json.dumps(manifest, indent=1, default=str))
            os.replace(temporary, path / MANIFEST)
            sync_folder(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        return cls(path, job, _take(path))

    @classmethod
    def resume(cls, output: Path, source_path: str, asked: dict[str, Any]) -> WorkFolder | None:
        """The one of an interrupted render; None if there is none. InputError where it was begun with something else."""
        path = folder_of(output)
        if not is_begun(output):
            return None
        lock = _take(path)
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            job = replace(RenderJob.from_json(manifest["job"]), path=os.path.abspath(source_path))
            _check_same(path, manifest, source_path, asked)
        except (OSError, ValueError, KeyError, TypeError) as error:
            lock.close()
            raise InputError(f"{path}: no render that can be resumed ({error!r}); start again with --force") from error
        except InputError:
            lock.close()
            raise
        for leftover in (*path.glob(f".*.{TEMPORARY}"), *path.glob(f".*.{JOINING}.*"), path / REST):
            leftover.unlink(missing_ok=True)
        return cls(path, job, lock)

    def segments(self) -> list[Segment]:
        """The whole ones that follow each other from the beginning."""
        return contiguous(self.all_segments(), self.job.first)

    def all_segments(self) -> set[Segment]:
        """Also those after a gap: a cluster finishes them in any order."""
        parsed = (Segment.parse(entry.name) for entry in self.path.iterdir())
        return {segment for segment in parsed if segment is not None}

    def pieces(self) -> list[Piece]:
        return [Piece(self.path / segment.file_name, segment.first) for segment in self.segments()]

    @property
    def rest(self) -> Path:
        return self.path / REST

    def so_far(self, output: Path) -> Path:
        """What a stopped render leaves to look at."""
        return self.path / f"so-far{output.suffix}"

    def note_joined(self, whole: Path) -> None:
        """The output is about to get its name: if the program is killed before `remove`, it is known to be whole."""
        (self.path / JOINED).write_text(json.dumps(identity(str(whole))))

    def close(self) -> None:
        self._lock.close()

    def remove(self) -> None:
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)


def identity(path: str) -> dict[str, int]:
    """What tells a source from another version of it; MediaError where it is not a local file."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _joined(folder: Path, output: Path) -> bool:
    try:
        return bool(json.loads((folder / JOINED).read_text()) == identity(str(output)))
    except (OSError, ValueError, MediaError):
        return False


def _check_same(path: Path, manifest: dict[str, Any], source_path: str, asked: dict[str, Any]) -> None:
    if manifest["version"] != drba.__version__:
        found = f"version {manifest['version']}, this is {drba.__version__}"
        raise InputError(f"{path} was begun by {found}; finish it with that one, or start again with --force")
    if manifest["source"] != identity(source_path):
        raise InputError(f"{path} was begun with another file than {source_path} is now; start again with --force")
    wanted = json.loads(json.dumps(asked, default=str))
    before = manifest["asked"]
    changed = [name for name in wanted if wanted[name] != before.get(name)]
    if changed:
        words = ", ".join(f"{name} {before.get(name)}, now {wanted[name]}" for name in changed)
        raise InputError(f"{path} was begun with {words}; resume with the same options, or start again with --force")


def _take(path: Path) -> Any:
    """Lock it; InputError where another process renders into it."""
    try:
        lock = (path / MANIFEST).open("a")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise InputError(f"{path}: another drba-render is working on this output") from None
    return lock


def check_output(output: Path, source_path: str, *, force: bool, resume: bool = False) -> None:
    """InputError with one line where the output cannot be written there, before anything is rendered.

    An output that exists may be resumed only if it was made from its own work folder.
    """
    with contextlib.suppress(OSError):
        if os.path.samefile(output, source_path):
            raise InputError(f"{output}: input and output are the same file")
    if output.is_dir():
        raise InputError(f"{output}: a folder; give the name of a file")
    if output.exists() and not force and not (resume and _joined(folder_of(output), output)):
        raise InputError(f"{output} exists already; choose another name, or overwrite it with --force")
    if not output.parent.is_dir():
        raise InputError(f"{output.parent}: no such folder")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"{output.parent}: nothing can be written there")

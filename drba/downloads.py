"""Fetching public weights: resumed, checked, then renamed into place. No torch is imported here.

A part arrives as `NAME.pkl.partial`, and `NAME.pkl.partial.json` says which content of which URL it is the beginning
of. Only a file with the right digest gets its final name.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import weights
from .errors import ModelError
from .integrity import digest_of, locked, part_status, public_digest, record, records_path
from .models import Digest, ModelSpec, Part
from .transfer import Partial, check_url, make_opener, transfer
from .whole_files import replace_durably

PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # torch's zip and its older format; an error page is neither

#: Called with (part, bytes so far, bytes in all or None where the server does not say).
Progress = Callable[[Part, int, "int | None"], None]


@dataclass(frozen=True)
class Fetched:
    """`new` is False for a part that was there already; `first_seen` says that nothing was known to check it against and
    that its digest is on record now."""

    part: Part
    path: Path
    digest: Digest | None
    new: bool
    first_seen: bool = False


def fetch(
    spec: ModelSpec,
    *,
    progress: Progress | None = None,
    force: bool = False,
    base_url: str | None = None,
    opener: urllib.request.OpenerDirector | None = None,
) -> tuple[Fetched, ...]:
    """Install every part of a model; ModelError where one cannot be had, the parts before it stay installed.

    A part that is installed and intact is left alone unless `force` is set; one that has changed is replaced. `base_url`
    stands for scheme and host of the registry's URLs (a mirror that has the same paths): https, or http on this machine.
    A shipped model is not downloaded: a file that was imported in its place is removed where it has changed or `force` is
    set, and what is in the package counts again.
    """
    opener = opener or make_opener()
    with locked(spec):
        if spec.shipped:
            return tuple(_use_shipped(spec, part, force) for part in spec.parts)
        return tuple(_fetch_part(spec, part, progress, force, base_url, opener) for part in spec.parts)


def _use_shipped(spec: ModelSpec, part: Part, force: bool) -> Fetched:
    """The package's file, in place of the user's own where that is wanted."""
    own, shipped = weights.find_own_file(spec, part.name), weights.find_shipped_file(spec)
    replaced = (
        own is not None and shipped is not None and (force or part_status(spec, part, note=False).state == "changed")
    )
    if own is not None and replaced:
        try:
            for suffix in weights.SUFFIXES:
                own.with_suffix(suffix).unlink(missing_ok=True)
        except OSError as error:
            raise ModelError(f"file {own} cannot be removed ({error.strerror}); check its permissions") from error
    path, status = weights.installed_file(spec, part.name), part_status(spec, part, note=False)
    if status.state == "changed":
        found = f"expected {status.expected}, got {status.actual}"
        raise ModelError(f"weights file {path} has changed: {found}; install {weights.APP_NAME} again")
    return Fetched(part, path, status.actual, new=replaced)


def part_url(part: Part, base_url: str | None = None) -> str:
    return part.url if base_url is None else base_url.rstrip("/") + urlsplit(part.url).path


def _fetch_part(
    spec: ModelSpec,
    part: Part,
    progress: Progress | None,
    force: bool,
    base_url: str | None,
    opener: urllib.request.OpenerDirector,
) -> Fetched:
    status = part_status(spec, part, note=False)
    if status.path is not None and status.state != "changed" and not force:
        return Fetched(part, status.path, status.actual, new=False)
    url = part_url(part, base_url)
    check_url(url)
    expected = public_digest(spec, part)
    path = weights.model_dir(spec) / f"{part.name}.pkl"
    partial = Partial(path.with_name(path.name + ".partial"), url, can_check=expected is not None)

    def report(received: int, total: int | None) -> None:
        if progress is not None:
            progress(part, received, total)

    transfer(partial, f"{part.name} of {spec.name}", opener, report)
    try:
        actual = _checked(spec, part, partial, expected)
        replace_durably(partial.path, path)
        partial.remove()
        for suffix in weights.SUFFIXES:  # an imported file would be found before the downloaded one
            if suffix != path.suffix:
                path.with_suffix(suffix).unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"file {path} cannot be written ({error.strerror}); check space and permissions") from error
    return Fetched(part, path, actual, new=True, first_seen=expected is None)


def _checked(spec: ModelSpec, part: Part, partial: Partial, expected: Digest | None) -> Digest:
    """The digest of a complete download, on record where it was not known; a wrong one removes the download."""
    subject = f"{part.name} of {spec.name} from {partial.url}"
    actual = digest_of(partial.path, expected.algorithm if expected else "sha256")
    if expected is not None and actual != expected:
        partial.remove()
        advice = "it was not installed" if part.digest else f"to accept a new version delete {records_path(spec)}"
        origin = "expected" if part.digest else "first seen as"
        raise ModelError(f"{subject} has changed: {origin} {expected}, got {actual}; {advice}")
    with partial.path.open("rb") as file:
        start = file.read(max(map(len, PICKLE_STARTS)))
    if not start.startswith(PICKLE_STARTS):
        size = os.path.getsize(partial.path)
        partial.remove()
        raise ModelError(f"{subject} is no checkpoint ({size} bytes from {start!r}); a proxy may be in the way")
    if part.digest is None:  # on record before the file is: a crash between both may only cost the download
        record(spec, part, public=str(actual), stored=str(actual), file=f"{part.name}.pkl")
    return actual

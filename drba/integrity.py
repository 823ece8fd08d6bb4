"""Whether installed weights are what they should be: digests, and the record of those seen first.

`digests.json` beside a model's files holds for each part what no registry knows: `public`, the digest of the file as
it was first downloaded (where models.py has none), and `stored`, the digest of the installed file under the name `file`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import weights
from .errors import ModelError
from .models import Algorithm, Digest, ModelSpec, Part
from .ownership import foreign
from .whole_files import write_whole

try:
    import fcntl
except ImportError:  # Windows: two commands at once are the user's to avoid there
    fcntl = None  # type: ignore[assignment]

RECORDS = "digests.json"
LOCK = ".lock"
CHUNK_BYTES = 1 << 20

#: `recorded`: no digest was known, that of the file as it is now has been noted and counts from here on.
State = Literal["ok", "missing", "changed", "recorded"]
Records = dict[str, dict[str, str]]


@dataclass(frozen=True)
class PartStatus:
    """`actual` is None for a missing file; `expected` None where no digest is known. `known` says that `expected` is in
    the registry or the package, not merely what was seen first here."""

    part: Part
    state: State
    path: Path | None = None
    actual: Digest | None = None
    expected: Digest | None = None
    known: bool = False


def digest_of(path: Path, algorithm: Algorithm) -> Digest:
    """Digest of a file's content; OSError where it cannot be read."""
    hasher = hashlib.sha256() if algorithm == "sha256" else hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        if algorithm == "git-blob":
            hasher.update(b"blob %d\0" % os.fstat(file.fileno()).st_size)
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return Digest(algorithm, hasher.hexdigest())


def parse_digest(text: str) -> Digest:
    """The inverse of str(Digest); ValueError for anything else."""
    algorithm, _, value = text.partition(":")
    if algorithm == "sha256":
        return Digest("sha256", value)
    if algorithm == "git-blob":
        return Digest("git-blob", value)
    raise ValueError(f"digest {text!r}; expected sha256:HEX or git-blob:HEX")


def records_path(spec: ModelSpec) -> Path:
    return weights.model_dir(spec) / RECORDS


def read_records(spec: ModelSpec) -> Records:
    path = records_path(spec)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        for entry in records.values():
            for key in ("public", "stored"):
                if key in entry:
                    parse_digest(entry[key])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"digest record {path} cannot be read ({error}); delete it to start a new one") from error
    return records


def record(spec: ModelSpec, part: Part, **values: str) -> None:
    """Add to what is noted about a part; None of it is forgotten. Hold `locked` around reading and this."""
    records = read_records(spec)
    records[part.name] = {**records.get(part.name, {}), **values}
    write_atomically(records_path(spec), (json.dumps(records, indent=1, sort_keys=True) + "\n").encode())


def public_digest(spec: ModelSpec, part: Part) -> Digest | None:
    """The digest of the public file: from the registry, else as first downloaded here, else None."""
    if part.digest is not None:
        return part.digest
    noted = read_records(spec).get(part.name, {}).get("public")
    return parse_digest(noted) if noted else None


def verify(spec: ModelSpec) -> tuple[PartStatus, ...]:
    """Compare every part's installed file with its digest; a file without one is noted and is `recorded`."""
    with locked(spec) if weights.model_dir(spec).is_dir() else contextlib.nullcontext():
        return tuple(part_status(spec, part) for part in spec.parts)


def part_status(spec: ModelSpec, part: Part, *, note: bool = True) -> PartStatus:
    """See `verify`; call it while holding `locked`. `note=False` writes nothing."""
    path = weights.find_file(spec, part.name)
    if path is None:
        return PartStatus(part, "missing", expected=public_digest(spec, part), known=part.digest is not None)
    known, expected = _expected(spec, part, path)
    try:
        actual = digest_of(path, expected.algorithm if expected else "sha256")
    except OSError as error:
        raise ModelError(f"weights file {path} cannot be read ({error.strerror}); check its permissions") from error
    if expected is None:
        if note:
            record(spec, part, stored=str(actual), file=path.name)
        return PartStatus(part, "recorded", path, actual)
    return PartStatus(part, "ok" if actual == expected else "changed", path, actual, expected, known)


def _expected(spec: ModelSpec, part: Part, path: Path) -> tuple[bool, Digest | None]:
    """(whether it came with the program rather than being noted here, the digest that an installed file has to have)."""
    if path == weights.find_shipped_file(spec):
        return True, weights.shipped_digest(spec)
    if part.digest is not None and path.suffix == ".pkl":  # only downloads are stored as they came
        return True, part.digest
    entry = read_records(spec).get(part.name, {})
    if entry.get("file") == path.name and "stored" in entry:
        return False, parse_digest(entry["stored"])
    return False, None


@contextlib.contextmanager
def locked(spec: ModelSpec) -> Iterator[None]:
    """Keep other processes from changing a model's files; ModelError where one does so at present. Makes the folder."""
    path = weights.model_dir(spec) / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise ModelError(f"folder {path.parent} cannot be written ({error.strerror}); check its permissions") from error
    if why := foreign(path.parent):
        file.close()
        raise ModelError(
            f"folder {path.parent} {why}; remove it, or set {weights.DATA_DIR_ENV} to a folder of your own"
        )
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ModelError(f"model {spec.name} is in use by another drba command; wait for its end") from error
        yield


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """As `write_whole`; ModelError where it cannot be written."""
    try:
        write_whole(path, content, durable=durable)
    except OSError as error:
        raise ModelError(f"file {path} cannot be written ({error.strerror}); check space and permissions") from error

"""Which films a command line means, and what each one's output is called."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drba.errors import InputError

from ..source import check_input
from .streams import CONTAINERS

#: What is taken for a film in a folder.
SUFFIXES = {".3gp", ".asf", ".avi", ".divx", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
SUFFIXES |= {".mts", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
#: For sources whose own container is not written.
DEFAULT_SUFFIX = ".mkv"


@dataclass(frozen=True)
class Films:
    """(source, output) of each film, in order of their names; `many` where folders, patterns or several files were given, even
    if that is one film: then the outputs lie in one folder, under the sources' names."""

    pairs: tuple[tuple[str, Path], ...]
    many: bool = False


def plan_films(sources: Sequence[str], output: str) -> Films:
    """Films of files, folders and glob patterns. InputError where there is none, or outputs would overwrite something."""
    many = len(sources) > 1 or os.path.isdir(sources[0]) or _is_pattern(sources[0])
    into_folder = os.path.isdir(output) or output.endswith(os.sep)
    if not many:
        check_input(sources[0])
    if not many and not into_folder:
        return Films(((sources[0], Path(output)),))
    found = [film for source in sources for film in _found(source)]
    if not into_folder and Path(output).suffix:
        raise InputError(f"{output}: the output of {len(found)} films must be a folder; write -o FOLDER/")
    pairs: dict[Path, str] = {}
    for film in dict.fromkeys(found):
        target = Path(output) / _output_name(film)
        if target in pairs:
            raise InputError(
                f"{target}: would be the output of {pairs[target]} and of {film}; render them into two folders"
            )
        if os.path.abspath(target) == os.path.abspath(film):
            raise InputError(f"{output}: the sources' own folder; give another one for the output")
        pairs[target] = film
    return Films(tuple((film, target) for target, film in pairs.items()), many=True)


def _found(source: str) -> list[str]:
    if os.path.isdir(source):
        names = sorted(name for name in os.listdir(source) if Path(name).suffix.lower() in SUFFIXES)
        films = [os.path.join(source, name) for name in names if not name.startswith(".")]
        films = [film for film in films if os.path.isfile(film)]
        if not films:
            raise InputError(f"{source}: no film in this folder; expected files such as .mkv or .mp4")
        return films
    if _is_pattern(source):
        films = sorted(path for path in glob.glob(source) if os.path.isfile(path))
        if not films:
            raise InputError(f"{source}: no file has such a name")
        return films
    check_input(source)
    return [source]


def _is_pattern(source: str) -> bool:
    """A file may have brackets in its name."""
    return "://" not in source and glob.has_magic(source) and not os.path.exists(source)


def _output_name(film: str) -> str:
    path = Path(film)
    return path.name if path.suffix.lower() in CONTAINERS else path.stem + DEFAULT_SUFFIX

"""Small facts that are kept between runs, in JSON files in the cache folder: losing them costs a new measurement, no more."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import platformdirs

from .errors import DrbaError, InputError
from .integrity import write_atomically
from .ownership import foreign

log = logging.getLogger(__name__)

CACHE_DIR_ENV = "DRBA_CACHE_DIR"


def cache_folder() -> Path:
    """Where measurements, built engines and the demo clip are; DRBA_CACHE_DIR moves it. InputError where others could have
    put something there."""
    folder = Path(os.environ.get(CACHE_DIR_ENV) or platformdirs.user_cache_dir("drba-player", appauthor=False))
    if why := foreign(folder):
        raise InputError(f"cache folder {folder} {why}; remove it, or set {CACHE_DIR_ENV} to a folder of your own")
    return folder


class KeptFacts:
    """A JSON object in a file of the cache folder. One that cannot be read or is damaged is an empty one; one that cannot be
    written is said in the log."""

    def __init__(self, name: str) -> None:
        self.path = cache_folder() / name

    def read(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def write(self, facts: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not waiting for the disk: mpv's end ends the bridge, which writes at the end of a film.
            write_atomically(self.path, json.dumps(facts, indent=1).encode(), durable=False)
        except (OSError, DrbaError) as error:
            log.warning("%s: %s", self.path, error)

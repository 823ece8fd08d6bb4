"""Where model weights are kept on this machine. No torch is imported here."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from .errors import ModelError
from .models import ModelSpec

APP_NAME = "drba-player"
DATA_DIR_ENV = "DRBA_DATA_DIR"  # overrides the data folder
SUFFIXES = (".safetensors", ".pkl")  # imported, then downloaded files


def data_dir() -> Path:
    """The folder of everything this project keeps for the user; not created here."""
    return Path(os.environ.get(DATA_DIR_ENV) or platformdirs.user_data_dir(APP_NAME, appauthor=False))


def model_dir(spec: ModelSpec) -> Path:
    return data_dir() / "weights" / spec.name


def find_file(spec: ModelSpec, part: str) -> Path | None:
    """The installed file of a part, or None."""
    paths = (model_dir(spec) / f"{part}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def is_installed(spec: ModelSpec) -> bool:
    """Whether every part of a model is on this machine (not whether it is intact)."""
    return all(find_file(spec, part.name) for part in spec.parts)


def installed_file(spec: ModelSpec, part: str) -> Path:
    """The installed file of a part; ModelError that says how to get it where it is missing."""
    path = find_file(spec, part)
    if path is None:
        raise ModelError(
            f"model {spec.name} is not installed ({part} is not in {model_dir(spec)}); "
            f"run `drba models fetch {spec.name}`, or `drba models import FILE` if you have it"
        )
    return path

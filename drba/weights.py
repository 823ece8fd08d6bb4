"""Where model weights are on this machine: in the user's folder, or in the package. No torch is imported here.

What the user has imported or fetched comes before what is in the package. That lies in one folder: MODEL.safetensors for
each model, and SHA256SUMS as sha256sum writes it. A build without a file is whole but for that model.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from .errors import ModelError
from .models import Digest, ModelSpec

APP_NAME = "drba-player"
DATA_DIR_ENV = "DRBA_DATA_DIR"  # overrides the data folder
SHIPPED_DIR_ENV = "DRBA_SHIPPED_DIR"  # overrides the folder in the package, for tests and for other packagings
SUFFIXES = (".safetensors", ".pkl")  # imported, then downloaded files
SHA256SUMS = "SHA256SUMS"


def data_dir() -> Path:
    """The folder of everything this project keeps for the user; not created here."""
    return Path(os.environ.get(DATA_DIR_ENV) or platformdirs.user_data_dir(APP_NAME, appauthor=False))


def model_dir(spec: ModelSpec) -> Path:
    return data_dir() / "weights" / spec.name


def find_file(spec: ModelSpec, part: str) -> Path | None:
    """The file of a part, the user's own before the package's; None where there is neither."""
    return find_own_file(spec, part) or find_shipped_file(spec)


def find_own_file(spec: ModelSpec, part: str) -> Path | None:
    """The file of a part in the user's folder, or None."""
    paths = (model_dir(spec) / f"{part}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def is_installed(spec: ModelSpec) -> bool:
    """Whether every part of a model is on this machine (not whether it is intact)."""
    return all(find_file(spec, part.name) for part in spec.parts)


def installed_file(spec: ModelSpec, part: str) -> Path:
    """The file of a part; ModelError that says how to get it where it is missing."""
    path = find_file(spec, part)
    if path is None and spec.shipped:
        raise ModelError(
            f"model {spec.name} is not in this build ({shipped_path(spec)} is missing); install {APP_NAME} again"
        )
    if path is None:
        raise ModelError(
            f"model {spec.name} is not installed ({part} is not in {model_dir(spec)}); "
            f"run `drba models fetch {spec.name}`, or `drba models import FILE` if you have it"
        )
    return path


# --- in the package ---------------------------------------------------------------------------------------------------


def shipped_dir() -> Path:
    own = os.environ.get(SHIPPED_DIR_ENV)
    return Path(own) if own else Path(__file__).with_name("networks") / "shipped"


def shipped_path(spec: ModelSpec) -> Path:
    """Where the package's file of a model is, or would be."""
    return shipped_dir() / f"{spec.name}.safetensors"


def find_shipped_file(spec: ModelSpec) -> Path | None:
    path = shipped_path(spec)
    return path if spec.shipped and path.is_file() else None


def shipped_digest(spec: ModelSpec) -> Digest:
    """What the package's file has to be; ModelError where its list of digests lacks it."""
    path = shipped_dir() / SHA256SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ModelError(f"list of digests {path} cannot be read ({error.strerror}); install again") from error
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if shipped_path(spec).name not in digests:
        raise ModelError(f"list of digests {path} has no line for {shipped_path(spec).name}; install again")
    return Digest("sha256", digests[shipped_path(spec).name])

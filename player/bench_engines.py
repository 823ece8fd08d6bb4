"""Which engines a model is measured on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from drba.errors import InputError
from drba.models import ModelSpec
from engines import ENGINES

KNOWN = tuple(name for name in ENGINES if name != "auto")


def device_of(engine: str) -> str:
    return "cuda" if engine == "torch-cuda" else "cpu"


def check_engines(names: Sequence[str]) -> None:
    for name in names:
        if name not in KNOWN:
            raise InputError(f"engine {name!r} does not exist; expected one of {', '.join(KNOWN)}")


def fitting(model: ModelSpec, names: Sequence[str], devices: Collection[str]) -> tuple[list[str], str]:
    """Those of `names` (empty: all) that take the model on a device that is here, and in one line why there are none."""
    taking = ["cpu"] if model.family == "flow" else ["torch-cpu", "torch-cuda"]
    found = [name for name in KNOWN if name in taking and (not names or name in names)]
    here = [name for name in found if device_of(name) in devices]
    if found and not here:
        return [], f"{', '.join(found)}: no CUDA device"
    return here, "" if here else f"runs on {', '.join(taking)} only"

"""The registry of engines, the ways to run a model, best first: what each needs, what it supports, how it is opened.

Without torch: it is imported by `open` and `build` only.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drba.errors import InputError
from drba.models import ModelSpec

from .base import LocalRenderer, SharedBuild, StreamSpec
from .built import BuiltEngine
from .cards import find_cards

if TYPE_CHECKING:
    from .build import Builder

AUTO = "auto"


@dataclass(frozen=True)
class Engine:
    """One way to run models. Reasons are one line for people, empty where there is none.

    `missing` says what this machine lacks for it and how to get it, `supports` why a model cannot run on it. `open` makes
    the renderer, which may take seconds, or returns None where something has to be built first, which takes minutes:
    `build` starts that, in the background.
    """

    name: str
    device: Literal["cpu", "cuda"]
    missing: Callable[[], str]
    supports: Callable[[ModelSpec, StreamSpec], str]
    open: Callable[[StreamSpec, ModelSpec], LocalRenderer | None]
    build: Callable[[StreamSpec, ModelSpec], SharedBuild] | None = None


def check_engine(name: str, engines: Sequence[Engine] | None = None) -> None:
    """InputError where no engine has this name, or it cannot work on this machine; "auto" always can."""
    by_name = {engine.name: engine for engine in (ENGINES if engines is None else engines)}
    if name == AUTO:
        return
    if name not in by_name:
        raise InputError(f"engine {name!r} does not exist; expected one of {', '.join((AUTO, *by_name))}")
    if reason := by_name[name].missing():
        raise InputError(f"engine {name}: {reason}; or use --engine auto")


# --- what each needs --------------------------------------------------------------------------------------------------


def _nothing() -> str:
    return ""


def _cuda_missing() -> str:
    cards, why_none = find_cards()
    if not cards:
        return why_none
    version, cuda = _torch_build()
    return "" if cuda else f"PyTorch {version} is built without CUDA; install the one for your driver from pytorch.org"


def _tensorrt_missing() -> str:
    if reason := _cuda_missing():
        return reason
    return "" if find_spec("tensorrt") else "TensorRT is not installed; pip install 'drba-player[nvidia]'"


@lru_cache(maxsize=1)
def _torch_build() -> tuple[str, str | None]:
    """(version, version of CUDA or None) of the installed PyTorch, read from its version.py: importing it takes seconds."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return "(not installed)", None
    said = runpy.run_path(str(Path(found.origin).with_name("version.py")))
    return said["__version__"], said["cuda"]


# --- what each supports, and how it is opened -------------------------------------------------------------------------


def _networks(model: ModelSpec, spec: StreamSpec) -> str:
    return "the flow model runs on the engine cpu" if model.family == "flow" else ""


def _split_networks(model: ModelSpec, spec: StreamSpec) -> str:
    return _networks(model, spec) or ("" if model.splits else f"{model.name} has no parts that it can build")


def _flow_only(model: ModelSpec, spec: StreamSpec) -> str:
    return "" if model.family == "flow" else "it runs the flow model only"


def open_flow(spec: StreamSpec, model: ModelSpec | None = None) -> LocalRenderer:
    from .flow import FlowRenderer  # imports OpenCV

    return FlowRenderer(spec)


def _open_torch_cpu(spec: StreamSpec, model: ModelSpec) -> LocalRenderer:
    from .network import NetworkRenderer  # imports torch

    return NetworkRenderer(spec, model, "cpu")


def _open_torch_cuda(spec: StreamSpec, model: ModelSpec) -> LocalRenderer:
    import torch

    from .network import NetworkRenderer

    try:
        torch.cuda.init()
    except Exception as error:  # PyTorch raises AssertionError and RuntimeError here, and may print a page
        line = str(error).strip().partition("\n")[0]
        raise InputError(f"engine torch-cuda: PyTorch cannot use the card ({line}); update its driver") from error
    return NetworkRenderer(spec, model, "cuda")


def _tensorrt_builder() -> Builder:
    from .tensorrt import TensorRtBuilder

    return TensorRtBuilder()


_TENSORRT = BuiltEngine("tensorrt", "cuda", _tensorrt_builder)

#: Best first.
ENGINES: tuple[Engine, ...] = (
    Engine("tensorrt", "cuda", _tensorrt_missing, _split_networks, _TENSORRT.open, _TENSORRT.build),
    Engine("torch-cuda", "cuda", _cuda_missing, _networks, _open_torch_cuda),
    Engine("torch-cpu", "cpu", _nothing, _networks, _open_torch_cpu),
    Engine("cpu", "cpu", _nothing, _flow_only, open_flow),
)

"""From a registry entry and weights to an interpolator on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from .. import weights as store
from ..errors import ModelError
from ..models import Family, ModelSpec
from . import distil, ifnet, refine
from .checkpoint import SUFFIXES, fit, normalised, read_checkpoint
from .distil import DistilInterpolator, DistilNet
from .flow import FlowTensorInterpolator
from .gmfss import GmfssInterpolator, GmfssNetwork
from .ifnet import IFNet
from .interpolator import Interpolator, Mode
from .refine import RefineNet
from .refining import RefineInterpolator
from .rife import RifeInterpolator

Weights = str | Path | Mapping[str, Mapping[str, Any]] | None


def build(
    spec: ModelSpec,
    *,
    weights: Weights,
    device: str | torch.device,
    dtype: str | torch.dtype | None,
    scale: float,
    mode: str,
) -> Interpolator:
    """See `drba.models.load`."""
    device = _device(device)
    if spec.family == "flow":
        return FlowTensorInterpolator(device=device, scale=scale, mode=cast(Mode, mode))
    network, interpolator = _empty_network(spec), _INTERPOLATORS[spec.family]
    for part, module in network_parts(spec, network).items():
        subject, state = _state(spec, part, weights)
        fit(module, state, subject)
    return interpolator(network, device=device, dtype=_dtype(dtype, device, mode), scale=scale, mode=cast(Mode, mode))


def build_empty(spec: ModelSpec, *, dtype: torch.dtype, scale: float = 1.0) -> Interpolator:
    """A network model in its fast form on the meta device: shapes and no values, for counting what it would do."""
    interpolator = _INTERPOLATORS[spec.family]
    return interpolator(_empty_network(spec), device=torch.device("meta"), dtype=dtype, scale=scale, mode="fast")


def network_parts(spec: ModelSpec, network: nn.Module) -> dict[str, nn.Module]:
    """The module that each checkpoint file fills."""
    if spec.family in ("gmfss", "gmfss-union"):
        return {part.name: network.get_submodule(part.name) for part in spec.parts}
    return {spec.parts[0].name: network}


def empty_parts(spec: ModelSpec) -> dict[str, nn.Module]:
    """`network_parts` of a network without values (meta device): for its tensors' names and shapes."""
    return network_parts(spec, _empty_network(spec)) if spec.parts else {}


_NETWORKS: dict[Family, Callable[[str], nn.Module]] = {
    "rife": lambda variant: IFNet(ifnet.SPECS[variant]),
    "gmfss": lambda variant: GmfssNetwork(union=False),
    "gmfss-union": lambda variant: GmfssNetwork(union=True),
    "distil": lambda variant: DistilNet(distil.SPECS[variant]),
    "refine": lambda variant: RefineNet(refine.SPECS[variant]),
}
_INTERPOLATORS: dict[Family, Callable[..., Interpolator]] = {
    "rife": RifeInterpolator,
    "gmfss": GmfssInterpolator,
    "gmfss-union": GmfssInterpolator,
    "distil": DistilInterpolator,
    "refine": RefineInterpolator,
}


def _empty_network(spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        return _NETWORKS[spec.family](spec.variant)


def _state(spec: ModelSpec, part: str, weights: Weights) -> tuple[str, dict[str, torch.Tensor]]:
    """(what to call it in messages, tensors) of one part."""
    if isinstance(weights, Mapping):
        subject = f"{spec.name} weights for {part}"
        if part not in weights:
            raise ModelError(f"{subject} are missing; the mapping has {', '.join(weights) or 'nothing'}")
        return subject, normalised(weights[part], subject)
    path = store.installed_file(spec, part) if weights is None else _part_file(spec, part, Path(weights))
    return f"{spec.name} weights {path}", read_checkpoint(path)


def _part_file(spec: ModelSpec, part: str, path: Path) -> Path:
    if path.is_dir():
        for suffix in SUFFIXES:
            if (path / f"{part}{suffix}").is_file():
                return path / f"{part}{suffix}"
        raise ModelError(
            f"folder {path} has no {part}.pkl for {spec.name}; expected one of {part}{{{','.join(SUFFIXES)}}}"
        )
    if len(spec.parts) > 1:
        names = ", ".join(f"{p.name}.pkl" for p in spec.parts)
        raise ModelError(f"{spec.name} needs {len(spec.parts)} files, {path} is no folder; expected one with {names}")
    return path


def _device(device: str | torch.device) -> torch.device:
    if isinstance(device, torch.device):
        return device
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r} does not exist; expected auto, cpu, cuda or cuda:N") from error


def _dtype(dtype: str | torch.dtype | None, device: torch.device, mode: str) -> torch.dtype:
    if dtype is None:
        return torch.float16 if device.type == "cuda" and mode == "fast" else torch.float32
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelError(f"dtype {dtype!r} does not fit; expected float32, float16 or bfloat16")
    return dtype

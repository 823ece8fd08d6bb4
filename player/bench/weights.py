"""Weights of the right shapes and no meaning, for timing a model whose own are not installed."""

from __future__ import annotations

import math
import zlib

import torch
from safetensors.torch import save_file

from drba import weights
from drba.models import ModelSpec
from drba.networks.build import empty_parts

OUTPUT_SHARE = 0.05  # of the last layers: flows of a few pixels, as trained weights give


def install_random(spec: ModelSpec) -> None:
    """Put them where installed weights are (`drba.weights.data_dir()`); the same ones every time. Does nothing twice.

    Dense arithmetic takes the same time for all values; only how far apart a warp reads depends on them.
    """
    folder = weights.model_dir(spec)
    if folder.exists():
        return
    folder.mkdir(parents=True)
    for part, module in empty_parts(spec).items():
        state = {name: _values(name, tensor.shape) for name, tensor in module.state_dict().items()}
        save_file(state, folder / f"{part}.safetensors")


def _values(name: str, shape: torch.Size) -> torch.Tensor:
    """Keeps the spread of what passes through, so that nothing overflows or fades to denormal numbers, which are slow."""
    if len(shape) < 2 or name.endswith("beta"):
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    spread = math.sqrt(2 / math.prod(shape[1:])) * (OUTPUT_SHARE if "lastconv" in name else 1.0)
    return torch.randn(shape, generator=generator) * spread

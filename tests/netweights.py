"""Weights made by rule for tests: values depend on a tensor's name and shape only (tests/data/networks/README.md)."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from drba import weights
from drba.models import find
from drba.networks.build import empty_parts

DATA = Path(__file__).parent / "data" / "networks"

#: Where each model's parts stand in the manifests: {model: {part: manifest}}.
MANIFESTS = {
    "rife-4.26.heavy": {"flownet": "rife_4_26_heavy_drba"},
    "gmfss": {
        "flownet": "gmfss_flownet",
        "metric": "gmfss_metricnet",
        "feat": "gmfss_feat_ext",
        "fusionnet": "gmfss_fusionnet",
    },
    "gmfss-union": {
        "flownet": "gmfss_union_flownet",
        "metric": "gmfss_union_metricnet",
        "feat": "gmfss_union_feat_ext",
        "fusionnet": "gmfss_union_fusionnet",
        "rife": "rife_4_26_heavy_drba",
    },
    "distil-drba-v1": {"v1": "distil_drba_v1"},
    "distil-drba-v2-lite": {"v2_lite": "distil_drba_v2_lite"},
    **{
        f"rife-{version.replace('_', '.')}": {"flownet": f"rife_{version}"}
        for version in ("4_6", "4_15", "4_15_lite", "4_22", "4_22_lite", "4_25", "4_25_lite", "4_25_heavy", "4_26")
    },
}


@lru_cache(maxsize=1)
def manifests() -> dict[str, dict[str, list[int]]]:
    """{network: {parameter: shape}} of the public checkpoints."""
    return json.loads(gzip.decompress((DATA / "manifests.json.gz").read_bytes()))


def rule_tensor(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("beta"):
        return 1 + np.float32(0.1) * x
    if len(shape) >= 2:
        factor = math.sqrt(2 / math.prod(shape[1:]))
        factor *= 0.05 if "lastconv" in name else 1
        return x * np.float32(factor * (0.01 if "conv_last" in name else 1))
    if name.endswith("bias"):
        return np.float32(0.01) * x + np.float32(0.5 if "conv_last" in name else 0)
    if math.prod(shape) == 1:
        return np.full(shape, 0.25, np.float32)
    return 1 + np.float32(0.1) * x


@lru_cache(maxsize=8)
def rule_state(manifest: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(rule_tensor(name, tuple(shape))) for name, shape in manifests()[manifest].items()}


def rule_weights(model: str) -> Mapping[str, dict[str, torch.Tensor]]:
    """What `drba.load(model, weights=...)` takes."""
    if model == "drba-small":  # the package's own: no checkpoint was published before it
        shapes = {part: module.state_dict() for part, module in empty_parts(find(model)).items()}
        return {
            part: {name: torch.from_numpy(rule_tensor(name, tuple(value.shape))) for name, value in state.items()}
            for part, state in shapes.items()
        }
    return {part: rule_state(manifest) for part, manifest in MANIFESTS[find(model).name].items()}


def moving_frames(height: int, width: int, count: int = 3) -> list[torch.Tensor]:
    """Smooth texture that moves by 4 pixels a frame to the left: (1, 3, height, width) each."""
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(1, 3, height // 8 + 2, (width + 4 * count) // 8 + 2, generator=generator)
    texture = torch.nn.functional.interpolate(small, scale_factor=8, mode="bicubic").clamp(0, 1)
    return [texture[..., :height, 4 * k : 4 * k + width].contiguous() for k in range(count)]


def install(model: str) -> None:
    """Put a model by the rule where installed weights are (DRBA_DATA_DIR)."""
    spec = find(model)
    folder = weights.model_dir(spec)
    folder.mkdir(parents=True)
    for part, state in rule_weights(spec.name).items():
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, folder / f"{part}.safetensors")

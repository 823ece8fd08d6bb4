"""Reading checkpoints and fitting them into networks. Never unpickles anything but tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ModelError

SUFFIXES = (".safetensors", ".pkl", ".pth")
WRAPPER_KEYS = ("state_dict", "model", "params")  # some tools put the tensors one level deeper
REASON_MAX = 120  # characters of a foreign error in a message of one line
UNUSED_PREFIXES = ("teacher.", "caltime.")  # only training needs them

StateDict = dict[str, Tensor]


def read_checkpoint(path: Path) -> StateDict:
    """Tensors of a .safetensors file or of a pickle of tensors, under the names that the networks use.

    ModelError where the file is missing, unreadable, or holds anything but tensors.
    """
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist; expected a checkpoint ({', '.join(SUFFIXES)})")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weights file {path} cannot be read ({error}); fetch or export it again") from error
    except Exception as error:  # torch.load: pickle, zip, EOF and its own errors, all meaning this
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:REASON_MAX]
        raise ModelError(f"weights file {path} is not a checkpoint of tensors ({reason}); fetch it again") from error
    return normalised(content, str(path))


def normalised(content: Any, subject: str) -> StateDict:
    """Unwrap, strip `module.`, drop what only training needs; ModelError where it is no mapping of names to tensors."""
    if isinstance(content, Mapping):
        for key in WRAPPER_KEYS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content or not all(isinstance(x, Tensor) for x in content.values()):
        raise ModelError(f"weights {subject} hold no mapping of names to tensors; expected a state dict")
    stripped = {name.replace("module.", ""): tensor for name, tensor in content.items()}
    return {name: tensor for name, tensor in stripped.items() if not name.startswith(UNUSED_PREFIXES)}


def expected_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def fit(network: nn.Module, state: StateDict, subject: str) -> None:
    """Put the tensors into the network as float32; ModelError where a name or a shape does not match exactly."""
    expected = expected_shapes(network)
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        found = f"{len(missing)} of {len(expected)} tensors are missing, {len(unexpected)} are not known"
        first = f"missing {missing[0]!r}" if missing else f"unknown {unexpected[0]!r}"
        raise ModelError(f"{subject}: {found} ({first}); these are weights of another model")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ModelError(
                f"{subject}: {name} has shape {tuple(state[name].shape)}, expected {shape}; "
                "these are weights of another model"
            )
    # Networks are made on the meta device, so the tensors are taken over instead of copied into.
    network.load_state_dict({name: state[name].float() for name in expected}, assign=True)

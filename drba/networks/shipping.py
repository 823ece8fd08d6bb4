"""Putting trained weights into the package: half precision, with a card of where they come from, and their digest.

The bytes follow from the tensors and the card alone, so that whoever trains again finds out whether they got the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .. import weights
from ..errors import ModelError
from ..integrity import digest_of, write_atomically
from ..models import ModelSpec
from .build import empty_parts
from .checkpoint import StateDict, fit

MAX_BYTES = 4 << 20
CARD_KEY = "card"
#: What a card has to say.
CARD = ("model", "licence", "command", "data")


def ship(spec: ModelSpec, state: StateDict, card: Mapping[str, str]) -> Path:
    """Store a network's tensors as the package's weights of a model, and their digest beside them; the file.

    ModelError where the tensors are of another network, do not fit into half precision or into 4 MiB, or the card lacks
    one of `CARD`.
    """
    if missing := [name for name in CARD if not card.get(name)]:
        raise ModelError(f"{spec.name}: its card lacks {', '.join(missing)}; expected {', '.join(CARD)}")
    (network,) = empty_parts(spec).values()
    fit(network, state, f"{spec.name} weights")
    half = {name: tensor.to(torch.float16).contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in half.items():
        if not tensor.isfinite().all():
            raise ModelError(f"{spec.name} weights: {name} is not finite in half precision; train it again")
    # One value, since the library writes several in any order.
    content = save(half, metadata={CARD_KEY: json.dumps(dict(card), sort_keys=True)})
    if len(content) > MAX_BYTES:
        raise ModelError(
            f"{spec.name} weights take {len(content)} bytes, expected {MAX_BYTES} or less; make it smaller"
        )
    path = weights.shipped_path(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    _write_digests(path.parent)
    return path


def read_card(path: Path) -> dict[str, str]:
    """What `ship` has noted in a file; ModelError where it has not."""
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})[CARD_KEY])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"weights file {path} has no card ({error}); expected one stored by `ship`") from error
    return {str(name): str(text) for name, text in card.items()}


def _write_digests(folder: Path) -> None:
    """As sha256sum does, so that it can check them too."""
    lines = [f"{digest_of(path, 'sha256').value}  {path.name}\n" for path in sorted(folder.glob("*.safetensors"))]
    write_atomically(folder / weights.SHA256SUMS, "".join(lines).encode())

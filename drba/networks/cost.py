"""What an in-between frame costs at least: operations and bytes, from which a floor of its time follows.

Nothing is computed for this: the network runs on the meta device, which has shapes only, so any size of any model takes a
second. The count is of playing 24 -> 60 frames a second: `IN_BETWEENS` of every triplet, each triplet going on from the
state of the one before.

Operations are the additions and multiplications of convolutions and matrix products, as the fast form of the model makes
them (`torch.utils.flop_counter`'s formulas; a fused multiply-add is two). Left out: everything done a pixel at a time
(warping, splatting, resizing, colour, activations), and that Winograd's and other algorithms need fewer.

Bytes are what has to be read or written once, whatever is fused, an in-between, with n in-betweens a triplet:

    (P + S + W) / n  +  2 S + P

P: bytes of a frame's planes, uploaded once a source frame and written once an in-between. S: bytes of what is kept of a
source frame, its image in float32 and its features in the network's precision; written once a source frame, and each
in-between reads that of the two frames around it (DistilDRBA sees the third one reduced only). W: bytes of the weights,
read once a triplet. Left out: everything between those, which could stay in caches: flows, maps, and what one layer hands
to the next. The last is `layer_bytes`, what is moved besides where every convolution and product reads its inputs and
weights from memory and writes its result there.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..floor import Cost
from ..models import ModelSpec
from ..pixels import FrameLayout
from . import distil, gmfss_parts, ifnet, refine
from .build import build_empty
from .interpolator import Interpolator, scaled_multiple

IN_BETWEENS = 2
TIMES = (0.8, 1.2)
IMAGE_BYTES = 3 * 4  # a pixel of an RGB image in float32


def cost(spec: ModelSpec, layout: FrameLayout, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Cost:
    """Of a model at a frame's size, in its fast form, with weights and features in `dtype`."""
    planes = layout.frame_bytes
    if spec.family == "flow":
        # Both frames are read for warping and the result is written; each source frame's luma is read for the flow.
        luma = layout.width * layout.height * layout.format.sample_bytes
        return Cost({}, 3 * planes + luma / IN_BETWEENS, 0.0)
    network = build_empty(spec, dtype=dtype, scale=scale)
    counted = _count(network, layout)
    weights = sum(parameter.nbytes for parameter in network.network.parameters())
    kept = _kept_bytes(spec, network, layout)
    return Cost(
        {name: count / IN_BETWEENS for name, count in counted.operations.items()},
        (planes + kept + weights) / IN_BETWEENS + 2 * kept + planes,
        counted.bytes / IN_BETWEENS,
    )


def _kept_bytes(spec: ModelSpec, network: Interpolator, layout: FrameLayout) -> float:
    """S of the formula: image and features of one padded source frame."""
    multiple = scaled_multiple(spec.size_multiple, network.scale)
    pixels = float((layout.width + -layout.width % multiple) * (layout.height + -layout.height % multiple))
    if spec.family == "rife":
        return pixels * (IMAGE_BYTES + ifnet.SPECS[spec.variant].features * network.dtype.itemsize)
    if spec.family == "distil":
        finest = max(distil.SPECS[spec.variant].levels[-1] / network.scale, 1.0)
        return pixels * (IMAGE_BYTES + distil.FEATURES * network.dtype.itemsize / finest**2)
    if spec.family == "refine":
        kept = sum(1 / max(1.0, level / network.scale / 2) ** 2 for level in refine.SPECS[spec.variant].levels)
        return pixels * (IMAGE_BYTES + 3 * network.dtype.itemsize * kept)
    # GMFSS works at half the size; its features are at a half, a quarter and an eighth.
    widths = enumerate(gmfss_parts.FEATURE_WIDTHS, 1)
    return pixels * (IMAGE_BYTES / 4 + network.dtype.itemsize * sum(width / 4**level for level, width in widths))


def _count(network: Interpolator, layout: FrameLayout) -> _Counter:
    """The second of two triplets."""
    frames = [torch.empty(1, 3, layout.height, layout.width, device="meta") for _ in range(4)]
    _, state = network.triplet(frames[0], frames[1], frames[2], TIMES)
    with _Counter() as counter:
        network.triplet(frames[1], frames[2], frames[3], TIMES, state)
    return counter


class _Counter(TorchDispatchMode):
    """Operations by dtype of the result, and bytes of inputs and results, of whatever has a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: defaultdict[str, float] = defaultdict(float)
        self.bytes = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.operations[str(out.dtype).removeprefix("torch.")] += formula(*args, **(kwargs or {}), out_val=out)
            self.bytes += sum(tensor.nbytes for tensor in (*args, out) if isinstance(tensor, Tensor))
        return out

"""A network as parts: pure tensor functions of fixed shapes, which is what CUDA graphs, ONNX and TensorRT can run.

An interpolator in fast mode computes through `interpolator.parts`, a mapping from a part's name to a `PartFunction`. At
first these are the torch modules' own functions; `interpolator.with_parts({...})` gives the same interpolator with some
or all of them replaced (by captured graphs, TensorRT engines, ONNX Runtime sessions), so a renderer changes over
between two frames by using the other interpolator. `interpolator.network_parts(height, width)` lists the parts of a
padded size, to replace or export, with the names, shapes and dtypes of their tensors. `ModelSpec.splits` says which
models have parts; for the others both are empty. In order:

RIFE (`padded H x W`, h x w the size of the coarsest block, F the encoder's features a frame):
    layers(image) -> full, corners
    coarse(first_full, second_full) -> flow (1, 4, h, w) from halfway to both frames, in pixels of h x w
    render(first_image, first_full, first_corners, second_image, second_full, second_corners, timestep) -> frame
    image (1, 3, H, W) float32 RGB in 0..1, full (1, 3 + F, H, W), corners (1, 3 + F, H + 1, W + 1) (`corner_means`),
    timestep (1, 1, h, w) float32, 0 at the first frame, 1 at the second; frame as image. Between coarse and render,
    outside of any part: reversing the flows by splatting, distance ratio maps, filling holes (networks/rife.py).
drba-small (H x W padded, h x w the size that optical flow is searched in, layers of as many sizes as the network has blocks):
    layers(image) -> layer0, layer1, layer2
    render(first_image, second_image, the first frame's layers, the second's, flows, timestep) -> frame
    flows (1, 4, h, w) float32 from the first frame to the second and back, in pixels of h x w; the rest as RIFE's. Between
    them: the search for the flows, on the processor, and distance ratio maps (networks/refining.py).
DistilDRBA:
    encode(image) -> features (1, 16, h, w)
    render(previous_image, middle_image, following_image, previous_features, middle_features, following_features,
    other_image, other_features, time) -> frame
    `other` is the previous frame for time (1, 1, 1, 1) in 0.5..1 and the following one for 1..1.5.

`full`, `corners` and `features` are in the storage dtype of the `Precision`; image, flow, timestep and frame in float32.

The contract of a `PartFunction`: positional tensors on the interpolator's device, contiguous, in the listed order;
returns a tuple of tensors in the listed order, which are the caller's to keep (layers live on through the next
triplet). On CUDA the work is put on the current stream and nothing waits for it. A replaced function may rely on the
listed shapes where `with_parts` was told `batch=1`; torch's own also take a batch of timesteps, and on the CPU return no
corners where pixels lie in rows (`lies_in_rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PartFunction = Callable[..., tuple[Tensor, ...]]
Parts = Mapping[str, PartFunction]


@dataclass(frozen=True)
class Precision:
    """What a network computes in: `weights` its convolutions (blocks that must be exact stay float32), `storage` what is
    kept of a frame between parts, `sampling` what frames are warped in, coordinates and pixels. Flow is float32 always."""

    name: str
    weights: torch.dtype
    storage: torch.dtype
    sampling: torch.dtype


#: Best first. In half precision coordinates are off by up to half a pixel, so fp16-all is for runtimes that do worse
#: with both precisions in one network. (PyTorch 2.13 itself does not run it on the CPU for sides above 256: its float16
#: grid_sample reads beyond the image there.)
PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp16", torch.float16, torch.float16, torch.float32),
        Precision("fp16-fp32-warps", torch.float16, torch.float32, torch.float32),
        Precision("fp16-all", torch.float16, torch.float16, torch.float16),
        Precision("fp32", torch.float32, torch.float32, torch.float32),
    )
}


def torch_precision(device: torch.device, dtype: torch.dtype) -> Precision:
    """What PyTorch uses: in float16 on CUDA frames are kept in half of the memory; elsewhere nothing is gained by it."""
    if device.type == "cuda" and dtype == torch.float16:
        return PRECISIONS["fp16"]
    exact = torch.promote_types(dtype, torch.float32)
    return Precision(str(dtype).removeprefix("torch."), dtype, exact, exact)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that goes into or comes out of a part; contiguous."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class NetworkPart:
    """A part at one padded size. `module(*inputs)` returns the outputs as a tuple; parameters are shared with the
    interpolator. `has_weights` is False where there is nothing but a few copies in it, not worth exporting."""

    name: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    has_weights: bool = True


class Entry(nn.Module):
    """One method of a module as a module, which is what exporters take."""

    def __init__(self, owner: nn.Module, method: str) -> None:
        super().__init__()
        self.owner, self.method = owner, method

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = getattr(self.owner, self.method)(*inputs)
        return outputs

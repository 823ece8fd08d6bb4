"""Networks as parts of fixed shapes: what they say about themselves is true, and they can be replaced."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from netweights import moving_frames, rule_weights

import drba
from drba.networks.interpolator import Interpolator
from drba.networks.parts import PRECISIONS, NetworkPart, PartFunction

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = (
    "drba-small",
    "rife-4.26.heavy",
    "rife-4.6",
    "rife-4.15.lite",
    "rife-4.25.lite",
    "distil-drba-v1",
    "distil-drba-v2-lite",
)
HEIGHT, WIDTH = 120, 190


@lru_cache(maxsize=1)
def interpolator(model: str, scale: float = 1.0, dtype: str = "float32") -> Interpolator:
    return drba.load(model, weights=rule_weights(model), device="cpu", mode="fast", scale=scale, dtype=dtype)


def checked(part: NetworkPart) -> PartFunction:
    """The part, asserting that inputs and outputs are what it says."""

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = part.module(*inputs)
        for specs, tensors in ((part.inputs, inputs), (part.outputs, outputs)):
            for spec, tensor in zip(specs, tensors, strict=True):
                assert (tuple(tensor.shape), tensor.dtype) == (spec.shape, spec.dtype), f"{part.name} {spec.name}"
                assert tensor.is_contiguous(), f"{part.name} {spec.name}"
        return outputs

    return run


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("model", MODELS)
def test_static_parts_render_what_the_network_renders(model: str, scale: float) -> None:
    """Frames are sampled plane by plane in a part, pixel by pixel otherwise: other roundings, no more."""
    whole, frames = interpolator(model, scale), moving_frames(HEIGHT, WIDTH)
    parts = whole.network_parts(*whole.padded_size(HEIGHT, WIDTH))
    split = whole.with_parts({part.name: checked(part) for part in parts}, batch=1)
    times = [0.3, 0.7, 1.4]
    for ours, theirs in zip(split.triplet(*frames, times)[0], whole.triplet(*frames, times)[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(split.pair(*frames[:2], [0.3]), whole.pair(*frames[:2], [0.3]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["fp16", "fp16-fp32-warps", "fp16-all"])
@pytest.mark.parametrize("model", ["drba-small", "rife-4.25.lite", "distil-drba-v2-lite"])
def test_half_precision_parts_come_near_float32(model: str, precision: str) -> None:
    # PyTorch's float16 grid_sample reads beyond the image on the CPU where a side is above 256.
    frames = moving_frames(120, 128)
    exact = interpolator(model).triplet(*frames, [1.4])[0][0]
    whole = interpolator(model, dtype="float16")
    parts = whole.network_parts(*whole.padded_size(120, 128), PRECISIONS[precision])
    half = whole.with_parts({part.name: checked(part) for part in parts}, batch=1).triplet(*frames, [1.4])[0][0]
    assert -10 * torch.log10((half - exact).pow(2).mean()) > 40


def test_replacing_parts_leaves_the_interpolator_as_it_was() -> None:
    whole, frames = interpolator("rife-4.15.lite"), moving_frames(32, 64)
    broken = whole.with_parts({"render": lambda *inputs: (torch.zeros(1, 3, 32, 64),)}, batch=1)
    assert broken.pair(*frames[:2], [0.5])[0].max() == 0
    assert whole.pair(*frames[:2], [0.5])[0].max() > 0.5


@pytest.mark.parametrize("spec", drba.models(), ids=lambda spec: spec.name)
def test_the_registry_says_which_models_have_parts(spec: drba.models.ModelSpec) -> None:
    assert spec.splits == (spec.family in ("rife", "refine", "distil"))

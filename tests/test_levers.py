"""Rewritten networks compute the same (drba/networks/levers.py)."""

from __future__ import annotations

import pytest
import torch
from netweights import rule_weights
from torch import nn
from torch.nn import functional as F

import drba
from drba.networks.levers import Levers, as_convolution, with_levers

pytestmark = pytest.mark.usefixtures("one_thread")

LEVERS = {
    "together": Levers(together=True),
    "sums": Levers(sums=True),
    "shuffles": Levers(shuffles=True),
    "all": Levers(together=True, sums=True, shuffles=True),
}


def frames(height: int = 64, width: int = 128) -> list[torch.Tensor]:
    rows = torch.rand(1, 3, height // 8, width // 4, generator=torch.Generator().manual_seed(7))
    texture = F.interpolate(rows, scale_factor=8, mode="bicubic").clamp(0, 1)
    return [texture[..., 2 * k : 2 * k + width].contiguous() for k in range(3)]


CASES = [("rife-4.15.lite", name) for name in LEVERS] + [("rife-4.26", "all"), ("distil-drba-v2-lite", "all")]


@pytest.mark.parametrize(("model", "lever"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-9)])
def test_every_lever_leaves_the_frames_as_they_are(model: str, lever: str, dtype: str, tolerance: float) -> None:
    network = drba.load(model, weights=rule_weights(model), device="cpu", dtype=dtype, mode="fast")
    if hasattr(network.network, "in_planes"):  # the form that a card runs
        form = network.network.in_planes(network.network.precision)
        network = network.with_parts({name: getattr(form, name) for name in network.parts})
    rewritten = with_levers(network, LEVERS[lever])
    assert rewritten.parts != network.parts
    expected, _ = network.triplet(*frames(), [0.6])
    found, _ = rewritten.triplet(*frames(), [0.6])
    for ours, theirs in zip(found, expected, strict=True):
        # Motion multiplies rounding: a coordinate of 100 pixels carries 1e-5 of a pixel in float32.
        assert (ours - theirs).abs().mean() < tolerance
        assert (ours - theirs).abs().max() < 100 * tolerance


def test_a_transposed_convolution_is_a_plain_one_and_a_shuffle() -> None:
    layer = nn.ConvTranspose2d(5, 3, 4, 2, 1).double()
    weight, bias = as_convolution(layer.weight, layer.bias)
    image = torch.randn(2, 5, 7, 9, dtype=torch.float64)
    found = F.pixel_shuffle(F.conv2d(image, weight, bias, padding=1), 2)
    torch.testing.assert_close(found, layer(image), atol=1e-12, rtol=0)


def test_networks_without_parts_stay() -> None:
    network = drba.load("flow")
    assert with_levers(network, Levers(sums=True)) is network

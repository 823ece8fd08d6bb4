"""drba-small's network: from a flow that was found between two frames to the frame in between."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from drba.dis import Detail, search
from drba.networks.refine import SPECS, RefineNet, begun, between
from drba.networks.refining import RefineInterpolator

CPU = torch.device("cpu")
HEIGHT, WIDTH = 180, 320


def network(gain: float) -> RefineNet:
    """Of any weights; with a `gain` of 0 it takes the flow as it is and both frames alike."""
    torch.manual_seed(3)
    made = RefineNet(SPECS["drba-small"])
    for block in made.blocks:
        block.lastconv[0].weight.data *= gain
        block.lastconv[0].bias.data *= gain
    return made


def texture(shift: float = 0.0) -> Tensor:
    """Something soft, moved to the right."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    x = x - shift
    waves = [np.sin(x * a + y * b + c) for a, b, c in ((0.21, 0.05, 0), (0.03, 0.17, 1), (-0.11, 0.13, 2))]
    return torch.from_numpy(np.stack(waves) * 0.25 + 0.5).float()[None]


def psnr_db(image: Tensor, truth: Tensor) -> float:
    inside = (..., slice(16, -16), slice(32, -32))
    return float(-10 * torch.log10(((image[inside] - truth[inside]) ** 2).mean()))


@pytest.mark.parametrize("t", [0.25, 0.5, 0.9])
def test_a_steady_motion_is_known_at_any_time(t: float) -> None:
    flows = torch.tensor([6.0, -2.0, -6.0, 2.0]).view(1, 4, 1, 1).expand(1, 4, 12, 20)
    time = torch.full((1, 1, 1, 1), t)
    start = begun(flows, time, (48, 80))
    for motion in (start.forth, start.back):
        expected = 4 * torch.tensor([-6.0 * t, 2.0 * t, 6.0 * (1 - t), -2.0 * (1 - t)])
        torch.testing.assert_close(between(motion, time), expected.view(1, 4, 1, 1).expand(1, 4, 12, 20))
    assert float(start.doubt.abs().max()) < 1e-5


def test_the_flow_moves_with_what_moves_and_what_is_hidden_is_known() -> None:
    """A patch goes 8 to the right over what rests: halfway, the first frame's flow knows its back, the second's its front."""
    flows = torch.zeros(1, 4, 16, 40)
    flows[:, 0, 4:12, 4:16] = 8.0
    flows[:, 2, 4:12, 12:24] = -8.0
    start = begun(flows, torch.full((1, 1, 1, 1), 0.5), (16, 40))
    patch = (0, 0, slice(4, 12))
    for known in (start.forth[(*patch, slice(8, 16))], start.back[(*patch, slice(12, 20))]):
        torch.testing.assert_close(known, torch.full_like(known, 8))
    still = start.forth[..., 24:], start.back[..., :4], start.forth[:, :, :4]
    assert not any(place.abs().max() > 1e-5 for place in still)
    agreeing = start.doubt[0, :, 4:12, 12:16], start.doubt[0, :, 4:12, 28:]
    assert not any(place.abs().max() > 1e-5 for place in agreeing) and start.doubt[0, 2:].max() > 2


def test_with_nothing_learned_it_is_interpolation_by_optical_flow() -> None:
    model = RefineInterpolator(network(0), device=CPU, mode="fast")
    for t, image in zip((0.25, 0.5), model.pair(texture(), texture(12), [0.25, 0.5]), strict=True):
        assert psnr_db(image, texture(12 * t)) > 40 > psnr_db((texture() + texture(12)) / 2, texture(12 * t))


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.0, 2.0])
def test_both_modes_and_the_form_of_exports_compute_the_same(scale: float) -> None:
    frames = texture(), texture(5)
    fast = RefineInterpolator(network(0.1), device=CPU, scale=scale, mode="fast")
    exact = RefineInterpolator(network(0.1), device=CPU, scale=scale).pair(*frames, [0.3])[0]
    parts = {part.name: part.module for part in fast.network_parts(*fast.padded_size(HEIGHT, WIDTH))}
    for model in (fast, fast.with_parts(parts)):
        assert float((model.pair(*frames, [0.3])[0] - exact).abs().max()) < 1e-5
    assert psnr_db(exact, texture(1.5)) > 25, "so there is something to compare"


def test_a_triplet_goes_on_from_the_one_before() -> None:
    model = RefineInterpolator(network(0.1), device=CPU, mode="fast")
    frames = [texture(shift) for shift in (0, 4, 9, 11)]
    _, state = model.triplet(*frames[:3], [])
    times = [0.6, 1.4]
    (known, _), (anew, _) = model.triplet(*frames[1:], times, state), model.triplet(*frames[1:], times)
    assert all(torch.equal(one, other) for one, other in zip(known, anew, strict=True))


def test_its_flow_is_in_pixels_of_the_frame() -> None:
    flow = RefineInterpolator(network(0), device=CPU, mode="fast").flow(texture(), texture(6))
    assert flow is not None and flow.shape == (1, 2, HEIGHT, WIDTH)
    middle = flow[0, :, 40:-40, 60:-60].flatten(1).median(1).values
    assert middle.tolist() == pytest.approx([6, 0], abs=0.5)


def test_what_rests_and_then_jumps_rests_until_it_does() -> None:
    model = RefineInterpolator(network(0), device=CPU, mode="fast")
    for times, frames in (([1.5], (0, 0, 10)), ([0.5], (10, 0, 0))):
        shown = model.triplet(*(texture(shift) for shift in frames), times)[0][0]
        assert psnr_db(shown, texture()) > 35


@pytest.mark.parametrize("detail", ["rough", "fine", "whole"])
def test_a_search_is_the_same_whatever_was_searched_before(detail: Detail) -> None:
    """Also in pictures that are too small for the finest level."""
    images = [(texture(shift)[0, 0] * 255).byte().numpy() for shift in (0, 6)]
    before = search(*images, detail)
    for side in (16, 18, 24, 40):
        search(*(image[:side, :side].copy() for image in images), detail)
    assert np.array_equal(search(*images, detail), before)

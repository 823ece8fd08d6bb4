"""Distance ratio maps and splatting against the reference's own outputs (tests/data, from the DRBA repository's code)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drba import drm
from drba.splat import splat, splat_average

DATA = Path(__file__).with_name("data")
OUTPUTS = {
    "rife": ("drm_t1_t01", "drm_t1_t12"),
    "aux": ("drm_t1_t01", "drm_t1_t12"),
    "gmfss": ("drm0t_t01", "drm1t_t01", "drm1t_t12", "drm2t_t12"),
}


def assert_agrees(found: np.ndarray, expected: np.ndarray) -> None:
    """The stored outputs are half precision; single pixels may flip at the holes' edges."""
    difference = np.abs(found - expected.astype(np.float32))
    allowed = 2e-3 + np.abs(expected.astype(np.float32)) * 1e-3
    assert (difference <= allowed).mean() >= 0.999
    assert difference.mean() < 5e-4


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "iterative"])
@pytest.mark.parametrize("t", [0.2, 0.85])
@pytest.mark.parametrize("family", OUTPUTS)
def test_maps_agree_with_the_reference(family: str, t: float, linear: bool) -> None:
    data = np.load(DATA / "drm.npz")
    metrics = {} if family == "rife" else {"metric10": data["metric10"], "metric12": data["metric12"]}
    make = drm.gmfss_maps if family == "gmfss" else drm.rife_maps
    maps = make(t, data["flow10"], data["flow12"], splat, linear=linear, **metrics)
    mode = "linear" if linear else "iterative"
    for name, found in zip(OUTPUTS[family], maps, strict=True):
        assert_agrees(found, data[f"{family}/{t}/{mode}/{name}"])


@pytest.mark.parametrize("mode", ["avg", "soft"])
def test_splatting_agrees_with_the_reference(mode: str) -> None:
    data = np.load(DATA / "splat.npz")
    assert_agrees(splat(data["x"], data["flow"], data["metric"] if mode == "soft" else None), data[mode])


def test_splat_average_is_the_average_splat_with_holes_filled() -> None:
    data = np.load(DATA / "splat.npz")
    expected = drm.splat_filled(data["x"], data["flow"], None, splat)[0]
    np.testing.assert_allclose(splat_average(data["x"][0], data["flow"][0]), expected, atol=1e-5)


def test_non_finite_flow_reaches_nothing() -> None:
    values = np.ones((1, 1, 4, 4), np.float32)
    flow = np.zeros((1, 2, 4, 4), np.float32)
    flow[0, 0, 1, 1] = np.nan
    flow[0, 1, 2, 2] = np.inf
    result = splat(values, flow)
    assert result[0, 0, 1, 1] == 0 and result[0, 0, 2, 2] == 0
    assert np.isclose(result.sum(), 14)


def test_uniform_motion_leaves_the_timestep_alone() -> None:
    flow = np.full((1, 2, 8, 8), 3.0, np.float32)
    r10, r12 = drm.distance_ratio(flow, -flow)
    assert np.allclose(r10, 0.5) and np.allclose(r12, 0.5)
    for t in (0.1, 0.5, 0.75):
        for linear in (True, False):
            assert np.allclose(drm.local_timestep(r10, t, linear=linear), t, atol=2e-3)


def test_speeds_are_compared_where_intervals_differ() -> None:
    slow = np.full((1, 2, 4, 4), 2.0, np.float32)
    r10, _ = drm.distance_ratio(slow, slow * 2, interval10=1 / 24, interval12=2 / 24)
    assert np.allclose(r10, 0.5, atol=1e-3)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.7, 1.0])
def test_iterative_timesteps_stay_between_the_frames(ratio: float) -> None:
    for t in (0.01, 0.3, 0.99):
        assert 0 <= float(drm.local_timestep(np.float64(ratio), t, linear=False)) <= 1

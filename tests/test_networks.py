"""Every network against outputs of the public reference implementations, and what the common interface promises."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from netweights import DATA, MANIFESTS, manifests, rule_weights
from torch import Tensor

import drba
from drba import drm
from drba.errors import InputError, ModelError
from drba.networks import checkpoint
from drba.networks.build import empty_parts
from drba.networks.gmfss import GmfssInterpolator, PairData
from drba.networks.interpolator import Interpolator, scaled_multiple
from drba.networks.rife import RifeInterpolator
from drba.networks.warp import backward_warp, backward_warp_reduced, corner_means, resize, splat

pytestmark = pytest.mark.usefixtures("one_thread")

PIXEL_TOLERANCE, PIXEL_SHARE, MEAN_TOLERANCE = 2e-3, 0.999, 1e-4
SHARED = Path(__file__).parents[2] / "shared"
RIFE_VERSIONS = ("4.6", "4.15", "4.15.lite", "4.22", "4.22.lite", "4.25", "4.25.lite", "4.25.heavy", "4.26.heavy")


@lru_cache(maxsize=1)
def golden() -> dict[str, np.ndarray]:
    with np.load(DATA / "golden.npz") as arrays:
        return dict(arrays)


def frames(key: str) -> list[Tensor]:
    return list(torch.from_numpy(golden()[key]).split(1))


@lru_cache(maxsize=2)
def interpolator(model: str, mode: str = "reference", dtype: str = "float32", scale: float = 1.0) -> Interpolator:
    return drba.load(model, weights=rule_weights(model), device="cpu", mode=mode, dtype=dtype, scale=scale)


def assert_agrees(result: Tensor, key: str, mean_tolerance: float = MEAN_TOLERANCE) -> None:
    """`result` (1, 3, H, W) against an expected frame of the data, of which every second row and column is kept."""
    expected = golden()[key].astype(np.float64) / 65535
    difference = np.abs(result[..., ::2, ::2].double().numpy() - expected)
    within = (difference.max(axis=1) <= PIXEL_TOLERANCE).mean()
    assert within >= PIXEL_SHARE, f"{key}: {within:.2%} of pixels within {PIXEL_TOLERANCE}"
    assert difference.mean() < mean_tolerance, f"{key}: mean difference {difference.mean():.1e}"


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).double().pow(2).mean()))


# Agreement with the reference


def test_splatting_matches_the_reference() -> None:
    data = {name: torch.from_numpy(golden()[f"splat/{name}"]) for name in ("x", "flow", "metric", "avg", "soft")}
    torch.testing.assert_close(splat(data["x"], data["flow"]), data["avg"], atol=1e-6, rtol=0)
    torch.testing.assert_close(splat(data["x"], data["flow"], data["metric"]), data["soft"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("version", RIFE_VERSIONS)
def test_rife_matches_the_reference(version: str) -> None:
    model = interpolator(f"rife-{version}")
    assert isinstance(model, RifeInterpolator)
    kind = "rife-wide" if version == "4.25.lite" else "rife"
    with torch.no_grad():
        layers = [model.layers(frame) for frame in frames(f"{kind}/frames")]
        result = model.network(*layers, torch.from_numpy(golden()[f"{kind}/map"]))
    assert_agrees(result, f"rife/expected/{version.replace('.', '_')}")


def test_rife_with_maps_matches_the_reference() -> None:
    model, source = interpolator("rife"), frames("drba/frames")
    (result,), state = model.triplet(source[0], source[1], source[2], [0.7])
    assert_agrees(result, "drba/expected/triplet012/linear")
    (result,), _ = model.triplet(source[1], source[2], source[3], [1.4], state)
    assert_agrees(result, "drba/expected/triplet123_reuse/linear")
    (result,), _ = model.triplet(source[0], source[1], source[2], [1.4], linear=False)
    assert_agrees(result, "drba/expected/triplet012/iterative")
    assert_agrees(model.pair(source[0], source[1], [0.25])[0], "drba/expected/pair")


@pytest.mark.parametrize(("version", "time"), [("v1", 0.6), ("v2-lite", 1.25)])
def test_distil_matches_the_reference(version: str, time: float) -> None:
    source = frames("distil/frames")
    (result,), _ = interpolator(f"distil-drba-{version}").triplet(source[0], source[1], source[2], [time])
    assert_agrees(result, f"distil/expected/{version}")


def test_gmfss_makes_the_reference_frame_of_the_reference_flow() -> None:
    """GMFlow's own float32 result is decided by rounding with these weights (tests/data/networks/README.md)."""
    model, source = interpolator("gmfss"), frames("gmfss/frames")
    assert isinstance(model, GmfssInterpolator)
    given = [torch.from_numpy(golden()[f"gmfss/{name}"]) for name in ("flow01", "flow10", "metric0", "metric1")]
    with torch.no_grad():
        pair = PairData(model.frame_data(source[0]), model.frame_data(source[1]), *given)
        metrics = model.network.metric(pair.first.half, pair.second.half, pair.flow01, pair.flow10)
        half = torch.full((1, 1, 1, 1), 0.5)
        result = model._render(pair, half, half, half, swap=False)
    for ours, theirs in zip(metrics, given[2:], strict=True):
        torch.testing.assert_close(ours, theirs, atol=PIXEL_TOLERANCE, rtol=0)
    assert_agrees(result, "gmfss/expected/pair")


def test_gmfss_matches_the_reference_without_rounding() -> None:
    model, source = interpolator("gmfss", dtype="float64"), frames("gmfss/frames")
    assert isinstance(model, GmfssInterpolator)
    with torch.no_grad():
        pair = model.pair_data(model.frame_data(source[0].double()), model.frame_data(source[1].double()))
    expected = torch.from_numpy(golden()["gmfss/float64/flow01"])
    torch.testing.assert_close(pair.flow01[..., ::2, ::2].float(), expected, atol=1e-4, rtol=0)
    (result,), _ = model.triplet(source[0], source[1], source[2], [1.3])
    assert_agrees(result, "gmfss/float64/triplet/linear")


def test_gmfss_union_matches_the_reference_without_rounding() -> None:
    model, source = interpolator("gmfss-union", dtype="float64"), frames("gmfss/frames")
    (result,), _ = model.triplet(source[0], source[1], source[2], [0.6], linear=False)
    assert_agrees(result, "gmfss-union/float64/triplet/iterative")


# Checkpoints


@pytest.mark.parametrize("model", MANIFESTS)
def test_parameters_are_those_of_the_public_checkpoints(model: str) -> None:
    spec = next(spec for spec in drba.models() if spec.name == model)
    for part, module in empty_parts(spec).items():
        expected = {name: tuple(shape) for name, shape in manifests()[MANIFESTS[model][part]].items()}
        assert checkpoint.expected_shapes(module) == expected


@pytest.mark.parametrize("family", ["gmfss", "gmfss_union"])
@pytest.mark.parametrize("part", ["feat", "metric"])
def test_real_checkpoints_load_and_run(family: str, part: str) -> None:
    path = SHARED / "weights" / f"{family}_{part}.pkl"
    if not path.exists():
        pytest.skip(f"no real checkpoint: {path} is absent")
    name = family.replace("_", "-")
    weights = {**rule_weights(name), part: checkpoint.read_checkpoint(path)}
    model = drba.load(name, weights=weights, device="cpu")
    source = frames("gmfss/frames")
    result = model.pair(source[0], source[1], [0.5])[0]
    assert result.isfinite().all()
    assert psnr(result, source[0]) > 5


def test_checkpoints_load_with_prefix_and_training_extras_from_any_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = rule_weights("rife-4.15.lite")["flownet"]
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({**prefixed, "module.teacher.x": torch.ones(1), "module.caltime.x": torch.ones(1)}, tmp_path / "a.pth")
    (tmp_path / "folder").mkdir()
    save_file(state, tmp_path / "folder" / "flownet.safetensors")
    for weights in (tmp_path / "a.pth", str(tmp_path / "folder")):
        loaded = drba.load("rife-4.15.lite", weights=weights, device="cpu").network.state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_a_pickle_of_code_is_refused(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(os.system))
    with pytest.raises(ModelError, match="is not a checkpoint of tensors"):
        drba.load("rife", weights=path, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "rife-9"}, r"model 'rife-9' does not exist; expected one of flow, "),
        ({"model": "rife", "weights": "/nowhere.pkl"}, "weights file /nowhere.pkl does not exist"),
        ({"model": "gmfss", "weights": "/nowhere.pkl"}, "gmfss needs 4 files"),
        ({"model": "rife-4.26", "weights": rule_weights("rife-4.15.lite")}, "of another model"),
        ({"model": "rife-4.15", "weights": rule_weights("rife-4.15.lite")}, r"has shape \(64, 15, 3, 3\), expected"),
        ({"model": "gmfss", "weights": {}}, "weights for flownet are missing"),
        ({"model": "rife-4.15.lite", "weights": rule_weights("rife-4.15.lite"), "scale": 5}, "flow scale is 5"),
        ({"model": "rife-4.15.lite", "weights": rule_weights("rife-4.15.lite"), "mode": "slow"}, "mode 'slow'"),
        ({"model": "rife-4.15.lite", "weights": rule_weights("rife-4.15.lite"), "dtype": "int8"}, "dtype"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        drba.load(arguments.pop("model"), device="cpu", **arguments)
    assert "\n" not in str(caught.value)


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path))
    with pytest.raises(ModelError, match="run `drba models fetch rife-4\\.26\\.heavy`"):
        drba.load("rife")


# The interface


@pytest.mark.parametrize("size", [(1, 1), (37, 70), (64, 128)])
@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("rife-4.15.lite", "reference"),
        ("rife-4.15.lite", "fast"),
        ("gmfss", "fast"),
        ("distil-drba-v2-lite", "reference"),
    ],
)
def test_frames_of_any_size_are_taken(model: str, mode: str, size: tuple[int, int]) -> None:
    source = [resize(frame, (64, 128))[..., : size[0], : size[1]].contiguous() for frame in frames("gmfss/frames")]
    network = interpolator(model, mode)
    rendered, state = network.triplet(*source, [0, 0.75, 1, 1.25, 2], interval_before=1, interval_after=2)
    assert rendered[0] is source[0] and rendered[2] is source[1] and rendered[4] is source[2]
    for frame in (rendered[1], rendered[3], *network.pair(source[0], source[1], [0.5])):
        assert frame.shape == source[0].shape and frame.dtype == torch.float32
        assert frame.isfinite().all() and frame.min() >= -1e-3 and frame.max() <= 1 + 1e-3
    assert network.triplet(source[1], source[2], source[0], [1.25], state)[0][0].isfinite().all()


def test_padding_changes_nothing_inside_frames_that_need_none() -> None:
    source = frames("drba/frames")
    model = interpolator("rife")
    assert model._prepare(source[0]) is source[0]


@pytest.mark.parametrize("mode", ["reference", "fast"])
def test_resting_frames_stay_as_they_are(mode: str) -> None:
    """Zero flow everywhere: the map is one half and nothing divides by zero."""
    still = frames("gmfss/frames")[0]
    model = interpolator("rife-4.15.lite", mode)
    for frame in model.triplet(still, still, still, [0.5, 1.5], linear=False)[0]:
        assert frame.isfinite().all()


@pytest.mark.parametrize("model", ["rife-4.15.lite", "distil-drba-v2-lite"])
def test_timesteps_rendered_together_equal_those_rendered_alone(model: str) -> None:
    source = [frame[..., :64, :128].contiguous() for frame in frames("distil/frames")]
    network = interpolator(model, "fast")
    times = [1.3, 0.3, 0.6, 1.8, 0.8]
    together, _ = network.triplet(*source, times)
    for time, frame in zip(times, together, strict=True):
        torch.testing.assert_close(network.triplet(*source, [time])[0][0], frame, atol=1e-4, rtol=0)


def test_the_state_saves_work_and_changes_only_the_direction_that_flow_is_seen_from() -> None:
    source = frames("drba/frames")
    model = interpolator("rife", "fast")
    _, state = model.triplet(source[0], source[1], source[2], [])
    reused = model.triplet(source[1], source[2], source[3], [0.6, 1.4], state)[0]
    fresh = model.triplet(source[1], source[2], source[3], [0.6, 1.4])[0]
    assert all(psnr(a, b) > 20 for a, b in zip(reused, fresh, strict=True))


def test_unequal_intervals_move_the_map() -> None:
    source = [frame[..., :64, :128].contiguous() for frame in frames("distil/frames")]
    model = interpolator("rife-4.15.lite")
    same, _ = model.triplet(*source, [0.7], interval_before=2, interval_after=2)
    other, _ = model.triplet(*source, [0.7], interval_before=1, interval_after=2)
    plain, _ = model.triplet(*source, [0.7])
    assert torch.allclose(same[0], plain[0], atol=1e-3) and not torch.allclose(other[0], plain[0], atol=1e-3)


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.75, 2, 4])
def test_every_flow_scale_runs(scale: float) -> None:
    source = [frame[..., :64, :128].contiguous() for frame in frames("distil/frames")]
    for model in ("rife-4.15.lite", "distil-drba-v2-lite"):
        for mode in ("reference", "fast"):
            (frame,), _ = interpolator(model, mode, scale=scale).triplet(*source, [1.25])
            assert frame.shape == source[0].shape and frame.isfinite().all()


@pytest.mark.parametrize(
    ("multiple", "scale", "expected"), [(64, 1, 64), (64, 0.5, 128), (64, 0.25, 256), (64, 2, 32), (64, 0.75, 256)]
)
def test_size_multiples_follow_the_flow_scale(multiple: int, scale: float, expected: int) -> None:
    assert scaled_multiple(multiple, scale) == expected


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("rife", "drba"),
        ("rife-4.15.lite", "drba"),
        ("rife-4.25.heavy", "drba"),
        ("gmfss", "gmfss"),
        ("distil-drba-v1", "distil"),
    ],
)
def test_half_precision_stays_within_40_db(model: str, kind: str) -> None:
    # Small, because a CPU without bfloat16 instructions is ten times slower with it.
    source = [frame[..., :64, 64:128].contiguous() for frame in frames(f"{kind}/frames")[:3]]
    exact, _ = interpolator(model).triplet(*source, [1.3])
    half, _ = interpolator(model, dtype="bfloat16").triplet(*source, [1.3])
    assert psnr(exact[0], half[0]) > 40


def test_what_is_no_frame_is_refused() -> None:
    frame = torch.zeros(1, 3, 8, 8)
    model = interpolator("rife-4.15.lite")
    for arguments, message in (
        ((frame, torch.zeros(1, 3, 8, 9), [0.5]), "expected one size"),
        ((torch.zeros(3, 8, 8), frame, [0.5]), "expected a float tensor"),
        ((frame.byte(), frame, [0.5]), "expected a float tensor"),
        ((frame, frame, [1.5]), "timestep 1.5 is out of range"),
        ((frame, frame, [float("nan")]), "timestep nan is out of range"),
    ):
        with pytest.raises(InputError, match=message):
            model.pair(*arguments)
    _, state = model.triplet(frame, frame, frame, [])
    small = torch.zeros(1, 3, 4, 4)
    with pytest.raises(InputError, match="start a new size with state=None"):
        model.triplet(small, small, small, [0.5], state)


# Parts


def test_warping_at_a_smaller_size_equals_warping_and_reducing_where_flow_is_even() -> None:
    image = frames("rife/frames")[0]
    flow = torch.empty(1, 2, 128, 192)
    flow[:, 0], flow[:, 1] = 3.3, -1.7
    full = resize(backward_warp(image, flow), (32, 48))
    reduced = backward_warp_reduced(image, corner_means(image), flow[..., :32, :48])
    with torch.no_grad():
        features = torch.cat([image] * 3, 1).contiguous(memory_format=torch.channels_last)
        rows = backward_warp_reduced(features, None, flow[..., :32, :48])
    torch.testing.assert_close(rows[:, :3], full, atol=1e-4, rtol=0)
    torch.testing.assert_close(reduced, full, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frames_in_batch", [1, 2])
def test_sampling_rows_equals_sampling_planes(frames_in_batch: int) -> None:
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(frames_in_batch, 9, 20, 31, generator=rng)
    flow = 12 * torch.randn(frames_in_batch, 2, 20, 31, generator=rng)
    flow[0, 0, 3, 3] = float("nan")
    expected = backward_warp(image, flow.nan_to_num(0))
    with torch.no_grad():
        rows = backward_warp(image.contiguous(memory_format=torch.channels_last), flow)
        repeated = backward_warp(
            image[:1].contiguous(memory_format=torch.channels_last).expand(frames_in_batch, -1, -1, -1), flow
        )
    torch.testing.assert_close(rows[..., 4:, :], expected[..., 4:, :], atol=1e-5, rtol=0)
    torch.testing.assert_close(repeated[0], rows[0], atol=1e-5, rtol=0)


def test_one_sided_maps_are_those_of_the_algorithm() -> None:
    from drba.networks.interpolator import DrmOptions
    from drba.networks.rife import timestep_map

    rng = torch.Generator().manual_seed(0)
    flow10, flow12 = (4 * torch.randn(1, 2, 20, 30, generator=rng) for _ in range(2))
    for linear in (True, False):
        both = drm.rife_maps(0.3, flow10, flow12, splat, linear=linear, interval10=1, interval12=2)
        options = DrmOptions(linear, 1, 2)
        assert torch.equal(timestep_map(0.7, flow10, flow12, options), both[0])
        assert torch.allclose(timestep_map(1.3, flow10, flow12, options), both[1], atol=1e-6)


def test_importing_drba_imports_no_torch_and_is_quick() -> None:
    code = "import sys, time; t = time.process_time(); import drba; drba.models(); t = time.process_time() - t;"
    code += "assert 'torch' not in sys.modules, 'torch'; assert t < 0.3, t"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_names_and_aliases_are_unique() -> None:
    names = [name for spec in drba.models() for name in (spec.name, *spec.aliases)]
    assert len(set(names)) == len(names)

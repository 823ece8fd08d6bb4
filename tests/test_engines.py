"""Engines: colours around the networks, networks through the server, and what `auto` chooses."""

from __future__ import annotations

import shutil
from pathlib import Path

import netweights
import numpy as np
import pytest
import torch

import drba
from drba.errors import ModelError
from drba.pixels import PIXEL_FORMATS, FrameLayout, PixelFormat, pixel_format
from engines import SourceFrame, StreamSpec, Triplet, calibration, open_renderer
from engines.colour import ColourConverter

CPU = torch.device("cpu")


@pytest.fixture
def rule_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models by the rule of tests/netweights.py, installed in a data folder of the test's own."""
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def moving(layout: FrameLayout, count: int) -> list[SourceFrame]:
    rng = np.random.default_rng(4)
    top = layout.format.max_value
    small = rng.integers(top // 8, top * 7 // 8, (12, 40)).astype(np.float32)
    texture = torch.nn.functional.interpolate(torch.from_numpy(small)[None, None], scale_factor=8, mode="bicubic")[0, 0]
    frames = []
    for number in range(count):
        planes = layout.views(bytearray(layout.frame_bytes))
        for plane in planes:
            part = texture[: plane.shape[0], 3 * number : 3 * number + plane.shape[1]]
            plane[:] = part.clamp(0, top).numpy().astype(plane.dtype)
        frames.append(SourceFrame(number, planes))
    return frames


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("fmt", [f for f in PIXEL_FORMATS if f.depth in (8, 10, 16)], ids=lambda f: f.name)
def test_colours_come_back(fmt: PixelFormat, matrix: str, full_range: bool) -> None:
    """Colours that exist in RGB survive the way there and back to the last bit but one (chroma is smooth here)."""
    layout = FrameLayout(31, 17, fmt)
    converter = ColourConverter(layout, matrix, full_range, CPU)
    y, x = torch.meshgrid(torch.linspace(0.2, 0.8, 17), torch.linspace(0.3, 0.7, 31), indexing="ij")
    rgb = torch.stack([x, y, (x + y) / 2])[None]
    planes = converter.to_planes(rgb)
    again = converter.to_planes(converter.to_rgb(planes))
    step = 1 << (fmt.depth - 8)
    for before, after in zip(layout.views(planes.numpy()), layout.views(again.numpy()), strict=True):
        difference = np.abs(before.astype(int) - after.astype(int))
        assert difference[1:-1, 1:-1].max() <= 1.2 * step
        assert difference.max() <= 3 * step  # chroma is enlarged without what lies beyond the border


def test_white_and_black_are_the_ranges_ends() -> None:
    for full_range, black, white in ((False, 64, 940), (True, 0, 1023)):
        layout = FrameLayout(4, 4, pixel_format("yuv420p10le"))
        converter = ColourConverter(layout, "bt709", full_range, CPU)
        for value, code in ((0.0, black), (1.0, white)):
            planes = layout.views(converter.to_planes(torch.full((1, 3, 4, 4), value)).numpy())
            assert (planes[0] == code).all() and (planes[1] == 512).all() and (planes[2] == 512).all()


@pytest.mark.parametrize("model", ["rife-4.26.heavy", "rife-4.6", "distil-drba-v2-lite"])
@pytest.mark.parametrize("fmt", ["yuv420p", "yuv422p10le", "gray", "gbrp"])
def test_a_network_renders_planes(model: str, fmt: str, rule_models: Path) -> None:
    netweights.install(model)
    layout = FrameLayout(96, 64, pixel_format(fmt))
    renderer = open_renderer(StreamSpec(layout, "bt709", model=model))
    assert renderer.model == model and renderer.engine.startswith("torch-")
    frames = moving(layout, 4)
    outputs = [layout.views(bytearray(layout.frame_bytes)) for _ in range(2)]
    renderer.render(Triplet(*frames[:3]), [0.6, 1.3], outputs)  # type: ignore[arg-type]
    again = [layout.views(bytearray(layout.frame_bytes)) for _ in range(2)]
    renderer.render(Triplet(*frames[1:4]), [0.6, 1.3], again)  # type: ignore[arg-type]
    renderer.render(Triplet(None, frames[1], frames[2]), [1.4], again[:1])
    renderer.render(Triplet(frames[0], frames[1], None), [0.7], again[1:])
    for out in (*outputs, *again):
        assert all(plane.std() > 0 for plane in out)
    renderer.close()


def test_missing_weights_say_how_to_get_them(rule_models: Path) -> None:
    layout = FrameLayout(64, 64, pixel_format("yuv420p"))
    with pytest.raises(ModelError, match=r"drba models fetch rife-4\.6"):
        open_renderer(StreamSpec(layout, model="rife-4.6"))
    with pytest.raises(ModelError, match="does not exist"):
        open_renderer(StreamSpec(layout, model="rife-9"))


def test_auto_takes_what_is_fast_enough_and_remembers(rule_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = FrameLayout(64, 64, pixel_format("yuv420p"))
    spec = StreamSpec(layout, "bt709", model="auto")
    assert open_renderer(spec).model == "flow"  # nothing is installed
    netweights.install("distil-drba-v2-lite")
    monkeypatch.setattr(calibration, "NEEDED_PER_SECOND", 0.01)
    assert open_renderer(spec).model == "distil-drba-v2-lite"
    kept = (rule_models / "cache" / "calibration.json").read_text()
    monkeypatch.setattr(calibration, "measure_ms", lambda *_: pytest.fail("measured again"))
    assert open_renderer(spec).model == "distil-drba-v2-lite"
    assert (rule_models / "cache" / "calibration.json").read_text() == kept
    monkeypatch.setattr(calibration, "NEEDED_PER_SECOND", 1e9)
    assert open_renderer(spec).model == "flow"
    shutil.rmtree(rule_models / "data")
    assert open_renderer(spec).model == "flow"


def test_the_flow_model_answers_the_networks_interface() -> None:
    model = drba.load("flow")
    rng = np.random.default_rng(0)
    texture = torch.nn.functional.interpolate(
        torch.from_numpy(rng.random((1, 3, 20, 40), dtype=np.float32)), scale_factor=8, mode="bicubic"
    ).clamp(0, 1)
    frames = [texture[..., 3 * k : 3 * k + 200] for k in range(0, 9, 2)]
    between = [texture[..., 3 * k : 3 * k + 200] for k in range(1, 9, 2)]
    (first,) = model.pair(frames[0], frames[1], [0.5])
    (second, same), _ = model.triplet(frames[0], frames[1], frames[2], [1.5, 1.0])
    assert same is frames[1]
    for found, expected in ((first, between[0]), (second, between[1])):
        assert (found - expected)[..., 16:-16, 16:-16].abs().mean() < 0.01

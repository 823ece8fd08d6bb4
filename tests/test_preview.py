"""The preview shows the frames that a render would write, and the motion behind them in colours that can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import clips
import cv2
import netweights
import numpy as np
import pytest
import torch
from film_reader import open_film
from numpy.typing import NDArray

import drba
from drba.errors import InputError
from drba.pixels import FrameLayout, pixel_format
from drba.timeline import OutputClock
from engines import open_renderer
from engines.base import SourceFrame, StreamSpec, Triplet
from player.plan import Kind, Relation
from player.render.flow_colour import UNKNOWN_GREY, common_scale_px, flow_colours, ratio_colours, wheel
from player.render.panels import WIDTH_PX
from player.render.prepare import RenderRequest, make_job
from player.render.preview import Preview, PreviewFrame, frames_around, make_preview
from player.render.preview_film import write_preview
from player.render.preview_picture import CUT, DRAWN, HELD, PreviewPainter
from player.source import VideoSource

LAYOUT = FrameLayout(192, 128, pixel_format("gray"))
RATE = Fraction(60)


# --- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "bgr"),
    [
        ((10, 0), (0, 0, 255)),  # right: red
        ((0, 0), (255, 255, 255)),  # rest: white
        ((-10, 0), (255, 197, 0)),  # left: cyan, a little toward blue
        ((5, 0), (127, 127, 255)),  # half as far: half as strong
        ((80, 0), (0, 0, 255)),  # farther than the scale reaches
        ((300, 0), (UNKNOWN_GREY,) * 3),  # farther than the picture is large: unknown
    ],
)
def test_direction_is_hue_and_distance_is_strength(vector: tuple[float, float], bgr: tuple[int, int, int]) -> None:
    flow = np.full((90, 160, 2), vector, np.float32)
    assert np.abs(flow_colours(flow, 10)[0, 0].astype(int) - bgr).max() <= 1


def test_up_is_blue_and_down_is_yellow() -> None:
    up, down = (flow_colours(np.full((9, 9, 2), (0, y), np.float32), 5)[0, 0].astype(int) for y in (-5, 5))
    assert up[0] == 255 and up[1] < 40
    assert down[2] == 255 and down[1] > 200 and down[0] == 0


def test_the_legend_has_the_colours_of_the_map() -> None:
    legend = wheel(101, 0)
    flow = np.full((101, 101, 2), (30, -20), np.float32)
    assert np.abs(legend[50 - 20, 50 + 30].astype(int) - flow_colours(flow, 50)[0, 0]).max() <= 2
    assert not legend[0, 0].any()


def test_the_ratio_goes_from_blue_over_white_to_red() -> None:
    blue, white, red = ratio_colours(np.array([[0, 0.5, 1]], np.float32))[0].astype(int)
    assert blue[0] > 2 * blue[2] and red[2] > 2 * red[0] and np.ptp(white) == 0 and white[0] > 240


@pytest.mark.parametrize(("length", "scale"), [(0.2, 1), (7.2, 8), (31, 40), (60, 60)])
def test_the_scale_is_a_round_number_of_pixels(length: float, scale: float) -> None:
    flow = np.full((100, 200, 2), (length, 0), np.float32)
    flow[:50] = 1000  # what the model does not know sets no scale
    assert common_scale_px(flow, None) == scale


# --- motion -----------------------------------------------------------------------------------------------------------


def moving_square(lefts: tuple[int, int, int]) -> Triplet:
    """A textured square of 48 pixels whose left edge is at `lefts` before, in and after the middle frame."""
    texture = np.random.default_rng(2).integers(0, 256, (48, 48), np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for number, left in enumerate(lefts):
        picture = np.full((128, 192), 90, np.uint8)
        picture[40:88, left : left + 48] = texture
        frames.append(SourceFrame(number, [picture]))
    return Triplet(*frames)


@pytest.mark.parametrize(("lefts", "ratio"), [((66, 72, 78), 0.5), ((72, 72, 84), 0.0), ((60, 72, 72), 1.0)])
def test_motion_is_in_pixels_and_the_ratio_tells_which_side_rests(lefts: tuple[int, int, int], ratio: float) -> None:
    motion = open_renderer(StreamSpec(LAYOUT)).motion(moving_square(lefts))
    assert motion is not None and motion.ratio is not None
    inside = np.s_[52:76, 84:108]
    for flow, shift in ((motion.to_previous, lefts[0] - 72), (motion.to_following, lefts[2] - 72)):
        assert flow is not None and flow.shape == (128, 192, 2)
        assert abs(float(np.median(flow[inside][..., 0])) - shift) < 0.7
    assert motion.ratio.shape == (128, 192)
    assert abs(float(np.median(motion.ratio[inside])) - ratio) < 0.1


def test_beside_a_cut_there_is_motion_on_one_side_only() -> None:
    triplet = moving_square((66, 72, 78))
    motion = open_renderer(StreamSpec(LAYOUT)).motion(Triplet(None, triplet.middle, triplet.following))
    assert motion is not None and motion.to_following is not None
    assert motion.to_previous is None and motion.ratio is None


@pytest.mark.parametrize("model", ["rife-4.15.lite", "rife-4.26.heavy", "flow"])
@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_a_network_tells_the_flow_of_its_distance_ratio_map(model: str, mode: str) -> None:
    weights = netweights.rule_weights(model) if model != "flow" else None
    network = drba.load(model, weights=weights, device="cpu", mode=mode)
    first, second = torch.rand((2, 1, 3, 70, 100), generator=torch.Generator().manual_seed(3))
    flow = network.flow(first, second)
    assert flow is not None and flow.shape == (1, 2, 70, 100) and flow.dtype == torch.float32
    if model != "flow" and mode == "reference":
        ours, _ = network.flows(*(network.layers(network._prepare(x)) for x in (first, second)))
        assert torch.equal(flow, ours[..., :70, :100])


def test_a_networks_motion_has_the_films_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path))
    netweights.install("rife-4.15.lite")
    motion = open_renderer(StreamSpec(LAYOUT, model="rife-4.15.lite")).motion(moving_square((66, 72, 78)))
    assert motion is not None and motion.to_previous is not None and motion.ratio is not None
    assert motion.to_previous.shape == (128, 192, 2) and motion.ratio.shape == (128, 192)
    assert motion.ratio.min() >= 0 and motion.ratio.max() <= 1


# --- frames -----------------------------------------------------------------------------------------------------------


def source_frames(path: Path, relations: dict[int, Relation] | None = None) -> list[PreviewFrame]:
    """All frames of a clip, in motion except where `relations` says otherwise."""
    source = VideoSource(str(path))
    frames = [
        PreviewFrame(n, frame.time_s, frame.planes(), (relations or {}).get(n, Relation.MOTION))
        for n, frame in enumerate(source.frames_from(Fraction(0)))
    ]
    source.close()
    return frames


def preview_of(path: Path, time_s: str, relations: dict[int, Relation] | None = None) -> tuple[Preview, PreviewPainter]:
    source = VideoSource(str(path))
    source.close()
    frames = frames_around(source_frames(path, relations), Fraction(time_s))
    clock = OutputClock.aligned(RATE, source.info.start_s)
    spec = StreamSpec(source.info.layout)
    renderer = open_renderer(spec)
    preview = make_preview(frames, Fraction(time_s), clock, renderer, spec.layout)
    motion = renderer.motion(preview.triplet)
    assert motion is not None
    return preview, PreviewPainter(preview, motion, source.info, "\N{HIRAGANA LETTER A}.mkv", "flow")


@pytest.mark.parametrize(
    ("time_s", "numbers", "taken"),
    [(0.0, [0, 1, 2], 3), (0.06, [0, 1, 2, 3], 4), (0.34, [1, 2, 3, 4, 5], 6), (99, [7, 8, 9], 10)],
)
def test_two_frames_on_either_side_are_needed_and_no_more_are_decoded(
    time_s: float, numbers: list[int], taken: int
) -> None:
    read: list[int] = []

    def decoder() -> Iterator[PreviewFrame]:
        for number in range(10):
            read.append(number)
            yield PreviewFrame(number, Fraction(number, 10), [], Relation.MOTION)

    assert [frame.number for frame in frames_around(decoder(), Fraction(time_s))] == numbers
    assert len(read) == taken


def test_the_in_betweens_are_those_that_the_player_shows(clip_folder: Path) -> None:
    path = clips.standard(clip_folder).path
    preview, painter = preview_of(path, "0.42")
    layout = painter.info.layout

    async def shown() -> list[bytes]:
        async with open_film(path, fps="60") as film:
            return await film.frames(0, 40)

    played = asyncio.run(shown())
    drawn = [output for interval in preview.intervals for output in interval.outputs]
    assert [output.plan.kind for output in drawn].count(Kind.INTERPOLATED) >= 4
    for output in drawn:
        buffer = bytearray(layout.frame_bytes)
        layout.copy(output.planes, buffer)
        assert bytes(buffer) == played[output.plan.number]
    assert [len(interval.outputs) for interval in preview.intervals] in ([2, 2], [2, 3], [3, 2])


@pytest.mark.parametrize(
    ("relation", "kind", "colour", "kept"),
    [
        (Relation.CUT, Kind.CUT, CUT, -1),
        (Relation.HELD, Kind.HELD, HELD, None),
        (Relation.MOTION, Kind.INTERPOLATED, DRAWN, None),
    ],
)
def test_cuts_and_held_drawings_are_marked(
    clip_folder: Path, relation: Relation, kind: Kind, colour: tuple[int, int, int], kept: int | None
) -> None:
    preview, painter = preview_of(clips.standard(clip_folder).path, "0.417", {10: relation})
    before = preview.intervals[0]
    assert before.relation is relation and {output.plan.kind for output in before.outputs} == {kind}
    if kept == -1:  # the old scene stands until the new one's own time
        assert all(output.planes is before.first.planes for output in before.outputs)
        assert preview.triplet.previous is None and preview.triplet.following is not None
    picture = painter.paint()
    marked = (picture == colour).all(-1)
    assert marked.any()
    others = [(picture == other).all(-1).any() for other in {CUT, HELD, DRAWN} - {colour, DRAWN}]
    assert not any(others)


@pytest.mark.parametrize(("time_s", "intervals"), [("0", 1), ("2", 2), ("99", 1)])
def test_the_picture_fits_a_screen_also_at_the_films_ends(clip_folder: Path, time_s: str, intervals: int) -> None:
    preview, painter = preview_of(clips.standard(clip_folder).path, time_s)
    assert len(preview.intervals) == intervals
    picture = painter.paint()
    assert picture.dtype == np.uint8 and picture.shape[1] <= WIDTH_PX and picture.shape[0] <= 1400


def write(path: Path, time_s: str, folder: Path, **request: object) -> NDArray[np.uint8]:
    source = VideoSource(str(path))
    job, _ = make_job(RenderRequest(str(path), fps="60", **request), source)  # type: ignore[arg-type]
    write_preview(job, source, Fraction(time_s), folder / "new" / "preview.png")
    source.close()
    picture = cv2.imread(str(folder / "new" / "preview.png"))
    assert picture is not None
    return picture


def test_a_preview_is_written_as_png_with_the_cut_where_it_is(clip_folder: Path, tmp_path: Path) -> None:
    path = clips.with_cut(clip_folder).path
    assert (write(path, "5.5", tmp_path, model="flow") == CUT).all(-1).any()
    assert not (write(path, "4.5", tmp_path, model="flow") == CUT).all(-1).any()


def test_times_are_those_of_a_player_where_the_file_begins_late(clip_folder: Path, tmp_path: Path) -> None:
    assert write(clips.starts_at_10(clip_folder).path, "1", tmp_path, model="flow").shape[1] <= WIDTH_PX


def test_a_model_without_flow_shows_the_flow_models(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path))
    netweights.install("distil-drba-v2-lite")
    clip = clips.cached(clip_folder, "preview.mkv", replace(clips.SMALL, seconds=2, width=96, height=64)).path
    assert write(clip, "1", tmp_path, model="distil-drba-v2-lite").shape[1] <= WIDTH_PX


def test_a_time_outside_the_film_is_one_clear_line(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no frame at 99 s; the last one is at 3\.96"):
        write(clips.standard(clip_folder).path, "99", tmp_path, model="flow")

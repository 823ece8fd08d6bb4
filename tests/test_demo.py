"""The clip the program makes: what is in it is where its description says, in pictures, sound and timestamps."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import clips
import numpy as np
import pytest

from drba.errors import InputError, MediaError
from drba.pixels import pixel_format
from player.demo.clip import MATRICES, PRIMARIES, RANGES, TRANSFERS, ClipSpec, frame_image, frame_times_s, make_demo
from player.demo.planes import planes_from_bgr
from player.demo.scene import ScenePainter, flash_frames, flash_side_px, storyboard

_MS = Fraction(1, 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def painter() -> ScenePainter:
    return ScenePainter(320, 180)


@pytest.mark.parametrize(
    ("make", "tolerance_s"),
    [
        (clips.standard, 0.0001),
        (clips.ntsc, 0.0001),
        (clips.vfr, 0.0001),
        (clips.starts_at_10, 0.0001),
        (clips.with_cut, 0.0001),
        (clips.mp4, 0.0005),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_flash_and_beep_coincide_on_every_whole_second(make, tolerance_s: float, folder: Path) -> None:
    clip = make(folder)
    expected = [float(time) for time in clip.flash_times_s]
    assert len(expected) == int(clip.times_s[-1] - clip.times_s[0]) >= 3
    longest = max(b - a for a, b in pairwise(clip.times_s))
    for second, time in enumerate(clip.flash_times_s, start=1):
        assert 0 <= time - clip.times_s[0] - second < longest
    assert clips.flash_times(clips.file_frames(clip.path)) == pytest.approx(expected, abs=1e-6)
    assert clips.beep_times(clip.path) == pytest.approx(expected, abs=tolerance_s)


@pytest.mark.parametrize(
    "make", [clips.standard, clips.ntsc, clips.vfr, clips.starts_at_10, clips.mp4], ids=lambda make: make.__name__
)
def test_timestamps_in_the_file_are_the_described_ones(make, folder: Path) -> None:
    clip = make(folder)
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
    assert tuple(times) == clip.times_s


def test_variable_rate_repeats_three_intervals() -> None:
    times = frame_times_s(ClipSpec(seconds=1, vfr=True), Fraction(1, 120_000))
    assert [b - a for a, b in pairwise(times[:8])] == [
        *(Fraction(1, 24), Fraction(1, 12), Fraction(1, 30)) * 2,
        Fraction(1, 24),
    ]


def test_mp4_times_are_exact_for_ntsc_rates_and_mkv_times_whole_milliseconds() -> None:
    spec = ClipSpec(seconds=3, start_s=Fraction(10))
    assert frame_times_s(spec, Fraction(1, 120_000))[24] == 10 + 24 * Fraction(1001, 24000)
    assert all(time % _MS == 0 for time in frame_times_s(spec, _MS))


def test_drawings_are_held_for_two_then_three_frames_and_start_afresh_after_a_cut() -> None:
    drawings = storyboard([Fraction(number, 24) for number in range(24 * 12)])
    assert [drawing.pose for drawing in drawings[:12]] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4]
    cuts = [i for i in range(1, len(drawings)) if drawings[i].shot != drawings[i - 1].shot]
    assert cuts == [132, 276]  # 5.5 s, 11.5 s
    assert [drawing.pose for drawing in drawings[132:138]] == [0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("shot", [0, 1])
def test_while_a_drawing_is_held_only_the_background_moves(shot: int, painter: ScenePainter) -> None:
    board = storyboard([Fraction(1001 * number, 24000) for number in range(24 * 8)])
    first = next(i for i, drawing in enumerate(board) if drawing.shot == shot) + 2  # held for three frames
    pictures = [painter.paint(drawing) for drawing in board[first : first + 4]]
    figure = _opaque(painter, shot, board[first].pose)
    assert figure.sum() > 2000
    for a, b in pairwise(pictures[:3]):
        assert (a[figure] == b[figure]).all()
        assert (a[~figure] != b[~figure]).any(axis=-1).mean() > 0.2
    changed = (pictures[2] != pictures[3]).any(axis=-1)
    assert changed[figure].mean() > 0.03


def _opaque(painter: ScenePainter, place: int, pose: int) -> np.ndarray:
    """Pixels that the character hides, above those that the foreground may hide."""
    black, white = np.zeros((180, 320, 3), np.uint8), np.full((180, 320, 3), 255, np.uint8)
    for picture in (black, white):
        painter.sprite(place, pose).over(picture, *painter.sprite_corner_px(place))
    opaque = (black == white).all(axis=-1)
    opaque[148:] = False
    return opaque


def test_the_background_pans_on_every_frame_and_nearer_layers_faster(painter: ScenePainter) -> None:
    board = storyboard([Fraction(number, 24) for number in range(14)])
    pictures = [painter.paint(replace(drawing, pose=0)).astype(int) for drawing in board]
    for a, b in pairwise(pictures):
        assert np.abs(a - b)[145:].mean() > 1
    early, late = pictures[0], pictures[13]

    def shift(rows: slice, columns: slice) -> int:
        """Pixels by which that part of the early picture moved to the left."""
        rest = {
            s: np.abs(early[rows, columns] - late[rows, columns.start - s : columns.stop - s]).mean() for s in range(50)
        }
        return min(rest, key=rest.__getitem__)

    elapsed_s, pixels_a_point = 13 / 24, 180 / 720
    for rows, speed in ((slice(40, 90), 7), (slice(100, 138), 88), (slice(170, 180), 250)):
        expected = speed * elapsed_s * pixels_a_point
        assert shift(rows, slice(60, 130)) == pytest.approx(expected, abs=1), f"layer of {speed} points a second"


def test_a_scene_cut_changes_most_of_the_picture(folder: Path) -> None:
    clip = clips.with_cut(folder)
    assert [float(time) for time in clip.cut_times_s] == [pytest.approx(5.5, abs=0.042)]
    lumas = [(time, luma.astype(int)) for time, luma in clips.file_frames(clip.path)]
    change = [np.abs(b - a).mean() for (_, a), (_, b) in pairwise(lumas)]
    assert lumas[int(np.argmax(change)) + 1][0] == pytest.approx(float(clip.cut_times_s[0]))
    assert max(change) > 2 * sorted(change)[-2]


def test_subtitles_say_the_time_of_each_flash(folder: Path) -> None:
    clip = clips.with_cut(folder)
    with av.open(str(clip.path)) as container:
        packets = [packet for packet in container.demux(subtitles=0) if packet.size]
        assert [packet.pts * packet.time_base for packet in packets] == list(clip.flash_times_s)
        assert bytes(packets[0]) == b"1.001 s"


@pytest.mark.parametrize("name", clips.COLOUR_VARIANTS)
def test_each_variant_has_the_properties_its_name_says(name: str, folder: Path) -> None:
    clip = clips.colour_variants(folder, [name])[name]
    spec = clip.spec
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        context = stream.codec_context
        assert (frame.width, frame.height) == (spec.width, spec.height)
        assert frame.format.name.replace("yuvj", "yuv") == spec.pixel_format
        assert (context.colorspace, context.color_range) == (MATRICES[spec.matrix], RANGES[spec.color_range])
        assert (context.color_primaries, context.color_trc) == (PRIMARIES[spec.primaries], TRANSFERS[spec.transfer])
        assert (stream.sample_aspect_ratio or 1) == spec.sample_aspect
        assert -frame.rotation % 360 == spec.rotation
        side_data = {entry.type.name for entry in iter(frame.side_data)} if name == "bt2020-pq-10bit" else set()
        assert name != "bt2020-pq-10bit" or {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} <= side_data
    deep = 4 if "10le" in spec.pixel_format else 1
    white = (255 if spec.color_range == "pc" else 235) * deep
    flashes = clips.flash_times(clips.file_frames(clip.path), white)
    assert flashes == pytest.approx([float(time) for time in clip.flash_times_s], abs=1e-6)
    flash = next(luma for time, luma in clips.file_frames(clip.path) if time == pytest.approx(flashes[0]))
    side = flash_side_px(spec.width, spec.height)
    assert flash[4 : side - 4, 4 : side - 4].mean() == pytest.approx(white, abs=1.5 * deep)


@pytest.mark.parametrize(
    ("bgr", "matrix", "full_range", "expected"),
    [
        ((255, 255, 255), "bt709", False, (235, 128, 128)),
        ((0, 0, 0), "bt709", False, (16, 128, 128)),
        ((255, 255, 255), "bt709", True, (255, 128, 128)),
        ((0, 0, 255), "smpte170m", False, (81, 90, 240)),
        ((255, 0, 0), "smpte170m", False, (41, 240, 110)),
        ((0, 0, 255), "bt709", False, (63, 102, 240)),
        ((0, 255, 0), "bt2020nc", False, (164, 47, 25)),
    ],
)
def test_colours_convert_as_the_standards_say(bgr, matrix: str, full_range: bool, expected) -> None:
    picture = np.full((5, 7, 3), bgr, np.uint8)
    planes = planes_from_bgr(picture, pixel_format("yuv420p"), matrix, full_range)
    assert [plane.shape for plane in planes] == [(5, 7), (3, 4), (3, 4)]
    assert tuple(int(plane[-1, -1]) for plane in planes) == expected
    deep = planes_from_bgr(picture, pixel_format("yuv444p10le"), matrix, full_range)
    assert [int(plane[0, 0]) / 4 for plane in deep] == pytest.approx(expected, abs=0.8)


def test_pictures_are_the_same_every_time() -> None:
    spec = ClipSpec(seconds=2, width=160, height=90)
    assert (frame_image(spec, 30) == frame_image(spec, 30)).all()


def test_a_film_of_two_hours_has_a_flash_for_each_second() -> None:
    times = [Fraction(1001 * number, 24000) for number in range(24000 * 7200 // 1001)]
    assert len(flash_frames(times)) == 7199


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    path, tiny = tmp_path / "new folder" / "clip.mkv", ClipSpec(seconds=0.1, width=64, height=36)
    make_demo(path, tiny)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        make_demo(path, replace(tiny, seconds=0.2))
    assert path.read_bytes() == before
    make_demo(path, replace(tiny, seconds=0.2), force=True)
    assert path.read_bytes() != before
    make_demo(path, tiny, force=True)
    assert path.read_bytes() == before, "the same clip has the same bytes"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("clip.avi", {}, "ends in .mkv, .mp4, .mov"),
        ("clip.mkv", {"rotation": 90}, "mkv carries no rotation"),
        ("clip.mp4", {"rotation": 45}, "rotation 45"),
        ("clip.mkv", {"matrix": "bt2100"}, "matrix 'bt2100'"),
        ("clip.mkv", {"pixel_format": "pal8"}, "pal8"),
        ("clip.mkv", {"rate": Fraction(0)}, "rate is 0"),
        ("clip.mkv", {"seconds": -1}, "seconds is -1"),
        ("clip.mkv", {"start_s": Fraction(-1)}, "start_s is -1"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(name: str, changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        make_demo(tmp_path / name, replace(ClipSpec(seconds=1, width=64, height=36), **changes))
    assert not list(tmp_path.iterdir())


def test_a_failure_of_the_encoder_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot write the demo clip"):
        make_demo(tmp_path / "clip.mkv", ClipSpec(seconds=1, width=33, height=33))  # 4:2:0 H.264 needs even sizes
    assert not list(tmp_path.iterdir())


def test_broken_inputs_are_as_broken_as_they_say(folder: Path) -> None:
    paths = clips.broken_inputs(folder)
    assert not paths["missing"].exists() and paths["directory"].is_dir()
    for name in ("empty", "text"):
        with pytest.raises(av.FFmpegError):
            av.open(str(paths[name]))
    with av.open(str(paths["audio only"])) as container:
        assert not container.streams.video and container.streams.audio
    for name in ("still png", "still jpg"):
        with av.open(str(paths[name])) as container:
            assert len(list(container.decode(video=0))) == 1
    played = len(list(clips.file_frames(paths["truncated"])))
    assert 20 < played < len(clips.standard(folder).times_s)

"""Where the output is divided, and which work folder may be resumed: tables and properties, no film."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drba.errors import InputError
from player.render.choose_encoder import even_size, nearest_format
from player.render.segments import Segment, begins_segment, contiguous, scene_start, split
from player.render_cli import make_parser, make_request, parse_range


@given(
    first=st.integers(0, 50),
    frames=st.integers(0, 400),
    scenes=st.sets(st.integers(0, 450)),
    least=st.integers(1, 60),
)
def test_a_known_film_is_divided_as_it_is_while_rendering(
    first: int, frames: int, scenes: set[int], least: int
) -> None:
    end = first + frames
    starts = [first] if frames else []
    for number in range(first, end):
        if number > first and begins_segment(number, starts[-1], least, scene_begins=number in scenes):
            starts.append(number)
    segments = split(first, end, sorted(scenes), least)
    assert [segment.first for segment in segments] == starts
    assert [segment.end for segment in segments] == [*starts[1:], end][: len(starts)]
    assert all(segment.frames <= 2 * least for segment in segments)
    assert all(segment.frames >= least for segment in segments[:-1])


def test_a_segment_ends_at_the_first_scene_that_begins_late_enough() -> None:
    assert split(0, 1000, [50, 130, 150, 700], 100) == [
        Segment(0, 130),
        Segment(130, 330),
        Segment(330, 530),
        Segment(530, 700),
        Segment(700, 900),
        Segment(900, 1000),
    ]


@pytest.mark.parametrize(
    ("cut_s", "frame"),
    [(Fraction(0), 0), (Fraction(1, 24), 3), (Fraction(2, 24), 5), (Fraction(83, 1000), 5), (Fraction(84, 1000), 6)],
)
def test_a_scene_begins_with_the_first_output_frame_that_shows_it(cut_s: Fraction, frame: int) -> None:
    assert (
        scene_start(Fraction(60), cut_s) == frame
    )  # 2/24 s is 5/60 s; Matroska rounds it to 83 ms, which is the same time


def test_segments_are_found_by_their_file_names() -> None:
    segments = [Segment(0, 120), Segment(120, 300), Segment(420, 500)]
    assert [Segment.parse(segment.file_name) for segment in segments] == segments
    for name in ("manifest.json", "rest.mp4", ".12.writing.mp4", "000000000-000000120.mkv", "a-b.mp4"):
        assert Segment.parse(name) is None
    assert contiguous([segments[2], segments[1], segments[0]], 0) == segments[:2]
    assert contiguous(segments, 7) == []


@pytest.mark.parametrize(
    ("codec", "given_format", "chosen"),
    [
        ("libx264", "yuv420p", "yuv420p"),
        ("libx264", "yuv444p", "yuv444p"),
        ("libx264", "gray", "gray"),
        ("libx265", "yuv420p10le", "yuv420p10le"),
        ("libx265", "yuv422p9le", "yuv422p10le"),
        ("libx265", "yuv420p16le", "yuv420p12le"),
        ("libx265", "gbrp10le", "gbrp10le"),
        ("libx265", "gray16le", "gray12le"),
        ("ffv1", "yuv420p14le", "yuv420p14le"),
        ("hevc_nvenc", "yuv420p10le", "p010le"),
        ("h264_nvenc", "yuv420p", "yuv420p"),
        ("libsvtav1", "yuv420p", "yuv420p"),
        ("prores_ks", "yuv420p", "yuv422p10le"),
    ],
)
def test_pixel_formats_are_those_that_lose_nothing_or_least(codec: str, given_format: str, chosen: str) -> None:
    assert nearest_format(codec, given_format) == chosen


@pytest.mark.parametrize(
    ("size", "pixel_format", "encoded"),
    [
        ((175, 99), "yuv420p", (176, 100)),
        ((175, 99), "yuv422p", (176, 99)),
        ((175, 99), "yuv444p", (175, 99)),
        ((175, 99), "gray", (175, 99)),
        ((176, 100), "yuv420p10le", (176, 100)),
    ],
)
def test_sides_are_whole_chroma_samples(size: tuple[int, int], pixel_format: str, encoded: tuple[int, int]) -> None:
    assert even_size(*size, pixel_format) == encoded


def test_the_command_of_drba_is_understood() -> None:
    command = "-m gmfss_union -i input.mp4 -o output.mp4 -fps 60 -scale 0.5 -s -st 0.2 -hw"
    arguments = make_parser().parse_args(command.split())
    request = make_request(arguments, arguments.input)
    assert (arguments.input, arguments.output) == ("input.mp4", "output.mp4")
    assert (request.model, request.fps, request.scale) == ("gmfss_union", "60", 0.5)
    assert (request.scene.detect, request.scene.threshold, request.encoder.hardware) == (True, 0.2, True)


@pytest.mark.parametrize(
    ("command", "fps"), [("-t 3", "3x"), ("--times 2.5", "5/2x"), ("--fps 60000/1001", "60000/1001"), ("", "auto")]
)
def test_rates_by_number_or_by_times(command: str, fps: str) -> None:
    assert make_request(make_parser().parse_args(command.split()), "film.mkv").fps == fps


def test_two_rates_are_one_too_many() -> None:
    with pytest.raises(InputError, match="choose one"):
        make_request(make_parser().parse_args(["-t", "2", "-fps", "60"]), "film.mkv")


@pytest.mark.parametrize(
    ("text", "range_s"),
    [("60-90", (60, 90)), ("1:00-1:30.5", (60, Fraction(181, 2))), ("1:00:00-", (3600, None)), ("-12", (None, 12))],
)
def test_ranges(text: str, range_s: tuple[Fraction | None, Fraction | None]) -> None:
    assert parse_range(text) == range_s


@pytest.mark.parametrize("text", ["", "-", "5", "a-b", "1:2:3:4-", "1e3-"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--range"):
        parse_range(text)

"""Frames and times of files that do not say what they should: each table row is a file that played wrongly once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import zoo

from player.follow import Follower
from player.source import VideoSource


@pytest.fixture(scope="module")
def made(clip_folder: Path) -> zoo.Folder:
    return zoo.Folder(clip_folder)


def times(source: VideoSource, from_s: Fraction | float) -> list[float]:
    return [round(float(frame.time_s), 3) for frame in source.frames_from(Fraction(from_s))]


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.vob", "dvd-16x9.vob", "raw.h264", "h264.mkv", "index-last.mov"])
def test_a_seek_begins_at_or_before_the_wanted_time(name: str, made: zoo.Folder) -> None:
    """Seeks in streams without an index end anywhere: in transport streams a second too late, or behind the last frame."""
    source = VideoSource(str(made.path(name)))
    film = times(source, source.first_s)
    assert len(film) == zoo.FRAMES
    for frame, wanted_s in enumerate(film):
        seen = times(source, Fraction(wanted_s) + Fraction(1, 1000))
        assert seen[0] <= wanted_s + 0.001 and seen == film[film.index(seen[0]) :], f"frame {frame}"
    source.close()


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("raw.m2v", 24),  # FFmpeg assumes 25 for what has no container
        ("dv.dv", 25),  # 60000
        ("fragmented.mp4", 24),  # 23.01: the first frame is shown longer
        ("animated.gif", Fraction(143, 6)),  # times are hundredths
        ("vfr-24-60.mp4", Fraction(576, 13)),  # not the 120 of the grid that its times lie on
        ("120fps.mkv", 120),
    ],
)
def test_the_rate_is_that_of_the_frames(name: str, rate: Fraction, made: zoo.Folder) -> None:
    source = VideoSource(str(made.path(name)))
    assert source.info.average_rate == rate
    source.close()


@pytest.mark.parametrize("name", ["mpeg4.avi", "no-times.avi"])
def test_pictures_in_avi_are_shown_when_they_should_be_though_it_does_not_say_when(name: str, made: zoo.Folder) -> None:
    source = VideoSource(str(made.path(name)))
    assert times(source, 0) == [round(k / 24, 3) for k in range(zoo.FRAMES)]
    source.close()


def test_of_two_frames_with_one_time_the_second_is_shown(made: zoo.Folder) -> None:
    plain, twice = (VideoSource(str(made.path(name))) for name in ("h264.mkv", "same-times.mkv"))
    shown, every = (
        [frame.planes()[0].astype(int) for frame in source.frames_from(Fraction(0))] for source in (twice, plain)
    )
    for picture, first, second in zip(shown, every[::2], every[1::2], strict=True):
        assert abs(picture - second).mean() < 2 < abs(picture - first).mean()
    for source in (plain, twice):
        source.close()


@pytest.mark.parametrize("name", ["mpeg1.mpg", "mpeg2.vob", "soft-telecine.vob", "mono.nut", "h264.ts", "h264.mkv"])
def test_the_film_is_not_taken_for_shorter_than_it_is(name: str, made: zoo.Folder) -> None:
    source = VideoSource(str(made.path(name)))
    last_s = times(source, source.first_s)[-1]
    assert float(source.info.end_s) >= last_s + 0.04
    source.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("resolution.ts", "the picture changes from 64x48 yuv420p to 96x64 yuv420p"),
        ("format.ts", "the picture changes from 64x48 yuv420p to 64x48 yuv422p10le"),
        ("aspect.ts", "the picture changes from 64x48 yuv420p to 64x48 yuv420p (pixels 4/3)"),
        ("jump-forward.ts", "the film's times jump by 60 s"),
        ("gap.mkv", ""),
        ("vfr.mkv", ""),
    ],
)
def test_where_a_film_cannot_be_followed_is_found(name: str, why: str, made: zoo.Folder) -> None:
    source = VideoSource(str(made.path(name)))
    follower, last = Follower(source.info), None
    for frame in source.frames_from(source.first_s):
        follower.decoded(last, frame, source.first_s)
        last = frame
    film = [follower.at(0.1 * k) for k in range(10)]
    assert [stretch.why if stretch else "" for stretch in film] == [""] * 5 + [why] * 5
    early = follower.at(0.45, early_s=0.1)
    assert (early.why if early else "") == why
    source.close()


def test_times_that_jump_back_for_good_end_the_frames(made: zoo.Folder) -> None:
    source = VideoSource(str(made.path("jump-back.ts")))
    assert len(times(source, source.first_s)) == zoo.FRAMES
    assert source.jumped_back
    source.close()


def test_a_film_can_be_opened_as_it_is_later_on(made: zoo.Folder) -> None:
    path = made.path("resolution.ts")
    sizes = []
    for at_s in (None, Fraction(0), Fraction(2)):
        source = VideoSource(str(path), at_s=at_s)
        sizes.append((source.info.layout.width, source.info.layout.height))
        source.close()
    assert sizes == [(64, 48), (64, 48), (96, 64)]

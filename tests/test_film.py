"""A film through bridge and server, read over HTTP: source frames untouched, in-betweens where they belong."""

from __future__ import annotations

import asyncio
import http.client
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import clips
import numpy as np
import pytest
import zoo
from film_reader import open_film, source_frames

from drba.errors import InputError, MediaError
from player.film import Film, FilmRequest
from player.plan import MAX_INTERVAL_S
from player.playhead import Playhead
from player.rates import output_rate
from player.source import VideoSource, carried_format

pytestmark = pytest.mark.alone  # its films are read as fast as the machine can


@pytest.mark.parametrize("name", clips.COLOUR_VARIANTS)
def test_output_frames_at_source_times_are_the_source_frames(name: str, clip_folder: Path) -> None:
    clip = clips.colour_variants(clip_folder, [name])[name]
    expected = dict(source_frames(clip.path))

    async def check() -> None:
        async with open_film(clip.path, fps="2x") as opened:
            shown = await opened.all_frames()
            clock = opened.film.file.clock
            compared = 0
            for number, picture in enumerate(shown):
                time_s = clock.time_s(number)
                near = min(expected, key=lambda source_s: abs(source_s - time_s))
                if abs(near - time_s) <= Fraction(1, 2000):
                    assert picture == expected[near], f"output frame {number}"
                    compared += 1
            assert compared == len(expected)
            stats = opened.film.stats.as_dict()
            assert stats["late_frames"] == 0
            assert stats["interpolated_frames"] > 0.3 * len(expected)

    asyncio.run(check())


def test_in_between_frames_lie_between(clip_folder: Path) -> None:
    """Each in-between is nearer to both of its neighbours than they are to each other."""
    clip = clips.standard(clip_folder)

    async def check() -> None:
        async with open_film(clip.path, fps="2x") as opened:
            shown = await opened.frames(0, 95)
            luma = [np.frombuffer(picture, np.uint8)[: 320 * 180].astype(np.int16) for picture in shown]
            nearer = 0
            for k in range(1, 94, 2):
                apart = np.abs(luma[k - 1] - luma[k + 1]).mean()
                nearer += bool(np.abs(luma[k] - luma[k - 1]).mean() <= apart >= np.abs(luma[k] - luma[k + 1]).mean())
            assert nearer >= 45

    asyncio.run(check())


def test_any_byte_range_is_a_part_of_the_same_file(clip_folder: Path) -> None:
    clip = clips.with_cut(clip_folder)
    rng = random.Random(5)

    async def check() -> None:
        async with open_film(clip.path, fps="60") as opened:
            film = opened.film
            part = await opened.read(0, len(film.file.header) + 40 * film.file.cluster_bytes)
            assert part.startswith(film.file.header)
            for _ in range(12):
                first = rng.randrange(len(part) - 10)
                count = min(len(part) - first, rng.choice([1, 5, 70, 200_000]))
                again = await opened.read(first, count)
                # Rendering has no state: a frame is the same wherever reading began, but for the triplet at the start,
                # which may lack the frame before it.
                inside = film.file.locate(first)[0] < 2 or again == part[first : first + count]
                start_of_gap = film.file.offset_of(film.file.locate(first)[0] + 4)
                assert inside or again[max(0, start_of_gap - first) :] == part[max(first, start_of_gap) : first + count]

    asyncio.run(check())


def test_the_pool_is_whole_after_many_abandoned_reads(clip_folder: Path) -> None:
    clip = clips.standard(clip_folder)
    rng = random.Random(7)

    async def check() -> None:
        async with open_film(clip.path, fps="60") as opened:
            film = opened.film
            for _ in range(15):
                await opened.frames(rng.randrange(film.file.frames - 12), rng.randrange(1, 10))
            film.track.close()
            for _ in range(200):
                if film._pool.free_slots == film._pool.slots:
                    break
                await asyncio.sleep(0.02)
            assert film._pool.free_slots == film._pool.slots

    asyncio.run(check())


@pytest.mark.parametrize("kind", ["standard", "ntsc", "vfr", "starts_at_10"])
@pytest.mark.parametrize("fps", ["2x", "60"])
def test_flash_and_beep_stay_together(kind: str, fps: str, clip_folder: Path) -> None:
    clip = getattr(clips, kind)(clip_folder)
    offset_s = clip.spec.start_s

    async def check() -> None:
        async with open_film(clip.path, fps=fps, offset_s=Fraction(offset_s)) as opened:
            film = opened.film
            shown = await opened.all_frames()
            lumas = ((float(film.file.clock.time_s(k)), film.file.layout.views(p)[0]) for k, p in enumerate(shown))
            flashes = clips.flash_times(lumas)
            beeps = [time - float(offset_s) for time in clips.beep_times(clip.path)]
            assert len(flashes) == len(beeps) >= 3
            assert max(abs(f - b) for f, b in zip(flashes, beeps, strict=True)) <= 1 / float(film.rate)

    asyncio.run(check())


def test_five_minutes_with_twenty_seeks_stay_in_sync(clip_folder: Path) -> None:
    clip = clips.cached(clip_folder, "long.mkv", replace(clips.SMALL, seconds=300, width=160, height=90))
    rng = random.Random(11)
    flashes = [float(time) for time in clip.flash_times_s]

    async def check() -> None:
        async with open_film(clip.path, fps="2x") as opened:
            film = opened.film
            for second in rng.sample(range(len(flashes)), 20):
                expected = flashes[second]
                first = int((expected - 0.2) * film.rate)
                shown = await opened.frames(first, 30)
                lumas = [
                    (float(film.file.clock.time_s(first + k)), film.file.layout.views(p)[0])
                    for k, p in enumerate(shown)
                ]
                found = clips.flash_times(lumas)
                assert len(found) == 1 and abs(found[0] - expected) <= 1 / float(film.rate)

    asyncio.run(check())


def test_frames_that_are_not_ready_in_time_are_the_nearest_source_frames(clip_folder: Path) -> None:
    clip = clips.standard(clip_folder)
    expected = {frame for _, frame in source_frames(clip.path)}
    playhead = Playhead()
    playhead.observe(1e6)  # far ahead: everything is late
    playhead.seeking = False

    async def check() -> None:
        async with open_film(clip.path, fps="2x", playhead=playhead) as opened:
            for place in opened.film._sessions._places.values():
                place.latency_s = 1e6
            opened.film._sessions.idle = lambda _: False  # nothing is asked for just to see how long it takes now
            shown = await opened.frames(20, 40)
            assert set(shown) <= expected
            assert opened.film.stats.as_dict()["late_frames"] >= 15

    asyncio.run(check())


def test_http_answers_only_its_own_reader(clip_folder: Path) -> None:
    clip = clips.standard(clip_folder)

    async def check() -> None:
        async with open_film(clip.path) as opened:
            parts = urlsplit(opened.url)
            size = opened.film.file.size

            def ask(method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], int]:
                connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=10)
                connection.request(method, path, headers=headers)
                response = connection.getresponse()
                body = response.read(10) if response.status in (200, 206) and method == "GET" else b""
                answer = (response.status, {k.lower(): v for k, v in response.getheaders()}, len(body))
                connection.close()
                return answer

            async def status(method: str = "GET", path: str = parts.path, **headers: str) -> int:
                return (
                    await asyncio.to_thread(ask, method, path, {k.replace("_", "-"): v for k, v in headers.items()})
                )[0]

            assert await status(Range="bytes=0-9") == 206
            assert await status("HEAD") == 200
            assert await status(path="/wrong/video.mkv") == 404
            assert await status(Host="evil.example") == 404
            assert await status(Origin="http://evil.example") == 404
            assert await status("POST") == 405
            for wrong in (f"bytes={size}-", "bytes=9-3", "bytes=-0", "bytes=a-b", "bytes=0-1,5-6", "frames=0-1"):
                assert await status(Range=wrong) == 416, wrong
            _, headers, _ = await asyncio.to_thread(ask, "GET", parts.path, {"Range": "bytes=-5"})
            assert headers["content-range"] == f"bytes {size - 5}-{size - 1}/{size}"
            assert headers["accept-ranges"] == "bytes"

    asyncio.run(check())


@pytest.mark.parametrize(
    ("wanted", "source", "display", "rate"),
    [
        ("auto", Fraction(24000, 1001), 0.0, Fraction(48000, 1001)),
        ("auto", Fraction(24000, 1001), 59.94006, Fraction(60000, 1001)),
        ("display", Fraction(24), 143.99, Fraction(14399, 100)),
        ("3x", Fraction(25), 0.0, Fraction(75)),
        ("60000/1001", Fraction(24), 0.0, Fraction(60000, 1001)),
    ],
)
def test_output_rates(wanted: str, source: Fraction, display: float, rate: Fraction) -> None:
    assert output_rate(wanted, source, display) == rate


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("40x", "at most 1000 are shown"),
        ("30", "already"),
        ("auto", "already"),
        ("display", "not known"),
        ("x", "expected auto"),
        ("1x", "already"),
    ],
)
def test_output_rates_that_make_no_sense(wanted: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        output_rate(wanted, Fraction(30), 30.0 if wanted == "auto" else 0.0)


@pytest.mark.parametrize(
    "name", ["missing", "directory", "empty", "text", "header only", "audio only", "still png", "still jpg"]
)
def test_what_is_no_film_is_refused_in_one_line(name: str, clip_folder: Path) -> None:
    path = clips.broken_inputs(clip_folder)[name]
    with pytest.raises((InputError, MediaError)) as caught:
        asyncio.run(Film.open(FilmRequest(str(path)), Playhead()))
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    assert caught.value.exit_status == 2


def test_an_interlaced_film_that_mpv_deinterlaces_is_refused_in_one_line(clip_folder: Path) -> None:
    path = zoo.Folder(clip_folder).path("interlaced.mkv")
    with pytest.raises(InputError, match="interlaced, and mpv deinterlaces it"):
        asyncio.run(Film.open(FilmRequest(str(path), deinterlaced=True), Playhead()))


def test_a_truncated_film_ends_where_its_data_ends(clip_folder: Path) -> None:
    path = clips.broken_inputs(clip_folder)["truncated"]
    last_s = source_frames(path)[-1][0]

    async def check() -> None:
        async with open_film(path, fps="2x") as opened:
            file = opened.film.file
            with pytest.raises(http.client.IncompleteRead) as caught:
                await opened.read(file.offset_of(0))
            frames = len(caught.value.partial) / file.cluster_bytes
            assert abs(frames / float(file.clock.rate) - float(last_s)) < 0.1

    asyncio.run(check())


@pytest.mark.parametrize(
    ("name", "carried"),
    [
        ("nv12", "yuv420p"), ("p010le", "yuv420p10le"), ("yuvj422p", "yuv422p"), ("yuva444p", "yuv444p"), ("yuyv422", "yuv422p"),
        ("yuv440p", "yuv444p"), ("yuv411p", "yuv444p"), ("pal8", "gbrp"), ("rgb24", "gbrp"), ("gray10le", "gray10le"),
    ],
)  # fmt: skip
def test_formats_are_carried_without_loss(name: str, carried: str) -> None:
    assert carried_format(name).name == carried


def test_seeking_begins_before_the_wanted_time(clip_folder: Path) -> None:
    for clip in (clips.standard(clip_folder), clips.mp4(clip_folder)):
        source = VideoSource(str(clip.path))
        for wanted in (Fraction(3), Fraction(1), Fraction(7, 2), Fraction(0)):
            first = next(source.frames_from(wanted))
            assert first.time_s <= wanted or first.time_s == source.info.start_s
        source.close()
    assert Fraction(1, 10) < MAX_INTERVAL_S

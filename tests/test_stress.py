"""A viewer who does not leave it alone: toggles, seeks, speeds, steps, loops and tracks in quick succession, in a real mpv."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import clips
import pytest
from film_reader import open_film, source_frames
from mpv_driver import Mpv
from test_mpv import bridges_of, slack, turn_on

from drba.timeline import SAME_TIME_S
from player.levels import Mode
from server.client import server_status

pytestmark = pytest.mark.alone

STALL_S = 1.0
RATE = 48000 / 1001
OPTIONS = {"drba-fps": "2x", "drba-quality": "quality"}


def half_minute(clip_folder: Path) -> Path:
    return clips.cached(clip_folder, "half.mkv", replace(clips.SMALL, seconds=30)).path


def footprint(pid: int) -> tuple[int, int]:
    """Threads and open files of a process."""
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


class Watched:
    """mpv with DRBA on, and what it and its helpers hold when nothing happens."""

    def __init__(self, mpv: Mpv) -> None:
        self.mpv = mpv
        turn_on(mpv)
        mpv.wait_log("DRBA on")
        server = server_status()
        assert server is not None
        (bridge,) = bridges_of(mpv.process.pid)
        self.processes = {"bridge": bridge, "mpv": mpv.process.pid, "server": server.pid}
        self.held = self.footprints()

    def footprints(self) -> dict[str, tuple[int, int]]:
        return {name: footprint(pid) for name, pid in self.processes.items()}

    def plays(self) -> None:
        """On, moving on, in sync and with in-betweens."""
        mpv = self.mpv
        assert mpv.is_on
        at = mpv.get("time-pos")
        mpv.wait_for(lambda: not mpv.get("seeking") and abs(mpv.get("time-pos") - at) > 0.2, STALL_S * slack())
        mpv.wait_for(lambda: abs(mpv.get("avsync") or 0) < 0.04)
        mpv.command("script-message", "ping")
        assert not [line for line in mpv.log if "cannot start" in line]

    def pace(self) -> float:
        """Seconds of film in a second, over 0.3 s."""
        before, began = self.mpv.get("time-pos"), time.monotonic()
        self.mpv.wait_for(lambda: time.monotonic() > began + 0.3)
        return (self.mpv.get("time-pos") - before) / (time.monotonic() - began)

    def holds_no_more(self) -> None:
        """Threads and files come and go with each request; what stays must not grow."""
        self.mpv.wait_for(
            lambda: all(
                now[0] <= before[0] + 4 and now[1] <= before[1] + 4
                for now, before in zip(self.footprints().values(), self.held.values(), strict=True)
            )
        )

    def until_shown(self, *command: object) -> float:
        """Seconds from a command until mpv shows pictures again."""
        seen, began = len(self.mpv.events), time.monotonic()
        self.mpv.command(*command)
        self.mpv.wait_for(lambda: any(event["event"] == "playback-restart" for event in self.mpv.events[seen:]))
        return time.monotonic() - began


@pytest.fixture
def watched(clip_folder: Path) -> Iterator[Watched]:
    with Mpv([half_minute(clip_folder)], "--loop-file=inf", script_opts=OPTIONS) as mpv:
        mpv.wait_for(lambda: (mpv.get("time-pos") or 0) > 0.2)
        yield Watched(mpv)


def test_fifty_toggles(watched: Watched) -> None:
    for number in range(50):
        off = number % 2 == 0
        took_s = watched.until_shown("script-message-to", "drba", "off" if off else "on")
        assert took_s < STALL_S * slack()
        # On a busy machine mpv shows pictures twice, after the switch and after the seek: this may be the toggle before.
        watched.mpv.wait_for(lambda off=off: watched.mpv.is_on != off, STALL_S * slack())
    watched.plays()
    watched.holds_no_more()


def test_a_hundred_seeks(watched: Watched) -> None:
    rng = random.Random(3)
    for number in range(100):
        to_s = rng.uniform(0, 28)
        if number % 4:  # leaves the seek before unfinished
            watched.mpv.command("seek", to_s, rng.choice(["absolute+exact", "absolute+keyframes"]))
        else:
            assert watched.mpv.seek(to_s) < STALL_S * slack()
            assert abs(watched.mpv.get("time-pos") - to_s) < 0.3
    watched.plays()
    watched.holds_no_more()


def test_speeds_steps_loops_and_tracks(watched: Watched) -> None:
    mpv = watched.mpv
    for speed in (0.5, 2.0, 1.0):
        mpv.set("speed", speed)
        mpv.wait_for(lambda s=speed: watched.pace() == pytest.approx(s, rel=0.2), STALL_S * slack() + 1)
    mpv.set("pause", True)
    for command, step in (("frame-step", 1), ("frame-back-step", -1)):
        for _ in range(4):
            before = mpv.get("time-pos")
            mpv.command(command)
            mpv.wait_for(lambda t=before, s=step: abs(mpv.get("time-pos") - t - s / RATE) < 2e-3, STALL_S * slack())
    mpv.set("pause", False)
    mpv.set("ab-loop-a", 2.0)
    mpv.set("ab-loop-b", 2.4)
    mpv.seek(2.0)
    for _ in range(4):
        seen = len(mpv.events)
        mpv.wait_for(
            lambda n=seen: any(e["event"] == "playback-restart" for e in mpv.events[n:]), 0.4 + STALL_S * slack()
        )
        assert 1.9 < mpv.get("time-pos") < 2.6
    mpv.set("ab-loop-b", "no")
    for name, value in (("aid", "no"), ("aid", 1), ("sid", "no"), ("secondary-sid", "no")):
        mpv.set(name, value)
        watched.plays()
    mpv.seek(29.7)
    mpv.wait_for(lambda: mpv.get("time-pos") < 5, 0.3 + STALL_S * slack())  # loop-file
    watched.plays()
    watched.holds_no_more()


def test_the_next_film_in_the_middle_of_a_seek(clip_folder: Path) -> None:
    with Mpv([half_minute(clip_folder)] * 2, "--loop-playlist=inf", script_opts=OPTIONS) as mpv:
        mpv.wait_for(lambda: (mpv.get("time-pos") or 0) > 0.2)
        watched = Watched(mpv)
        for number in range(6):
            mpv.command("seek", 20.0, "absolute+exact")
            seen = len(mpv.events)
            mpv.command("playlist-next")
            mpv.wait_for(lambda n=seen: any(event["event"] == "file-loaded" for event in mpv.events[n:]))
            if number % 2:  # every second film is left before DRBA is on
                mpv.wait_for(lambda: mpv.is_on)
        mpv.wait_for(lambda: mpv.is_on and not mpv.get("seeking"))
        watched.plays()
        watched.holds_no_more()


def test_changes_of_level_in_the_middle_of_reading_lose_nothing(clip_folder: Path) -> None:
    """Slots, tasks and source frames, with the level set by hand at random places of many readings."""
    clip = clips.standard(clip_folder)
    rng = random.Random(9)
    expected = dict(source_frames(clip.path))

    async def read() -> None:
        before = asyncio.all_tasks()
        async with open_film(clip.path, fps="60") as opened:
            film = opened.film
            for _ in range(10):
                first = rng.randrange(film.file.frames - 60)
                reading = asyncio.ensure_future(opened.frames(first, 30))
                while not reading.done():
                    film.set_mode(rng.choice(list(Mode)).value)
                    await asyncio.sleep(rng.uniform(0, 0.02))
                for number, picture in enumerate(reading.result(), first):
                    time_s = film.file.clock.time_s(number)
                    at = min(expected, key=lambda source_s, t=time_s: abs(source_s - t))
                    assert abs(at - time_s) > SAME_TIME_S or picture == expected[at], number
            film.track.close()
            pool = film._pool
            while pool.free_slots < pool.slots:
                await asyncio.sleep(0.01)
            assert len(film.stats.by_level) == len(film._context.controller.levels)
        assert asyncio.all_tasks() == before

    asyncio.run(asyncio.wait_for(read(), 60))

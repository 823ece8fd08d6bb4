"""A film plays on while an engine for it is built: real server, client and mpv; the test takes the build step by step."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import clips
import numpy as np
import pytest
from helpers_server import SMALL, Film, Place, alive, eventually, private_place, run
from mpv_driver import Mpv

from server.client import Client, EngineState, FramePool, Session, StreamSpec, server_status
from server.control import describe_status

PROGRAM = Path(__file__).with_name("engine_server.py")
MODEL = "rife-4.6"
#: At one level of quality: a busy machine must not close the session that the build is for.
PLAYED = {"drba-fps": "2x", "drba-model": MODEL, "drba-auto": "always", "drba-quality": "quality"}


class BuildPipe:
    """What the build does next, and what the server has noted of it."""

    def __init__(self, path: Path) -> None:
        self._log = Path(f"{path}.log")
        self._fd = os.open(path, os.O_RDWR)

    def step(self, state: str, progress: float = 0.0, text: str = "-") -> None:
        os.write(self._fd, f"{state} {progress} {text}\n".encode())

    @property
    def notes(self) -> list[str]:
        return self._log.read_text().split("\n")[:-1] if self._log.exists() else []


@pytest.fixture(params=["one card", "two cards"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param == "two cards":
        monkeypatch.setenv("DRBA_DEVICES", "cpu,cpu")
    os.mkfifo(tmp_path / "build")
    monkeypatch.setenv("DRBA_TEST_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path))
    with private_place() as made:
        yield made


@pytest.fixture
def build(place: Place) -> BuildPipe:
    return BuildPipe(Path(os.environ["DRBA_TEST_BUILD"]))


def connect() -> asyncio.Future[Client]:
    return asyncio.ensure_future(Client.connect(command=[sys.executable, str(PROGRAM)]))


class Player(Film):
    """A film and what its player has heard of the engine."""

    def __init__(self, session: Session, heard: list[EngineState]) -> None:
        super().__init__(session)
        self.heard = heard
        self.engines: set[str] = set()
        self._number = 0

    @classmethod
    async def start(cls, client: Client, model: str = MODEL) -> Player:
        heard: list[EngineState] = []
        pool = FramePool(SMALL.frame_bytes, 40)
        return cls(await client.open_session(StreamSpec(SMALL, model=model), pool, on_engine=heard.append), heard)

    async def play(self) -> str:
        """Render the next triplet; the engine that its pictures show."""
        self._number += 1
        result = await self.ask(self._number, (0.75, 1.25))
        shown = set()
        for slot, at in zip(result.outputs, (0.75, 1.25), strict=True):
            plain = np.frombuffer(self.expected(self._number, at), np.uint16)
            found = np.frombuffer(self.output(slot), np.uint16)
            negative = SMALL.format.max_value - plain
            assert (found == plain).all() or (found == negative).all(), "every picture is a whole one"
            shown.add("first" if (found == plain).all() else "built")
        (engine,) = shown
        return engine


def test_playing_goes_on_while_an_engine_is_built_and_then_with_it(place: Place, build: BuildPipe) -> None:
    async def test() -> None:
        async with await connect() as client:
            player = await Player.start(client)
            assert await player.play() == "first"
            await eventually(lambda: player.heard[-1].building == "built")
            build.step("building", 0.4, "part render, 4 of 10")
            await eventually(lambda: player.heard[-1].progress == 0.4)
            assert player.heard[-1] == EngineState(MODEL, "first", "part render, 4 of 10", "built", 0.4)
            report = await asyncio.to_thread(server_status)
            assert f"{MODEL} on first" in describe_status(report)
            assert "building built 40%" in describe_status(report)
            assert await player.play() == "first"
            build.step("done", 1.0)
            seen = [await player.play() for _ in range(20)]
            await eventually(lambda: player.session.engine == "built")
            assert seen == sorted(seen, reverse=True), "never back, and no request failed"
            assert await player.play() == "built"
            assert player.heard[-1] == EngineState(MODEL, "built", f"{MODEL} on built from here on")
            await eventually(lambda: "closed first" in build.notes)
            await player.close()

    run(test())


@pytest.mark.parametrize(
    ("state", "text"), [("failed", "38.2 dB of PyTorch's picture, expected 45"), ("cancelled", "-")]
)
def test_a_build_that_fails_or_is_cancelled_changes_nothing_but_a_line(
    place: Place, build: BuildPipe, state: str, text: str
) -> None:
    async def test() -> None:
        async with await connect() as client:
            player = await Player.start(client)
            await eventually(lambda: player.heard[-1].building == "built")
            if state == "cancelled":
                player.session.cancel_build()
            else:
                build.step(state, 0.9, text)
            await eventually(lambda: player.heard[-1].building == "")
            reason = text if state == "failed" else "cancelled"
            note = f"the built engine is not used ({reason}); {MODEL} on first goes on"
            assert player.heard[-1] == EngineState(MODEL, "first", note)
            assert await player.play() == "first"
            assert ("cancelled" in build.notes) == (state == "cancelled")
            await player.close()

    run(test())


@pytest.mark.parametrize("place", ["one card"], indirect=True)
def test_what_one_viewer_cancels_or_leaves_another_one_still_gets(place: Place, build: BuildPipe) -> None:
    async def test() -> None:
        async with await connect() as client, await connect() as another, await connect() as third:
            leaving, cancelling = await Player.start(another), await Player.start(client)
            waiting = await Player.start(third)
            await eventually(lambda: all(p.heard[-1].building for p in (leaving, cancelling, waiting)))
            build.step("building", 0.5)
            await eventually(lambda: all(p.heard[-1].progress == 0.5 for p in (leaving, cancelling, waiting)))
            cancelling.session.cancel_build()
            await leaving.close()
            await another.close()
            await eventually(lambda: cancelling.heard[-1].building == "")
            build.step("building", 0.6)
            await eventually(lambda: waiting.heard[-1].progress == 0.6)
            build.step("done", 1.0)
            await eventually(lambda: waiting.session.engine == "built")
            assert await waiting.play() == "built" and await cancelling.play() == "first"
            assert build.notes.count("build") == 1 and "cancelled" not in build.notes
            await waiting.close()
            await cancelling.close()

    run(test())


@pytest.mark.parametrize("place", ["one card"], indirect=True)
def test_a_build_that_has_begun_is_finished_after_its_viewer_has_left(place: Place, build: BuildPipe) -> None:
    async def test() -> None:
        async with await connect() as client:
            player = await Player.start(client)
            await eventually(lambda: player.heard[-1].building == "built")
            build.step("building", 0.5)
            await eventually(lambda: player.heard[-1].progress == 0.5)
            await player.close()
            again = await Player.start(client)
            await eventually(lambda: again.heard[-1].progress == 0.5)
            assert build.notes.count("build") == 1
            build.step("done", 1.0)
            await eventually(lambda: again.session.engine == "built")
            await again.close()

    run(test())


def late_frames(mpv: Mpv) -> int:
    """How many in-betweens were not there in time, by the bridge's next word."""
    seen = len(mpv.events)

    def told() -> str:
        new = [event["args"] for event in mpv.events[seen:] if event["event"] == "client-message"]
        return next((arguments[1] for arguments in new if arguments[0] == "drba-stats"), "")

    return int(json.loads(mpv.wait_for(told))["late_frames"])


@pytest.mark.alone
@pytest.mark.parametrize("place", ["one card"], indirect=True)
def test_mpv_shows_a_build_sparingly_and_drops_nothing_when_it_is_done(
    place: Place, build: BuildPipe, clip_folder: Path
) -> None:
    clip = clips.cached(clip_folder, "half.mkv", replace(clips.SMALL, seconds=30))

    async def start() -> None:
        async with await connect():
            pass

    run(start())  # the bridge finds this server
    read_ahead = "--demuxer-max-bytes=4MiB"  # a second: else all of the film is rendered before the build is done
    with Mpv([clip.path], read_ahead, script_opts=PLAYED) as mpv:
        mpv.wait_log(f"DRBA on: 23.976 -> 47.952, {MODEL}", 40)
        for percent in range(5, 41, 5):
            build.step("building", percent / 100 + 0.001, f"layer {percent}")
            mpv.wait_log(f"building the built engine, {percent // 10 * 10} %")
        late, dropped = late_frames(mpv), mpv.get("frame-drop-count")
        build.step("done", 1.0)
        mpv.wait_log(f"DRBA: {MODEL} on built from here on")
        at = mpv.get("time-pos")
        mpv.wait_for(lambda: mpv.get("time-pos") > at + 1)
        said = [line.split(", ")[-1] for line in mpv.log if "building the built engine" in line]
        assert said == ["0 %", "10 %", "20 %", "30 %", "40 %"]
        assert mpv.is_on and abs(mpv.get("avsync")) < 0.1
        assert (late_frames(mpv), mpv.get("frame-drop-count")) == (late, dropped), "the swap costs no frame"
        mpv.message("cancel-build")
        mpv.wait_log("DRBA: no engine is being built")


@pytest.mark.parametrize("place", ["one card"], indirect=True)
def test_a_viewer_cancels_a_build_in_mpv(place: Place, build: BuildPipe, clip_folder: Path) -> None:
    clip = clips.cached(clip_folder, "tiny.mkv", replace(clips.SMALL, seconds=12, width=96, height=64))

    async def start() -> int:
        async with await connect() as client:
            return client.server_pid or 0

    server = asyncio.run(start())
    with Mpv([clip.path], script_opts=PLAYED) as mpv:
        mpv.wait_log("building the built engine, 0 %", 40)
        mpv.message("cancel-build")
        mpv.wait_log(f"the built engine is not used (cancelled); {MODEL} on first goes on")
    assert alive(server) and "cancelled" in build.notes

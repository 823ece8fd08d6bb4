"""A film in a real mpv while something else keeps every core busy: quality goes, smoothness stays, quality comes back.

benchmarks/busy_machine.py does the same at 1080p and for longer, and prints numbers. Here the film is one that a slow machine,
too, plays at its best level, so that there is a level to lose.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hog import hog
from mpv_driver import Mpv
from test_mpv import slack

from player.report import percentile

pytestmark = pytest.mark.alone

CORES = os.cpu_count() or 1
HOG_S = 5.0


@pytest.fixture(scope="module")
def film(clip_folder: Path) -> Path:
    """Thirty seconds of moving patterns with sound; three of them are drawn."""
    second, path = clip_folder / "busy-second.mkv", clip_folder / "busy.mkv"
    source = ["-f", "lavfi", "-i", "testsrc2=s=960x540:r=24:d=3", "-f", "lavfi", "-i", "sine=d=3"]
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "flac"]
    for command in ([*source, *encode, second], ["-stream_loop", "9", "-i", second, "-c", "copy", path]):
        subprocess.run(["ffmpeg", "-v", "error", "-y", *command], check=True, stdin=subprocess.DEVNULL)
    return path


class Watch:
    """What a viewer would notice, read several times a second."""

    def __init__(self, mpv: Mpv) -> None:
        self.mpv = mpv
        self.av_ms: list[float] = []

    @property
    def dropped(self) -> int:
        return int(self.mpv.get("frame-drop-count") or 0) + int(self.mpv.get("decoder-frame-drop-count") or 0)

    @property
    def level(self) -> str:
        messages = (event for event in reversed(self.mpv.events) if event["event"] == "client-message")
        stats = next((event["args"][1] for event in messages if event["args"][0] == "drba-stats"), "{}")
        return str(json.loads(stats).get("level"))

    def play(self, seconds: float) -> Iterator[None]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (av := self.mpv.get("avsync")) is not None and not self.mpv.get("seeking"):
                self.av_ms.append(abs(av) * 1000)
            soon = time.monotonic() + 0.05
            self.mpv.wait_for(lambda until=soon: time.monotonic() > until)
            yield

    def drops_while(self, seconds: float) -> int:
        before = self.dropped
        for _ in self.play(seconds):
            pass
        return self.dropped - before


def test_a_hog_on_every_core_costs_quality_and_no_smoothness(film: Path) -> None:
    with Mpv([film], script_opts={"drba-fps": "2x"}) as mpv, contextlib.ExitStack() as busy:
        watch = Watch(mpv)
        mpv.wait_for(lambda: (mpv.get("time-pos") or 0) > 0.5)
        with hog(CORES):
            without = watch.drops_while(HOG_S)
        mpv.message("on")
        mpv.wait_log("DRBA on")
        watch.drops_while(4.0)
        watch.av_ms.clear()
        before = watch.level
        if before != "flow":
            pytest.skip(f"the machine is too busy to tell: it plays at {before!r} without the hog")
        busy.enter_context(hog(CORES))
        assert watch.drops_while(HOG_S) <= without
        assert mpv.is_on
        busy.close()
        for _ in watch.play(10.0):
            if watch.level == before:
                break
        assert watch.level == before
        av_ms = percentile(watch.av_ms, 95)
        assert av_ms is not None and av_ms < 20 * slack()

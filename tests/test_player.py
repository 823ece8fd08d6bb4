"""The `drba-player` command as a user runs it: libmpv in a process of its own, its report, its one-line errors."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import clips
import pytest

MEDIA = Path(__file__).resolve().parent.parent.parent / "shared" / "media"
NULL = ["--", "--vo=null", "--ao=null"]
#: The film begins when DRBA is on, however long that takes here.
DELETE_AFTER_A_SECOND = """
mp.observe_property("vid", "number", function(_, track) if track == 2 then mp.set_property_bool("pause", false) end end)
mp.observe_property("time-pos", "number", function(_, s) if s and s > 1 then os.remove(mp.get_property("path")) end end)
"""


def drba_player(*arguments: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "player.play", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )


def report_of(tmp_path: Path, *arguments: str | Path, timeout_s: float = 60) -> dict[str, object]:
    path = tmp_path / "report.json"
    done = drba_player("--report", path, *arguments, timeout_s=timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    report: dict[str, object] = json.loads(path.read_text())
    return report


@pytest.mark.alone
def test_a_film_is_played_and_reported(tmp_path: Path, clip_folder: Path) -> None:
    clip = clips.with_cut(clip_folder)
    report = report_of(tmp_path, "--fps", "2x", clip.path, *NULL)
    assert report["source_fps"] == pytest.approx(23.976, abs=0.001)
    assert report["output_fps"] == pytest.approx(47.952, abs=0.001)
    assert report["model"] == "flow" and report["engine"] == "cpu"
    assert report["interpolated_frames"] > 50
    assert report["mpv_dropped_frames"] == 0
    assert report["av_difference_ms"]["p95"] < 40  # type: ignore[index]
    assert report["server_restarts"] == 0
    assert len(report["toggles_ms"]) == 1  # type: ignore[arg-type]


def test_off_starts_without(tmp_path: Path, clip_folder: Path) -> None:
    report = report_of(tmp_path, "--off", clips.standard(clip_folder).path, *NULL, "--end=1")
    assert report["output_frames"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/film.mkv"], "/nowhere/film.mkv: no such file"),
        (["/tmp"], "/tmp: a folder"),
        ([], "nothing to play"),
        (["--model", "rife-9", "FILM"], "model 'rife-9' does not exist"),
        (["--engine", "abacus", "FILM"], "engine 'abacus' does not exist"),
        (["--fps", "fast", "FILM"], "frame rate 'fast'"),
        (["--scale", "100", "x.mkv"], "expected a number from 0.25 to 4"),
        (["--report", "/nowhere/r.json", "FILM", "--", "--vo=null", "--ao=null", "--end=0.2"], "cannot be written"),
        (["FILM", "--", "--nonsense=3"], "does not accept"),
        (["FILM", "--", "other.mkv"], "expected an mpv option"),
    ],
)
def test_wrong_input_gets_one_line_and_status_2(arguments: list[str], words: str, clip_folder: Path) -> None:
    film = str(clips.standard(clip_folder).path)
    done = drba_player(*[film if argument == "FILM" else argument for argument in arguments])
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["empty", "text", "header only"])
def test_what_mpv_cannot_play_ends_with_status_2(name: str, clip_folder: Path) -> None:
    done = drba_player(clips.broken_inputs(clip_folder)[name], *NULL)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["truncated", "audio only", "still png"])
def test_what_can_be_played_in_part_is_played(name: str, clip_folder: Path) -> None:
    done = drba_player(clips.broken_inputs(clip_folder)[name], *NULL, "--image-display-duration=0.5")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_film_that_is_deleted_while_it_plays_goes_on(tmp_path: Path, clip_folder: Path) -> None:
    film, delete = tmp_path / "film.mkv", tmp_path / "delete.lua"
    film.write_bytes(clips.standard(clip_folder).path.read_bytes())
    delete.write_text(DELETE_AFTER_A_SECOND)
    report = report_of(tmp_path, "--fps", "2x", film, *NULL, "--pause", f"--script={delete}")
    assert not film.exists()
    assert report["output_frames"] > 100


def test_a_url_that_stops_plays_as_far_as_it_goes(tmp_path: Path, clip_folder: Path) -> None:
    data = clips.standard(clip_folder).path.read_bytes()

    class Half(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data[: len(data) // 2])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Half)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/film.mkv"
    done = drba_player("--fps", "2x", url, *NULL)
    server.shutdown()
    assert "Traceback" not in done.stdout + done.stderr


def test_the_demo_plays_without_a_display(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    report = tmp_path / "r.json"
    done = subprocess.run(
        [sys.executable, "-m", "player.play", "--demo", "--report", str(report), "--", "--end=3"],
        capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no display" in done.stdout and "interpolated" in done.stdout
    assert json.loads(report.read_text())["output_frames"] > 30


@pytest.mark.alone
@pytest.mark.skipif(not MEDIA.is_dir(), reason=f"the media clip is not on this machine ({MEDIA})")
def test_the_media_clip_plays_at_twice_its_rate(tmp_path: Path) -> None:
    """The full measurement is `drba-player --report`; docs/performance.md has its numbers. Here: nothing is ever dropped."""
    clip = MEDIA / "big_buck_bunny_720p24.webm"
    report = report_of(tmp_path, "--fps", "2x", clip, *NULL, "--start=8", "--end=13")
    assert report["mpv_dropped_frames"] == 0
    assert report["av_difference_ms"]["p95"] < 40  # type: ignore[index]
    assert report["interpolated_frames"] + report["late_frames"] > 90  # type: ignore[operator]

"""drba.lua in a real mpv: what begins by itself, what is remembered, levels, other tracks and editions, streams from the web."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import clips
import clips_mkv
import cv2
import numpy as np
import pytest
from mpv_driver import Mpv
from test_mpv import bridges_of

TWICE = {"drba-fps": "2x"}
SECRET = ("Cookie", "token=opensesame")  # one of the headers that the hook passes on


@pytest.fixture(scope="module")
def film(clip_folder: Path) -> Path:
    return clips.cached(clip_folder, "half.mkv", replace(clips.SMALL, seconds=30)).path


def playing(mpv: Mpv) -> None:
    """Wait until the film is well under way: what begins by itself has begun by then."""
    mpv.wait_for(lambda: (mpv.get("time-pos") or 0) > 0.8)


def drba_lines(mpv: Mpv) -> list[str]:
    return [line for line in mpv.log if line.startswith("[drba]")]


def last_stats(mpv: Mpv) -> dict[str, Any]:
    lines = [e["args"][1] for e in mpv.events if e["event"] == "client-message" and e["args"][0] == "drba-stats"]
    return json.loads(lines[-1]) if lines else {}


# --- begins by itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        ({"auto": "yes"}, True),
        ({"auto": "yes", "max_height": "179"}, False),
        ({"auto": "yes", "max_fps": "23"}, False),
        ({"auto": "no"}, False),
    ],
)
def test_it_begins_by_itself_where_the_options_say_so(options: dict[str, str], begins: bool, film: Path) -> None:
    with Mpv([film], script_opts=TWICE | {f"drba-{name}": value for name, value in options.items()}) as mpv:
        if begins:
            mpv.wait_log("DRBA on: 23.976 -> 47.952")
        else:
            playing(mpv)
            assert drba_lines(mpv) == [] and bridges_of(mpv.process.pid) == []


def test_a_profile_of_the_viewer_decides_film_by_film(clip_folder: Path, tmp_path: Path) -> None:
    films = [tmp_path / "Anime" / "a.mkv", tmp_path / "other.mkv"]
    films[0].parent.mkdir()
    for path in films:
        path.symlink_to(clips.cached(clip_folder, "half.mkv", replace(clips.SMALL, seconds=30)).path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mpv.conf").write_text(
        '[anime]\nprofile-cond=path:find("/Anime/") ~= nil\nprofile-restore=copy\nscript-opts-append=drba-auto=always\n'
    )
    with Mpv(films, script_opts=TWICE, config=tmp_path / "conf") as mpv:
        mpv.wait_log("DRBA on")
        mpv.log.clear()
        mpv.command("playlist-next")
        mpv.wait_for(lambda: mpv.get("path") == str(films[1]))
        playing(mpv)
        assert drba_lines(mpv) == [] and mpv.drba_track() is None


def test_a_film_begins_as_the_key_has_left_it(film: Path, clip_folder: Path, tmp_path: Path) -> None:
    other = clips.standard(clip_folder).path
    with Mpv([film], script_opts=TWICE, config=tmp_path) as mpv:
        playing(mpv)
        mpv.command("keypress", "D")
        mpv.wait_log("DRBA on")
    with Mpv([film], script_opts=TWICE, config=tmp_path) as mpv:
        mpv.wait_log("DRBA on")
        mpv.command("keypress", "D")
        mpv.wait_log("DRBA off")
    with Mpv([film, other], script_opts={**TWICE, "drba-auto": "yes"}, config=tmp_path) as mpv:
        playing(mpv)
        assert drba_lines(mpv) == [], "left off"
        mpv.command("playlist-next")
        mpv.wait_log("DRBA on")  # that film was never touched
    (remembered,) = tmp_path.glob("**/drba-films.txt")
    assert re.fullmatch(r"[0-9a-f]{16} no\n", remembered.read_text()), "no film is named"


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_the_keys_choose_levels_and_show_statistics(film: Path) -> None:
    with Mpv([film], script_opts={**TWICE, "drba-auto": "always"}) as mpv:
        mpv.wait_log("DRBA on")
        mpv.command("keypress", "Ctrl+d")
        assert "now flow" in mpv.wait_log("DRBA quality: quality")
        mpv.message("level", "source")
        assert "now source" in mpv.wait_log("DRBA quality: source")
        mpv.wait_for(lambda: last_stats(mpv).get("mode") == "source")
        mpv.message("level", "best")
        mpv.command("keypress", "Alt+d")  # drawn once at once: an error of the script would be in the log
        mpv.command("keypress", "Ctrl+d")
        mpv.wait_log("DRBA quality: auto")
        mpv.command("keypress", "Alt+d")
        mpv.wait_for(lambda: last_stats(mpv).get("mode") == "auto")
        assert not [line for line in mpv.log if "Lua error" in line]


@pytest.fixture
def display() -> Iterator[str]:
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "640x360x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as number:
        yield ":" + number.readline().strip()
    server.terminate()
    server.wait()


def test_the_statistics_page_is_drawn_and_goes_again(film: Path, display: str, tmp_path: Path) -> None:
    def screen() -> np.ndarray:
        path = tmp_path / "screen.png"
        grab = ["-f", "x11grab", "-draw_mouse", "0", "-video_size", "640x360", "-i", display, "-frames:v", "1", path]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, grab)], check=True, stdin=subprocess.DEVNULL)
        return cv2.imread(str(path)).astype(int)

    def shows_page(without: np.ndarray) -> bool:
        """Every pixel of its panel (in a window half as high as 720) darker or written on, and none beside it touched."""
        change = np.abs(screen() - without).max(axis=2)
        return bool((change[20:200, 16:300] > 0).mean() > 0.9 and not change[:, 320:].any())

    window = ["--vo=x11", "--no-border", "--geometry=640x360+0+0", "--pause", "--start=3", "--osc=no"]
    with Mpv([film], *window, script_opts=TWICE, environment={"DISPLAY": display}) as mpv:
        mpv.wait_for(lambda: mpv.get("vo-configured") and mpv.get("osd-width") == 640)
        mpv.wait_for(lambda: screen().any())
        without = screen()
        mpv.command("keypress", "Alt+d")
        mpv.wait_for(lambda: shows_page(without))
        mpv.command("keypress", "Alt+d")
        mpv.wait_for(lambda: not np.abs(screen() - without).any())


def test_keys_can_be_moved(film: Path, tmp_path: Path) -> None:
    (tmp_path / "input.conf").write_text("y script-binding drba/toggle\nD show-text mine\n")
    with Mpv([film], script_opts=TWICE, config=tmp_path) as mpv:
        playing(mpv)
        mpv.command("keypress", "D")
        mpv.command("keypress", "y")
        mpv.wait_log("DRBA on")
        assert len([line for line in drba_lines(mpv) if "starting" in line]) == 1


# --- tracks and editions ------------------------------------------------------------------------------------------------


def test_another_video_track_is_followed(clip_folder: Path) -> None:
    with Mpv(
        [clips_mkv.two_pictures(clip_folder)], "--loop-file=inf", script_opts={**TWICE, "drba-auto": "always"}
    ) as mpv:
        mpv.wait_log("DRBA on: 23.976 -> 47.952")
        mpv.set("vid", 2)
        mpv.wait_log("DRBA on: 29.97 -> 59.94")
        titles = [track.get("title", "") for track in mpv.get("track-list") if "DRBA" in track.get("title", "")]
        assert titles == ["DRBA 59.94 fps"], "the first track's is gone"
        mpv.command("keypress", "D")
        mpv.wait_for(lambda: mpv.get("vid") == 2)
        mpv.set("vid", 1)
        mpv.wait_for(lambda: mpv.drba_track() is None)
        mpv.log.clear()
        mpv.command("keypress", "D")
        mpv.wait_log("DRBA on: 23.976 -> 47.952")


def test_another_edition_is_followed_unless_it_is_put_together_from_parts(clip_folder: Path) -> None:
    path = clips_mkv.two_editions(clip_folder)
    with Mpv([path], "--loop-file=inf", "--edition=0", script_opts={**TWICE, "drba-auto": "always"}) as mpv:
        mpv.wait_log("DRBA on")
        mpv.set("edition", 1)
        mpv.wait_log("(ordered chapters), which DRBA cannot follow")
        assert mpv.get("vid") == 1 and mpv.drba_track() is None
        mpv.log.clear()
        mpv.set("edition", 0)
        mpv.wait_log("DRBA on")


# --- what goes wrong ----------------------------------------------------------------------------------------------------


def test_mpv_is_left_as_it_was_found_when_the_bridge_is_gone(film: Path) -> None:
    names = ("vid", "vf", "video-rotate", "watch-later-options", "osd-level", "pause")
    with Mpv([film], "--vf=hflip", "--video-rotate=180", script_opts=TWICE) as mpv:
        playing(mpv)
        before = {name: mpv.get(name) for name in names}
        mpv.command("keypress", "D")
        mpv.wait_log("DRBA on")
        assert {name: mpv.get(name) for name in names} != before
        (bridge,) = bridges_of(mpv.process.pid)
        os.kill(bridge, signal.SIGTERM)
        assert re.search(r"; log: /.*bridge\.log", mpv.wait_log("DRBA cannot start"))
        mpv.wait_for(lambda: {name: mpv.get(name) for name in names} == before)
        assert mpv.drba_track() is None
        at = mpv.get("time-pos")
        mpv.wait_for(lambda: mpv.get("time-pos") > at + 0.3)


def test_a_film_that_fails_does_not_keep_the_next_one_from_it(film: Path, clip_folder: Path) -> None:
    edition = clips_mkv.two_editions(clip_folder)
    with Mpv([edition, film], "--edition=1", "--loop-file=inf", script_opts={**TWICE, "drba-auto": "always"}) as mpv:
        mpv.wait_log("(ordered chapters), which DRBA cannot follow")
        mpv.command("playlist-next")
        mpv.wait_log("DRBA on")


# --- the web ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(film: Path) -> Iterator[str]:
    """A server that gives the film in byte ranges to those who know the secret, and 403 to others."""
    data = film.read_bytes()

    class Site(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.headers[SECRET[0]] != SECRET[1] or self.headers["User-Agent"] != "Film Fan":
                return self.send_error(403)
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "bytes=0-")
            assert found
            first, last = int(found[1]), int(found[2] or len(data) - 1)
            self.send_response(206)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            try:
                self.wfile.write(data[first : last + 1])
            except OSError:  # the player has left
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.parametrize("separate", [True, False], ids=["picture and sound apart", "one address"])
def test_what_the_youtube_dl_hook_plays(separate: bool, site: str, tmp_path: Path) -> None:
    """mpv's own hook, with a program in place of yt-dlp that answers as that does."""
    asked = {"http_headers": {"User-Agent": "Film Fan", SECRET[0]: SECRET[1]}, "protocol": "http"}
    picture = {**asked, "url": f"{site}/v;1,=?a=b", "vcodec": "avc1", "acodec": "none"}
    sound = {**asked, "url": f"{site}/a", "vcodec": "none", "acodec": "flac"}
    found: dict[str, Any] = {"title": "A film", "webpage_url": f"{site}/watch", "extractor": "test"}
    found |= {**asked, "requested_formats": [picture, sound]} if separate else picture
    program = tmp_path / "yt-dlp"
    program.write_text(f"#!{sys.executable}\nprint({json.dumps(found)!r})\n")
    program.chmod(0o755)
    options = {**TWICE, "drba-auto": "always", "ytdl_hook-ytdl_path": str(program)}
    with Mpv([f"ytdl://{site}/watch"], script_opts=options) as mpv:
        mpv.wait_log("DRBA on: 23.976 -> 47.952")
        assert mpv.get("stream-open-filename").startswith("edl://") == separate
        at = mpv.get("time-pos")
        mpv.wait_for(lambda: mpv.get("time-pos") > at + 0.5)
        assert abs(mpv.get("avsync")) < 0.1


def test_a_server_that_refuses_is_named(site: str) -> None:
    """mpv's options tell the server what it wants to hear; then they are taken away."""
    options = ["--user-agent=Film Fan", f"--http-header-fields={SECRET[0]}: {SECRET[1]}"]
    with Mpv([f"{site}/film.mkv"], *options, script_opts=TWICE) as mpv:
        playing(mpv)
        mpv.set("user-agent", "Somebody else")
        mpv.message("on")
        assert "cannot be opened" in mpv.wait_log("DRBA cannot start")
        mpv.set("user-agent", "Film Fan")
        mpv.message("on")
        mpv.wait_log("DRBA on")

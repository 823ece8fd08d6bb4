"""Draws docs/pictures: mpv with drba.lua in a virtual display (Xvfb), in every state that a viewer may see.

    .venv/bin/python docs/make_screenshots.py [NAME ...]

Each picture is what mpv shows while the program really runs on this machine, with the demo clip in a quarter of its size (so
that a busy machine keeps up with it), shown large. One thing stands in for hardware: the engine build, which
tests/engine_server.py goes through on a word of this script.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mpv_driver import Mpv  # noqa: E402
from test_mpv import bridges_of  # noqa: E402

from player.demo import ClipSpec, make_demo  # noqa: E402
from server.client import stop_server  # noqa: E402

PICTURES = Path(__file__).resolve().parent / "pictures"
CLIP = Path(tempfile.gettempdir(), "drba-screenshots.mkv")
DISPLAY = ":97"
WEBP_QUALITY = 82
MAX_BYTES = 150 * 1024
START_S = 4.0  # of the clip
TIMEOUT_S = 60.0


def shoot(name: str, width: int, height: int) -> None:
    """The upper left of the display as docs/pictures/NAME.webp."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        grab = [
            "-f",
            "x11grab",
            "-draw_mouse",
            "0",
            "-video_size",
            f"{width}x{height}",
            "-i",
            DISPLAY,
            "-frames:v",
            "1",
            file.name,
        ]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *grab], check=True, stdin=subprocess.DEVNULL)
        picture = cv2.imread(file.name)
    path = PICTURES / f"{name}.webp"
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    size = path.stat().st_size
    assert size < MAX_BYTES, f"{path}: {size} bytes, expected fewer than {MAX_BYTES}"
    print(f"{path.relative_to(ROOT)}: {size // 1024} KiB")


@contextlib.contextmanager
def player(height: int = 720, **options: str) -> Iterator[Mpv]:
    """mpv with the demo clip in a window of 16:9."""
    width = height * 16 // 9
    arguments = [
        "--vo=x11", "--no-border", f"--geometry={width}x{height}+0+0", "--keep-open=yes", f"--start={START_S:g}", "--osc=no",
        "--loop-file=inf", "--cursor-autohide=always",
    ]  # fmt: skip
    script_opts = {"drba-fps": "2x"} | {f"drba-{key}": value for key, value in options.items()}
    environment = {"DISPLAY": DISPLAY}
    with Mpv([CLIP], *arguments, script_opts=script_opts, environment=environment) as mpv:
        mpv.wait_for(lambda: (mpv.get("time-pos") or 0) > START_S)
        yield mpv


def settle(mpv: Mpv, seconds: float) -> None:
    """Let the viewer's time pass: what is drawn on the screen has no other sign. Then wait until the clip shows no flash, which
    marks every full second."""
    end = time.monotonic() + seconds
    mpv.wait_for(lambda: time.monotonic() > end and 0.3 < (mpv.get("time-pos") or 0) % 1 < 0.8, seconds + 5)


def states() -> None:
    with player() as mpv:
        mpv.command("keypress", "D")
        settle(mpv, 0.1)
        shoot("starting", 1280, 720)
        mpv.wait_log("DRBA on", TIMEOUT_S)
        settle(mpv, 0.3)
        shoot("on", 1280, 720)
        mpv.message("level", "fast")
        mpv.wait_log("DRBA quality: fast")
        settle(mpv, 0.3)
        shoot("level", 1280, 720)
        mpv.command("keypress", "D")
        mpv.wait_log("DRBA off")
        settle(mpv, 0.3)
        shoot("off", 1280, 720)


def statistics() -> None:
    for height in (720, 1080):
        with player(height, auto="always") as mpv:
            mpv.wait_log("DRBA on", TIMEOUT_S)
            settle(mpv, 6)
            mpv.command("keypress", "Alt+d")
            settle(mpv, 1.2)
            shoot("statistics" if height == 720 else "statistics-1080p", height * 16 // 9, height)


def reduced() -> None:
    """The film at four times its speed, which no level keeps up with here."""
    with player(auto="always") as mpv:
        mpv.wait_log("DRBA on", TIMEOUT_S)
        mpv.set("speed", 4)
        mpv.wait_log("DRBA reduced to", TIMEOUT_S)
        settle(mpv, 0.3)
        shoot("reduced", 1280, 720)
        mpv.command("keypress", "Alt+d")
        settle(mpv, 1.2)
        mpv.set("pause", True)  # at this speed the next flash is near
        settle(mpv, 0.6)
        shoot("statistics-reduced", 1280, 720)


def failed() -> None:
    with player(auto="always") as mpv:
        mpv.wait_log("DRBA on", TIMEOUT_S)
        for bridge in bridges_of(mpv.process.pid):
            os.kill(bridge, signal.SIGTERM)
        mpv.wait_log("DRBA cannot start")
        settle(mpv, 0.3)
        shoot("failed", 1280, 720)


def building() -> None:
    """With the tests' engine server: it draws for real, and its build goes as far as it is told."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder, "build")
        os.mkfifo(pipe)
        environment = {
            "DRBA_RUNTIME_DIR": folder, "DRBA_TEST_BUILD": str(pipe), "DRBA_TEST_START_LOG": f"{folder}/starts",
            "DRBA_CACHE_DIR": folder, "DRBA_TEST_ENGINES": "torch-cuda,tensorrt",
        }  # fmt: skip
        with changed_environment(environment):
            stand_in = subprocess.Popen([sys.executable, str(ROOT / "tests" / "engine_server.py")])
            try:
                with player(auto="always", model="rife-4.6", quality="quality") as mpv:
                    mpv.wait_log("DRBA on", TIMEOUT_S)
                    descriptor = os.open(pipe, os.O_RDWR)
                    os.write(descriptor, b"building 0.401 layer 40\n")
                    mpv.wait_log("40 %", TIMEOUT_S)
                    settle(mpv, 0.3)
                    shoot("building", 1280, 720)
                    os.close(descriptor)
            finally:
                stand_in.terminate()
                stand_in.wait()


@contextlib.contextmanager
def changed_environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


SCENES: dict[str, Callable[[], None]] = {
    scene.__name__: scene for scene in (states, statistics, reduced, failed, building)
}


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    make_demo(CLIP, ClipSpec(width=640, height=360), force=True)
    with tempfile.TemporaryDirectory(prefix="drba-") as runtime, changed_environment({"DRBA_RUNTIME_DIR": runtime}):
        command = ["Xvfb", DISPLAY, "-screen", "0", "1920x1080x24", "-nolisten", "tcp"]
        display = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            for name in sys.argv[1:] or SCENES:
                SCENES[name]()
        finally:
            stop_server()
            display.terminate()
            display.wait()


if __name__ == "__main__":
    main()

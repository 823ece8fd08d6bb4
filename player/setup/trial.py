"""A film played in the viewer's own mpv, with the drba.lua and the options that are installed there, and what came of it.

This is what `drba setup` ends with: nothing of it is replaced by something of ours, so it works for the viewer as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from drba.errors import DrbaError

from ..mpv_ipc import MpvIpc
from ..paths import has_display
from ..report import Report

SAMPLE_INTERVAL_S = 0.1
START_TIMEOUT_S = 20.0  # until mpv listens, on a cold disk
SLACK_S = 60.0  # beyond the film's length: the start of bridge and server, and a model's loading
MISSING_SHARE = 0.05  # a start-up costs some on any machine
FAILED = "DRBA cannot start"  # how drba.lua begins when it gives up
#: The film waits until DRBA is on; and what of the viewer's settings would keep the trial from ending, or being forgotten.
ARGUMENTS = (
    "--script-opts-append=drba-auto=always",
    "--pause=yes",
    "--speed=1",
    "--loop-file=no",
    "--loop-playlist=no",
    "--keep-open=no",
    "--idle=no",
    "--resume-playback=no",
    "--save-position-on-quit=no",
    "--terminal=no",
)
WITHOUT_DISPLAY = ("--vo=null", "--ao=null")


@dataclass
class Trial:
    """`loaded` tells whether mpv has drba.lua; `said` is what that told the viewer, in order."""

    report: Report = field(default_factory=Report)
    said: list[str] = field(default_factory=list)
    loaded: bool = False

    @property
    def came_on(self) -> bool:
        """Whether mpv has shown frames that the bridge sent."""
        return bool(self.report.as_dict()["output_frames"])

    @property
    def interpolated(self) -> int:
        return int(self.report.as_dict()["interpolated_frames"])

    @property
    def smooth(self) -> bool:
        """Whether next to no frame was missing: source frames stood in for late and reduced ones, dropped ones were not
        shown at all."""
        data = self.report.as_dict()
        missing = data["late_frames"] + data["reduced_frames"] + data["mpv_dropped_frames"]
        return bool(missing <= MISSING_SHARE * max(1, data["output_frames"]))


def play_trial(mpv_program: str, film: Path, seconds: float) -> Trial:
    """Play the film's first `seconds` with DRBA on; DrbaError where mpv does not start or does not end."""
    return asyncio.run(_play(mpv_program, film, seconds))


async def _play(mpv_program: str, film: Path, seconds: float) -> Trial:
    trial = Trial()
    with tempfile.TemporaryDirectory(prefix="drba-") as folder:
        socket = str(Path(folder, "mpv.sock"))
        output = () if has_display() else WITHOUT_DISPLAY
        command = (
            mpv_program,
            *ARGUMENTS,
            *output,
            f"--input-ipc-server={socket}",
            f"--end={seconds:g}",
            "--",
            str(film),
        )
        null = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=null, stdout=null, stderr=null)
        except OSError as error:
            raise DrbaError(f"{mpv_program} cannot be run: {error.strerror}") from error
        try:
            await asyncio.wait_for(_watch(socket, trial), seconds + SLACK_S)
            await asyncio.wait_for(process.wait(), SLACK_S)
        except TimeoutError:
            raise DrbaError(f"mpv did not end within {seconds + SLACK_S:g} s; see `drba logs`") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return trial


async def _watch(socket: str, trial: Trial) -> None:
    """Until mpv closes the connection."""
    ipc = await MpvIpc.connect(socket, START_TIMEOUT_S)
    ipc.send("request_log_messages", "info")
    ipc.observe("vid")
    tasks = [asyncio.ensure_future(_sample(ipc, trial.report))]
    track: object = None  # the selected one
    started = False
    try:
        async for event in ipc.events():
            name = event["event"]
            if name == "seek":
                trial.report.seek_began()
            elif name == "playback-restart":
                trial.report.restarted()
                if not started:  # every script is there by now
                    started = True
                    tasks.append(asyncio.ensure_future(_quit_without_script(ipc, trial)))
            elif name == "property-change" and event.get("name") == "vid":
                selected = event.get("data")  # "auto" before the film is open, then numbers
                if isinstance(track, int) and isinstance(selected, int) and selected != track:
                    trial.report.track_switched()
                    ipc.send("set_property", "pause", False)
                track = selected
            elif name == "client-message" and event.get("args", [""])[0] == "drba-stats":
                trial.report.stats(event["args"][1])
            elif name == "log-message" and event.get("prefix") == "drba":
                trial.said.append(str(event.get("text", "")).strip())
                if trial.said[-1].startswith(FAILED):
                    ipc.send("quit")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ipc.close()


async def _quit_without_script(ipc: MpvIpc, trial: Trial) -> None:
    try:
        await ipc.command("script-message-to", "drba", "is-there")  # mpv refuses it where there is nobody of that name
        trial.loaded = True
    except DrbaError:
        ipc.send("quit")


async def _sample(ipc: MpvIpc, report: Report) -> None:
    """A/V difference and dropped frames, a few times a second."""

    async def get(name: str) -> object:
        with contextlib.suppress(DrbaError):  # not known before the film plays
            return await ipc.command("get_property", name)
        return None

    while True:
        await asyncio.sleep(SAMPLE_INTERVAL_S)
        playing = await get("core-idle") is False and await get("seeking") is False
        difference = await get("avsync") if playing else None
        drops = {"vo": await get("frame-drop-count"), "decoder": await get("decoder-frame-drop-count")}
        report.sample(
            difference if isinstance(difference, float) else None,
            {name: value if isinstance(value, int) else None for name, value in drops.items()},
        )

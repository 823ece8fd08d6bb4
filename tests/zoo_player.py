"""Plays specimens of the zoo in real mpvs and notes every picture and all sound that they show, alone and with DRBA on."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpv_driver import Mpv

#: A machine that runs tests may be busy: only what hangs takes longer.
DEADLINE_S = 60.0
POLL_S = 0.05
#: Where the server does not answer at once a film of half a second gets its own pictures only, and is played again.
DRAWN_DEADLINE_S, ATTEMPTS = 3.0, 5
#: FFmpeg's showinfo filter tells time and checksum of what goes by, in the nearest of the formats that DRBA carries.
_CARRIED = [f"yuv{sub}p{bits}" for sub in (420, 422, 444) for bits in ("", "10le", "12le", "16le")]
_CARRIED += ["yuva420p", "yuva422p", "yuva444p", "yuva444p10le", "yuva444p12le", "gbrap"]
_CARRIED += ["gray", "gray10le", "gray12le", "gray16le", "gbrp", "gbrp10le", "gbrp12le", "gbrp16le"]
_ARGUMENTS = [
    "--idle=yes",
    "--pause",
    "--framedrop=no",
    "--vd-lavc-threads=1",
    "--ytdl=no",
    "--osc=no",
    "--load-stats-overlay=no",
    "--image-display-duration=0.1",
    f"--vf=lavfi=[format={'|'.join(_CARRIED)},showinfo]",
    "--af=lavfi=[ashowinfo]",
]
_PICTURE = re.compile(
    r" showinfo_\d+: n: *\d+ pts: *\S+ +pts_time:(\S+) .*?fmt:(\S+) .* s:(\S+) .*plane_checksum:\[(.*?)\]"
)
_SOUND = re.compile(r"ashowinfo_\d+: n:\d+ pts:\S+ pts_time:(\S+) .*?rate:(\d+) nb_samples:(\d+)")


@dataclass(frozen=True)
class Picture:
    """One that mpv's filters have seen. `content` is its size and the checksum of its luma, or of all planes of RGB."""

    time_s: float
    content: str


@dataclass
class Played:
    """What one mpv made of one file."""

    end: str  # eof or error
    pictures: list[Picture] = field(default_factory=list)
    sound_end_s: float | None = None  # of the last samples
    audio_track: bool = False
    lines: list[str] = field(default_factory=list)  # of drba.lua
    complaints: list[str] = field(default_factory=list)  # what must not be in any log
    interpolated: int = 0
    was_on: bool = False

    @property
    def contents(self) -> set[str]:
        return {picture.content for picture in self.pictures}


def _pictures(log: list[str]) -> Iterator[Picture]:
    for line in log:
        if found := _PICTURE.search(line.replace("Parsed_", " ")):
            time_s, pixels, size, planes = found.groups()
            told = planes.split()[: 3 if pixels.startswith("gbr") else 1]
            yield Picture(float(time_s), f"{size} {' '.join(told)}")


def _sound_end(log: list[str]) -> float | None:
    ends = [float(m[1]) + int(m[3]) / int(m[2]) for line in log if (m := _SOUND.search(line))]
    return ends[-1] if ends else None


class Player:
    """One mpv for many files; another one where it has died."""

    def __init__(self, *, drba: bool) -> None:
        self._drba = drba
        self._mpv: Mpv | None = None
        self._heard = 0  # lines of its log that were looked at

    def close(self) -> None:
        if self._mpv is not None:
            self._mpv.quit()
            self._mpv.folder.cleanup()

    def play(self, path: Path, *, drawn: bool = False, speed: float = 4) -> Played:
        """From its beginning to its end, paused until DRBA is on and, if so `drawn`, the first in-between is there.
        AssertionError where mpv dies or hangs."""
        mpv = self._mpv = self._mpv or self._start()
        try:
            mpv.set("speed", speed)
            for _ in range(ATTEMPTS):
                played = self._play(mpv, path, drawn)
                if played.interpolated or not (drawn and played.was_on):
                    break
        except BaseException:
            mpv.process.kill()
            self.close()
            self._mpv = None
            raise
        return played

    def _start(self) -> Mpv:
        # The best level: on a busy machine late in-betweens would have cheaper ones chosen, which is other tests' subject.
        options = {"drba-auto": "always", "drba-fps": "2x", "drba-quality": "quality"}
        mpv = Mpv([], *_ARGUMENTS, script=self._drba, script_opts=options if self._drba else None)
        mpv.command("request_log_messages", "v")
        return mpv

    def _play(self, mpv: Mpv, path: Path, drawn: bool) -> Played:
        mpv.log.clear()
        mpv.events.clear()
        mpv.set("pause", True)
        entry = mpv.command("loadfile", str(path))["playlist_entry_id"]

        def event(name: str) -> dict[str, Any] | None:
            return next(
                (e for e in mpv.events if e["event"] == name and e.get("playlist_entry_id", entry) == entry), None
            )

        mpv.wait_for(lambda: event("file-loaded") or event("end-file"), DEADLINE_S)
        audio = bool(event("file-loaded") and mpv.get("aid"))
        if self._drba and event("file-loaded"):
            self._heard = 0
            mpv.message("on")  # as the key does
            mpv.wait_for(lambda: event("end-file") or self._settled(mpv), DEADLINE_S, POLL_S)
            if drawn and mpv.is_on:
                with contextlib.suppress(AssertionError):
                    mpv.wait_for(lambda: self._stats(mpv, "interpolated_frames"), DRAWN_DEADLINE_S, POLL_S)
        at_start = len(mpv.log)
        mpv.set("pause", False)
        end = mpv.wait_for(lambda: event("end-file"), DEADLINE_S)
        mpv.get("pause")  # what was logged before has arrived
        return self._noted(mpv, end["reason"], at_start, audio)

    def _settled(self, mpv: Mpv) -> bool:
        """Whether DRBA is on, or has said why not."""
        said, self._heard = [line for line in mpv.log[self._heard :] if line.startswith("[drba]")], len(mpv.log)
        if any("the bridge does not answer" in line for line in said):  # yet: a machine that runs tests may be busy
            mpv.log = [line for line in mpv.log if "does not answer" not in line]
            self._heard = len(mpv.log)
            mpv.message("on")
        elif any("DRBA cannot start" in line or "DRBA off" in line for line in said):
            return True
        return bool(self._stats(mpv, "output_frames") and mpv.is_on and not mpv.get("seeking"))

    @staticmethod
    def _stats(mpv: Mpv, name: str) -> int:
        """The most that a statistic of the bridge has been: a film may have been opened anew."""
        told = [e["args"][1] for e in mpv.events if e["event"] == "client-message" and e["args"][0] == "drba-stats"]
        return max((int(json.loads(text)[name]) for text in told), default=0)

    def _noted(self, mpv: Mpv, end: str, at_start: int, audio: bool) -> Played:
        log = mpv.log
        # A filter that begins anew sees the film's first pictures, which were decoded before the pause ended.
        begins = [number for number, line in enumerate(log) if "showinfo" in line and " n:   0 " in line]
        first = max((number for number in begins if number <= at_start), default=at_start)
        words = ("Lua error", "Traceback", "bridge ended", "internal error")
        return Played(
            end=end,
            pictures=list(_pictures(log[first:])),
            sound_end_s=_sound_end(log),
            audio_track=audio,
            lines=[line for line in log if line.startswith("[drba]")],
            complaints=[line for line in log if any(word in line for word in words)],
            interpolated=self._stats(mpv, "interpolated_frames"),
            was_on=any(line.startswith("[cplayer] ") and "'DRBA" in line and "(+)" in line for line in log),
        )

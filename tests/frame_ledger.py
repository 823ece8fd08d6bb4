"""Accounts for every frame that mpv got: which one, with which picture, and whether one is missing or came twice.

Read from mpv's own log, with the arguments of `mpv_arguments`: FFmpeg's showinfo filter writes number, time and checksum of each
frame that leaves the decoder, and the player writes where a seek aims, what it shows first and where the film ended. Nothing of
the bridge's own counts is used.
"""

from __future__ import annotations

import math
import os
import re
import threading
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from film_reader import source_frames

HR_SEEK_EARLY_S = 0.005  # mpv shows the first frame that is not more than this before the place asked for
PROBLEMS_TOLD = 20

_LINE = re.compile(r"\[ *[0-9.]+\]\[\w+\]\[([\w/]+)\] (.*)")
_CONFIG = re.compile(r"Parsed_showinfo_\d+: config in time_base: 1/1000000, frame_rate: (\d+)/(\d+)")
_FRAME = re.compile(r"Parsed_showinfo_\d+: n: *(\d+) pts: *(\S+) .* checksum:([0-9A-F]{8}) ")
_SEEK = re.compile(r"hr-seek, skipping to (-?[0-9.]+)")
_SHOWN = re.compile(r"playback restart complete @ (-?[0-9.]+)")
_MARK = re.compile(r"ledger: (-?[0-9.]+) no\b")
#: For `Mpv.command`: notes in the log which frame is shown, and whether a seek is under way.
MARK = ("expand-properties", "print-text", "ledger: ${=time-pos} ${=seeking}")


def mpv_arguments(log: Path) -> list[str]:
    return ["--vf=lavfi=[showinfo]", f"--log-file={log}"]


@dataclass(frozen=True)
class Timeline:
    """The film as it was made: source frame j is shown from j / `source_rate` s on and has the picture `checksums[j]`."""

    source_rate: Fraction
    checksums: Sequence[int]

    @classmethod
    def of(cls, film: Path, source_rate: Fraction) -> Timeline:
        return cls(source_rate, [zlib.adler32(picture, 0) for _, picture in source_frames(film)])

    @property
    def duration_s(self) -> Fraction:
        return len(self.checksums) / self.source_rate

    def frames(self, rate: Fraction) -> int:
        """Of the film at that rate: those whose time is before its end."""
        return math.ceil(self.duration_s * rate)

    def source_at(self, number: int, rate: Fraction) -> int | None:
        """The source frame whose time is exactly that of frame `number`, if there is one."""
        place = number * self.source_rate / rate
        return int(place) if place.denominator == 1 and place < len(self.checksums) else None


@dataclass
class Stretch:
    """Frames that followed each other without a seek. What is None is not known."""

    rate: Fraction
    numbers: list[int] = field(default_factory=list)
    target_s: float | None = None  # the place that was asked for
    first_shown_s: float | None = None
    shown_s: float | None = None  # when the viewer left it
    ended: bool = False  # played to the film's end


@dataclass
class Counts:
    """Output frames of one track. `expected` and `seen` are of `stretches`, played from a known place to a known place."""

    received: int = 0
    stretches: int = 0
    expected: int = 0
    seen: int = 0
    lost: int = 0
    doubled: int = 0
    pictures: int = 0  # that stand where the film has a frame of its own, and were compared with it
    drawn: int = 0  # that are none of the film's


class FrameLedger:
    """`feed` it mpv's log, then `finish`. `counts` are by "drba" and "film", the film's own track, as a control."""

    def __init__(self, timeline: Timeline, output_rate: Fraction) -> None:
        self.timeline = timeline
        self.output_rate = output_rate
        self.counts = {"drba": Counts(), "film": Counts()}
        self.problems: list[str] = []
        self.problem_count = 0
        self._own = set(timeline.checksums)
        self._rate = timeline.source_rate
        self._target_s: float | None = None
        self._stretch: Stretch | None = None

    def feed(self, line: str) -> None:
        if (match := _LINE.match(line)) is None:
            return
        module, text = match.groups()
        if module == "ffmpeg":
            if found := _CONFIG.match(text):
                stated = Fraction(int(found[1]), int(found[2]))
                self._rate = min(self.output_rate, self.timeline.source_rate, key=lambda rate: abs(rate - stated))
            elif found := _FRAME.match(text):
                self._frame(int(found[1]), found[2], int(found[3], 16))
        elif module == "vf" and text.startswith("filter output EOF"):
            if self._stretch is not None:
                self._stretch.ended = True
        elif module == "cplayer":
            self._player(text)

    def _player(self, text: str) -> None:
        if found := _SEEK.match(text):
            self._close()
            self._target_s = float(found[1])
        elif text.startswith("Playing: "):
            self._close()
            self._target_s = 0.0
        elif self._stretch is not None:
            if found := _SHOWN.match(text):
                self._stretch.first_shown_s = float(found[1])
            elif (found := _MARK.match(text)) and self._stretch.first_shown_s is not None:
                self._stretch.shown_s = float(found[1])

    def _frame(self, index: int, pts: str, checksum: int) -> None:
        if index == 0:  # mpv begins a new filter after every seek
            self._close()
            self._stretch = Stretch(self._rate, target_s=self._target_s)
            self._target_s = None
        stretch = self._stretch
        if stretch is None:
            self._problem(f"frame {pts} outside of any stretch")
            return
        counts, rate = self._counts(stretch), stretch.rate
        counts.received += 1
        number = round(int(pts) * rate / 1_000_000)
        if int(pts) != self._time_us(number, rate):
            self._problem(f"{pts} us is no frame's time at {rate} frames a second")
        stretch.numbers.append(number)
        source = self.timeline.source_at(number, rate)
        if source is not None:
            counts.pictures += 1
            if checksum != self.timeline.checksums[source]:
                self._problem(f"frame {number} at {rate} does not show the film's frame {source}")
        elif checksum not in self._own:
            counts.drawn += 1

    def _time_us(self, number: int, rate: Fraction) -> int:
        """The virtual file has microseconds, the film's own container (Matroska) milliseconds."""
        unit = 1 if rate == self.output_rate else 1000
        return round(number / rate * 1_000_000 / unit) * unit

    def _counts(self, stretch: Stretch) -> Counts:
        return self.counts["drba" if stretch.rate == self.output_rate else "film"]

    def finish(self) -> None:
        self._close()

    def _close(self) -> None:
        stretch, self._stretch = self._stretch, None
        if stretch is not None:
            self._account(stretch)

    def _account(self, stretch: Stretch) -> None:
        counts, rate, numbers = self._counts(stretch), stretch.rate, stretch.numbers
        first = last = None
        if stretch.target_s is not None:
            first = self._frame_from(stretch.target_s - HR_SEEK_EARLY_S, rate)
            if stretch.first_shown_s is not None and round(stretch.first_shown_s * rate) != first:
                self._problem(f"{stretch.first_shown_s} s is shown first at {rate}, expected frame {first}")
        if stretch.ended:
            last = self.timeline.frames(rate) - 1
        elif stretch.shown_s is not None:
            last = round(stretch.shown_s * rate)
        seen = Counter(numbers)
        # Before the place asked for mpv's decoder leaves out what nobody will see.
        begin = numbers[0] if first is None else first
        due = range(begin, max(numbers[-1], begin - 1 if last is None else last) + 1)
        lost = [number for number in due if number not in seen]
        doubled = [number for number, times in seen.items() if times > 1]
        counts.lost += len(lost)
        counts.doubled += len(doubled)
        if lost or doubled or numbers != sorted(numbers):
            self._problem(f"frames {numbers[0]} to {numbers[-1]} at {rate}: lost {lost[:9]}, twice {doubled[:9]}")
        if first is not None and last is not None and first <= last:
            counts.stretches += 1
            counts.expected += last - first + 1
            counts.seen += sum(seen[number] for number in range(first, last + 1))

    def _frame_from(self, time_s: float, rate: Fraction) -> int:
        """The first frame that is not before `time_s`."""
        number = max(0, int(time_s * rate) - 1)
        while self._time_us(number, rate) < round(time_s * 1_000_000):
            number += 1
        return number

    def _problem(self, text: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_TOLD:
            self.problems.append(text[:300])


class LogPipe:
    """mpv's log as a pipe: nothing is kept, nothing is lost (mpv waits for the reader), and it is read as it is written."""

    def __init__(self, path: Path, ledger: FrameLedger) -> None:
        os.mkfifo(path)
        self._path, self._ledger = path, ledger
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._read, name=f"log {path.name}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with open(self._path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if self._error is None:
                    try:
                        self._ledger.feed(line)
                    except Exception as error:  # raised by `join`; the rest is read all the same, for mpv waits
                        self._error = error

    def join(self) -> None:
        """Once mpv has ended."""
        self._thread.join(20)
        assert not self._thread.is_alive(), "mpv's log does not end"
        if self._error is not None:
            raise self._error
        self._ledger.finish()

"""Two viewers who never leave it alone, for a long time: mpv and drba-player at one server that is killed again and again.

What is watched: memory, open files and threads of all five processes, and every frame that the players got. benchmarks/soak.py
runs it for half an hour and prints what it found, tests/test_soak.py for seconds.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import mode

from footprint import Held, frame_memories, handles_of, held, resident_mib, slope_mib_per_minute, threads_of
from frame_ledger import MARK, FrameLedger, LogPipe, Timeline, mpv_arguments
from mpv_driver import Mpv
from test_mpv import bridges_of

from server.runtime import ENVIRONMENT

MAX_SLOPE = 1.0  # MiB a minute
PATIENCE_S = 60.0  # for what takes a moment on a quiet machine
SAMPLE_S = 1.0
CHECK_S = 45.0  # between two comparisons of open files and threads
SETTLE_S = 60.0  # for what comes and goes to be gone; long on a busy machine
DEATH_S = 40.0  # of a server's life, on average
#: Of mpv's memory the most is what it has read ahead; with little of it, it is full within seconds.
CACHE = ["--demuxer-max-bytes=6MiB", "--demuxer-max-back-bytes=2MiB"]
#: Descriptors of memories for frames: a bridge's film has one, open twice (Python's mmap keeps a descriptor of its own); the
#: server has one of each session, one or two a film, by the levels that it has had so far.
MOST_MEMORIES = {"bridge of mpv": 2, "bridge of player": 2, "server": 4}
LEVELS = ("quality", "quality", "balanced", "fast", "source", "auto")
ACTIONS = {"seek": 40, "hasty seeks": 12, "toggle": 30, "level": 8, "pause": 6, "next film": 4}


@dataclass
class Life:
    """One process from its first sample to its end."""

    name: str
    pid: int
    began_s: float
    memory: list[tuple[float, float]] = field(default_factory=list)  # (s since the soak began, MiB)
    held: list[Held] = field(default_factory=list)  # at each comparison

    def settled(self, warm_up_s: float) -> list[tuple[float, float]]:
        return [sample for sample in self.memory if sample[0] >= self.began_s + warm_up_s]

    def slope(self, warm_up_s: float) -> float | None:
        """MiB a minute; None where it lived too short a time to say."""
        return slope_mib_per_minute(self.settled(warm_up_s))


class Viewer:
    """One player, and what it has been told."""

    def __init__(self, name: str, mpv: Mpv, ledger: FrameLedger, log: LogPipe) -> None:
        self.name, self.mpv, self.ledger, self.log = name, mpv, ledger, log
        self.wanted = False
        self.done: Counter[str] = Counter()

    def play(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.mpv.wait_for(lambda: time.monotonic() > end, seconds + PATIENCE_S)

    def shows(self) -> bool:
        """Pictures, on the track that is wanted."""
        mpv = self.mpv
        return not mpv.get("seeking", True) and (mpv.get("time-pos") or 0) > 0 and mpv.is_on == self.wanted

    def wait(self) -> None:
        self.mpv.wait_for(self.shows, PATIENCE_S)

    def seek(self, rng: random.Random) -> None:
        self.mpv.command("seek", rng.uniform(0, float(self.ledger.timeline.duration_s) - 2), "absolute+exact")

    def toggle(self) -> None:
        self.wanted = not self.wanted
        self.mpv.message("on" if self.wanted else "off")

    def start(self) -> None:
        """Turn DRBA on. Where Python does not start within 20 s, as on a very busy machine, the script gives up; a viewer tries
        once more."""
        self.wanted = True
        for _ in range(3):
            seen = len(self.mpv.log)
            self.mpv.message("on")
            self.mpv.wait_for(
                lambda seen=seen: self.shows() or any("cannot start" in line for line in self.mpv.log[seen:]),
                PATIENCE_S,
            )
            if self.shows():
                return
        raise AssertionError(f"{self.name}: DRBA does not start: {self.mpv.log[-5:]}")

    def act(self, what: str, rng: random.Random) -> None:
        mpv = self.mpv
        mpv.command(*MARK)
        if what == "seek":
            self.seek(rng)
        elif what == "hasty seeks":  # each leaves the one before unfinished
            for _ in range(3):
                self.seek(rng)
        elif what == "toggle":
            self.toggle()
        elif what == "level":
            mpv.message("level", rng.choice(LEVELS))
        elif what == "pause":
            mpv.set("pause", True)
            self.play(0.3)
            mpv.set("pause", False)
        elif what == "next film":
            seen = len(mpv.events)
            mpv.command("playlist-next")
            mpv.wait_for(lambda: any(e["event"] == "file-loaded" for e in mpv.events[seen:]), PATIENCE_S)
        self.done[what] += 1
        self.wait()

    def rest(self, at_s: float) -> None:
        """Play from the same place as ever, with DRBA on at its best."""
        if not self.wanted:
            self.start()
        self.mpv.message("level", "quality")
        self.mpv.command(*MARK)
        self.mpv.command("seek", at_s, "absolute+exact")
        self.wait()


@dataclass
class Soak:
    """What was done and found. `lives` has every process; `problems` what broke a limit."""

    minutes: float
    warm_up_s: float
    seed: int
    viewers: list[Viewer] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    deaths: int = 0
    comparisons: int = 0
    problems: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """Add what breaks a limit to `problems`."""
        for life in self.lives:
            slope = life.slope(self.warm_up_s)
            if slope is not None and slope >= MAX_SLOPE:
                self.problems.append(f"{life.name} {life.pid}: grows by {slope:.2f} MiB a minute")
        for viewer in self.viewers:
            ledger = viewer.ledger
            self.problems += [f"{viewer.name}: {text}" for text in ledger.problems]
            for name, counts in ledger.counts.items():
                if counts.expected != counts.seen or counts.lost or counts.doubled:
                    self.problems.append(f"{viewer.name}, track {name}: {counts}")


def server_pid() -> int | None:
    """The server of this runtime folder, without asking it: a question would be one more connection."""
    mine = f"{ENVIRONMENT}={os.environ[ENVIRONMENT]}".encode()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            is_server = folder.name.isdecimal() and b"server.main" in (folder / "cmdline").read_bytes()
            if is_server and mine in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
    return None


def soak(
    film: Path,
    source_rate: Fraction,
    folder: Path,
    *,
    minutes: float,
    at_least: int = 0,
    seed: int = 1,
    warm_up_s: float,
    deaths_until: float = 0.6,
    check_s: float = CHECK_S,
    death_s: float = DEATH_S,
    say: Callable[[str], None] = lambda text: None,
) -> Soak:
    """Play for that long, and until `at_least` so many things were done. Servers die up to `deaths_until` of the time; the last
    one lives on, so that its memory can be judged.

    The film (of `source_rate`, with no frame missing) is shown at twice its rate by mpv and at 60 by drba-player."""
    rng = random.Random(seed)
    timeline = Timeline.of(film, source_rate)
    result = Soak(minutes, warm_up_s, seed)
    with contextlib.ExitStack() as stack:
        for name, rate in (("mpv", 2 * source_rate), ("player", Fraction(60))):
            ledger = FrameLedger(timeline, rate)
            log = LogPipe(folder / f"{name}.log", ledger)
            fps = "2x" if name == "mpv" else "60"
            mpv = stack.enter_context(
                Mpv(
                    [film, film],
                    "--loop-file=inf",
                    "--loop-playlist=inf",
                    *CACHE,
                    *mpv_arguments(folder / f"{name}.log"),
                    script_opts={"drba-fps": fps, "drba-quality": "quality"},
                    player=None if name == "mpv" else ["--off", "--fps", fps, "--quality", "quality"],
                )
            )
            viewer = Viewer(name, mpv, ledger, log)
            mpv.wait_for(viewer.shows, PATIENCE_S)
            result.viewers.append(viewer)
        _Run(result, rng, at_least, deaths_until, check_s, death_s, say).run()
        for viewer in result.viewers:
            viewer.mpv.command(*MARK)
            viewer.mpv.quit()
            viewer.log.join()
    result.judge()
    return result


class _Run:
    """The loop of a soak: one thing at a time, in an order that the seed decides."""

    def __init__(
        self,
        result: Soak,
        rng: random.Random,
        at_least: int,
        deaths_until: float,
        check_s: float,
        death_s: float,
        say: Callable[[str], None],
    ) -> None:
        self.result, self.rng, self.say = result, rng, say
        self._at_least, self._check_s, self._death_s = at_least, check_s, death_s
        self._began = time.monotonic()
        self._end_s = result.minutes * 60
        self._last_death_s = self._end_s * deaths_until
        self._living: dict[str, Life] = {}
        self._reference: dict[str, Held] = {}

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._began

    def run(self) -> None:
        rng = self.rng
        for viewer in self.result.viewers:
            viewer.start()
            viewer.rest(1.0)
        next_sample = 0.0
        next_death = rng.expovariate(1 / self._death_s)
        next_check = min(self.result.warm_up_s, self._end_s / 3)
        done = 0
        while self.now_s < self._end_s or done < self._at_least:
            done += 1
            viewer = rng.choice(self.result.viewers)
            viewer.act(rng.choices(list(ACTIONS), list(ACTIONS.values()))[0], rng)
            viewer.play(rng.uniform(0.2, 1.2))
            if self.now_s >= next_sample:
                next_sample = self.now_s + SAMPLE_S
                self.sample()
            if self.now_s >= next_death and self.now_s < self._last_death_s:
                next_death = self.now_s + rng.expovariate(1 / self._death_s)
                self.kill_server()
            if self.now_s >= next_check:
                self.compare()
                next_check = self.now_s + self._check_s
        self.sample()
        self.compare()

    def processes(self) -> dict[str, int]:
        found = {}
        for viewer in self.result.viewers:
            found[viewer.name] = viewer.mpv.process.pid
            for bridge in bridges_of(viewer.mpv.process.pid)[:1]:
                found[f"bridge of {viewer.name}"] = bridge
        server = self._living.get("server")
        pid = server.pid if server and Path(f"/proc/{server.pid}/exe").exists() else server_pid()
        return {**found, "server": pid} if pid else found

    def sample(self) -> None:
        for name, pid in self.processes().items():
            with contextlib.suppress(OSError):  # it has just ended
                size_mib = resident_mib(pid)
                life = self._living.get(name)
                if life is None or life.pid != pid:
                    life = self._living[name] = Life(name, pid, self.now_s)
                    self.result.lives.append(life)
                life.memory.append((self.now_s, size_mib))

    def kill_server(self) -> None:
        if (pid := server_pid()) is not None:
            os.kill(pid, signal.SIGKILL)
            self.result.deaths += 1

    def compare(self) -> None:
        """Open files and threads, while all play from the same place, with those of the first time. What comes and goes with a
        request is given time to go."""
        for viewer in self.result.viewers:
            viewer.rest(1.0)
        for viewer in self.result.viewers:
            viewer.play(0.5)
        now = self._usual()
        end = time.monotonic() + SETTLE_S
        while self._reference and now != self._reference and time.monotonic() < end:
            for viewer in self.result.viewers:
                viewer.rest(1.0)
            now = self._usual()
        self._reference = self._reference or now
        self.result.comparisons += 1
        self.sample()
        self.result.problems += [
            f"{name} is not there at {self.now_s:.0f} s" for name in self._reference if name not in now
        ]
        for name, found in now.items():
            self._living[name].held.append(found)
            if found != self._reference.get(name):
                pid, at_first = self._living[name].pid, self._reference.get(name)
                self.result.problems.append(
                    f"{name} at {self.now_s:.0f} s: {found}, {at_first} at first; {handles_of(pid)}, {threads_of(pid)}"
                )
            if (memories := frame_memories(self._living[name].pid)) > MOST_MEMORIES.get(name, 0):
                self.result.problems.append(f"{name} at {self.now_s:.0f} s: {memories} memories for frames")
        memory = ", ".join(f"{name} {life.memory[-1][1]:.1f}" for name, life in self._living.items())
        self.say(
            f"{self.now_s:6.0f} s, MiB: {memory}; {self.result.deaths} deaths, {len(self.result.problems)} problems"
        )

    def _usual(self) -> dict[str, Held]:
        """What each process mostly holds, over half a second."""
        seen: dict[str, list[Held]] = {}
        for _ in range(10):
            for viewer in self.result.viewers:
                viewer.play(0.025)
            for name, pid in self.processes().items():
                with contextlib.suppress(OSError):
                    seen.setdefault(name, []).append(held(pid))
        return {name: mode(values) for name, values in seen.items()}

"""A film in a real mpv, with folders of its own, that something happens to: what is on the screen, what the logs say, what is
left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers_server import ROOT, alive
from mpv_driver import Mpv

from player.plan import Kind
from server.client import server_status, stop_server

TESTS = Path(__file__).resolve().parent
#: Of our track mpv reads as far ahead here, in seconds, as of a 1080p film with its default limits.
READ_AHEAD = "--demuxer-max-bytes=4MiB"
BACK_S = 3.0  # that in-betweens may take to be on the screen again
LOGGED = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ \d+ \S+ (\w+) ")
KEPT_LOGS = {"server.log", "server-stderr.log", "bridge.log"}


@dataclass
class Outcome:
    """Of one case: seconds until in-betweens were on the screen again; in-betweens that were not there; new lines of warning
    in the logs; whether the film's clock went on."""

    back_s: float
    missed: int
    warnings: list[str] = field(default_factory=list)


def processes_in(folder: Path) -> list[int]:
    """Those that were started with this runtime folder."""
    wanted = f"DRBA_RUNTIME_DIR={folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if alive(pid)]


class Place:
    """Folders of its own for all that a play writes; `environment` leads programs there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run, self.cache, self.temporary = (folder / name for name in ("run", "cache", "tmp"))
        for made in (self.run, self.cache, self.temporary, folder / "state", folder / "config", folder / "shipped"):
            made.mkdir(mode=0o700)
        self.tap, self.fault = folder / "tap", folder / "fault"
        self.program = folder / "drba"
        self.environment = {
            **os.environ,
            "DRBA_RUNTIME_DIR": str(self.run),
            "DRBA_CACHE_DIR": str(self.cache),
            "DRBA_SHIPPED_DIR": str(folder / "shipped"),
            "DRBA_DATA_DIR": str(folder / "data"),
            "DRBA_TEST_TAP": str(self.tap),
            "DRBA_TEST_FAULT": str(self.fault),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_RUNTIME_DIR": str(self.temporary),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": f"{ROOT}:{TESTS}",
        }
        self.bridge_runs_with()
        self._shared_memory = set(os.listdir("/dev/shm"))

    def bridge_runs_with(self, **environment: str) -> None:
        """What the bridge, and the servers that it starts, have in their environment."""
        variables = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
        self.program.write_text(f'#!/bin/sh\n{variables}exec {sys.executable} {TESTS / "tapped_bridge.py"} "$@"\n')
        self.program.chmod(0o700)

    @contextmanager
    def server(self, *options: str, program: str = "faulty_server.py") -> Iterator[subprocess.Popen[bytes]]:
        """A server that is there before the first player."""
        with subprocess.Popen([sys.executable, str(TESTS / program), *options], env=self.environment) as process:
            try:
                until(lambda: self.status() is not None)
                yield process
            finally:
                process.kill()

    def status(self) -> Any:
        with self._our_folder():
            return server_status()

    def stop_server(self) -> None:
        with self._our_folder():
            stop_server()

    @contextmanager
    def _our_folder(self) -> Iterator[None]:
        before = os.environ.get("DRBA_RUNTIME_DIR")
        os.environ["DRBA_RUNTIME_DIR"] = str(self.run)
        try:
            yield
        finally:
            os.environ.pop("DRBA_RUNTIME_DIR")
            if before is not None:
                os.environ["DRBA_RUNTIME_DIR"] = before

    def log_lines(self, *names: str) -> list[str]:
        """All lines of the server's and the bridges' logs."""
        paths = [
            path for name in names or sorted(KEPT_LOGS) for path in sorted(self.run.glob(f"{name}*"), reverse=True)
        ]
        return [line for path in paths for line in path.read_text(errors="replace").splitlines()]

    def warnings(self) -> list[str]:
        """The lines that are no mere information; each line of a traceback is one."""
        return [
            line for line in self.log_lines() if not (match := LOGGED.match(line)) or match[1] not in ("INFO", "DEBUG")
        ]

    def left_behind(self) -> list[str]:
        """What there still is after the players have gone and the server was stopped, but logs and what was learnt."""
        self.stop_server()
        end = time.monotonic() + 10
        while (running := processes_in(self.run)) and time.monotonic() < end:
            time.sleep(0.05)
        left = [f"process {pid}: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}" for pid in running]
        left += [str(path) for path in self.run.iterdir() if path.name.removesuffix(".1") not in KEPT_LOGS]
        left += [str(path) for path in self.temporary.iterdir()]
        left += [str(path) for path in self.folder.rglob("*") if path.name.endswith((".tmp", ".new", ".sock"))]
        left += [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - self._shared_memory]
        return sorted(set(left))


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)
    return value


class Play:
    """A film that plays with DRBA on from `with` on."""

    def __init__(self, place: Place, film: Path, *arguments: str, options: dict[str, str] | None = None) -> None:
        self.place = place
        place.tap.touch()
        opts = {"drba-command": str(place.program), "drba-fps": "2x", "drba-quality": "quality", **(options or {})}
        arguments = (READ_AHEAD, "--loop-file=inf", *arguments)
        self.mpv = Mpv([film], *arguments, script_opts=opts, environment=place.environment)
        self._lines_read = 0
        self._kinds: dict[int, tuple[Kind, bool]] = {}  # by output frame: what was handed over last
        self.missed = 0
        self.rate = 0.0

    def __enter__(self) -> Play:
        self.mpv.wait_for(lambda: (self.mpv.get("time-pos") or 0) > 0.2)
        self.mpv.message("on")
        return self

    def __exit__(self, *_: object) -> None:
        self.mpv.__exit__()

    def on(self) -> Play:
        """Wait until the first in-between is on the screen."""
        self.mpv.wait_log("DRBA on", 30)
        self.rate = float(self.mpv.get("container-fps"))
        self.mpv.wait_for(self.draws)
        return self

    @property
    def bridge(self) -> int:
        """Its process."""
        return int(self.mpv.wait_for(self._bridge))

    def _bridge(self) -> int | None:
        marked = str(TESTS / "tapped_bridge.py").encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = path.read_bytes().split(b"\0")
                status = path.with_name("stat").read_text()
            except OSError:
                continue
            if marked in arguments and int(status.rsplit(")", 1)[1].split()[1]) == self.mpv.process.pid:
                return int(path.parent.name)
        return None

    @property
    def server(self) -> int:
        return int(self.mpv.wait_for(self.place.status).pid)

    def _read_tap(self) -> None:
        with self.place.tap.open() as file:
            file.seek(self._lines_read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._lines_read += len(whole)
        for line in whole.splitlines():
            _, number, kind, missed = line.split()
            self._kinds[int(number)] = Kind(kind), missed == "1"
            self.missed += missed == "1"

    def draws(self) -> bool:
        """Whether what is on the screen now is an in-between, or has one beside it."""
        self._read_tap()
        position = self.mpv.get("time-pos")
        if position is None or not self.mpv.is_on or self.mpv.get("seeking"):
            return False
        shown = round(position * self.rate)
        near = [self._kinds.get(number, (None, True)) for number in (shown - 1, shown, shown + 1)]
        return any(kind is Kind.INTERPOLATED for kind, _ in near) and not any(missed for kind, missed in near if kind)

    def back(self, since_s: float, timeout_s: float = 30.0) -> float:
        """Seconds from `since_s` until in-betweens are on the screen again, for half a second without a break."""
        began: list[float] = []

        def steady() -> bool:
            now = time.monotonic()
            if not self.draws():
                began.clear()
            elif not began:
                began.append(now)
            return bool(began) and now - began[0] > 0.5

        self.mpv.wait_for(steady, timeout_s, poll_s=0.02)
        return max(0.0, began[0] - since_s)

    def plays_on(self, seconds: float) -> float:
        """The longest time within the next `seconds` in which the film's clock stood still."""
        end, last, since, worst = time.monotonic() + seconds, None, time.monotonic(), 0.0
        while (now := time.monotonic()) < end:
            position = self.mpv.get("time-pos")
            if position is not None and position != last:
                last, since = position, now
            worst = max(worst, now - since)
            self.mpv.wait_for(lambda t=now: time.monotonic() > t + 0.02)
        return worst


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that do nothing, as if the machine had forgotten them."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

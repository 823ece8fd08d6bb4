"""A film in a real mpv, with folders of its own, that something happens to: what is on the screen, what the logs say, what is
left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers_server import ROOT, alive
from mpv_driver import Mpv

from drba.errors import ServerError
from player.plan import Kind
from server.client import server_status, stop_server

TESTS = Path(__file__).resolve().parent
TAPPED = TESTS / "tapped_bridge.py"
#: Of our track mpv reads as far ahead here, in seconds, as of a 1080p film with its default limits.
READ_AHEAD = "--demuxer-max-bytes=4MiB"
BACK_S = 3.0  # that in-betweens may take to be on the screen again
START_S, GONE_S = 90.0, 30.0  # for processes to be there and to end, on a machine that other programs use too
LOGGED = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ \d+ \S+ (\w+) ")
KEPT_LOGS = {"server.log", "server-stderr.log", "bridge.log"}


class Place:
    """Folders of its own for all that a play writes; `environment` leads programs there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime, self.cache, self.state = (folder / name for name in ("runtime", "cache", "state"))
        for made in (self.runtime, self.cache, self.state, folder / "config", folder / "shipped"):
            made.mkdir(mode=0o700)
        self.run = self.runtime / "drba-player"  # the server's
        self.logs = self.state / "drba-player" / "log"
        self.fault = folder / "fault"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DRBA_", "XDG_"))},
            "DRBA_CACHE_DIR": str(self.cache),
            "DRBA_SHIPPED_DIR": str(folder / "shipped"),
            "DRBA_DATA_DIR": str(folder / "data"),
            "DRBA_TEST_FAULT": str(self.fault),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(self.state),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "TMPDIR": str(self.runtime),
            "PYTHONPATH": f"{ROOT}:{TESTS}",
        }
        self._shared_memory = set(os.listdir("/dev/shm"))

    @contextmanager
    def server(self, program: str = "faulty_server.py") -> Iterator[None]:
        """A server that is there before the first player."""
        with subprocess.Popen([sys.executable, str(TESTS / program)], env=self.environment) as process:
            try:
                until(self.status)
                yield
            finally:
                self.fault.write_text("")
                self.stop_server()
                process.kill()

    def status(self) -> Any:
        with self._our_folder():
            return server_status() if self.run.is_dir() else None

    def stop_server(self) -> None:
        with self._our_folder():
            if self.run.is_dir():
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

    def log_lines(self) -> list[str]:
        """All lines of the server's and the bridges' logs."""
        return [
            line
            for name in sorted(KEPT_LOGS)
            for path in sorted(self.logs.glob(f"{name}*"), reverse=True)
            for line in path.read_text(errors="replace").splitlines()
        ]

    def warnings(self) -> list[str]:
        """The lines that are no mere information; each line of a traceback is one."""
        return [
            line for line in self.log_lines() if not (match := LOGGED.match(line)) or match[1] not in ("INFO", "DEBUG")
        ]

    def processes(self) -> list[int]:
        """Those that were started with these folders and live."""
        wanted = f"XDG_RUNTIME_DIR={self.runtime}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if wanted in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return [pid for pid in found if alive(pid)]

    def left_behind(self) -> list[str]:
        """What there still is after the players have gone and the server was stopped, but logs and what was learnt."""
        end = time.monotonic() + GONE_S
        while (running := self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
            with contextlib.suppress(ServerError):  # one that was just being started comes up only now
                self.stop_server()
        left = [f"process {pid}: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}" for pid in running]
        left += [str(path) for path in self.runtime.rglob("*") if path != self.run]
        left += [str(path) for path in self.folder.rglob("*") if path.suffix in (".tmp", ".new", ".sock", ".lock")]
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

    def __init__(
        self,
        place: Place,
        film: Path,
        *arguments: str,
        options: dict[str, str] | None = None,
        bridge: dict[str, str] | None = None,
    ) -> None:
        """`bridge`: what that, and the server that it starts, have in their environment beside the place's."""
        self.place = place
        self.tap = Path(tempfile.mkstemp(prefix="tap-", dir=place.folder)[1])
        program = self.tap.with_name(self.tap.name.replace("tap", "drba"))
        variables = {**(bridge or {}), "DRBA_TEST_TAP": str(self.tap)}
        lines = [f"export {name}='{value}'\n" for name, value in variables.items()]
        program.write_text(f'#!/bin/sh\n{"".join(lines)}exec {sys.executable} {TAPPED} "$@"\n')
        program.chmod(0o700)
        opts = {"drba-command": str(program), "drba-fps": "2x", "drba-quality": "quality", **(options or {})}
        arguments = (READ_AHEAD, "--loop-file=inf", *arguments)
        self.mpv = Mpv([film], *arguments, script_opts=opts, environment=place.environment, inherits=False)
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
        self.mpv.wait_log("DRBA on", START_S)
        self.rate = float(self.mpv.get("container-fps"))
        self.mpv.wait_for(self.draws)
        return self

    @property
    def bridge(self) -> int:
        """Its process."""
        return int(self.mpv.wait_for(self._bridge))

    def _bridge(self) -> int | None:
        marked = str(TAPPED).encode()
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
        with self.tap.open() as file:
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


@contextmanager
def tiny_disk(folder: Path, size: str = "256k") -> Iterator[None]:
    """A disk of its own for a folder; pytest.skip where it cannot be mounted."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """The disk that a folder is on has no room; files that are there may be opened."""
    stuff = folder / "stuff"
    with stuff.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    try:
        yield
    finally:
        stuff.unlink()


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long *offset_s;
static long offset(void) {
    if (!offset_s) {
        int fd = open(getenv("DRBA_TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
        offset_s = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    }
    return *offset_s;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += offset();
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *into) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (into) *into = precise.tv_sec;
    return precise.tv_sec;
}
"""


class WallClock:
    """A wall clock of its own for the processes that have `environment`; their other clocks run on. pytest.skip without a
    compiler."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler: the wall clock of a process cannot be set")
        source, library, self._offset = (folder / name for name in ("clock.c", "clock.so", "clock"))
        source.write_text(CLOCK)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "DRBA_TEST_CLOCK": str(self._offset)}

    def set(self, offset_s: int) -> None:
        """Let it show so many seconds more than it is."""
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(offset_s.to_bytes(8, sys.byteorder, signed=True))

"""A film in a real mpv, and what can go wrong around it, one thing after the other: `python benchmarks/faults.py [NAME...]`.

Prints a line of the table in docs/reliability.md for each fault: cases; seconds from its end until in-betweens are on the screen
again (median, worst); in-betweens that were source frames instead; the longest time that the film's clock stood still; lines of
warning in the logs; what was left behind. The first row has no fault: what this machine does by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import clips  # noqa: E402
from fault_play import Place, Play, WallClock, full, kill, stopped, tiny_disk, until  # noqa: E402

EVERY_S = 3.0  # between two deaths: 20 in 60 s
DEATHS = 20
CAUSE_S = 5.0
DAY_S = 86_400
MEBIBYTE = 1 << 20


@dataclass
class Row:
    """Of one fault; every list has an entry a case."""

    back_s: list[float] = field(default_factory=list)
    still_s: float = 0.0
    missed: int = 0
    warnings: int = 0
    left: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def case(self, play: Play) -> Iterator[Ended]:
        """The cause is in the `with` block; afterwards in-betweens are waited for."""
        warnings, missed, ended = len(play.place.warnings()), play.missed, Ended()
        yield ended
        ended()
        self.back_s.append(play.back(ended.at or 0.0, 60))
        self.missed += play.missed - missed
        self.warnings += len(play.place.warnings()) - warnings

    def watch(self, play: Play, seconds: float) -> None:
        self.still_s = max(self.still_s, play.plays_on(seconds))

    def __str__(self) -> str:
        back = f"{median(self.back_s):.1f}, {max(self.back_s):.1f}" if self.back_s else "-"
        left = "nothing" if not self.left else "; ".join(self.left)
        return f"{len(self.back_s)} | {back} | {self.missed} | {self.still_s:.1f} | {self.warnings} | {left}"


class Ended:
    """When a cause ended: when this is called first."""

    at: float | None = None

    def __call__(self) -> None:
        self.at = self.at or time.monotonic()


Fault = Callable[[Place, Path, Row], None]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    return lambda function: FAULTS.setdefault(name, function)


@fault("none")
def nothing(place: Place, film: Path, row: Row) -> None:
    with Play(place, film) as play:
        play.on()
        with row.case(play):
            row.watch(play, 20)


def deaths(play: Play, row: Row, victim: Callable[[], int]) -> None:
    for _ in range(DEATHS):
        began = time.monotonic()
        with row.case(play) as ended:
            kill(victim())
            ended()
            row.watch(play, 0.5)
        row.watch(play, max(0.1, EVERY_S - (time.monotonic() - began)))


@fault("server killed")
def server_killed(place: Place, film: Path, row: Row) -> None:
    with Play(place, film) as play:
        play.on()
        deaths(play, row, lambda: play.server)


@fault("bridge killed")
def bridge_killed(place: Place, film: Path, row: Row) -> None:
    with Play(place, film) as play:
        play.on()
        deaths(play, row, lambda: play.bridge)


@fault("mpv killed")
def mpv_killed(place: Place, film: Path, row: Row) -> None:
    """The next mpv plays from the same server."""
    with Play(place, film) as first:
        first.on()
        for _ in range(5):
            play = Play(place, film)
            with play:
                play.on()
                bridge = play.bridge
                kill(play.mpv.process.pid)
                until(lambda p=bridge: not Path(f"/proc/{p}").exists())
                until(lambda: len({session.pid for session in place.status().sessions}) == 1)
            with row.case(first):
                pass


def of_a_process(name: str, victim: Callable[[Play], int]) -> None:
    @fault(f"{name} stopped for 5 s")
    def stop(place: Place, film: Path, row: Row) -> None:
        with Play(place, film) as play:
            play.on()
            for _ in range(3):
                with row.case(play), stopped(victim(play)):
                    row.watch(play, CAUSE_S)
                row.watch(play, 2)


of_a_process("server", lambda play: play.server)
of_a_process("bridge", lambda play: play.bridge)


def of_the_worker(name: str, mode: str, **options: str) -> None:
    @fault(name)
    def fail(place: Place, film: Path, row: Row) -> None:
        with place.server(), Play(place, film, options={f"drba-{k}": v for k, v in options.items()}) as play:
            play.on()
            for _ in range(3):
                with row.case(play):
                    place.fault.write_text(mode)
                    row.watch(play, CAUSE_S)
                    place.fault.write_text("")
                row.watch(play, 4)


of_the_worker("worker raises for 5 s", "raise")
of_the_worker("worker raises for 5 s, quality auto", "raise", quality="auto")
of_the_worker("device out of memory for 5 s", "memory")
of_the_worker("worker gives wrong sizes for 5 s", "size")
of_the_worker("worker hangs for 5 s", "hang")


@fault("worker hangs for good")
def hangs_for_good(place: Place, film: Path, row: Row) -> None:
    """Timed from the moment at which the server was given up."""
    with place.server(), Play(place, film) as play:
        play.on()
        first = play.server
        with row.case(play) as ended:
            place.fault.write_text("hang")
            while (now := place.status()) is not None and now.pid == first:
                row.watch(play, 0.5)
            ended()
        row.watch(play, 3)


@fault("disk of the logs full")
def logs_full(place: Place, film: Path, row: Row) -> None:
    """From before the start; a server dies meanwhile."""
    with tiny_disk(place.state):
        with full(place.state), Play(place, film) as play:
            play.on()
            with row.case(play):
                row.watch(play, CAUSE_S)
            with row.case(play):
                kill(play.server)
            row.watch(play, 1)
        with Play(place, film) as play:
            play.on()
            with full(place.state):
                with row.case(play):
                    kill(play.server)
                row.watch(play, CAUSE_S)
            dead = play.server
            kill(dead)  # so that there is something to log
            until(lambda: (now := place.status()) is not None and now.pid != dead)
            play.back(time.monotonic())
        place.stop_server()
        until(lambda: not place.processes())


@fault("disk of the caches full")
def caches_full(place: Place, film: Path, row: Row) -> None:
    """Longer than what is worth remembering, so that something is to be written at the end."""
    with tiny_disk(place.cache), full(place.cache):
        with Play(place, film, options={"drba-quality": "auto"}) as play:
            play.on()
            with row.case(play):
                row.watch(play, 22)
            before = len(place.warnings())
        until(lambda: len(place.processes()) <= 1)
        row.warnings += len(place.warnings()) - before
        row.left += [str(path) for path in place.cache.iterdir() if path.name != "stuff"]


@fault("wall clock jumps")
def clock_jumps(place: Place, film: Path, row: Row) -> None:
    clock = WallClock(place.folder)
    with Play(place, film, bridge=clock.environment) as play:
        play.on()
        for days in (1, -2, 400, -400, 0):
            with row.case(play):
                clock.set(days * DAY_S)
            row.watch(play, 2)


@fault("shared memory exhausted")
def no_shared_memory(place: Place, film: Path, row: Row) -> None:
    before = 0
    with Play(place, film, bridge={"DRBA_TEST_MAX_FILE": str(MEBIBYTE)}) as play:
        play.on()
        with row.case(play):
            row.watch(play, CAUSE_S)
    row.warnings += len(place.warnings()) - before


@fault("lock held for 5 s by another program")
def lock_held(place: Place, film: Path, row: Row) -> None:
    with Play(place, film) as play:
        play.on()
        with row.case(play) as ended:
            kill(play.server)
            with (place.run / "server-v3.lock").open("ab") as lock:
                until(lambda: locked(lock.fileno()))
                row.watch(play, CAUSE_S)
            ended()


def locked(fd: int) -> bool:
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@fault("socket taken by another program")
def socket_taken(place: Place, film: Path, row: Row) -> None:
    """It listens at the server's path and says nothing. The lock is held while it moves in."""
    with Play(place, film) as play, socket.socket(socket.AF_UNIX) as stranger:
        play.on()
        path = place.run / "server-v3.sock"
        with row.case(play) as ended:
            kill(play.server)
            with (place.run / "server-v3.lock").open("ab") as lock:
                until(lambda: locked(lock.fileno()))
                path.unlink(missing_ok=True)
                stranger.bind(str(path))
                stranger.listen()
            ended()
            row.watch(play, 1)


@fault("two players start a server at once")
def two_players(place: Place, film: Path, row: Row) -> None:
    """And both start the next one, when it is killed."""
    with Play(place, film) as one, Play(place, film) as other:
        for play in (one, other):
            play.on()
        for _ in range(5):
            with row.case(one) as ended:
                kill(one.server)
                ended()
                row.watch(one, 0.5)
            row.back_s[-1] = max(row.back_s[-1], other.back(ended.at or 0.0, 60))
            row.watch(one, 2)
        servers = [pid for pid in place.processes() if b"server.main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(servers) == 1, servers


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="drba-faults-"))
    film = clips.cached(folder, "film.mkv", replace(clips.SMALL, seconds=30)).path
    wanted = sys.argv[1:]
    verbose = bool(os.environ.get("DRBA_FAULTS_VERBOSE"))
    print(
        "| fault | cases | back, s: median, worst | in-betweens missed | clock stood still, s | lines | left behind |"
    )
    for number, (name, happen) in enumerate(FAULTS.items()):
        if wanted and not any(part in name for part in wanted):
            continue
        (folder / str(number)).mkdir(mode=0o700)
        place, row = Place(folder / str(number)), Row()
        try:
            happen(place, film, row)
            row.left += place.left_behind()
        except Exception as error:
            print(f"| {name} | {type(error).__name__}: {str(error)[:300]} |", flush=True)
        else:
            print(f"| {name} | {row} |", flush=True)
        finally:
            if verbose:
                print("\n".join(place.warnings()), flush=True)
            for pid in place.processes():
                with contextlib.suppress(ProcessLookupError):
                    kill(pid)


if __name__ == "__main__":
    main()

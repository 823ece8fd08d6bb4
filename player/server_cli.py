"""`drba status`, `drba stop` and `drba logs`: the background server, asked from a terminal. None of them starts one."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from server.messages import StatusReport

LINES = 20
FOLLOW_INTERVAL_S = 0.2

STATUS = """\
Says what the background server does: its version, how long it has been up, and a line for each player that uses it.
The server starts by itself when DRBA is turned on and goes after ten idle minutes, so "no server is running" is no fault."""
STOP = """\
Ends the background server. Players that use it show source frames for a moment and start another: after an update this
is the way to the new version without quitting mpv."""
LOGS = """\
Shows the end of the logs: server.log (rendering), server-stderr.log (crashes) and bridge.log (one process beside each
mpv). -f goes on showing what is added until Ctrl-C."""


def add_parser(subparsers: Any) -> None:
    status = subparsers.add_parser("status", help="what the background server does", description=STATUS)
    status.add_argument("--server", metavar="NAME", help="of another machine (`drba pair --list`) instead of this one")
    status.set_defaults(run=run_status)
    stop = subparsers.add_parser("stop", help="end the background server", description=STOP)
    stop.set_defaults(run=run_stop)
    logs = subparsers.add_parser("logs", help="show the logs of server and bridges", description=LOGS)
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is added")
    logs.add_argument(
        "-n", "--lines", type=_lines, default=LINES, metavar="N", help="of each log (default: %(default)d)"
    )
    logs.set_defaults(run=run_logs)


def _lines(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0")
    return int(text)


def run_status(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from server.control import server_status
    from server.keys import find_server

    report = server_status(remote=find_server(arguments.server) if arguments.server else None)
    if report is None:
        print("no server is running")
        return 0
    console = Console()
    for part in describe(report):
        console.print(part, highlight=False)
    return 0


def describe(report: StatusReport) -> Iterator[RenderableType]:
    """For people: the server in two lines, then a table of its sessions."""
    from rich.table import Table

    from server.control import made_by

    workers = f"{report.workers} worker{'' if report.workers == 1 else 's'}"
    yield f"drba-server {report.version}, process {report.pid}, up {duration(report.uptime_s)}, {workers}"
    malformed = f", {report.malformed} malformed messages" if report.malformed else ""
    yield f"requests: {report.rendered} rendered, {report.dropped} dropped, {report.failed} failed{malformed}"
    if not report.sessions:
        yield f"no player uses it; idle for {duration(report.idle_s)}"
        return
    table = Table("player", "picture", "model", "requests", box=None, pad_edge=False)
    for session in report.sessions:
        made = made_by(session)
        if session.transport != "shared":
            made += ", frames in messages"
        table.add_row(
            str(session.pid or "?"),
            f"{session.width}x{session.height} {session.pixel_format}",
            made,
            f"{session.rendered} rendered in {session.render_ms:.1f} ms each, {session.queued} waiting, "
            f"{session.dropped} dropped, {session.failed} failed",
        )
    yield table


def duration(seconds: float) -> str:
    """ "9 s", "3 min 20 s", "2 h 5 min"."""
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def run_stop(arguments: argparse.Namespace) -> int:
    from server.control import stop_server

    print("the server has ended" if stop_server() else "no server is running")
    return 0


# --- logs -------------------------------------------------------------------------------------------------------------


def run_logs(arguments: argparse.Namespace) -> int:
    from server.logs import NAMES, log_path

    paths = [log_path(name) for name in NAMES]
    try:
        tails = [Tail(path) for path in paths]
        shown: Path | None = None
        for tail in tails:
            shown = _show(tail.path, tail.last(arguments.lines), shown)
        if shown is None:
            print(f"nothing has been logged yet in {paths[0].parent}", flush=True)
        while arguments.follow:
            time.sleep(FOLLOW_INTERVAL_S)
            for tail in tails:
                shown = _show(tail.path, tail.new(), shown)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # `drba logs | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _show(path: Path, lines: Sequence[str], last: Path | None) -> Path | None:
    """Print lines, with a heading where they are of another file than the last ones; the file shown last."""
    if not lines:
        return last
    if path != last:
        print(f"{chr(10) if last else ''}==> {path} <==")
    print("\n".join(lines), flush=True)
    return path


class Tail:
    """The end of a log that others write to and rotate; a file that is not there yet is an empty one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0  # bytes of the current file that have been seen
        self._inode = -1
        self._partial = b""

    def last(self, lines: int) -> list[str]:
        """The last complete lines; `new` goes on after them."""
        found = self.new()
        return found[-lines:] if lines else []

    def new(self) -> list[str]:
        """Complete lines since the last call; from the beginning where the file is another one."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._at:
                    self._at, self._inode, self._partial = 0, status.st_ino, b""
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        self._at += len(data)
        *complete, self._partial = (self._partial + data).split(b"\n")
        return [line.decode(errors="replace") for line in complete]

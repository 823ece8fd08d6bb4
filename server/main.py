"""`drba-server`: the background process that renders in-between frames for every player of this user."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import drba
from drba import weights
from drba.errors import DrbaError, InputError, ServerError
from engines.base import StreamRenderer, StreamSpec

from .cards import Cards, card_command
from .control import describe_status, server_status, stop_server
from .dispatch import OpenRenderer
from .keys import DEFAULT_PORT, TCP, check_endpoint, identity, paired
from .limits import allow_many_files
from .logs import SERVER, log_path, rotating_handler
from .messages import MAX_WORKERS
from .priority import default_workers, give_way
from .runtime import InstanceLock, default_endpoint, socket_path
from .service import Server

log = logging.getLogger("drba.server")

DEFAULT_IDLE_TIMEOUT_S = 600.0
DEFAULT_LISTEN = f"tcp://*:{DEFAULT_PORT}"
DESCRIPTION = """The background process that renders in-between frames for every player of this user. It starts by itself when
DRBA is turned on, and ends after ten idle minutes: `drba status`, `drba stop` and `drba logs` are all that is needed of it."""


def open_renderer(spec: StreamSpec) -> StreamRenderer:
    """The engines' renderer; imported here, on first use, so that starting up stays quick."""
    import engines

    return engines.open_renderer(spec, at_once=True)


def installed_models() -> list[str]:
    """What can be played without a download."""
    return [model.name for model in drba.models() if weights.is_installed(model)]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drba-server", description=DESCRIPTION)
    parser.add_argument(
        "--idle-timeout",
        type=float,
        metavar="SECONDS",
        help=f"end after so many seconds without work (default: {DEFAULT_IDLE_TIMEOUT_S:g}; with --listen, never)",
    )
    parser.add_argument("--endpoint", metavar="URL", help="ipc://PATH (default: a private unix socket)")
    parser.add_argument(
        "--listen",
        nargs="?",
        const=DEFAULT_LISTEN,
        metavar="URL",
        help=f"also serve machines that `drba pair` has paired with this one, encrypted (default: {DEFAULT_LISTEN})",
    )
    parser.add_argument(
        "--workers", type=int, default=default_workers(), metavar="N", help="threads that render (default: %(default)d)"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="log file (default: server.log in the log folder)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--status", action="store_true", help="say what the running server does, and leave")
    action.add_argument("--stop", action="store_true", help="end the running server, and leave")
    return parser


def main(
    argv: Sequence[str] | None = None,
    open_renderer: OpenRenderer = open_renderer,
    card_command: Sequence[str] = tuple(card_command()),
) -> int:
    """Run the program; the exit status. Tests replace `open_renderer`, and with `card_command` that of cards' processes."""
    arguments = make_parser().parse_args(argv)
    try:
        if arguments.status:
            print(describe_status(server_status(arguments.endpoint)))
            return 0
        if arguments.stop:
            print("stopped" if stop_server(arguments.endpoint) else "no server is running")
            return 0
        return _serve(arguments, open_renderer, card_command)
    except DrbaError as error:
        print(f"drba-server: {error}", file=sys.stderr)
        return error.exit_status


def _serve(arguments: argparse.Namespace, open_renderer: OpenRenderer, card_command: Sequence[str]) -> int:
    idle_s = arguments.idle_timeout
    if idle_s is None:
        idle_s = DEFAULT_IDLE_TIMEOUT_S if arguments.listen is None else math.inf
    elif not 0 < idle_s < 1e9:
        raise InputError(f"--idle-timeout is {idle_s:g}, expected a positive number of seconds")
    if not 1 <= arguments.workers <= MAX_WORKERS:
        raise InputError(f"--workers is {arguments.workers}, expected 1..{MAX_WORKERS}")
    endpoint = arguments.endpoint or default_endpoint()
    if endpoint.startswith(TCP):
        raise InputError(
            f"--endpoint {endpoint}: plain TCP is not served; expected ipc://PATH, or use --listen {endpoint}"
        )
    own, names = None, ""
    if arguments.listen is not None:
        check_endpoint(arguments.listen)
        own, names = identity(), ", ".join(paired().clients)
    path = socket_path(endpoint)
    lock = InstanceLock(path.with_suffix(".lock")) if path else None
    if lock and not lock.acquire():
        if arguments.listen is not None:  # it may not listen
            raise ServerError("a server is running already; end it with drba stop, and start this one again")
        print(f"drba-server: one is already running on {endpoint}")
        return 0
    ended = True
    try:
        _start_log(arguments.log or log_path(SERVER))
        give_way()
        allow_many_files()
        server = Server(
            open_renderer,
            endpoint=endpoint,
            workers=arguments.workers,
            idle_timeout_s=idle_s,
            models=installed_models,
            cards=Cards(card_command, arguments.workers),
            listen=arguments.listen,
            identity=own,
        )
        if arguments.listen is not None:
            who = f"for {names}" if names else "no machine is paired yet: run drba pair here"
            print(f"drba-server listens on {arguments.listen}, {who}; Ctrl+C ends it", flush=True)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: server.request_stop(signal.Signals(received).name))
        ended = server.run()
    finally:
        if path:
            path.unlink(missing_ok=True)
        if lock:
            lock.release()
    if not ended:  # a thread is stuck in an engine, and would keep the interpreter from ending
        logging.shutdown()
        os._exit(1)
    return 0


def _start_log(path: Path) -> None:
    logging.getLogger().addHandler(rotating_handler(path))
    logging.getLogger().setLevel(logging.INFO)
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # no usable stderr: a crash leaves no stack, then
        faulthandler.enable()


if __name__ == "__main__":
    sys.exit(main())

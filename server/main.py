"""`drba-server`: the background process that renders in-between frames for every player of this user."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import drba
from drba import weights
from drba.errors import DrbaError, InputError
from engines.base import StreamRenderer, StreamSpec

from .cards import Cards, card_command
from .control import describe_status, server_status, stop_server
from .dispatch import OpenRenderer
from .limits import allow_many_files
from .logs import SERVER, log_path, rotating_handler
from .priority import default_workers, give_way
from .runtime import InstanceLock, default_endpoint, socket_path
from .service import Server

log = logging.getLogger("drba.server")

DEFAULT_IDLE_TIMEOUT_S = 600.0
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
        default=DEFAULT_IDLE_TIMEOUT_S,
        metavar="SECONDS",
        help="end after so many seconds without work (default: %(default)g)",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="where to listen, ipc://PATH or tcp://ADDRESS:PORT (default: a private unix socket)",
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
    if not 0 < arguments.idle_timeout < 1e9:
        raise InputError(f"--idle-timeout is {arguments.idle_timeout:g}, expected a positive number of seconds")
    if not 1 <= arguments.workers <= 64:
        raise InputError(f"--workers is {arguments.workers}, expected 1..64")
    endpoint = arguments.endpoint or default_endpoint()
    path = socket_path(endpoint)
    lock = InstanceLock(path.with_suffix(".lock")) if path else None
    if lock and not lock.acquire():
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
            idle_timeout_s=arguments.idle_timeout,
            models=installed_models,
            cards=Cards(card_command, arguments.workers),
        )
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

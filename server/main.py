"""`drba-server`: the background process that renders in-between frames for every player of this user."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from drba.errors import DrbaError, InputError, ServerError
from engines.base import Renderer, StreamSpec

from .control import describe_status, server_status, stop_server
from .dispatch import OpenRenderer
from .priority import default_workers, give_way
from .runtime import InstanceLock, default_endpoint, log_folder, socket_path
from .service import Server

log = logging.getLogger("drba.server")

LOG_BYTES = 1 << 20  # of one log file; with one older file kept, the log never takes more than 2 MiB
DEFAULT_IDLE_TIMEOUT_S = 600.0


def open_renderer(spec: StreamSpec) -> Renderer:
    """The engines' renderer; imported here, on first use, so that starting up stays quick."""
    import engines

    return engines.open_renderer(spec)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drba-server", description=__doc__)
    parser.add_argument(
        "--idle-timeout",
        type=float,
        default=DEFAULT_IDLE_TIMEOUT_S,
        metavar="SECONDS",
        help="end after so long without work (default: %(default)g)",
    )
    parser.add_argument(
        "--endpoint", metavar="URL", help="ipc://PATH or tcp://ADDRESS:PORT (default: a private unix socket)"
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
    argv: Sequence[str] | None = None, open_renderer: OpenRenderer = open_renderer, models: Sequence[str] = ()
) -> int:
    """Run the program; the exit status. `open_renderer` is replaced in tests; `models` is what Welcome offers."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.status:
            print(describe_status(server_status(arguments.endpoint)))
            return 0
        if arguments.stop:
            print("stopped" if stop_server(arguments.endpoint) else "no server is running")
            return 0
        return _serve(arguments, open_renderer, models)
    except DrbaError as error:
        print(f"drba-server: {error}", file=sys.stderr)
        return error.exit_status


def _serve(arguments: argparse.Namespace, open_renderer: OpenRenderer, models: Sequence[str]) -> int:
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
        _start_log(arguments.log or log_folder() / "server.log")
        give_way()
        server = Server(
            open_renderer,
            endpoint=endpoint,
            workers=arguments.workers,
            idle_timeout_s=arguments.idle_timeout,
            models=models,
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
    try:
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        raise ServerError(f"log {path} cannot be written: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # no usable stderr: a crash leaves no stack, then
        faulthandler.enable()


if __name__ == "__main__":
    sys.exit(main())

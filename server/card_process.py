"""The process of one card: opens renderers and renders, told by the server through a socket pair. Not a program for users.

It ends when the server does, however that ends, because its end of the pair closes then.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection

from drba.errors import DrbaError, ServerError
from drba.pixels import FrameLayout
from engines.base import SourceFrame, StreamRenderer, StreamSpec, Triplet

from .card_messages import (
    Answered,
    Asked,
    CancelStreamBuild,
    CloseStream,
    Logged,
    OpenStream,
    Question,
    RenderStream,
    Report,
    StreamChanged,
)
from .failures import remember_where
from .shared import SharedFrames

log = logging.getLogger("drba.server")

OpenRenderer = Callable[[StreamSpec], StreamRenderer]


def open_renderer(spec: StreamSpec) -> StreamRenderer:
    import engines

    return engines.open_renderer(spec, at_once=True)


@dataclass
class _Stream:
    layout: FrameLayout
    memory: SharedFrames
    renderer: StreamRenderer

    def source(self, frame: tuple[int, int]) -> SourceFrame:
        number, slot = frame
        return SourceFrame(number, self.layout.views(self.memory.buffer(slot)))

    def render(self, request: RenderStream) -> None:
        triplet = Triplet(
            self.source(request.previous) if request.previous else None,
            self.source(request.middle),
            self.source(request.following) if request.following else None,
            request.interval_before,
            request.interval_after,
        )
        outputs = [self.layout.views(self.memory.buffer(slot)) for slot in request.outputs]
        self.renderer.render(triplet, request.times, outputs)


class CardServer:
    """Answers the server's questions: openings in threads of their own, since they take long; requests by `workers`."""

    def __init__(self, connection: Connection, open_renderer: OpenRenderer, workers: int) -> None:
        self._connection = connection
        self._open_renderer = open_renderer
        self._workers = ThreadPoolExecutor(workers, "render")
        self._sending = threading.Lock()
        self._streams: dict[int, _Stream] = {}

    def run(self) -> None:
        """Until the server closes its end."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                asked: Asked = self._connection.recv()
                if isinstance(asked.question, OpenStream):
                    threading.Thread(target=self._answer, args=(asked,), name="open", daemon=True).start()
                else:
                    self._workers.submit(self._answer, asked)

    def send(self, report: Report) -> None:
        with contextlib.suppress(OSError), self._sending:  # the server has gone: `run` sees it too
            self._connection.send(report)

    def _answer(self, asked: Asked) -> None:
        error: DrbaError | None = None
        try:
            self._do(asked.question)
        except DrbaError as raised:
            error = raised
        except Exception as raised:  # an engine may raise anything, and not all of it can be sent
            if not isinstance(asked.question, RenderStream):  # of which the server logs one, with its place, not each
                log.exception("%s failed", type(asked.question).__name__)
            error = ServerError(str(raised) or type(raised).__name__)
            remember_where(error, raised)
        self.send(Answered(asked.number, error))

    def _do(self, question: Question) -> None:
        match question:
            case OpenStream():
                self._open(question)
            case RenderStream():
                self._streams[question.stream].render(question)
            case CancelStreamBuild():
                self._streams[question.stream].renderer.cancel_build()
            case CloseStream():
                self._streams.pop(question.stream).renderer.close()

    def _open(self, question: OpenStream) -> None:
        layout = question.spec.layout
        memory = SharedFrames(question.memory, layout.frame_bytes)
        renderer = self._open_renderer(question.spec)
        self._streams[question.stream] = _Stream(layout, memory, renderer)

        def changed() -> None:
            with (
                contextlib.suppress(OSError),
                self._sending,
            ):  # read in here: an older state must not follow a newer one
                self._connection.send(StreamChanged(question.stream, renderer.state))

        renderer.watch(changed)
        changed()


class _LogSender(logging.Handler):
    """The server writes the log file: two processes cannot both rotate it."""

    def __init__(self, send: Callable[[Report], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Logged(record.levelno, self.format(record)))


def main(argv: Sequence[str] | None = None, open_renderer: OpenRenderer = open_renderer) -> int:
    parser = argparse.ArgumentParser("server.card_process", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="this process's end of the socket pair")
    parser.add_argument("--workers", type=int, required=True, help="threads that render")
    arguments = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGHUP):  # of a terminal: the server ends in order, and this with it
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        faulthandler.enable()
    server = CardServer(Connection(arguments.fd), open_renderer, arguments.workers)
    logging.getLogger().addHandler(_LogSender(server.send))
    logging.getLogger().setLevel(logging.INFO)
    server.run()
    os._exit(0)  # at once, whatever an engine is doing: there is nobody left to do it for


if __name__ == "__main__":
    main()

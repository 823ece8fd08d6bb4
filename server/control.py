"""Questions to a running server from the command line: is there one, what does it do, end it. Never starts one."""

from __future__ import annotations

import contextlib
import time
from typing import TypeVar

import zmq

from drba.errors import InputError, ProtocolError, ServerError
from engines.base import MEASURING

from .curve import secure_client
from .deadline import Deadline
from .keys import TCP, RemoteServer, identity
from .messages import Goodbye, Message, SessionReport, Status, StatusReport, Stop
from .protocol import parse_reply, serialize
from .runtime import default_endpoint, socket_path

TIMEOUT_S = 2.0  # a server that is there answers within milliseconds
STOP_TIMEOUT_S = 10.0  # it first finishes what it is rendering
POLL_S = 0.01
LOOK_S = 0.2  # how often to see whether it is still there while it does not answer
M = TypeVar("M", bound=Message)


def server_status(
    endpoint: str | None = None, timeout_s: float = TIMEOUT_S, remote: RemoteServer | None = None
) -> StatusReport | None:
    """What the server, this user's or a `remote` one, says of itself; None if none is running. ServerError if it does not
    answer, which is all that is known of one on another machine."""
    return _ask(Status(), StatusReport, endpoint, timeout_s, remote)


def stop_server(endpoint: str | None = None, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """End the server and wait until it has left; False if none is running. ServerError if it does not answer."""
    deadline = Deadline(timeout_s)
    if _ask(Stop(), Goodbye, endpoint, timeout_s) is None:
        return False
    path = socket_path(endpoint or default_endpoint())
    while path is not None and path.exists() and not deadline.passed:  # it says Goodbye before it has left
        time.sleep(POLL_S)
    return True


def describe_status(report: StatusReport | None) -> str:
    """A report for people, one line for the server and one a session."""
    if report is None:
        return "no server is running"
    counts = f"{report.rendered} requests rendered, {report.dropped} dropped, {report.failed} failed"
    lines = [f"drba-server {report.version}, process {report.pid}, up {report.uptime_s:.0f} s, {counts}"]
    for session in report.sessions:
        size = f"{session.width}x{session.height} {session.pixel_format}"
        work = f"{session.rendered} rendered at {session.render_ms:.1f} ms, {session.queued} waiting"
        made = f"{made_by(session)} ({session.transport})"
        lines.append(f"  session {session.session} of process {session.pid or '?'}: {size}, {made}, {work}")
    return "\n".join(lines)


def made_by(session: SessionReport) -> str:
    """What draws a session's frames, for people."""
    made = f"{session.model} on {session.engine}"
    if session.card:
        made += f", card {session.card}"
    if session.building:
        measuring = session.building == MEASURING
        made += ", measuring networks" if measuring else f", building {session.building} {session.progress:.0%}"
    return made


def _ask(
    question: Message, answer: type[M], endpoint: str | None, timeout_s: float, remote: RemoteServer | None = None
) -> M | None:
    endpoint = remote.endpoint if remote else endpoint or default_endpoint()
    if remote is None and endpoint.startswith(TCP):
        raise InputError(f"server {endpoint}: plain TCP is not used; expected ipc://PATH, or drba status --server NAME")
    path = socket_path(endpoint)
    if path is not None and not listening(str(path)):
        return None
    deadline = Deadline(timeout_s)
    own = identity() if remote is not None else None
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if remote is not None and own is not None:
            secure_client(socket, own, remote.key)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise ServerError(f"endpoint {endpoint} cannot be used: {error.strerror}") from error
        socket.send_multipart(serialize(question))
        while not deadline.passed:
            if socket.poll(int(deadline.at_most(LOOK_S) * 1000)):
                with contextlib.suppress(ProtocolError):
                    message, _ = parse_reply(socket.recv_multipart())
                    if isinstance(message, answer):
                        return message
            elif path is not None and not listening(str(path)):
                return None  # it was ending just then
    if remote is not None:
        raise ServerError(
            f"{remote.name} ({endpoint}) did not answer within {timeout_s:g} s; does drba-server --listen run there?"
        )
    raise ServerError(f"server at {endpoint} did not answer within {timeout_s:g} s")


def listening(path: str) -> bool:
    """Whether anyone accepts connections at a unix socket; a socket file alone may be what a killed server left."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True

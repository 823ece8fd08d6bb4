"""The two ends of pairing, over CURVE: `Offer` waits for one machine, `take_up` is that machine."""

from __future__ import annotations

import logging
import socket as sockets

import zmq

from drba.errors import InputError, ProtocolError, ServerError

from .curve import Gatekeeper, client_key, secure_client, secure_server
from .deadline import Deadline
from .keys import TCP, RemoteServer, add_client, add_server, identity
from .pairing import (
    MAX_BYTES,
    MAX_WRONG,
    Answer,
    Invitation,
    OneTimeCode,
    Question,
    pack_answer,
    pack_question,
    unpack_answer,
    unpack_question,
)

log = logging.getLogger("drba.pair")

ANSWER_TIMEOUT_S = 5.0
LINGER_MS = 2000  # for the answer to leave
LOOK_S = 1.0


class Offer:
    """Waits at `port` of all addresses; of the server, the machines are told `server_port`. Use as a context."""

    def __init__(self, name: str, address: str, port: int, server_port: int, code: OneTimeCode | None = None) -> None:
        """`name` is what this machine calls itself, `address` where others find it. ServerError if nothing can listen."""
        self._name, self._server_port = name, server_port
        self._code = code or OneTimeCode()
        own = identity()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # Any key may speak here: the code says whose it is. It stays a stranger to the server until that was right.
        self._gatekeeper = Gatekeeper(self._context, lambda key: True)
        self._socket = self._context.socket(zmq.ROUTER)
        secure_server(self._socket, own)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        try:
            self._socket.bind(f"{TCP}*:{port}")
        except zmq.ZMQError as error:
            self.close()
            raise ServerError(
                f"port {port} cannot be listened at: {error.strerror}; choose another with --port"
            ) from error
        self.invitation = Invitation(f"{TCP}{address}:{port}", own.public, self._code.text)

    def __enter__(self) -> Offer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> str:
        """Until a machine has said the code; its name here. ServerError when the code does not count any more."""
        while self._code.left_s:
            if self._socket.poll(int(min(self._code.left_s, LOOK_S) * 1000) + 1):
                name = self._answer(self._socket.recv_multipart(copy=False))
                if name is not None:
                    return name
        if self._code.wrong >= MAX_WRONG:
            raise ServerError(f"{MAX_WRONG} wrong codes were tried: nothing was paired; run drba pair again")
        raise ServerError("nobody came in time: nothing was paired; run drba pair again")

    def _answer(self, frames: list[zmq.Frame]) -> str | None:
        try:
            if len(frames) != 2:
                raise ProtocolError(f"pairing: a message has {len(frames) - 1} parts, expected 1")
            question = unpack_question(frames[1].bytes)
        except ProtocolError as error:
            log.warning("%s", error)
            return None
        name = None
        if self._code.take(question.code):
            name = add_client(question.name, client_key(frames[1]))
        else:
            log.warning("a wrong code was tried, number %d of %d", self._code.wrong, MAX_WRONG)
        answer = Answer(name is not None, self._name, self._server_port)
        self._socket.send_multipart([frames[0].bytes, pack_answer(answer)])
        return name

    def close(self) -> None:
        self._gatekeeper.stop()
        self._socket.close(LINGER_MS)
        self._context.term()


def take_up(invitation: Invitation, name: str, call_it: str | None = None) -> RemoteServer:
    """Pair with the machine that offers: it gets `name` for this one, and is kept here under its own name or `call_it`.
    ServerError where it is not there or the code does not count, InputError for an invitation of this machine's own."""
    own = identity()
    if invitation.key == own.public:
        raise InputError("this line is of this machine; run drba pair with it on the other one")
    where = invitation.endpoint.removeprefix(TCP)
    deadline = Deadline(ANSWER_TIMEOUT_S)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        secure_client(socket, own, invitation.key)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        try:
            socket.connect(invitation.endpoint)
        except zmq.ZMQError as error:
            raise ServerError(f"{where} cannot be used: {error.strerror}; is the line of another machine?") from error
        socket.send(pack_question(Question(invitation.code, name)))
        if not socket.poll(int(deadline.remaining_s * 1000)):
            raise ServerError(
                f"{where} does not answer; is drba pair still waiting there, and does its firewall let this port through?"
            )
        try:
            answer = unpack_answer(socket.recv())
        except ProtocolError as error:
            raise ServerError(f"{where}: {error}") from error
    if not answer.accepted:
        raise ServerError(f"{where} does not take this code; run drba pair there again and use the new line")
    endpoint = f"{invitation.endpoint.rpartition(':')[0]}:{answer.port}"
    return RemoteServer(add_server(call_it or answer.name, endpoint, invitation.key), endpoint, invitation.key)


def network_address() -> str | None:
    """The address that this machine would use towards the internet, where others of its network find it; nothing is sent."""
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: belongs to nobody
            address = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if address.startswith(("127.", "0.")) else address

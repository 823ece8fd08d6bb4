"""Making two machines known to each other: what is said, and how long and how often a code counts. No sockets.

One machine offers: it shows a line with its address, its public key and a one-time code. The other one takes the line, connects
by CURVE (which shows that the offering end has that key, and that the taking end has its own) and says the code inside that
channel. Each end keeps the other's public key. docs/remote.md has the threats that this meets.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgpack
from zmq.utils import z85

from drba.errors import InputError, ProtocolError

from .keys import NAME, TCP, check_endpoint, check_key, check_name

VERSION = 1
CODE_BYTES = 5  # 40 bits: only guessed online, and that not often
VALID_S = 600.0
MAX_WRONG = 3  # codes, after which the offer is over
MAX_BYTES = 1024  # of a message


@dataclass(frozen=True)
class Invitation:
    """The line. `endpoint` is where the offering machine waits, `key` its public key (Z85)."""

    endpoint: str
    key: str
    code: str

    def __str__(self) -> str:
        """Of characters that no shell takes for its own, but for the brackets of an IPv6 address."""
        key = base64.urlsafe_b64encode(z85.decode(self.key)).decode().rstrip("=")
        return f"{self.endpoint.removeprefix(TCP)}/{key}/{self.code}"

    @classmethod
    def parse(cls, line: str) -> Invitation:
        """InputError for what is no such line."""
        address, _, rest = line.strip().partition("/")
        key, _, code = rest.partition("/")
        try:
            raw = base64.b64decode(key + "=", altchars=b"-_", validate=True)
            if len(raw) != 32 or not re.fullmatch(r"[A-Z2-7]{8}", code):
                raise InputError("the key or the code is not whole")
            return cls(check_endpoint(TCP + address), check_key(z85.encode(raw).decode()), code)
        except (binascii.Error, ValueError, InputError) as error:
            raise InputError(
                f"{line[:100]!r} is no line of `drba pair`; expected HOST:PORT/KEY/CODE, copied whole from the other machine"
            ) from error


class OneTimeCode:
    """Counts once, for VALID_S, and until MAX_WRONG wrong ones were tried. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.text = base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode()
        self.wrong = 0
        self._used = False
        self._clock = clock
        self._ends_at = clock() + VALID_S

    @property
    def left_s(self) -> float:
        """How long it still counts; 0 when it does not any more."""
        over = self._used or self.wrong >= MAX_WRONG
        return 0.0 if over else max(0.0, self._ends_at - self._clock())

    def take(self, text: str) -> bool:
        """Whether this is the code, and it counts. In the same time whichever characters are wrong."""
        if not self.left_s:
            return False
        right = hmac.compare_digest(text.encode(), self.text.encode())
        self.wrong += not right
        self._used |= right
        return right


@dataclass(frozen=True)
class Question:
    """The taking end's only message. Its key is not in it: the connection shows that."""

    code: str
    name: str


@dataclass(frozen=True)
class Answer:
    """`port` is that of the server; its machine is the one that was asked."""

    accepted: bool
    name: str
    port: int


def pack_question(question: Question) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, "code": question.code, "name": question.name}))


def unpack_question(data: bytes) -> Question:
    """ProtocolError for anything else."""
    fields = _unpack(data)
    code = fields.get("code")
    if not isinstance(code, str) or len(code) > 64:
        raise ProtocolError("pairing: the code is no text of at most 64 characters")
    return Question(code, _checked_name(fields.get("name")))


def pack_answer(answer: Answer) -> bytes:
    fields = {"v": VERSION, "accepted": answer.accepted, "name": answer.name, "port": answer.port}
    return bytes(msgpack.packb(fields))


def unpack_answer(data: bytes) -> Answer:
    """ProtocolError for anything else."""
    fields = _unpack(data)
    accepted, port = fields.get("accepted"), fields.get("port")
    if not isinstance(accepted, bool) or type(port) is not int or not 0 < port < 65536:
        raise ProtocolError("pairing: the answer cannot be read; update the older of the two machines")
    return Answer(accepted, _checked_name(fields.get("name")), port)


def _checked_name(name: object) -> str:
    """A name of another machine ends up on a terminal and in a file."""
    try:
        return check_name(name)
    except InputError as error:
        raise ProtocolError(f"pairing: {error}") from error


def _unpack(data: bytes) -> dict[str, object]:
    try:
        fields = msgpack.unpackb(data, raw=False) if len(data) <= MAX_BYTES else None
    except Exception as error:  # msgpack raises half a dozen unrelated types on bad input
        raise ProtocolError("pairing: the message is not msgpack") from error
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise ProtocolError(f"pairing: expected a message of version {VERSION}; update the older of the two machines")
    return fields


def machine_name(hostname: str) -> str:
    """A name for this machine that can be used everywhere; InputError where its host name has none in it."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", hostname.partition(".")[0]).strip("-._")[:32]
    if not NAME.fullmatch(name):
        raise InputError(f"this machine's host name {hostname!r} cannot be used; give another with --name")
    return name

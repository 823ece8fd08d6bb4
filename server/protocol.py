"""The wire protocol between player and server: bytes to messages and back. Pure code, no I/O; executed by both ends.

A message on the wire is a ZeroMQ multipart message: a msgpack map (the header), then raw frames (the payloads), if any.
The header holds `v` (the version), `type` (the message's label) and exactly the fields that messages.py declares.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack

from drba.errors import ProtocolError

from .fields import show
from .messages import (
    MAX_HEADER_BYTES,
    MAX_ID,
    MAX_PARTS,
    MAX_SESSION_ID,
    REPLIES,
    REQUESTS,
    VERSION,
    FailureCode,
    Message,
    Render,
    Rendered,
)

_REQUESTS = {kind.label: kind for kind in REQUESTS}
_REPLIES = {kind.label: kind for kind in REPLIES}
Buffer = bytes | bytearray | memoryview


class MalformedMessage(ProtocolError):
    """A message that cannot be taken; `session` and `request` are its ids where they could still be read."""

    def __init__(self, line: str, code: str, header: object = None) -> None:
        super().__init__(line)
        self.code = code
        found = header if isinstance(header, dict) else {}
        self.session = _readable_id(found.get("session"), MAX_SESSION_ID)
        self.request = _readable_id(found.get("request"), MAX_ID)


def serialize(message: Message, payloads: Sequence[Buffer] = ()) -> list[Buffer]:
    """The parts of a message on the wire; ProtocolError if it breaks its own rules."""
    message.check()
    header = {"v": VERSION, "type": message.label, **message.to_map()}
    # An error line may name a file, whose name may be no Unicode: that must not be what ends the server.
    return [msgpack.packb(header, unicode_errors="replace"), *payloads]


def parse_request(parts: Sequence[Buffer]) -> tuple[Message, tuple[Buffer, ...]]:
    """A client's message and its payloads, or MalformedMessage."""
    return _parse(parts, _REQUESTS)


def parse_reply(parts: Sequence[Buffer]) -> tuple[Message, tuple[Buffer, ...]]:
    """A server's message and its payloads, or MalformedMessage."""
    return _parse(parts, _REPLIES)


def _parse(parts: Sequence[Buffer], kinds: dict[str, type[Message]]) -> tuple[Message, tuple[Buffer, ...]]:
    if not 1 <= len(parts) <= MAX_PARTS:
        raise MalformedMessage(f"message has {len(parts)} parts, expected 1..{MAX_PARTS}", FailureCode.MALFORMED)
    header = _unpack(parts[0])
    if header.get("v") != VERSION or isinstance(header["v"], bool):
        found = show(header.get("v"))
        line = f"message has protocol version {found}, expected {VERSION}: update the older of player and server"
        raise MalformedMessage(line, FailureCode.VERSION, header)
    label = header.get("type")
    kind = kinds.get(label) if isinstance(label, str) else None
    if kind is None:
        line = f"message type is {show(label)}, expected one of {', '.join(kinds)}"
        raise MalformedMessage(line, FailureCode.MALFORMED, header)
    try:
        message = kind.from_map({key: value for key, value in header.items() if key not in ("v", "type")})
        _check_payloads(message, len(parts) - 1)
    except MalformedMessage:
        raise
    except ProtocolError as error:
        raise MalformedMessage(str(error), FailureCode.MALFORMED, header) from error
    return message, tuple(parts[1:])


def _unpack(part: Buffer) -> dict[str, object]:
    size = part.nbytes if isinstance(part, memoryview) else len(part)
    if size > MAX_HEADER_BYTES:
        raise MalformedMessage(f"header has {size} bytes, expected at most {MAX_HEADER_BYTES}", FailureCode.MALFORMED)
    try:
        header = msgpack.unpackb(part, raw=False, use_list=False)
    except Exception as error:  # msgpack raises half a dozen unrelated types on bad input
        raise MalformedMessage(f"header is not msgpack ({error}), expected a map", FailureCode.MALFORMED) from error
    if not isinstance(header, dict):
        raise MalformedMessage(f"header is {show(header)}, expected a map", FailureCode.MALFORMED)
    return header


def _check_payloads(message: Message, payloads: int) -> None:
    if isinstance(message, Render) and not message.output_slots:
        places = sorted(place for _, place in message.attached)
        if places != list(range(len(places))):
            raise ProtocolError(
                f"render.attached names frames {places} of the payloads, expected 0 to {len(places) - 1}"
            )
        if bool(places) != bool(payloads) or (places and payloads % len(places)):
            raise ProtocolError(
                f"render attaches {len(places)} frames in {payloads} payloads, expected as many for each"
            )
    elif payloads and not isinstance(message, Rendered):
        raise ProtocolError(f"{message.label} came with {payloads} payloads, expected none")


def _readable_id(value: object, high: int) -> int | None:
    return value if type(value) is int and 0 <= value <= high else None

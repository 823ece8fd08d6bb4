"""Whoever sends what nobody should, in a process of its own: `hostile.py server|http ENDPOINT|URL COUNT SEED`.

Prints how many messages or requests it sent, by what was wrong with them, and how many answers it got, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import msgpack  # noqa: E402
import zmq  # noqa: E402
from fuzzing import Fuzzer, RangeFuzzer  # noqa: E402

from server import messages as m  # noqa: E402
from server.protocol import MalformedMessage, parse_request  # noqa: E402

SOCKETS = 8
BATCH = 20  # messages that are exchanged among each other before they are sent
LEFT_OPEN = 100  # connections that say half of something and then nothing
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31)  # ZMTP 3.1
READY = b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
LONG, MORE = b"\x02", b"\x01"
LAST_REQUEST = 987_654_321
LAST = msgpack.packb({"v": m.VERSION, "type": "close", "session": 1, "request": LAST_REQUEST})  # close has no request


class Server:
    """Against drba-server's socket."""

    def __init__(self, endpoint: str, seed: int) -> None:
        self._fuzzer = Fuzzer(seed)
        self._random = random.Random(seed)
        self._path = endpoint.removeprefix("ipc://")
        self._sent: Counter[str] = Counter()
        self._answers = 0
        self._earlier: list[list[bytes]] = []
        self._half: list[socket.socket] = []
        context = zmq.Context()
        self._sockets = [context.socket(zmq.DEALER) for _ in range(SOCKETS)]
        for each in self._sockets:
            each.linger = 0
            each.connect(endpoint)

    def run(self, count: int) -> dict[str, int]:
        while self._sent.total() < count:
            batch = [self._message() for _ in range(BATCH)]
            self._random.shuffle(batch)
            for parts in batch:
                self._random.choice(self._sockets).send_multipart(parts)
            for _ in range(BATCH // 10):
                self._half_message()
            self._read()
        for each in self._sockets[1:]:
            each.send(LAST)
        for each in self._sockets[1:]:  # all that was sent has been dealt with when this is answered
            while each.poll(60_000):
                self._answers += 1
                answer = msgpack.unpackb(each.recv_multipart()[0])
                if answer.get("request") == LAST_REQUEST:
                    break
        return {**self._sent, "answers": self._answers}

    def _message(self) -> list[bytes]:
        roll = self._random.random()
        if roll < 0.15 and self._earlier:
            self._sent["replayed"] += 1
            return self._random.choice(self._earlier)
        if roll < 0.17:
            self._sent["oversized"] += 1
            return self._random.choice(([bytes(m.MAX_HEADER_BYTES + 1)], [b"\x80", bytes(1 << 20)], [b"\x80"] * 300))
        parts = self._fuzzer.case() or [b""]
        with contextlib.suppress(MalformedMessage):
            if isinstance(parse_request(parts)[0], m.Stop):
                parts = [b"stop"]
        with contextlib.suppress(AssertionError):
            self._fuzzer.check(parts)  # which remembers what was refused in new words
        self._sent["fuzzed"] += 1
        self._earlier = [*self._earlier[-500:], parts]
        return parts

    def _half_message(self) -> None:
        """On a connection of its own, below ZeroMQ."""
        rng = self._random
        frame = self._fuzzer.case()
        body = frame[0] if frame else b""
        said = rng.choice(
            (
                rng.randbytes(rng.randrange(200)),
                GREETING[: rng.randrange(len(GREETING))],
                GREETING + READY[: rng.randrange(len(READY))],
                GREETING + READY + LONG + (1 << 60).to_bytes(8, "big"),
                GREETING + READY + LONG + (1 << 28).to_bytes(8, "big") + body,
                GREETING + READY + MORE + bytes([min(len(body), 255)]) + body[:255],
                GREETING + READY + b"\x00" + bytes([min(len(body) + 9, 255)]) + body[:255],
            )
        )
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            connection.connect(self._path)
            connection.sendall(said)
        self._sent["half sent"] += 1
        self._half.append(connection)
        if len(self._half) > LEFT_OPEN:
            self._half.pop(rng.randrange(LEFT_OPEN)).close()

    def _read(self) -> None:
        for each in self._sockets[1:]:  # the first one never reads
            while each.poll(0):
                each.recv_multipart()
                self._answers += 1


WHOLE = ("range", "path", "header")  # requests that are answered


class Http:
    """Against the bridge's virtual files."""

    def __init__(self, url: str, seed: int) -> None:
        address = urlsplit(url)
        self._host, self._port, self._path = address.hostname, address.port, address.path
        self._random = random.Random(seed)
        self._ranges = RangeFuzzer(seed)
        self._sent: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._half: list[socket.socket] = []

    def run(self, count: int) -> dict[str, int]:
        for _ in range(count):
            what, request = self._request()
            self._sent[what] += 1
            connection = socket.create_connection((self._host, self._port), 5)
            with contextlib.suppress(OSError):
                connection.sendall(request)
                if what in WHOLE:
                    self._statuses[connection.recv(12).decode("latin-1")[9:]] += 1
                    connection.close()
            self._half.append(connection)
            if len(self._half) > LEFT_OPEN:
                self._half.pop(self._random.randrange(LEFT_OPEN)).close()
        return {**self._sent, **{f"status {status or 'none'}": n for status, n in self._statuses.items()}}

    def _request(self) -> tuple[str, bytes]:
        rng = self._random
        own = f"Host: {self._host}:{self._port}"
        # HEAD wherever all might be right: a GET would take the film over.
        good = f"HEAD {self._path} HTTP/1.1\r\n{own}\r\n"
        match rng.randrange(7):
            case 0:
                header, _ = self._ranges.case()
                return "range", f"{good}Range: {header}\r\n\r\n".encode()
            case 1:
                return "noise", rng.randbytes(rng.randrange(300)) + b"\r\n\r\n"
            case 2:
                wire = bytearray(good.encode() + b"\r\n")
                for _ in range(rng.randrange(1, 4)):
                    wire[rng.randrange(3, len(wire))] = rng.randrange(256)
                return "damaged", b"BAD" + bytes(wire[3:])
            case 3:
                wrong = rng.choice(("/", "/../..", self._path[:-1], "//", "*", "http://evil/", "/" + "a" * 9000))
                return "path", f"GET {wrong} HTTP/1.1\r\n{own}\r\n\r\n".encode()
            case 4:
                said = rng.choice(
                    ("Host: evil", "Origin: https://evil", "Content-Length: 9999999", "Transfer-Encoding: chunked")
                )
                return "header", f"{good}{said}\r\n\r\n".encode()
            case 5:
                return "oversized", f"{good}{'X: y' * rng.choice((3000, 30000))}\r\n\r\n".encode()
            case _:
                return "half sent", good.encode()[: rng.randrange(len(good))]


if __name__ == "__main__":
    kind, target, count, seed = sys.argv[1:]
    hostile = {"server": Server, "http": Http}[kind](target, int(seed))
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(hostile.run(int(count))))

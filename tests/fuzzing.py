"""Messages that nobody should send, derived from the message types themselves: what a field's rule allows, its limits and what
lies beyond them, fields that are missing, foreign or exchanged, damaged bytes, and wrong numbers of parts.

Refusals guide the search: a message that is refused in words not seen before is kept, and damaged further.
"""

from __future__ import annotations

import inspect
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from player.http_server import parse_range
from server import messages as m
from server.fields import Record, Rule, _rules
from server.protocol import MalformedMessage, parse_reply, parse_request, serialize

KEPT = 2000  # messages that were refused in words of their own
WORDS = ("", "flow", "auto", "gray", "bt709", "\0", "\n", "é日本", "x" * 64, "x" * 65, "x" * 5000, "\ud800")
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    63,
    64,
    65,
    255,
    1023,
    1024,
    16384,
    2**31 - 1,
    2**31,
    2**53 - 1,
    2**53,
    2**63,
    2**64 - 1,
    -(2**63),
)
FLOATS = (0.0, -0.0, 0.5, 1.0, 2.0, 1e-9, 1e9, 1e300, 5e-324, float("nan"), float("inf"), float("-inf"))

Header = dict[Any, Any]
Parts = list[bytes]


@dataclass
class Fuzzer:
    """Everything that it makes follows from `seed`."""

    seed: int
    kinds: Sequence[type[m.Message]] = m.REQUESTS
    parse: Callable[[Sequence[bytes]], tuple[m.Message, tuple[Any, ...]]] = parse_request
    refused: Counter[str] = field(default_factory=Counter)  # by the words of the refusal, without what was found
    accepted: Counter[str] = field(default_factory=Counter)  # by type
    _kept: list[Parts] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    # --- making ---------------------------------------------------------------------------------------------------

    def case(self) -> Parts:
        """The parts of one message."""
        roll = self.random.random()
        if self._kept and roll < 0.3:
            parts = list(self.random.choice(self._kept))
        else:
            kind = self.random.choice(self.kinds)
            fields = self.fields(kind)
            header = {"v": m.VERSION, "type": kind.label, **fields}
            for _ in range(self.random.choice((0, 0, 1, 1, 2, 4))):
                self._spoil(header, kind)
            parts = [_pack(header), *self._payloads(fields)]
        for _ in range(self.random.choice((0, 0, 0, 1, 1, 3))):
            self._damage(parts)
        return parts

    def valid(self, kind: type[m.Message]) -> m.Message:
        """A message that keeps all rules."""
        while True:
            made = kind(**{name: _tuples(value) for name, value in self.fields(kind).items()})
            try:
                return kind.from_map(made.to_map())
            except m.ProtocolError:
                continue

    def fields(self, kind: type[Record]) -> Header:
        """Values that each field's rule allows; for the most part they fit each other too."""
        values = {name: self._value(rule) for name, rule in _rules(kind).items()}
        if kind is m.Render:
            self._fit_render(values)
        elif kind is m.Open:
            values |= {"width": self.random.choice((1, 8, 33)), "height": self.random.choice((1, 8, 21))}
            values["pixel_format"] = self.random.choice(("gray", "yuv420p", "yuv444p16le", "gbrp"))
        return values

    def _value(self, rule: Rule) -> Any:
        """What a rule of server/fields.py allows, its limits above all. Rules are functions that hold their limits."""
        held = inspect.getclosurevars(rule).nonlocals
        maker = rule.__qualname__.split(".")[0]
        choose = self.random.choice
        if maker == "integer":
            low, high = held["low"], held["high"]
            return choose((low, high, min(low + 1, high), min(high, low + self.random.randrange(12))))
        if maker == "number":
            return choose(
                (held["low"], held["high"], self.random.uniform(held["low"], held["high"]), min(1.0, held["high"]))
            )
        if maker == "boolean":
            return choose((True, False))
        if maker == "text":
            return choose(WORDS)[: held["max_characters"]]
        if maker == "optional":
            return None if self.random.random() < 0.4 else self._value(held["rule"])
        if maker == "sequence":
            count = choose((0, 1, 2, 3, held["max_items"])) if self.random.random() < 0.9 else self.random.randrange(9)
            return [self._value(held["rule"]) for _ in range(min(count, held["max_items"]))]
        if maker == "pair":
            return [self._value(held["first"]), self._value(held["second"])]
        if maker == "record":
            return self.fields(held["kind"])
        raise TypeError(f"rule {rule.__qualname__} is not known; say here what it allows")

    def _fit_render(self, values: Header) -> None:
        """Frames that differ, times on sides that are there, places that differ."""
        rng = self.random
        first = rng.randrange(6)
        sides = rng.choice(((True, True), (True, False), (False, True)))
        previous, middle, following = first if sides[0] else None, first + 1, first + 2 if sides[1] else None
        low, high = 0.0 if sides[0] else 1.0, 2.0 if sides[1] else 1.0
        times = [rng.uniform(low, high) for _ in range(rng.choice((1, 2, m.MAX_TIMES)))]
        frames = [number for number in (previous, middle, following) if number is not None]
        inline = rng.random() < 0.5
        brought = rng.sample(frames, rng.randrange(len(frames) + 1))
        slots = rng.sample(range(80), len(brought) + len(times))
        values |= {
            "session": rng.choice((1, 2, 3)),
            "generation": rng.randrange(4),
            "previous": previous,
            "middle": middle,
            "following": following,
            "times": times,
            "attached": [[number, place if inline else slots[place]] for place, number in enumerate(brought)],
            "output_slots": [] if inline else slots[len(brought) :],
        }
        if "encoding" in values and rng.random() < 0.9:
            values["encoding"] = ""

    def _payloads(self, fields: Header) -> Parts:
        if "attached" not in fields or fields.get("output_slots"):
            return []
        size = self.random.choice((0, 1, 64, 693, 8 * 8 * 3 // 2))
        return [bytes(size) for _ in fields["attached"]] if isinstance(fields["attached"], list) else []

    # --- spoiling -------------------------------------------------------------------------------------------------

    def junk(self, depth: int = 0) -> Any:
        """Any value that msgpack can carry."""
        rng = self.random
        kind = rng.randrange(9 if depth < 3 else 6)
        if kind == 6:
            return [
                self.junk(depth + 1) for _ in range(rng.choice((0, 1, 2, 5, 100)) if depth == 0 else rng.randrange(3))
            ]
        if kind == 7:
            return {rng.choice(WORDS): self.junk(depth + 1) for _ in range(rng.randrange(4))}
        if kind == 8:
            return msgpack.ExtType(rng.randrange(128), b"x" * rng.randrange(5))
        return (None, rng.random() < 0.5, rng.choice(NUMBERS), rng.choice(FLOATS), rng.choice(WORDS), rng.randbytes(3))[
            kind
        ]

    def _spoil(self, header: Header, kind: type[m.Message]) -> None:
        rng, names = self.random, list(header) or [""]
        name = rng.choice(names)
        match rng.randrange(6):
            case 0:
                header.pop(name, None)
            case 1:
                header[rng.choice((*WORDS, "session", "extra"))] = self.junk()
            case 2:
                header[name] = self.junk()
            case 3:
                other = rng.choice(names)
                header[name], header[other] = header.get(other), header.get(name)
            case 4 if isinstance(header.get(name), list):
                header[name] = self._spoilt_list(header[name])
            case 5:
                header["type"] = rng.choice(self.kinds).label
            case _:
                value = header.get(name)
                if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63:
                    header[name] = value + rng.choice((-1, 1, 0.5, -value * 2))

    def _spoilt_list(self, values: list[Any]) -> list[Any]:
        rng, values = self.random, list(values)
        if not values or rng.random() < 0.3:
            return [*values, self.junk()]
        place = rng.randrange(len(values))
        match rng.randrange(4):
            case 0:
                return values * rng.choice((2, 30))
            case 1:
                values[place] = self.junk()
            case 2:
                values[place] = rng.choice(values)
            case 3:
                del values[place]
        return values

    def _damage(self, parts: Parts) -> None:
        """The bytes and the number of the parts."""
        rng = self.random
        if not parts or rng.random() < 0.15:
            many = rng.choice((1, 2, 70))
            parts.extend(rng.randbytes(rng.choice((0, 1, 64))) for _ in range(many))
            return
        place = 0 if rng.random() < 0.8 else rng.randrange(len(parts))
        wire = bytearray(parts[place])
        at = rng.randrange(len(wire) + 1)
        match rng.randrange(7):
            case 0 if wire:
                wire[min(at, len(wire) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                del wire[at:]
            case 2:
                wire[at:at] = rng.randbytes(rng.choice((1, 4, 300)))
            case 3:
                del wire[at : at + rng.randrange(1, 9)]
            case 4:
                wire[at:at] = wire[: rng.randrange(40)]
            case 5:
                # Lengths that are not there: str, array and map of up to 2^32 - 1.
                wire[at:at] = rng.choice((b"\xdb", b"\xdd", b"\xdf", b"\xc6", b"\xc9")) + rng.randbytes(4)
            case 6 if len(parts) > 1:
                rng.shuffle(parts)
                return
        parts[place] = bytes(wire)

    # --- judging --------------------------------------------------------------------------------------------------

    def check(self, parts: Sequence[bytes]) -> None:
        """Parse a message: refused in one line, or what it says can be said again. AssertionError, or what was raised."""
        try:
            message, payloads = self.parse(parts)
        except MalformedMessage as refusal:
            line = str(refusal)
            assert "\n" not in line and len(line) < 600, line
            assert refusal.session is None or 0 <= refusal.session <= m.MAX_SESSION_ID
            assert refusal.request is None or 0 <= refusal.request <= m.MAX_ID
            words = _words(line)
            if words not in self.refused and len(self._kept) < KEPT:
                self._kept.append(list(parts))
            self.refused[words] += 1
            return
        message.check()
        again, same = self.parse([bytes(part) for part in serialize(message, payloads)])
        assert repr(again) == repr(message) and same == payloads  # by their texts: -0.0 is 0.0 to ==
        self.accepted[message.label] += 1


def request_fuzzer(seed: int) -> Fuzzer:
    return Fuzzer(seed)


def reply_fuzzer(seed: int) -> Fuzzer:
    return Fuzzer(seed, m.REPLIES, parse_reply)


def _pack(header: Header) -> bytes:
    return bytes(msgpack.packb(header, unicode_errors="surrogatepass"))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _words(line: str) -> str:
    """A refusal without the values in it."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\d.e+-]*|\bnan\b|\binf\b", "_", line)[:160]


class RangeFuzzer:
    """Range headers, and whether what is read in one is a part of the file."""

    PIECES = (
        "bytes",
        "=",
        "-",
        ",",
        " ",
        "0",
        "1",
        "999",
        "1000",
        "9" * 18,
        "9" * 19,
        "9" * 5000,
        "+",
        "0x",
        "\u0663",
        "\t",
    )

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def case(self) -> tuple[str, int]:
        """A header, and the size of the file that is asked for."""
        rng = self.random
        size = rng.choice((1, 2, 1000, 10**6, 10**13))
        if rng.random() < 0.5:
            first, last = (rng.choice(("", str(rng.randrange(-2, 2 * size)))) for _ in range(2))
            return f"bytes={first}-{last}", size
        return "".join(rng.choices(self.PIECES, k=rng.randrange(9))), size

    def check(self, case: tuple[str, int]) -> bool:
        """Whether it is served."""
        header, size = case
        wanted = parse_range(header, size)
        if wanted is None:
            return False
        first, last = wanted
        assert 0 <= first <= last < size, case
        assert re.fullmatch(r"\s*bytes=[0-9]*-[0-9]*\s*", header), case
        return True

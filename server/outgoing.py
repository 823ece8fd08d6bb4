"""What one end has learnt about sending frames over the network, and whether encoding them pays. No sockets.

Each end decides for what it sends. A byte of a raw frame costs 1 / throughput seconds until it is there, an encoded one the time
for encoding and decoding and its share of the fewer bytes. Throughput is that of real messages, buffers and encryption included.
A message took at most as long as from when it, and all before it, had been handed to the socket to when the other end's word
came that it had arrived (too long where that word had to wait), and at most as long as between the arrivals of the one before
and of itself by the other end's clock (too long where nothing was on the way): the shorter one counts.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from drba.pixels import FrameLayout

from .frame_codec import DELTA, RAW, decode, encode, split
from .protocol import Buffer

SAMPLES, AT_LEAST = 9, 3  # the newest ones, whose median counts: a stall of the network is one sample
PRESENT_S = 2.0  # older samples say little about the present, and count only where there are few
FIRST_ENCODED = 3  # messages: what is not known is measured first
TRIAL_EVERY = 100  # messages: then one is encoded, and decoded here, to see what that would cost now
WORTHWHILE = 0.9  # of the present way's cost: another way that does not cost less is not worth a change
NOT_ACKNOWLEDGED = 256  # messages, after which the oldest is forgotten


@dataclass(frozen=True)
class Packed:
    """Frames ready to be sent, one after the other. Times in seconds, of all frames together; `decode_s` None where it was not
    tried."""

    parts: list[Buffer]
    encoding: str = RAW
    raw_bytes: int = 0
    encode_s: float = 0.0
    decode_s: float | None = None

    @property
    def bytes(self) -> int:
        return sum(memoryview(part).nbytes for part in self.parts)


def pack(frames: Sequence[Buffer], layout: FrameLayout, encoding: str, *, trial: bool = False) -> Packed:
    """Split frames (each exactly one long) into parts, encoded where `encoding` says so. For any thread.

    Raw parts share the frames' memory. A `trial` decodes as well: how fast this end is stands for how fast the other one is.
    """
    raw_bytes = layout.frame_bytes * len(frames)
    if encoding == RAW:
        return Packed([part for frame in frames for part in split(frame)], RAW, raw_bytes)
    started = time.perf_counter()
    encoded = [encode(frame, layout) for frame in frames]
    encode_s, decode_s = time.perf_counter() - started, None
    if trial:
        started = time.perf_counter()
        for parts in encoded:
            decode(parts, encoding, layout, bytearray(layout.frame_bytes))
        decode_s = time.perf_counter() - started
    return Packed([part for parts in encoded for part in parts], encoding, raw_bytes, encode_s, decode_s)


class _Recent:
    """The median of the newest samples."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)  # when, what
        self.value: float | None = None

    def add(self, sample: float) -> None:
        self._samples.append((self._clock(), sample))
        while len(self._samples) > AT_LEAST and self._samples[0][0] < self._clock() - PRESENT_S:
            self._samples.popleft()
        self.value = median(value for _, value in self._samples)


class Throughput:
    """Of one direction of a connection, all sessions together. `clock` counts seconds. Belongs to the thread that sends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._on_the_way: deque[tuple[tuple[int, int], int, float]] = deque(maxlen=NOT_ACKNOWLEDGED)
        self._last_word = self._last_arrival = float("-inf")  # by this end's clock, and by the other one's
        self._send_s = _Recent(clock)  # seconds a byte

    def sent(self, message: tuple[int, int], size: int) -> None:
        """A message (its session and request) of `size` bytes is handed to the socket."""
        self._on_the_way.append((message, size, self._clock()))

    def arrived(self, message: tuple[int, int], at_s: float) -> bool:
        """The other end has this message, and so all before it, since `at_s` of its clock; False, and nothing is learnt, if it is
        not on its way."""
        if not any(message == sent for sent, _, _ in self._on_the_way):
            return False
        size, since = 0, self._on_the_way[0][2]
        while True:
            sent, sent_bytes, _ = self._on_the_way.popleft()
            size += sent_bytes
            if sent == message:
                break
        now = self._clock()
        took_s = min(now - max(since, self._last_word), at_s - self._last_arrival)
        self._last_word, self._last_arrival = now, at_s
        if took_s > 0:
            self._send_s.add(took_s / size)
        return True

    @property
    def waiting(self) -> int:
        """Messages on their way."""
        return len(self._on_the_way)

    @property
    def s_per_byte(self) -> float | None:
        """None while unknown."""
        return self._send_s.value


class Outgoing:
    """What one session sends over `link`.

    `next` may be called by any thread; everything else by the thread that sends.
    """

    def __init__(self, link: Throughput, clock: Callable[[], float] = time.monotonic) -> None:
        self.encodes = True  # which way is the better one at present
        self._link = link
        self._lock = threading.Lock()
        self._messages = 0
        self._encode_s, self._decode_s = _Recent(clock), _Recent(clock)  # seconds of a raw byte
        self._share = _Recent(clock)  # encoded bytes of one raw byte

    def next(self) -> tuple[str, bool]:
        """The next message's encoding, and whether it is a trial. To be called once a message."""
        with self._lock:
            trial = self._messages < FIRST_ENCODED or self._messages % TRIAL_EVERY == 0
            self._messages += 1
            return (DELTA, trial) if self.encodes or trial else (RAW, False)

    def sent(self, message: tuple[int, int], packed: Packed) -> None:
        """A message (its session and request) is handed to the socket."""
        self._link.sent(message, packed.bytes)
        if packed.encoding != RAW:
            self._encode_s.add(packed.encode_s / packed.raw_bytes)
            self._share.add(packed.bytes / packed.raw_bytes)
            if packed.decode_s is not None:
                self._decode_s.add(packed.decode_s / packed.raw_bytes)

    def arrived(self, message: tuple[int, int], at_s: float) -> None:
        """The other end has this message, and so all before it, since `at_s` of its clock."""
        if self._link.arrived(message, at_s):
            self._decide()

    def send_ms(self, packed: Packed) -> float:
        """How long these keep the network busy; 0 while that is unknown."""
        return packed.bytes * (self._link.s_per_byte or 0.0) * 1000

    def _decide(self) -> None:
        encode_s, decode_s = self._encode_s.value, self._decode_s.value
        send_s, share = self._link.s_per_byte, self._share.value
        if send_s is None or share is None or encode_s is None or decode_s is None:
            return
        raw, encoded = send_s, encode_s + decode_s + share * send_s
        now, other = (encoded, raw) if self.encodes else (raw, encoded)
        if other < WORTHWHILE * now:
            self.encodes = not self.encodes

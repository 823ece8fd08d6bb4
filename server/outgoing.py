"""What one end of a session has learnt about sending frames over the network, and whether encoding them pays. No sockets.

Each end decides for what it sends. A byte of a raw frame costs 1 / throughput seconds until it is there, an encoded one the time
for encoding and decoding and its share of the fewer bytes. Throughput is that of real messages: from when a message, and all
before it, had been handed to the socket to when the other end says that it has arrived, buffers and encryption included.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from drba.pixels import FrameLayout

from .frame_codec import RAW, decode, encode, split
from .protocol import Buffer

SAMPLES = 15  # the newest ones, whose median counts: a stall of the network is one sample
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

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self.value: float | None = None

    def add(self, sample: float) -> None:
        self._samples.append(sample)
        self.value = median(self._samples)


class Outgoing:
    """One direction of one session. `encoding` is what the other end can read, empty for nothing but raw frames.

    `next` may be called by any thread; everything else by the thread that sends. `clock` counts seconds.
    """

    def __init__(self, encoding: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.encodes = encoding != RAW  # which way is the better one at present
        self._encoding = encoding
        self._clock = clock
        self._lock = threading.Lock()
        self._messages = 0
        self._on_the_way: deque[tuple[int, int, float]] = deque(maxlen=NOT_ACKNOWLEDGED)  # request, bytes, when sent
        self._last_arrival = float("-inf")
        self._send_s = _Recent()  # seconds a byte, of each of these
        self._encode_s, self._decode_s = _Recent(), _Recent()
        self._share = _Recent()  # encoded bytes of one raw byte

    def next(self) -> tuple[str, bool]:
        """The next message's encoding, and whether it is a trial. To be called once a message."""
        with self._lock:
            trial = self._messages < FIRST_ENCODED or self._messages % TRIAL_EVERY == 0
            self._messages += 1
            return (self._encoding, trial) if self._encoding and (self.encodes or trial) else (RAW, False)

    def sent(self, request: int, packed: Packed) -> None:
        """A message is handed to the socket."""
        self._on_the_way.append((request, packed.bytes, self._clock()))
        if packed.encoding != RAW:
            self._encode_s.add(packed.encode_s / packed.raw_bytes)
            self._share.add(packed.bytes / packed.raw_bytes)
            if packed.decode_s is not None:
                self._decode_s.add(packed.decode_s / packed.raw_bytes)

    def arrived(self, request: int) -> None:
        """The other end has this request's message, and so all before it."""
        if not any(request == sent for sent, _, _ in self._on_the_way):
            return
        now, size, since = self._clock(), 0, None
        while self._on_the_way:
            sent, sent_bytes, sent_at = self._on_the_way.popleft()
            size, since = size + sent_bytes, sent_at if since is None else since
            if sent == request:
                break
        assert since is not None
        self._send_s.add(max(now - max(since, self._last_arrival), 1e-6) / size)
        self._last_arrival = now
        self._decide()

    @property
    def waiting(self) -> int:
        """Messages on their way."""
        return len(self._on_the_way)

    @property
    def bytes_per_s(self) -> float | None:
        """The network's throughput; None while unknown."""
        return None if self._send_s.value is None else 1 / self._send_s.value

    def send_ms(self, packed: Packed) -> float:
        """How long these keep the network busy; 0 while that is unknown."""
        return packed.bytes * (self._send_s.value or 0.0) * 1000

    def _decide(self) -> None:
        encode_s, decode_s = self._encode_s.value, self._decode_s.value
        send_s, share = self._send_s.value, self._share.value
        if send_s is None or share is None or encode_s is None or decode_s is None:
            return
        raw, encoded = send_s, encode_s + decode_s + share * send_s
        now, other = (encoded, raw) if self.encodes else (raw, encoded)
        if other < WORTHWHILE * now:
            self.encodes = not self.encodes

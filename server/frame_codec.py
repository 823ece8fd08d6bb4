"""Frames as the payloads of a message: raw, or losslessly encoded where a network is slower than that.

A frame's bytes travel in parts of CHUNK_BYTES, the last one shorter, each encoded by itself. Encoded means: every row but a
plane's first is its difference to the row above (modulo the sample's range), the bits of the samples are regrouped by
significance and Zstandard packs them, the last two by Blosc 1. docs/performance.md has the numbers of the alternatives.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from drba.errors import ProtocolError
from drba.pixels import FrameLayout

from .messages import CHUNK_BYTES
from .protocol import Buffer

RAW = ""
DELTA = "delta-bitshuffle-zstd"
LEVEL = 1  # Zstandard's; 3 halves the speed for 2 %
HEADER = struct.Struct("<BBBBIII")  # of Blosc 1: two versions, flags, sample bytes, raw bytes, block bytes, all bytes
ZSTD, BITSHUFFLED, COPIED = 4 << 5, 4, 2  # in its flags; a part that does not get smaller is copied


def parts_per_frame(frame_bytes: int) -> int:
    return -(-frame_bytes // CHUNK_BYTES)


def split(frame: Buffer) -> list[Buffer]:
    """A raw frame's parts; they share its memory."""
    whole = memoryview(frame)
    return [whole[start : start + CHUNK_BYTES] for start in range(0, whole.nbytes, CHUNK_BYTES)]


def encode(frame: Buffer, layout: FrameLayout) -> list[Buffer]:
    """A frame's encoded parts. Safe in any thread; lets others run meanwhile."""
    blosc = _blosc()
    differences = np.empty(layout.frame_bytes, np.uint8)
    for rows, out in zip(layout.views(frame), layout.views(differences), strict=True):
        out[0] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=out[1:])
    samples = differences.view(layout.format.dtype)
    step = CHUNK_BYTES // layout.format.sample_bytes
    return [
        blosc.compress(samples[start : start + step], b"zstd", LEVEL, blosc.BITSHUFFLE)
        for start in range(0, samples.size, step)
    ]


def check_parts(parts: Sequence[Buffer], encoding: str, layout: FrameLayout) -> None:
    """ProtocolError unless these can be a frame: what they claim to hold is exactly a frame, before anything is unpacked."""
    frame_bytes = layout.frame_bytes
    if encoding not in (RAW, DELTA):
        raise ProtocolError(f"frame has encoding {encoding!r}, expected none or {DELTA}")
    if len(parts) != parts_per_frame(frame_bytes):
        raise ProtocolError(f"frame has {len(parts)} parts, expected {parts_per_frame(frame_bytes)}")
    sizes = [_raw_bytes(part, layout.format.sample_bytes) if encoding == DELTA else len(part) for part in parts]
    expected = [min(CHUNK_BYTES, frame_bytes - start) for start in range(0, frame_bytes, CHUNK_BYTES)]
    if sizes != expected:
        raise ProtocolError(f"frame has parts of {_shown(sizes)} bytes, expected {_shown(expected)}")


def _shown(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes[:3])) + (", ..." if len(sizes) > 3 else "")


def _raw_bytes(part: Buffer, sample_bytes: int) -> int:
    """What an encoded part says that it holds; ProtocolError if it is not what `encode` makes."""
    if len(part) < HEADER.size:
        raise ProtocolError(f"encoded part has {len(part)} bytes, expected at least {HEADER.size}")
    _, _, flags, samples_of, raw, _, size = HEADER.unpack_from(part)
    if size != len(part):
        raise ProtocolError(f"encoded part has {len(part)} bytes and says {size}, expected them to agree")
    if flags & 0xE0 != ZSTD or not flags & (BITSHUFFLED | COPIED) or samples_of != sample_bytes:
        raise ProtocolError(f"encoded part has flags {flags:#x} for samples of {samples_of} bytes, expected {DELTA}")
    return int(raw)


def _blosc() -> ModuleType:
    """Imported here, on first use: it is needed over a network only. Its own threads are off; ours are many already."""
    from numcodecs import blosc

    blosc.use_threads = False
    return blosc


def decode(parts: Sequence[Buffer], encoding: str, layout: FrameLayout, frame: Buffer | NDArray[np.uint8]) -> None:
    """Write the frame that these parts hold into `frame` (exactly a frame, writable); ProtocolError if they hold none.

    Safe in any thread; lets others run meanwhile.
    """
    check_parts(parts, encoding, layout)
    whole = np.frombuffer(frame, np.uint8, layout.frame_bytes)
    for start, part in zip(range(0, whole.size, CHUNK_BYTES), parts, strict=True):
        out = whole[start : start + CHUNK_BYTES]
        if encoding == RAW:
            out[...] = np.frombuffer(part, np.uint8)
        else:
            _unpack(part, out)
    if encoding != RAW:
        for plane in layout.views(whole):
            for above, row in pairwise(plane):  # twice as fast as np.add.accumulate
                np.add(row, above, out=row)


def _unpack(part: Buffer, out: NDArray[np.uint8]) -> None:
    try:
        _blosc().decompress(part, out)
    except (RuntimeError, ValueError) as error:
        raise ProtocolError(
            f"encoded part of {len(part)} bytes is damaged ({error}); expected a Blosc buffer"
        ) from error

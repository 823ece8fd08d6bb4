"""Encoded frames that nobody should send: damaged where a compressor's own lengths and offsets are, above all.

What is unpacked is a frame or refused; a write beyond the frame, or a read that ends the process, is a fault.
"""

from __future__ import annotations

import random

import numpy as np

from drba.errors import ProtocolError
from drba.pixels import FrameLayout, pixel_format
from server.frame_codec import DELTA, HEADER, decode, encode

GUARD = 4096  # bytes before and after the frame that must stay as they are
NUMBERS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class FrameFuzzer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        noise = np.random.default_rng(seed)
        self._encoded: list[tuple[FrameLayout, bytes]] = []
        for width, height, name in ((38, 21, "yuv420p10le"), (300, 200, "yuv444p"), (64, 36, "gray")):
            layout = FrameLayout(width, height, pixel_format(name))
            for largest in (1, 3, 256):
                frame = noise.integers(0, largest, layout.frame_bytes, np.uint8)
                self._encoded.append((layout, bytes(encode(frame.tobytes(), layout)[0])))

    def case(self) -> tuple[FrameLayout, bytes]:
        rng = self.random
        layout, encoded = rng.choice(self._encoded)
        part = bytearray(encoded)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(min(len(part), 64) if rng.random() < 0.3 else len(part))
            match rng.randrange(5):
                case 0:
                    part[at] ^= 1 << rng.randrange(8)
                case 1:
                    part[at] = rng.choice((0, 127, 128, 255))
                case 2:
                    part[at : at + 4] = rng.choice((*NUMBERS, len(part), rng.randrange(1 << 32))).to_bytes(4, "little")
                case 3:
                    part[at : at + 8] = rng.randbytes(8)
                case 4:
                    del part[max(at, HEADER.size) :]
        if rng.random() < 0.9 and len(part) >= HEADER.size:  # else that is all that is found
            part[12:16] = len(part).to_bytes(4, "little")
        return layout, bytes(part)

    def check(self, case: tuple[FrameLayout, bytes]) -> bool:
        """Whether it was taken for a frame."""
        layout, part = case
        memory = np.full(GUARD + layout.frame_bytes + GUARD, 0xAA, np.uint8)
        try:
            decode([part], DELTA, layout, memory[GUARD:-GUARD])
            return True
        except ProtocolError:
            return False
        finally:
            assert (memory[:GUARD] == 0xAA).all() and (memory[-GUARD:] == 0xAA).all(), part[:64].hex()

"""A frame that came in a message: unpacked by the worker that needs it first, not by the thread that takes messages."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drba.pixels import FrameLayout

from .frame_codec import RAW, check_parts, decode
from .protocol import Buffer


class ReceivedFrame:
    """`buffer` is the raw frame once `unpack` has been called. Safe to use from several threads."""

    def __init__(self, parts: Sequence[Buffer], encoding: str, layout: FrameLayout) -> None:
        """ProtocolError if these parts cannot be a frame."""
        check_parts(parts, encoding, layout)
        self._parts: Sequence[Buffer] | None = parts
        self._encoding, self._layout = encoding, layout
        self._lock = threading.Lock()
        if encoding == RAW and len(parts) == 1 and _aligned(parts[0], layout):
            self.buffer: NDArray[np.uint8] = np.frombuffer(parts[0], np.uint8)
            self._parts = None
        else:
            self.buffer = np.empty(layout.frame_bytes, np.uint8)

    def unpack(self) -> None:
        """ProtocolError, each time, if what came is damaged."""
        with self._lock:
            if self._parts is not None:
                decode(self._parts, self._encoding, self._layout, self.buffer)
                self._parts = None


def _aligned(part: Buffer, layout: FrameLayout) -> bool:
    """ZeroMQ delivers at any address; planes of 16-bit samples must not begin at an odd one."""
    return np.frombuffer(part, np.uint8).ctypes.data % layout.format.sample_bytes == 0

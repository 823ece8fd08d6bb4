"""Raw frame layouts: which planes a pixel format has, how large they are, where each begins in one tightly packed buffer.

One frame is one contiguous buffer, its planes in order and without padding: the layout of FFmpeg's `rawvideo` with alignment 1,
of the virtual file that mpv reads, and of the frames that player and server exchange. 16-bit samples are little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Plane = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class PixelFormat:
    """A planar pixel format, under FFmpeg's name.

    `planes` is the number of planes; `chroma_shift_x/y` log2 of the horizontal and vertical subsampling of planes 1 and 2;
    `depth` the number of significant bits, in the low bits of each sample; `fourcc` the Matroska ColourSpace that means this
    format.
    """

    name: str
    fourcc: bytes
    planes: int
    depth: int = 8
    chroma_shift_x: int = 0
    chroma_shift_y: int = 0
    is_rgb: bool = False

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        return np.dtype(np.uint8 if self.depth == 8 else np.uint16)

    @property
    def sample_bytes(self) -> int:
        return 1 if self.depth == 8 else 2

    @property
    def max_value(self) -> int:
        return (1 << self.depth) - 1


def _yuv_family() -> list[PixelFormat]:
    formats = []
    for sub, shift_x, shift_y, code in (("420", 1, 1, 11), ("422", 1, 0, 10), ("444", 0, 0, 0)):
        eight_bit_tag = {"420": b"I420", "422": b"Y42B", "444": b"444P"}[sub]
        formats.append(PixelFormat(f"yuv{sub}p", eight_bit_tag, 3, 8, shift_x, shift_y))
        for depth in (9, 10, 12, 14, 16):
            tag = b"Y3" + bytes((code, depth))
            formats.append(PixelFormat(f"yuv{sub}p{depth}le", tag, 3, depth, shift_x, shift_y))
    return formats


#: Every format that frames are carried in, in the order in which a source format looks for its nearest one.
PIXEL_FORMATS: tuple[PixelFormat, ...] = (
    *_yuv_family(),
    PixelFormat("gray", b"Y800", 1),
    PixelFormat("gray10le", b"Y1\x00\x0a", 1, 10),
    PixelFormat("gray12le", b"Y1\x00\x0c", 1, 12),
    PixelFormat("gray16le", b"Y1\x00\x10", 1, 16),
    PixelFormat("gbrp", b"G3\x00\x08", 3, is_rgb=True),
    PixelFormat("gbrp10le", b"G3\x00\x0a", 3, 10, is_rgb=True),
    PixelFormat("gbrp12le", b"G3\x00\x0c", 3, 12, is_rgb=True),
    PixelFormat("gbrp16le", b"G3\x00\x10", 3, 16, is_rgb=True),
)
_BY_NAME = {fmt.name: fmt for fmt in PIXEL_FORMATS}


def pixel_format(name: str) -> PixelFormat:
    """Look a format up by FFmpeg's name; InputError where frames cannot be carried in it."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise InputError(f"pixel format {name!r} is not carried; expected one of {', '.join(_BY_NAME)}") from None


@dataclass(frozen=True)
class FrameLayout:
    """Sizes and offsets of one frame of `width` x `height` pixels; both at least 1, odd sizes round chroma up."""

    width: int
    height: int
    format: PixelFormat

    @cached_property
    def plane_shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, samples per row) of each plane."""
        fmt = self.format
        chroma = (-(-self.height >> fmt.chroma_shift_y), -(-self.width >> fmt.chroma_shift_x))
        luma = (self.height, self.width)
        return tuple(luma if i == 0 else chroma for i in range(fmt.planes))

    @cached_property
    def plane_offsets(self) -> tuple[int, ...]:
        """Byte offset of each plane in the buffer."""
        offsets, position = [], 0
        for rows, samples in self.plane_shapes:
            offsets.append(position)
            position += rows * samples * self.format.sample_bytes
        return tuple(offsets)

    @cached_property
    def frame_bytes(self) -> int:
        return sum(rows * samples for rows, samples in self.plane_shapes) * self.format.sample_bytes

    def views(self, buffer: memoryview | bytes | bytearray | NDArray[np.uint8]) -> list[Plane]:
        """Planes as arrays that share `buffer` (at least `frame_bytes` long), writable where it is."""
        return [
            np.frombuffer(buffer, self.format.dtype, rows * samples, offset).reshape(rows, samples)
            for (rows, samples), offset in zip(self.plane_shapes, self.plane_offsets, strict=True)
        ]

    def copy(self, planes: Sequence[Plane], buffer: memoryview | bytearray | NDArray[np.uint8]) -> None:
        """Copy planes, whose rows may be padded to the right, into `buffer`."""
        for target, plane in zip(self.views(buffer), planes, strict=True):
            np.copyto(target, plane[: target.shape[0], : target.shape[1]])

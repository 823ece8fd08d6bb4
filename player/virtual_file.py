"""The virtual raw video file that mpv reads: Matroska with V_UNCOMPRESSED video, laid out by arithmetic alone.

    EBML header | Segment { Info | Tracks | Cues | Cluster 0 | Cluster 1 | ... }

Every cluster holds one frame and has the same size, so byte offset, output frame and time follow from each other and nothing is
rendered before it is asked for. Element ids and value meanings: RFC 9559 (Matroska) and RFC 8794 (EBML).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction

from drba.pixels import FrameLayout
from drba.timeline import OutputClock

TIMESTAMP_SCALE_NS = 1000  # microseconds: 24000/1001 rounds to half a microsecond, not to Matroska's usual millisecond
#: mpv loads all cue points when it opens the file; this many cost it a few milliseconds and half a megabyte.
MAX_CUES = 20_000
MIN_CUES = 4  # mpv ignores an index of fewer
UNKNOWN = 2  # H.273's "unspecified" in matrix, primaries and transfer


@dataclass(frozen=True)
class Mastering:
    """SMPTE ST 2086 display volume: CIE 1931 xy of red, green, blue and white, luminance in cd/m2."""

    primaries: tuple[tuple[float, float], ...]
    white: tuple[float, float]
    max_luminance: float
    min_luminance: float


@dataclass(frozen=True)
class Colour:
    """Colour description in H.273 code points (2 = unspecified); `full_range` None where unknown.

    What is missing here (chroma siting, which mpv honours in Matroska from 0.40 only) the mpv script sets on the track.
    """

    matrix: int = UNKNOWN
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN
    full_range: bool | None = None
    max_cll: int = 0
    max_fall: int = 0
    mastering: Mastering | None = None


def element(identifier: int, payload: bytes) -> bytes:
    """One EBML element with the shortest size that holds its length."""
    size = len(payload)
    for length in range(1, 9):
        if size < (1 << 7 * length) - 1:
            return _id(identifier) + (size | 1 << 7 * length).to_bytes(length, "big") + payload
    raise ValueError(f"EBML element of {size} bytes")


def unsigned(identifier: int, value: int, width: int = 0) -> bytes:
    return element(identifier, value.to_bytes(width or max(1, (value.bit_length() + 7) // 8), "big"))


def number(identifier: int, value: float) -> bytes:
    return element(identifier, struct.pack(">d", value))


def _id(identifier: int) -> bytes:
    return identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")


def _long_size(identifier: int, size: int) -> bytes:
    """Element head with an 8-byte size, so that heads have one length."""
    return _id(identifier) + (size | 1 << 56).to_bytes(8, "big")


CLUSTER_HEAD = 4 + 8
TIMESTAMP_SIZE = 1 + 1 + 8
BLOCK_HEAD = 1 + 8 + 4  # SimpleBlock id, size, then track, relative time, flags
#: Bytes before the picture in each cluster.
PREFIX_BYTES = CLUSTER_HEAD + TIMESTAMP_SIZE + BLOCK_HEAD


@dataclass(frozen=True)
class VirtualFile:
    """Layout of one virtual file of `frames` output frames on `clock`.

    `sample_aspect` is the shape of a pixel (width / height).
    """

    layout: FrameLayout
    clock: OutputClock
    frames: int
    colour: Colour = Colour()
    sample_aspect: Fraction = Fraction(1)
    header: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", self._make_header())

    @property
    def cluster_bytes(self) -> int:
        return PREFIX_BYTES + self.layout.frame_bytes

    @property
    def size(self) -> int:
        return len(self.header) + self.frames * self.cluster_bytes

    def timestamp(self, frame: int) -> int:
        """Presentation time in units of TIMESTAMP_SCALE_NS."""
        return round(self.clock.time_s(frame) * 1_000_000_000 / TIMESTAMP_SCALE_NS)

    def offset_of(self, frame: int) -> int:
        """Byte offset of the frame's cluster."""
        return len(self.header) + frame * self.cluster_bytes

    def locate(self, offset: int) -> tuple[int, int]:
        """(frame, offset within its cluster) of a byte; frame -1 and the offset in the header before the first cluster."""
        if offset < len(self.header):
            return -1, offset
        return divmod(offset - len(self.header), self.cluster_bytes)

    def prefix(self, frame: int) -> bytes:
        """The bytes between the previous picture and this frame's (PREFIX_BYTES long)."""
        picture = self.layout.frame_bytes
        return b"".join(
            (
                _long_size(0x1F43B675, TIMESTAMP_SIZE + BLOCK_HEAD + picture),
                unsigned(0xE7, self.timestamp(frame), 8),
                _long_size(0xA3, 4 + picture),
                b"\x81\x00\x00\x80",  # track 1, at the cluster's time, key frame
            )
        )

    def _make_header(self) -> bytes:
        ebml = element(
            0x1A45DFA3,
            unsigned(0x4286, 1)
            + unsigned(0x42F7, 1)
            + unsigned(0x42F2, 4)
            + unsigned(0x42F3, 8)
            + element(0x4282, b"matroska")
            + unsigned(0x4287, 4)
            + unsigned(0x4285, 2),
        )
        info = element(
            0x1549A966,
            unsigned(0x2AD7B1, TIMESTAMP_SCALE_NS)
            + number(0x4489, float(self.timestamp(self.frames)))
            + element(0x4D80, b"drba-player")
            + element(0x5741, b"drba-player"),
        )
        tracks = element(0x1654AE6B, element(0xAE, self._track()))
        # Cue positions count from the start of the segment's data; the size of the cues does not depend on their values.
        before_cues = len(info) + len(tracks)
        first_cluster = before_cues + len(self._cues(0))
        body = info + tracks + self._cues(first_cluster)
        return ebml + _long_size(0x18538067, len(body) + self.frames * self.cluster_bytes) + body

    def _cues(self, first_cluster: int) -> bytes:
        step = max(1, -(-self.frames // MAX_CUES))
        numbers = list(range(0, self.frames, step))
        while len(numbers) < MIN_CUES:
            numbers.append(numbers[-1])
        points = (
            unsigned(0xB3, self.timestamp(n), 8)
            + element(0xB7, unsigned(0xF7, 1) + unsigned(0xF1, first_cluster + n * self.cluster_bytes, 8))
            for n in numbers
        )
        return element(0x1C53BB6B, b"".join(element(0xBB, point) for point in points))

    def _track(self) -> bytes:
        width, height = self.layout.width, self.layout.height
        video = (
            unsigned(0x9A, 2)  # progressive
            + unsigned(0xB0, width)
            + unsigned(0xBA, height)
            + unsigned(0x54B0, width * self.sample_aspect.numerator)
            + unsigned(0x54BA, height * self.sample_aspect.denominator)
            + element(0x2EB524, self.layout.format.fourcc)
            + element(0x55B0, video_colour(self.colour, self.layout.format.depth))
        )
        return (
            unsigned(0xD7, 1)
            + unsigned(0x73C5, 1)
            + unsigned(0x83, 1)
            + unsigned(0x9C, 0)
            + unsigned(0x23E383, round(1_000_000_000 / self.clock.rate))
            + element(0x86, b"V_UNCOMPRESSED")
            + element(0xE0, video)
        )


def video_colour(colour: Colour, depth: int) -> bytes:
    """The content of Matroska's Colour element (RFC 9559, 5.1.4.1.28.16)."""
    parts = [unsigned(0x55B2, depth)]
    for identifier, value in ((0x55B1, colour.matrix), (0x55BA, colour.transfer), (0x55BB, colour.primaries)):
        if value != UNKNOWN:
            parts.append(unsigned(identifier, value))
    if colour.full_range is not None:
        parts.append(unsigned(0x55B9, 2 if colour.full_range else 1))
    if colour.max_cll:
        parts.append(unsigned(0x55BC, colour.max_cll) + unsigned(0x55BD, colour.max_fall))
    if colour.mastering:
        parts.append(element(0x55D0, _mastering(colour.mastering)))
    return b"".join(parts)


def _mastering(mastering: Mastering) -> bytes:
    values = [coordinate for point in (*mastering.primaries, mastering.white) for coordinate in point]
    values += [mastering.max_luminance, mastering.min_luminance]
    return b"".join(number(0x55D1 + i, value) for i, value in enumerate(values))

"""HDR data for the container: a stream that carries them, from which PyAV makes the output's video track.

PyAV cannot set a stream's mastering display and content light level, but copies them from a stream that has them. So a Matroska
file of one frame is made in memory, with the finished segment's codec and the source's colours (RFC 9559), and opened.
"""

from __future__ import annotations

import io
from typing import Any

import av

from ..virtual_file import Colour, element, unsigned, video_colour

#: Matroska's names of the codecs that carry HDR.
CODEC_IDS = {
    "h264": b"V_MPEG4/ISO/AVC",
    "hevc": b"V_MPEGH/ISO/HEVC",
    "av1": b"V_AV1",
    "vp9": b"V_VP9",
    "ffv1": b"V_FFV1",
}


def with_hdr(stream: Any, first_packet: bytes, colour: Colour, depth: int) -> Any | None:
    """A container whose one stream is `stream` (of a segment) with the HDR data of `colour`; None for other codecs.

    The caller keeps it open as long as its stream is used.
    """
    codec_id = CODEC_IDS.get(stream.codec_context.codec.canonical_name)
    if codec_id is None:
        return None
    private = bytes(stream.codec_context.extradata or b"")
    video = element(
        0xE0,
        unsigned(0xB0, stream.codec_context.width)
        + unsigned(0xBA, stream.codec_context.height)
        + element(0x55B0, video_colour(colour, depth)),
    )
    track = element(
        0xAE,
        unsigned(0xD7, 1)
        + unsigned(0x73C5, 1)
        + unsigned(0x83, 1)
        + element(0x86, codec_id)
        + (element(0x63A2, private) if private else b"")
        + video,
    )
    head = element(0x1A45DFA3, element(0x4282, b"matroska") + unsigned(0x4287, 4) + unsigned(0x4285, 2))
    cluster = element(0x1F43B675, unsigned(0xE7, 0) + element(0xA3, b"\x81\x00\x00\x80" + first_packet))
    segment = element(
        0x18538067, element(0x1549A966, unsigned(0x2AD7B1, 1_000_000)) + element(0x1654AE6B, track) + cluster
    )
    return av.open(io.BytesIO(head + segment), format="matroska")

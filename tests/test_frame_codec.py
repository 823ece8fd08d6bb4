"""Frames in messages: lossless in every format, and nothing else than a frame is ever unpacked."""

from __future__ import annotations

import random

import numpy as np
import pytest

from drba.errors import ProtocolError
from drba.pixels import PIXEL_FORMATS, FrameLayout, pixel_format
from server.frame_codec import DELTA, HEADER, RAW, decode, encode, parts_per_frame, split
from server.messages import CHUNK_BYTES
from server.received import ReceivedFrame

SMALL = FrameLayout(38, 21, pixel_format("yuv420p10le"))
LARGE = FrameLayout(1000, 801, pixel_format("yuv444p"))  # three parts


def picture(layout: FrameLayout, seed: int = 0) -> bytearray:
    """Smooth with some noise, extremes included."""
    random_numbers, buffer = np.random.default_rng(seed), bytearray(layout.frame_bytes)
    for plane in layout.views(buffer):
        rows, samples = np.indices(plane.shape)
        values = (rows * 3 + samples) % (layout.format.max_value + 1) + random_numbers.integers(-2, 3, plane.shape)
        plane[...] = np.clip(values, 0, layout.format.max_value)
        plane[0, 0], plane[-1, -1] = layout.format.max_value, 0
    return buffer


@pytest.mark.parametrize("layout", [FrameLayout(37, 23, fmt) for fmt in PIXEL_FORMATS] + [LARGE], ids=str)
def test_a_frame_comes_back_bit_for_bit(layout: FrameLayout) -> None:
    frame, back = picture(layout), bytearray(layout.frame_bytes)
    for encoding, parts in ((RAW, split(frame)), (DELTA, encode(frame, layout))):
        assert len(parts) == parts_per_frame(layout.frame_bytes)
        decode([bytes(part) for part in parts], encoding, layout, back)
        assert back == frame
        back[:] = bytes(len(back))
    noise = np.random.default_rng(1).integers(0, 256, layout.frame_bytes, np.uint8).tobytes()
    parts = encode(noise, layout)
    decode(parts, DELTA, layout, back)
    assert back == noise and sum(map(len, parts)) <= len(noise) + HEADER.size * len(parts)


def test_a_smooth_picture_gets_smaller() -> None:
    assert sum(map(len, encode(picture(LARGE), LARGE))) < LARGE.frame_bytes / 2


def changed(part: bytes, **fields: int) -> bytes:
    names = ("version", "codec", "flags", "samples_of", "raw", "block", "size")
    values = dict(zip(names, HEADER.unpack_from(part), strict=True)) | fields
    return HEADER.pack(*values.values()) + part[HEADER.size :]


ENCODED = [bytes(part) for part in encode(picture(SMALL), SMALL)]
WRONG = {
    "one part too many": (ENCODED * 2, "frame has 2 parts, expected 1"),
    "no part": ([], "frame has 0 parts"),
    "shorter than its header": ([b"x" * 15], "encoded part has 15 bytes, expected at least 16"),
    "a bomb": ([changed(ENCODED[0], raw=1 << 30)], "frame has parts of 1073741824 bytes, expected"),
    "one sample less": ([changed(ENCODED[0], raw=SMALL.frame_bytes - 2)], "expected 2400"),
    "cut short": ([ENCODED[0][:-1]], "encoded part has"),
    "another codec": ([changed(ENCODED[0], flags=0x24)], "flags 0x24 for samples of 2 bytes, expected delta-"),
    "not regrouped": ([changed(ENCODED[0], flags=0x80)], "flags 0x80"),
    "other samples": ([changed(ENCODED[0], samples_of=1)], "samples of 1 bytes"),
    "raw of another size": ([bytes(100)], ""),
}


@pytest.mark.parametrize(("parts", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_frame_is_refused_before_it_is_unpacked(parts: list[bytes], words: str) -> None:
    assert SMALL.frame_bytes == 38 * 21 * 2 + 2 * 19 * 11 * 2
    with pytest.raises(ProtocolError) as caught:
        ReceivedFrame(parts, DELTA, SMALL)
    assert words.replace("2400", str(SMALL.frame_bytes)) in str(caught.value)
    with pytest.raises(ProtocolError):
        ReceivedFrame([bytes(SMALL.frame_bytes - 1)], RAW, SMALL)
    with pytest.raises(ProtocolError, match="encoding 'png', expected none or delta-"):
        ReceivedFrame(ENCODED, "png", SMALL)


def test_damage_is_an_error_or_another_picture_and_never_a_crash() -> None:
    chance, refused = random.Random(3), 0
    out = np.zeros(LARGE.frame_bytes + 2 * CHUNK_BYTES, np.uint8)  # beyond the frame nothing may be written
    good = [bytes(part) for part in encode(picture(LARGE), LARGE)]
    for _ in range(150):
        parts = [bytearray(part) for part in good]
        for _ in range(chance.choice((1, 3, 30))):
            part = chance.choice(parts)
            part[chance.randrange(HEADER.size if chance.random() < 0.3 else len(part))] = chance.randrange(256)
        try:
            decode([bytes(part) for part in parts], DELTA, LARGE, out[CHUNK_BYTES:][: LARGE.frame_bytes])
        except ProtocolError:
            refused += 1
    assert refused > 30
    assert not out[:CHUNK_BYTES].any() and not out[CHUNK_BYTES + LARGE.frame_bytes :].any()


def test_a_damaged_frame_is_damaged_for_everyone_who_asks() -> None:
    damaged = bytearray(ENCODED[0])
    damaged[HEADER.size : HEADER.size + 40] = bytes(40)
    frame = ReceivedFrame([bytes(damaged)], DELTA, SMALL)
    for _ in range(2):
        with pytest.raises(ProtocolError, match="is damaged"):
            frame.unpack()

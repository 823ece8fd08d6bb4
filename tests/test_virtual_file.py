"""The virtual Matroska file: its arithmetic, and what FFmpeg's own reader makes of it."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from drba.pixels import PIXEL_FORMATS, FrameLayout, PixelFormat, pixel_format
from drba.timeline import OutputClock
from player.virtual_file import MAX_CUES, PREFIX_BYTES, Colour, Mastering, VirtualFile, element

NTSC = Fraction(60000, 1001)


def whole(file: VirtualFile) -> tuple[bytes, list[bytes]]:
    """The file's bytes with random pictures, and the pictures."""
    rng = np.random.default_rng(3)
    top = file.layout.format.max_value
    pictures = []
    for _ in range(file.frames):
        buffer = bytearray(file.layout.frame_bytes)
        for plane in file.layout.views(buffer):
            plane[:] = rng.integers(0, top + 1, plane.shape)
        pictures.append(bytes(buffer))
    body = b"".join(file.prefix(k) + picture for k, picture in enumerate(pictures))
    return file.header + body, pictures


@pytest.mark.parametrize("fmt", PIXEL_FORMATS, ids=lambda fmt: fmt.name)
def test_every_pixel_format_reads_back_bit_for_bit(fmt: PixelFormat) -> None:
    file = VirtualFile(FrameLayout(37, 21, fmt), OutputClock(NTSC), 6)
    data, pictures = whole(file)
    assert len(data) == file.size
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
    assert [frame.format.name for frame in frames] == [fmt.name] * 6
    for frame, picture in zip(frames, pictures, strict=True):
        planes = file.layout.views(bytearray(file.layout.frame_bytes))
        for plane, source in zip(planes, frame.planes, strict=True):
            rows = np.frombuffer(memoryview(source), fmt.dtype).reshape(-1, source.line_size // fmt.sample_bytes)
            plane[:] = rows[: plane.shape[0], : plane.shape[1]]
        assert b"".join(plane.tobytes() for plane in planes) == picture


def test_times_are_exact_to_a_microsecond() -> None:
    file = VirtualFile(FrameLayout(16, 16, pixel_format("yuv420p")), OutputClock(NTSC, Fraction(1, 100)), 50)
    data, _ = whole(file)
    with av.open(io.BytesIO(data)) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    for k, time in enumerate(times):
        assert abs(time - file.clock.time_s(k)) <= Fraction(1, 1_000_000)


def test_colour_and_aspect_are_carried() -> None:
    mastering = Mastering(((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), (0.3127, 0.329), 1000.0, 0.005)
    colour = Colour(9, 9, 16, False, 1000, 400, mastering)
    layout = FrameLayout(64, 36, pixel_format("yuv420p10le"))
    data, _ = whole(VirtualFile(layout, OutputClock(Fraction(48)), 4, colour, Fraction(32, 27)))
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert stream.sample_aspect_ratio == Fraction(32, 27)
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (9, 9, 16, 1)


@pytest.mark.parametrize("seconds", [1, 1500, 7200, 24 * 3600])
def test_offsets_and_frames_follow_from_each_other(seconds: int) -> None:
    layout = FrameLayout(1920, 1080, pixel_format("yuv420p10le"))
    clock = OutputClock(NTSC)
    file = VirtualFile(layout, clock, clock.frames_until(Fraction(seconds)))
    assert file.locate(0) == (-1, 0)
    assert file.locate(len(file.header) - 1) == (-1, len(file.header) - 1)
    for frame in (0, 1, file.frames // 3, file.frames - 1):
        offset = file.offset_of(frame)
        assert file.locate(offset) == (frame, 0)
        assert file.locate(offset + PREFIX_BYTES) == (frame, PREFIX_BYTES)
        assert file.locate(offset + file.cluster_bytes - 1) == (frame, file.cluster_bytes - 1)
    assert file.offset_of(file.frames) == file.size
    assert len(file.header) < 40 * MAX_CUES


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 16382, 16383, 1 << 20])
def test_element_sizes(length: int) -> None:
    encoded = element(0xEC, bytes(length))
    size_length = 9 - encoded[1].bit_length()
    assert int.from_bytes(encoded[1 : 1 + size_length], "big") - (1 << 7 * size_length) == length
    assert len(encoded) == 1 + size_length + length

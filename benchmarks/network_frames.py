"""What packing frames for a network costs and saves, and up to which link it pays: `python benchmarks/network_frames.py FILM`.

Decoded frames of each film, in one thread, by its processor time: what is left of a byte, MB of raw frames encoded and decoded in
a second, and the link (MB/s) where raw and encoded take equally long, by the formula of `server.outgoing`. In turns with what was
not taken. In-betweens are the flow-only model's. Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
import numpy as np
from numcodecs import blosc

from drba.pixels import FrameLayout, pixel_format
from engines import open_renderer
from engines.base import SourceFrame, StreamSpec, Triplet
from server.frame_codec import DELTA, decode, encode

Pack = Callable[[bytes, FrameLayout], int]


def frames_of(path: str, every: int, count: int) -> tuple[FrameLayout, list[bytes]]:
    """Three frames in a row, as the player has them, of every so many."""
    with av.open(path) as container:
        taken = (frame for number, frame in enumerate(container.decode(video=0)) if number % every < 3)
        decoded = list(islice(taken, 3 * count))
    layout = FrameLayout(decoded[0].width, decoded[0].height, pixel_format(decoded[0].format.name))
    buffers = []
    for frame in decoded:
        buffer = bytearray(layout.frame_bytes)
        for plane, target in zip(frame.planes, layout.views(buffer), strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            target[...] = rows[:, : target.shape[1] * target.itemsize].view(target.dtype)
        buffers.append(bytes(buffer))
    return layout, buffers


def _zstd_alone(frame: bytes, layout: FrameLayout) -> int:
    return len(blosc.compress(frame, b"zstd", 1, blosc.NOSHUFFLE))


def _lz4_bits(frame: bytes, layout: FrameLayout) -> int:
    return len(blosc.compress(np.frombuffer(frame, layout.format.dtype), b"lz4", 1, blosc.BITSHUFFLE))


def _zlib(frame: bytes, layout: FrameLayout) -> int:
    return len(zlib.compress(frame, 1))


OTHERS: dict[str, Pack] = {"Zstandard 1 alone": _zstd_alone, "bits regrouped, LZ4": _lz4_bits, "zlib 1": _zlib}


def measure(layout: FrameLayout, frames: list[bytes]) -> dict[str, tuple[float, float, float | None]]:
    """By encoding: share of the bytes, and seconds a raw byte to encode and to decode."""
    out = bytearray(layout.frame_bytes)
    times: dict[str, list[tuple[float, float, float | None]]] = {name: [] for name in (DELTA, *OTHERS)}
    for frame in frames:
        start = time.thread_time()
        parts = encode(frame, layout)
        middle = time.thread_time()
        decode(parts, DELTA, layout, out)
        end = time.thread_time()
        assert out == frame
        times[DELTA].append((sum(map(len, parts)), middle - start, end - middle))
        for name, pack in OTHERS.items():
            start = time.thread_time()
            size = pack(frame, layout)
            times[name].append((size, time.thread_time() - start, None))
    raw = layout.frame_bytes
    return {
        name: (
            sum(size for size, _, _ in found) / raw / len(found),
            median(encode_s for _, encode_s, _ in found) / raw,
            None if found[0][2] is None else median(decode_s for _, _, decode_s in found if decode_s) / raw,
        )
        for name, found in times.items()
    }


def share_between(layout: FrameLayout, frames: list[bytes]) -> float:
    """Of a byte of in-betweens that is left."""
    renderer, sizes = open_renderer(StreamSpec(layout, model="flow")), []
    for first in range(0, len(frames) - 2, 3):
        sources = [SourceFrame(first + step, layout.views(frames[first + step])) for step in range(3)]
        out = bytearray(layout.frame_bytes)
        renderer.render(Triplet(*sources), [1.5], [layout.views(out)])
        sizes.append(sum(map(len, encode(out, layout))))
    renderer.close()
    return sum(sizes) / len(sizes) / layout.frame_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", nargs="+", metavar="FILM")
    parser.add_argument("--triplets", type=int, default=10, help="of each film (default: %(default)d)")
    parser.add_argument("--every", type=int, default=12, help="one of so many frames (default: %(default)d)")
    arguments = parser.parse_args()
    blosc.use_threads = False
    print(
        "| film, size | encoding | left of a byte | encode MB/s | decode MB/s | pays below MB/s |\n|---|---|---|---|---|---|"
    )
    for film in arguments.films:
        layout, frames = frames_of(film, arguments.every, arguments.triplets)
        for name, (share, encode_s, decode_s) in measure(layout, frames).items():
            decoded = pays = ""
            if decode_s is not None:
                decoded, pays = f"{1e-6 / decode_s:.0f}", f"{(1 - share) / (encode_s + decode_s) / 1e6:.0f}"
            where = f"{Path(film).name}, {layout.width}x{layout.height}"
            print(f"| {where} | {name} | {share:.3f} | {1e-6 / encode_s:.0f} | {decoded} | {pays} |", flush=True)
        print(f"| {where} | {DELTA}, in-betweens | {share_between(layout, frames):.3f} | | | |", flush=True)


if __name__ == "__main__":
    main()

"""Matroska files that no encoder writes: two films in one, and editions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import clips

VOID, CHAPTERS, EDITION, ATOM = 0xEC, 0x1043A770, 0x45B9, 0xB6
EDITION_UID, EDITION_DEFAULT, EDITION_ORDERED = 0x45BC, 0x45DB, 0x45DD
ATOM_UID, ATOM_START, ATOM_END = 0x73C4, 0x91, 0x92
RESERVED_BYTES = 20_000


def two_pictures(folder: Path) -> Path:
    """Two video tracks, of 23.976 and of 29.97 frames a second, and one sound."""
    path = folder / "pictures.mkv"
    films = [clips.standard(folder).path, clips.ntsc(folder).path]
    inputs = [word for film in films for word in ("-i", str(film))]
    _ffmpeg(*inputs, "-map", "0:v", "-map", "1:v", "-map", "0:a", str(path))
    return path


def two_editions(folder: Path) -> Path:
    """The whole film, and from its second second on by ordered chapters."""
    path = folder / "editions.mkv"
    _ffmpeg("-i", str(clips.standard(folder).path), "-reserve_index_space", str(RESERVED_BYTES), str(path))
    put_chapters(path, edition(1, 0, 4, ordered=False) + edition(2, 1, 3, ordered=True))
    return path


def put_chapters(path: Path, editions: bytes) -> None:
    """Write the editions into the space that a file has reserved for its index."""
    data = path.read_bytes()
    chapters = _element(CHAPTERS, editions)
    # The muxer has left a Void element behind its index: 1 byte for the id, 8 for the size.
    at = data.rindex(bytes([VOID, 0x01]), 0, RESERVED_BYTES)
    void_bytes = 9 + int.from_bytes(data[at + 2 : at + 9], "big")
    rest = void_bytes - len(chapters) - 9
    assert rest > 0, "the Void element is too small"
    filled = chapters + bytes([VOID, 0x01]) + rest.to_bytes(7, "big") + bytes(rest)
    path.write_bytes(data[:at] + filled + data[at + void_bytes :])


def edition(number: int, start_s: float, end_s: float, *, ordered: bool) -> bytes:
    """One edition with one chapter; the first one is the default."""
    atom = _number(ATOM_UID, number) + _number(ATOM_START, start_s * 10**9) + _number(ATOM_END, end_s * 10**9)
    flags = _number(EDITION_DEFAULT, number == 1) + _number(EDITION_ORDERED, ordered)
    return _element(EDITION, _number(EDITION_UID, number) + flags + _element(ATOM, atom))


def _number(identifier: int, value: float) -> bytes:
    return _element(identifier, int(value).to_bytes(8, "big"))


def _element(identifier: int, content: bytes) -> bytes:
    head = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return head + (1 << 56 | len(content)).to_bytes(8, "big") + content


def _ffmpeg(*arguments: str) -> None:
    output = arguments[-1]
    command = ["ffmpeg", "-v", "error", "-y", *arguments[:-1], "-c", "copy", output]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

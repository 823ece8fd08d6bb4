"""Where FFmpeg finds the pictures of what mpv plays: mpv's names for files and addresses, and what web servers want to know."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from drba.errors import InputError

#: Protocols of mpv's own, which FFmpeg cannot read: discs, broadcasts, and what exists inside of this mpv only.
ONLY_MPV = (
    "bd",
    "bluray",
    "br",
    "cdda",
    "dvb",
    "dvd",
    "dvdnav",
    "fd",
    "fdclose",
    "memory",
    "archive",
    "slice",
    "mf",
    "null",
)
#: In front of an address, they only tell mpv to leave it to FFmpeg.
LEAVE_TO_FFMPEG = ("lavf://", "ffmpeg://")
EDL = "edl://"


@dataclass(frozen=True)
class Location:
    """What FFmpeg opens; `stream` is its index of the video stream there, None for the best one."""

    url: str
    stream: int | None = None


def locate(name: str, stream: int | None = None, video: int = 0, windows: bool = os.name == "nt") -> Location:
    """The place of a video track that mpv plays from `name`: an absolute path, or an address by mpv's rules.

    `stream` is FFmpeg's index of the track as mpv has it, `video` its number among the video tracks of `name`, from 0.
    InputError where only mpv can read it.
    """
    given = name
    for prefix in LEAVE_TO_FFMPEG:
        name = name.removeprefix(prefix)
    if name == "-":
        raise InputError("what comes through a pipe can be read only once, and mpv reads it; give DRBA a file or URL")
    scheme, separator, rest = name.partition("://")
    if not separator:
        return Location(_file(name) if name == given else name, stream)
    if scheme == "file":
        return Location(_file(_file_path(rest, windows)), stream)
    if scheme == "edl":
        part = _edl_video(name, video)
        return Location(part if "://" in part else _file(part))
    if scheme in ONLY_MPV:
        raise InputError(f"{name}: only mpv can read {scheme}://; DRBA needs a file, or a URL that FFmpeg can read")
    return Location(name, stream)


def _file(name: str) -> str:
    """A file by its name: one that begins like `concat:` or `subfile,` would be a protocol to FFmpeg, but is none to mpv."""
    return os.path.join(os.curdir, name) if re.match(r"[\w+.-]{2,}[:,]", name) else name


def _file_path(rest: str, windows: bool) -> str:
    """Of what follows `file://`: mpv takes %20 and the like for the characters they stand for."""
    path = unquote(rest.removeprefix("localhost"), errors="surrogateescape")
    if windows and len(path) > 2 and path[0] == "/" and path[2] == ":":
        return path[1:]
    return path


@dataclass
class _Stream:
    """One of the streams that an EDL plays side by side."""

    kinds: set[str] = field(default_factory=set)  # of video, audio, sub; empty where it does not say
    parts: list[dict[str, str]] = field(default_factory=list)  # each with its file, and when and how long it is played
    whole: bool = True  # whether its parts are as long as their files


def _edl_video(text: str, video: int) -> str:
    """The one file behind a video track of mpv's EDL, as its youtube-dl hook writes them: one URL for picture and one for sound.

    InputError for a list of several parts, or of parts of files.
    """
    streams = _edl_streams(text)
    # Where kinds are given, sound is left out; where they are not, the hook names the picture first.
    pictures = [stream for stream in streams if not stream.kinds or "video" in stream.kinds]
    if not pictures:
        raise InputError("the EDL that mpv plays names no file with a picture")
    chosen = pictures[min(video, len(pictures) - 1)]
    if len(chosen.parts) > 1 or not chosen.whole or chosen.parts[0]["file"].startswith(EDL):
        raise InputError("the film is put together from parts (EDL), which DRBA cannot follow")
    return chosen.parts[0]["file"]


def _edl_streams(text: str) -> list[_Stream]:
    """https://github.com/mpv-player/mpv/blob/master/DOCS/edl-mpv.rst"""
    streams = [_Stream()]
    for segment in _edl_segments(text.removeprefix(EDL)):
        header = segment["file"]
        if header == "!new_stream":
            streams.append(_Stream())
        elif header == "!delay_open":
            streams[-1].kinds.add(segment.get("media_type", ""))
        elif header == "!mp4_dash":
            streams[-1].whole = False
        elif not header.startswith("!"):
            if segment.get("start", "0") not in ("", "0"):
                streams[-1].whole = False
            streams[-1].parts.append(segment)
    return [stream for stream in streams if stream.parts]


def _edl_segments(text: str) -> Iterator[dict[str, str]]:
    """Each segment's parameters by name; those without a name are, in order, file, start and length."""
    values: dict[str, str] = {}
    unnamed = iter(("file", "start", "length"))
    at = 0
    raw = text.encode("utf-8", "surrogateescape")  # %n% counts bytes
    while at < len(raw):
        end = at
        while end < len(raw) and raw[end : end + 1] not in b"=%,;\n":
            end += 1
        name = ""
        if raw[end : end + 1] == b"=":
            name, at = raw[at:end].decode(), end + 1
        if raw[at : at + 1] == b"%":
            digits, _, _ = raw[at + 1 :].partition(b"%")
            if not digits.isdigit():
                raise InputError("the EDL that mpv plays cannot be read: a % without a length")
            at += len(digits) + 2
            end = at + int(digits)
        else:
            end = at
            while end < len(raw) and raw[end : end + 1] not in b",;\n":
                end += 1
        value = raw[at:end].decode("utf-8", "surrogateescape")
        values[name or next(unnamed, "")] = value
        separator, at = raw[end : end + 1], end + 1
        if separator != b",":
            if values.get("file"):
                yield values
            values, unnamed = {}, iter(("file", "start", "length"))
    if values.get("file"):
        yield values


def ffmpeg_options(web: Mapping[str, Any]) -> dict[str, str]:
    """FFmpeg's options for an address from mpv's: `headers` (a list of lines), `user_agent`, `referrer`, `proxy`, and
    `lavf` (options by name), each of which may be missing."""
    options = {str(name): str(value) for name, value in dict(web.get("lavf") or {}).items()}
    for name, key in (("user_agent", "user_agent"), ("referer", "referrer"), ("http_proxy", "proxy")):
        if web.get(key):
            options[name] = str(web[key])
    lines = [" ".join(str(line).split()) for line in web.get("headers") or [] if str(line).strip()]
    if lines:
        options["headers"] = "".join(line + "\r\n" for line in lines)
    return options


def origin(web: Mapping[str, Any]) -> str | None:
    """The Origin that mpv's `headers` say to every web server."""
    for line in web.get("headers") or []:
        name, _, value = str(line).partition(":")
        if name.strip().lower() == "origin":
            return value.strip()
    return None

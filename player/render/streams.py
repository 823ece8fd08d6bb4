"""Which streams of the source go into the output, and how: decided before the first frame is rendered."""

from __future__ import annotations

import enum
import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.stream import Disposition

from drba.errors import InputError

#: FFmpeg's format for each name's ending.
CONTAINERS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
#: What text subtitles become where a container cannot hold them as they are.
TEXT_SUBTITLES = {"matroska": "ass", "mp4": "mov_text", "mov": "mov_text"}
TEXT_CODECS = {"ass", "ssa", "subrip", "mov_text", "webvtt", "text"}
#: Of edit lists, which say when tracks begin: a millisecond, the default, would move sound against picture.
MP4_OPTIONS = {"movie_timescale": "90000"}
#: Tags that were true of the source file only: FFmpeg's, mkvmerge's statistics, mp4's brands.
STALE_TAGS = (
    "encoder",
    "duration",
    "bps",
    "number_of_",
    "_statistics_",
    "major_brand",
    "minor_version",
    "compatible_brands",
)


class How(enum.Enum):
    """What is done with a stream of the source."""

    COPY = "copied"
    CONVERT = "converted to the container's text subtitles"
    COVER = "a picture of the file"
    LEAVE = "left out"


@dataclass(frozen=True)
class KeptStream:
    """`index` is the source's; `note` one line for the user where the stream is not kept as it is."""

    index: int
    how: How
    note: str = ""


def container_format(path: Path) -> str:
    """FFmpeg's format of an output file; InputError for a name with another ending."""
    try:
        return CONTAINERS[path.suffix.lower()]
    except KeyError:
        raise InputError(f"{path}: the output's name must end in {', '.join(CONTAINERS)}") from None


def open_output(file: Any, format_name: str) -> Any:
    """`strict`: FFmpeg calls TrueHD in mp4 experimental; leaving it out would help nobody."""
    options = {"strict": "experimental", **(MP4_OPTIONS if format_name != "matroska" else {})}
    return av.open(file, "w", format=format_name, container_options=options)


def check_video(format_name: str, codec: str, path: Path) -> None:
    """InputError where the container cannot hold the codec."""
    with open_output(io.BytesIO(), format_name) as output:
        try:
            output.add_stream(codec)
        except ValueError as error:
            raise InputError(
                f"{path}: {codec} cannot be put into {path.suffix}; use .mkv, or another --codec"
            ) from error


def plan_streams(container: Any, video_index: int, format_name: str) -> list[KeptStream]:
    """For every stream of the source but the rendered one, in order."""
    kept = [_plan(stream, format_name) for stream in container.streams if stream.index != video_index]
    left = [item for item in kept if item.how is How.LEAVE]
    attachments = [item for item in left if container.streams[item.index].type == "attachment"]
    if len(attachments) > 1:  # one line for all fonts
        line = f"{len(attachments)} attachments (fonts) are left out: {format_name} cannot hold them; .mkv can"
        kept = [item for item in kept if item not in attachments]
        kept += [KeptStream(item.index, How.LEAVE, line if item is attachments[0] else "") for item in attachments]
    return kept


def _plan(stream: Any, format_name: str) -> KeptStream:
    index, name = stream.index, _codec(stream)
    subject = f"stream {index} ({stream.type}, {name}{', ' + stream.language if stream.language else ''})"
    if stream.type == "video" and stream.disposition & Disposition.attached_pic:
        return KeptStream(index, How.COVER)
    if stream.type == "attachment":
        if format_name == "matroska":
            return KeptStream(index, How.COPY)
        name = stream.metadata.get("filename", "attachment")
        return KeptStream(index, How.LEAVE, f"{name} is left out: {format_name} cannot hold attachments; .mkv can")
    if _taken(format_name, lambda output: output.add_stream_from_template(stream, opaque=True)):
        return KeptStream(index, How.COPY)
    if stream.type == "subtitle" and name in TEXT_CODECS:
        target = TEXT_SUBTITLES[format_name]
        lost = "; styles and positions are lost, .mkv keeps them" if name == "ass" else ""
        return KeptStream(index, How.CONVERT, f"{subject} becomes {target}{lost}")
    better = "; .mkv may" if format_name != "matroska" else ""
    return KeptStream(index, How.LEAVE, f"{subject} is left out: {format_name} cannot hold it{better}")


def _taken(format_name: str, add: Callable[[Any], Any]) -> bool:
    """Whether the container's header can be written with the stream: the only question that muxers answer truly."""
    output = open_output(io.BytesIO(), format_name)
    try:
        add(output)
        output.start_encoding()
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def _codec(stream: Any) -> str:
    """FFmpeg's name of the codec (not of its decoder), or the stream's type where there is none."""
    return str(stream.codec_context.codec.canonical_name if stream.codec_context else stream.type)


def tags(metadata: dict[str, str]) -> dict[str, str]:
    """The tags that are still true of the output."""
    return {name: value for name, value in metadata.items() if not name.lower().startswith(STALE_TAGS)}


class TextConverter:
    """Subtitles of one stream in the codec of another container, through FFmpeg's own decoder and encoder."""

    def __init__(self, output: Any, template: Any, codec: str) -> None:
        template.codec_context.open(strict=False)
        self._decoder = template.codec_context
        self.stream: Any = output.add_stream(codec)
        self.stream.time_base = Fraction(1, 1000)
        self._encoder = self.stream.codec_context
        self._encoder.time_base = Fraction(1, 1000)
        self._encoder.subtitle_header = self._decoder.subtitle_header

    def convert(self, packet: Any) -> Any | None:
        """The packet with the same times; None for one without text."""
        subtitles = self._decoder.decode2(packet)
        if subtitles is None:
            return None
        converted = self._encoder.encode_subtitle(subtitles)
        converted.pts = converted.dts = packet.pts
        converted.duration, converted.time_base = packet.duration, packet.time_base
        return converted

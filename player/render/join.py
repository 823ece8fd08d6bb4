"""The output file: the segments' packets one after the other, with everything else of the source. Nothing is encoded again."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.stream import Disposition

from drba.errors import MediaError

from ..source import StreamInfo
from .encoder import KEPT, move_into_place
from .job import RenderJob
from .streams import TEXT_SUBTITLES, How, KeptStream, TextConverter, container_format, open_output, plan_streams, tags
from .track_header import with_hdr

TICKS_PER_S = 90_000  # of which every common container's times are whole multiples
#: Formats whose clock begins anywhere: their times are counted from their beginning.
ARBITRARY_START = ("mpegts", "mpeg")
#: How the name of an output that is being written goes on.
JOINING = "joining"
COVER_TYPES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


@dataclass(frozen=True)
class Piece:
    """A whole segment's file; its first output frame."""

    path: Path
    first: int


def join(
    job: RenderJob,
    info: StreamInfo,
    pieces: Sequence[Piece],
    end: int,
    target: Path,
    *,
    partial: bool = False,
    before_rename: Callable[[Path], None] | None = None,
) -> None:
    """Write `target` from segments that follow each other from `job.first` to output frame `end`.

    `partial`: the film goes on after that, so its other streams are cut there. The file is written beside the segments and
    gets its name when it is whole; `before_rename` is called with its temporary one just before. MediaError where it cannot
    be written, or where the segments do not fit together.
    """
    temporary = pieces[0].path.with_name(f".{os.getpid()}.{JOINING}{target.suffix}")
    try:
        with _write_errors(target):
            with av.open(job.path) as source, open_output(str(temporary), container_format(target)) as output:
                _Join(job, info, pieces, end if partial or job.end is not None else None, source, output).write()
            move_into_place(temporary, target, before_rename)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{target}: cannot be written ({reason}); {KEPT}") from error


class _Join:
    """One writing of the output. Times are the source file's; `_zero_s` of it is 0 in the output."""

    def __init__(
        self, job: RenderJob, info: StreamInfo, pieces: Sequence[Piece], cut: int | None, source: Any, output: Any
    ) -> None:
        self._job, self._info, self._pieces, self._source, self._output = job, info, pieces, source, output
        self._format = output.format.name
        begin_s = job.start_s + job.clock.time_s(job.first)
        self._begin_s = begin_s if job.first else None
        self._end_s = None if cut is None else job.start_s + job.clock.time_s(cut)
        self._zero_s = Fraction(0)
        if job.first:
            self._zero_s = begin_s
        elif source.format.name in ARBITRARY_START:
            self._zero_s = Fraction(source.start_time or 0, av.time_base)

    def write(self) -> None:
        plan = {kept.index: kept for kept in plan_streams(self._source, self._job.stream, self._format)}
        others: dict[int, Any] = {}
        covers = []
        with contextlib.ExitStack() as stack:
            for template in self._source.streams:
                kept = plan.get(template.index)
                if kept is None:
                    video = self._add_video(template, stack)
                elif kept.how is How.COVER:
                    covers.append((template, self._add_cover(template)))
                elif kept.how is not How.LEAVE:
                    others[kept.index] = self._add_other(template, kept)
            self._output.metadata.update(tags(self._source.metadata))
            self._output.set_chapters(self._chapters())
            self._output.start_encoding()
        for template, stream in covers:
            if stream is not None:
                packet = self._only_packet(template)
                packet.stream, packet.pts, packet.dts = stream, 0, 0
                self._output.mux(packet)
        self._interleave(video, others)

    # --- tracks -------------------------------------------------------------------------------------------------------

    def _add_video(self, original: Any, stack: contextlib.ExitStack) -> Any:
        first = stack.enter_context(av.open(str(self._pieces[0].path)))
        template: Any = first.streams.video[0]
        self._extradata = bytes(template.codec_context.extradata or b"")
        colour = self._info.colour
        if colour.mastering or colour.max_cll:
            packet = bytes(next(first.demux(template)))
            depth = self._info.layout.format.depth
            if (header := with_hdr(template, packet, colour, depth)) is not None:
                template = stack.enter_context(header).streams.video[0]
        stream = self._output.add_stream_from_template(template, opaque=True)
        rate = self._job.rate
        stream.codec_context.framerate = rate
        stream.codec_context.sample_aspect_ratio = self._job.encoder.sample_aspect
        ticks = math.lcm(rate.numerator, TICKS_PER_S)
        stream.time_base = Fraction(1, ticks if ticks < 1 << 30 else rate.numerator)
        if self._info.rotation:
            stream.set_display_rotation(self._info.rotation)
        self._describe(stream, original)
        return stream

    def _add_other(self, template: Any, kept: KeptStream) -> Any:
        if kept.how is How.CONVERT:
            converter = TextConverter(self._output, template, TEXT_SUBTITLES[self._format])
            self._describe(converter.stream, template)
            return converter
        stream = self._output.add_stream_from_template(template, opaque=True)
        self._describe(stream, template)
        return stream

    def _add_cover(self, template: Any) -> Any | None:
        if self._format != "matroska":
            stream = self._output.add_stream_from_template(template, opaque=True)
            self._describe(stream, template)
            return stream
        name, mime = COVER_TYPES.get(template.codec_context.name, ("cover", "application/octet-stream"))
        name, mime = template.metadata.get("filename", name), template.metadata.get("mimetype", mime)
        self._output.add_attachment(name, mime, bytes(self._only_packet(template)))
        return None

    def _only_packet(self, template: Any) -> Any:
        with av.open(self._job.path) as container:
            return next(packet for packet in container.demux(container.streams[template.index]) if packet.size)

    def _describe(self, stream: Any, template: Any) -> None:
        stream.metadata.update(tags(template.metadata))
        if self._format != "matroska" and "title" in template.metadata:
            stream.metadata["handler_name"] = template.metadata["title"]  # what players show; mp4 has no other place
        stream.disposition = Disposition(template.disposition)

    def _chapters(self) -> list[dict[str, Any]]:
        chapters = []
        for chapter in self._source.chapters():
            base = Fraction(chapter["time_base"])
            start_s, end_s = (chapter[name] * base - self._zero_s for name in ("start", "end"))
            if self._begin_s is not None:
                start_s = max(start_s, Fraction(0))
            if self._end_s is not None:
                end_s = min(end_s, self._end_s - self._zero_s)
            if end_s > start_s:
                ticks = {"start": round(start_s / base), "end": round(end_s / base)}
                chapters.append({**chapter, **ticks, "time_base": base})
        return chapters

    # --- packets ------------------------------------------------------------------------------------------------------

    def _interleave(self, video: Any, others: dict[int, Any]) -> None:
        """Packets in order of decoding time, so that the muxer holds back little."""
        pending = self._video_packets(video)
        following = next(pending, None)
        streams = [self._source.streams[index] for index in others if self._source.streams[index].type != "attachment"]
        for packet in self._source.demux(streams) if streams else ():
            if packet.dts is None and packet.pts is None:
                continue
            stamp = packet.dts if packet.dts is not None else packet.pts
            time_s = stamp * packet.time_base - self._zero_s
            while following is not None and following.dts * following.time_base <= time_s:
                self._output.mux(following)
                following = next(pending, None)
            self._mux_other(packet, others[packet.stream.index])
        while following is not None:
            self._output.mux(following)
            following = next(pending, None)

    def _mux_other(self, packet: Any, output: Any) -> None:
        """A packet of the source as it is but for its times; what lies outside the rendered part is left out."""
        base = packet.time_base
        start_s = (packet.pts if packet.pts is not None else packet.dts) * base
        end_s = start_s + (packet.duration or 0) * base
        is_text = packet.stream.type == "subtitle"
        if self._end_s is not None and start_s >= self._end_s:
            return
        if self._begin_s is not None and (end_s <= self._begin_s if is_text else start_s < self._begin_s):
            return
        if isinstance(output, TextConverter):
            stream = output.stream
            if (packet := output.convert(packet)) is None:
                return
        else:
            stream = output
        shift = round(self._zero_s / base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        if is_text and packet.duration:
            clipped_start_s = max(start_s, self._begin_s or start_s)
            clipped_end_s = min(end_s, self._end_s or end_s)
            packet.pts = packet.dts = round((clipped_start_s - self._zero_s) / base)
            packet.duration = round((clipped_end_s - clipped_start_s) / base)
        packet.stream = stream
        self._output.mux(packet)

    def _video_packets(self, stream: Any) -> Iterator[Any]:
        rate, base = self._job.rate, stream.time_base
        expected = self._job.first
        for piece in self._pieces:
            if piece.first != expected:
                raise MediaError(f"{piece.path}: begins with frame {piece.first}, expected {expected}")
            with av.open(str(piece.path)) as container:
                template: Any = container.streams.video[0]
                if bytes(template.codec_context.extradata or b"") != self._extradata:
                    raise MediaError(f"{piece.path}: was encoded with other settings than the first segment")
                for packet in container.demux(template):
                    if packet.pts is None or packet.dts is None:
                        continue
                    stamps = [
                        round((self._video_time_s(piece.first, stamp * packet.time_base)) / base)
                        for stamp in (packet.pts, packet.dts)
                    ]
                    packet.stream, packet.time_base = stream, base
                    packet.pts, packet.dts = stamps
                    packet.duration = round(1 / rate / base)
                    expected += 1
                    yield packet

    def _video_time_s(self, first: int, in_piece_s: Fraction) -> Fraction:
        return self._job.start_s + first / self._job.rate + in_piece_s - self._zero_s

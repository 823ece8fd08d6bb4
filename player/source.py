"""The film as numbered frames with exact times: opening, probing, seeking and decoding with PyAV."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from typing import Any

import av
import av.error
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from drba.errors import InputError, MediaError
from drba.pixels import PIXEL_FORMATS, FrameLayout, PixelFormat, Plane
from drba.timeline import MAX_RATE

from .virtual_file import Colour, Mastering

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 15.0
#: How far before the wanted time the second attempt to seek begins; each further one goes back twice as far.
MIN_BACK_S = Fraction(1)
#: Times that are this much earlier for several frames in a row are those of another film: a broadcast that was cut together.
JUMP_BACK_S = Fraction(1)
JUMP_BACK_FRAMES = 3
RATES_AGREE = Fraction(1, 10)
#: FFmpeg formats whose planes are byte for byte those of a carried format.
_SAME_LAYOUT = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}
#: A file that says nothing gets what every player assumes for its length: a day, and ends when the data ends.
UNKNOWN_DURATION_S = Fraction(24 * 3600)
#: FFmpeg's names of the containers that say how long they are. Of others FFmpeg looks for the time of a late packet, which is
#: that of the last picture but for a few.
STATE_THEIR_LENGTH = {"matroska", "mov", "avi", "flv", "asf", "ogg"}
LENGTH_SLACK_S = Fraction(1, 2)
#: FFmpeg's names of the matrices of H.273.
MATRIX_NAMES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
    10: "bt2020c",
}
_HD_ROWS = 576  # where a stream does not say, more rows than this mean BT.709, as players assume
STILL_CODECS = {"png", "mjpeg", "webp", "bmp", "tiff", "gif", "jpegxl"}


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a video stream before decoding it. Times in seconds as in the file."""

    layout: FrameLayout
    colour: Colour
    sample_aspect: Fraction
    average_rate: Fraction | None
    start_s: Fraction
    end_s: Fraction
    shape: str  # size, format and pixel aspect of its pictures
    is_broadcast: bool  # its times may jump: transport and program streams
    duration_known: bool
    duration_estimated: bool  # the film ends at `end_s` at the latest
    codec: str
    rotation: int
    interlaced: bool


@dataclass(frozen=True)
class DecodedFrame:
    """A frame of the film; `time_s` is its presentation timestamp in the file, `duration_s` what the file says of its length.

    `frame` owns the memory of its planes. `coded` is what it was before it was made to fit the layout, and `shape` the size,
    format and pixel aspect of that.
    """

    time_s: Fraction
    frame: VideoFrame
    layout: FrameLayout
    duration_s: Fraction | None = None
    coded: VideoFrame | None = None
    shape: str = ""

    def planes(self) -> list[Plane]:
        """Rows may be padded to the right; read-only by convention."""
        sample_bytes = self.layout.format.sample_bytes
        planes: list[Plane] = []
        for plane, (rows, samples) in zip(self.frame.planes, self.layout.plane_shapes, strict=True):
            all_samples = np.frombuffer(memoryview(plane), self.layout.format.dtype)
            planes.append(all_samples.reshape(-1, plane.line_size // sample_bytes)[:rows, :samples])
        return planes


def carried_format(name: str) -> PixelFormat:
    """The carried format that holds FFmpeg's format `name` without loss, or nearest to it."""
    name = _SAME_LAYOUT.get(name, name)
    for fmt in PIXEL_FORMATS:
        if fmt.name == name:
            return fmt
    native = av.VideoFormat(name)
    depth = max((component.bits for component in native.components), default=8)
    if native.is_rgb or native.has_palette:
        wanted = [f for f in PIXEL_FORMATS if f.is_rgb]
    elif len(native.components) < 3:
        wanted = [f for f in PIXEL_FORMATS if f.planes == 1]
    else:
        subsampled = {(8, 8): (1, 1), (8, 16): (1, 0)}
        shifts = subsampled.get((native.chroma_width(16), native.chroma_height(16)), (0, 0))
        wanted = [f for f in PIXEL_FORMATS if f.planes == 3 and not f.is_rgb]
        wanted = [f for f in wanted if (f.chroma_shift_x, f.chroma_shift_y) == shifts] or wanted
    return min((f for f in wanted if f.depth >= min(depth, 16)), key=lambda f: f.depth)


class VideoSource:
    """One video stream of one file or URL. Used by one thread at a time."""

    def __init__(
        self,
        url: str,
        *,
        stream: int | None = None,
        options: dict[str, str] | None = None,
        at_s: Fraction | None = None,
    ) -> None:
        """Open `url`; `stream` is the container's index of the video stream, None for the best one. What the picture is like is
        read from the one at `at_s`, or the first one.

        MediaError: it cannot be opened, holds no video, or only a still picture.
        """
        self.url = url
        self._options = options or {}
        self._seek_back_s = Fraction(0)
        self._first_dts: int | None = None  # of the film's first packet
        self._delay: int | None = None
        try:
            self._container = av.open(url, options=self._options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{url}: cannot be opened ({_reason(error)})") from error
        try:
            self._stream = self._choose_stream(stream)
            self._stream.thread_type = "AUTO"
            self._first = self._decode_first()
            self._delay = self._decoding_delay(self._first)
            self.info = self._probe(self._first)
            if at_s is not None:
                self.info = self._probe(self._decode_at(at_s))
        except BaseException:
            self._container.close()
            raise
        self.skipped_packets = 0
        self.jumped_back = False  # where the last frames ended

    def close(self) -> None:
        self._container.close()
        del self._container, self._stream, self._first  # whose codec keeps its threads as long as anybody refers to it

    def frames_from(self, time_s: Fraction) -> Iterator[DecodedFrame]:
        """Frames in order of time, the first of them at or before `time_s` unless the film begins later: the caller drops
        those it does not need."""
        return self._frames_reaching(time_s, 1, self._seek_back_s)

    def frames_around(self, time_s: Fraction) -> Iterator[DecodedFrame]:
        """As `frames_from`, but with two frames at or before `time_s` first: a triplet needs the frame before, too."""
        return self._frames_reaching(time_s, 2, max(self._seek_back_s, MIN_BACK_S))

    def _frames_reaching(self, time_s: Fraction, needed: int, back_s: Fraction) -> Iterator[DecodedFrame]:
        """Frames with `needed` of them at or before `time_s`, or from the beginning of the film, trying `back_s` first.

        Where a container has no index (transport and program streams), a seek ends anywhere, and the next key frame may be
        seconds later, or there may be none. How far back was enough is remembered for the next time.
        """
        while True:
            from_s = time_s - back_s
            frames = self._seek(from_s)
            head = list(islice(frames, needed))
            if len(head) == needed and head[-1].time_s <= time_s:
                self._seek_back_s = max(self._seek_back_s, back_s if needed == 1 else Fraction(0))
                return chain(head, frames)
            if from_s <= self.first_s:
                if head and head[0].time_s <= self.first_s:
                    return chain(head, frames)
                self._rewind()
                return self._in_order()
            back_s = max(MIN_BACK_S, back_s * 2)

    def _seek(self, time_s: Fraction) -> Iterator[DecodedFrame]:
        """The frames from where the container's seek to `time_s` ends."""
        try:
            if self._first.pts is None:  # nothing to seek by: times are counted from the beginning
                self._rewind()
            else:
                offset = int(time_s / self._stream.time_base) if self._stream.time_base else 0
                self._container.seek(offset, stream=self._stream, backward=True)
        except av.error.FFmpegError as error:
            log.info("%s: cannot seek to %.3f s (%s), decoding from the start", self.url, time_s, _reason(error))
            self._rewind()
        return self._in_order()

    def _in_order(self) -> Iterator[DecodedFrame]:
        """The frames that come now, in order of time. Of several with one time the last one is what a player shows; what is
        earlier than the frame before it cannot be shown in order. They end where times jump back for good."""
        self.jumped_back = False
        waiting: DecodedFrame | None = None
        earlier = 0
        for frame in self._decode():
            time_s = self._time_of(frame, waiting.time_s if waiting else None)
            if waiting is not None and time_s < waiting.time_s:
                earlier = earlier + 1 if waiting.time_s - time_s > JUMP_BACK_S else 0
                if earlier < JUMP_BACK_FRAMES:
                    continue
                self.jumped_back = True
                break
            if waiting is not None and time_s > waiting.time_s:
                yield waiting
            earlier = 0
            duration = frame.duration * frame.time_base if frame.duration and frame.time_base else None
            carried, shape = self._carried(frame), self._shape_of(frame)
            waiting = DecodedFrame(time_s, carried, self.info.layout, duration, frame, shape)
        if waiting is not None:
            yield waiting

    def _shape_of(self, frame: VideoFrame) -> str:
        aspect = self._stream.codec_context.sample_aspect_ratio or 1
        return f"{frame.width}x{frame.height} {frame.format.name}" + (f" (pixels {aspect})" if aspect != 1 else "")

    @property
    def first_s(self) -> Fraction:
        """Time of the first frame that can be decoded."""
        return self._time_of(self._first, None)

    @property
    def stream_index(self) -> int:
        """The container's index of the video stream."""
        return self._stream.index

    @property
    def file_start_s(self) -> Fraction:
        """The file's time that players show as 0: where the earliest of its streams begins."""
        return Fraction(self._container.start_time or 0, av.time_base)

    def _rewind(self) -> None:
        """Open anew, for inputs that cannot seek."""
        index = self._stream.index
        self._container.close()
        self._container = av.open(self.url, options=self._options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
        self._stream = self._container.streams[index]  # type: ignore[assignment]
        self._stream.thread_type = "AUTO"

    def _decode(self) -> Iterator[VideoFrame]:
        """Decode to the end of the data; broken packets are skipped, as players do."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                log.warning("%s: reading stopped (%s)", self.url, _reason(error))
                return
            if self._first_dts is None:
                self._first_dts = packet.dts
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.skipped_packets += 1

    def _time_of(self, frame: VideoFrame, last: Fraction | None) -> Fraction:
        stamp = frame.pts
        if self._delay is not None:
            stamp = None if frame.dts is None else frame.dts - self._delay
        if stamp is not None and frame.time_base is not None:
            return stamp * frame.time_base
        if last is not None:
            return last + 1 / (self.info.average_rate or Fraction(25))
        return self.info.start_s

    def _carried(self, frame: VideoFrame) -> VideoFrame:
        layout = self.info.layout
        same_format = _SAME_LAYOUT.get(frame.format.name, frame.format.name) == layout.format.name
        if same_format and (frame.width, frame.height) == (layout.width, layout.height):
            return frame
        return frame.reformat(layout.width, layout.height, layout.format.name)

    def _choose_stream(self, index: int | None) -> av.VideoStream:
        videos = [s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if index is not None:
            videos = [s for s in videos if s.index == index]
        if not videos:
            raise MediaError(f"{self.url}: no video in it; DRBA needs a film with moving pictures")
        best = self._container.streams.best("video")
        return best if best in videos else videos[0]

    def _decode_first(self) -> VideoFrame:
        for frame in self._decode():
            return frame
        raise MediaError(f"{self.url}: no frame of its video can be decoded")

    def _decode_at(self, time_s: Fraction) -> VideoFrame:
        """The picture at that time, or the last one before it that there is."""
        found = self._first
        for decoded in self.frames_from(time_s):
            if decoded.time_s > time_s:
                break
            found = decoded.coded or found
        return found

    def _decoding_delay(self, first: VideoFrame) -> int | None:
        """How long after a packet's time its picture is shown, where containers say only when packets are decoded: AVI."""
        if self._container.format.name != "avi" or first.dts is None or self._first_dts is None:
            return None
        return first.dts - self._first_dts

    def _probe(self, frame: VideoFrame) -> StreamInfo:
        stream = self._stream
        context = stream.codec_context
        if context.name in STILL_CODECS and (stream.frames == 1 or stream.duration in (None, 1)):
            raise MediaError(f"{self.url}: a still picture; there is nothing between its frames")
        layout = FrameLayout(frame.width, frame.height, carried_format(frame.format.name))
        time_base = stream.time_base or Fraction(1, 1000)
        start_s = stream.start_time * time_base if stream.start_time is not None else Fraction(0)
        container = self._container.format.name
        end_s: Fraction | None = None
        if stream.duration:
            end_s = start_s + stream.duration * time_base
        elif self._container.duration:
            end_s = Fraction(self._container.duration, av.time_base)
            if "matroska" not in container:  # whose duration counts from 0, not from the first picture
                end_s += Fraction(self._container.start_time or 0, av.time_base)
        estimated = not any(name in STATE_THEIR_LENGTH for name in container.split(","))
        if end_s is not None and estimated:
            end_s += LENGTH_SLACK_S
        return StreamInfo(
            layout=layout,
            colour=_colour(frame),
            sample_aspect=Fraction(stream.sample_aspect_ratio or context.sample_aspect_ratio or 1),
            average_rate=_frame_rate(stream),
            start_s=start_s,
            end_s=end_s if end_s is not None else start_s + UNKNOWN_DURATION_S,
            shape=self._shape_of(frame),
            is_broadcast=container in ("mpegts", "mpeg"),
            duration_known=end_s is not None,
            duration_estimated=estimated,
            codec=context.name,
            rotation=frame.rotation,
            interlaced=frame.interlaced_frame,
        )


def _frame_rate(stream: av.VideoStream) -> Fraction | None:
    """Frames a second. FFmpeg's average over the first frames suffers from rounded times, and is the container's default for
    bare streams; its guess is the grid that the times lie on, which a variable rate uses a part of only."""
    average, guessed = stream.average_rate, stream.guessed_rate
    if not average or not guessed:
        return average or guessed
    return guessed if abs(guessed / average - 1) < RATES_AGREE or average > MAX_RATE else average


def _colour(frame: VideoFrame) -> Colour:
    max_cll = max_fall = 0
    mastering = None
    side_data: Any = frame.side_data  # a mapping by type, which its stub does not say
    if (light := side_data.get(SideDataType.CONTENT_LIGHT_LEVEL)) is not None:
        max_cll, max_fall = np.frombuffer(memoryview(light), np.uint32, 2).tolist()
    if (display := side_data.get(SideDataType.MASTERING_DISPLAY_METADATA)) is not None:
        mastering = _mastering(bytes(display))
    full_range = {1: False, 2: True}.get(int(frame.color_range))
    if frame.format.name.startswith("yuvj"):
        full_range = True
    return Colour(
        matrix=int(frame.colorspace) if not frame.format.is_rgb else 0,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full_range=full_range,
        max_cll=max_cll,
        max_fall=max_fall,
        mastering=mastering,
    )


def _mastering(data: bytes) -> Mastering | None:
    """AVMasteringDisplayMetadata: 3 x 2 + 2 + 2 rationals, then two flags."""
    values = np.frombuffer(data, np.int32, 22)
    numbers = [int(n) / int(d) if d else 0.0 for n, d in values[:20].reshape(10, 2)]
    if not (values[20] and values[21]):
        return None
    points = tuple((numbers[2 * i], numbers[2 * i + 1]) for i in range(4))
    return Mastering(points[:3], points[3], numbers[9], numbers[8])


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.strip() or type(error).__name__


def matrix_name(info: StreamInfo) -> str:
    """FFmpeg's name of the stream's YUV matrix, or of the one that players assume where it does not say."""
    assumed = "bt709" if info.layout.height > _HD_ROWS else "smpte170m"
    return MATRIX_NAMES.get(info.colour.matrix, assumed)


def check_input(path: str) -> None:
    """InputError with one clear line where a local path cannot be a film; URLs pass."""
    if "://" in path:
        return
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if os.path.isdir(path):
        raise InputError(f"{path}: a folder; give a video file or URL")

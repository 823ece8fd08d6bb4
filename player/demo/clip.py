"""The clip that the program makes itself: for `--demo`, and with other sizes, rates and colours for the tests.

What is in it is drawn by `scene`; here it gets its times, its beeps and its file. Flash and beep begin at the
same instant of the file's own timeline: frame times are rounded to the container's time base first, and the beep
starts where the flash is.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, cycle
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from drba.errors import InputError, MediaError
from drba.pixels import Plane, pixel_format
from drba.whole_files import temporary_beside

from .canvas import Image
from .planes import LUMA_WEIGHTS, planes_from_bgr
from .scene import Drawing, ScenePainter, cut_frames, stored_picture, storyboard

SAMPLE_RATE = 48_000
BEEP_HZ, BEEP_S, BEEP_LEVEL = 1000, Fraction(60, 1000), 0.4
#: Frame intervals of a clip with variable frame rate, in turn: 24, 12 and 30 frames a second.
VFR_INTERVALS_S = (Fraction(1, 24), Fraction(1, 12), Fraction(1, 30))
KEYFRAME_EVERY_S = 2
PAINT_AHEAD_FRAMES = 8


@dataclass(frozen=True)
class Container:
    """A file format: FFmpeg's name, the unit of its video times, and how sound and subtitles are stored in it."""

    format: str
    time_base: Fraction
    audio_codec: str
    subtitle_codec: str


_MP4_TIME_BASE = Fraction(1, 120_000)  # a multiple of 24000/1001, 30000/1001, 60000/1001 and of every whole rate in use
CONTAINERS = {
    ".mkv": Container("matroska", Fraction(1, 1000), "flac", "subrip"),
    ".mp4": Container("mp4", _MP4_TIME_BASE, "aac", "mov_text"),
    ".mov": Container("mov", _MP4_TIME_BASE, "pcm_s16le", "mov_text"),
}
#: Options an encoder gets unless the clip's own say otherwise.
CODEC_OPTIONS = {
    "libx264": {"preset": "ultrafast", "crf": "22"},  # a third of veryfast's time for three times its bytes
    "libx265": {"preset": "ultrafast", "crf": "18", "x265-params": "log-level=error"},
    "ffv1": {"level": "3"},
}
#: Code points of ITU-T H.273 under FFmpeg's names.
MATRICES = {"bt709": 1, "bt470bg": 5, "smpte170m": 6, "bt2020nc": 9}
PRIMARIES = {"bt709": 1, "bt470bg": 5, "smpte170m": 6, "bt2020": 9}
TRANSFERS = {"bt709": 1, "smpte170m": 6, "bt2020-10": 14, "smpte2084": 16, "arib-std-b67": 18}
RANGES = {"tv": 1, "pc": 2}


@dataclass(frozen=True)
class ClipSpec:
    """What to make.

    `seconds` is the least length: the last frame begins before it. `width` x `height` is the size as stored. `vfr`
    replaces `rate` by VFR_INTERVALS_S. Timestamps begin at `start_s`. `matrix`, `primaries`, `transfer` and
    `color_range` go by FFmpeg's names and are both used and written. `rotation` (0, 90, 180, 270) is what a player
    has to turn the picture by, clockwise; only mp4 and mov can say it. `codec_options` are pairs for the encoder.
    `audio_codec` None takes the container's own: sample exact in mkv and mov, AAC in mp4.
    """

    seconds: float = 20
    rate: Fraction = Fraction(24000, 1001)
    width: int = 1280
    height: int = 720
    vfr: bool = False
    start_s: Fraction = Fraction(0)
    audio: bool = True
    audio_codec: str | None = None
    subtitles: bool = False
    codec: str = "libx264"
    codec_options: tuple[tuple[str, str], ...] = ()
    pixel_format: str = "yuv420p"
    matrix: str = "bt709"
    primaries: str = "bt709"
    transfer: str = "bt709"
    color_range: str = "tv"
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0

    def check(self) -> None:
        """InputError where a value is out of range or unknown."""
        for name, value, known in (
            ("matrix", self.matrix, LUMA_WEIGHTS),
            ("primaries", self.primaries, PRIMARIES),
            ("transfer", self.transfer, TRANSFERS),
            ("color_range", self.color_range, RANGES),
            ("rotation", self.rotation, (0, 90, 180, 270)),
        ):
            if value not in known:
                raise InputError(
                    f"demo clip: {name} {value!r} is unknown; expected one of {', '.join(map(str, known))}"
                )
        for name, number in (
            ("seconds", self.seconds),
            ("rate", self.rate),
            ("width", self.width),
            ("height", self.height),
            ("sample_aspect", self.sample_aspect),
        ):
            if not number > 0:
                raise InputError(f"demo clip: {name} is {number}; expected more than 0")
        pixel_format(self.pixel_format)
        if self.start_s < 0:
            raise InputError(f"demo clip: start_s is {self.start_s}; expected 0 or more")

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as a player shows the picture: square pixels, turned."""
        width, height = max(1, round(self.width * self.sample_aspect)), self.height
        return (height, width) if self.rotation % 180 else (width, height)


@dataclass(frozen=True)
class DemoClip:
    """A finished clip and what is true of it. All times are in seconds on the file's own timeline, exact."""

    path: Path
    spec: ClipSpec
    times_s: tuple[Fraction, ...]
    flash_times_s: tuple[Fraction, ...]
    cut_times_s: tuple[Fraction, ...]
    drawings: tuple[Drawing, ...]


def frame_times_s(spec: ClipSpec, time_base: Fraction) -> tuple[Fraction, ...]:
    """Presentation times on the file's timeline, whole multiples of `time_base`; at least one, ascending."""
    start, end = Fraction(spec.start_s), Fraction(spec.seconds)

    def exact() -> Iterator[Fraction]:
        if not spec.vfr:
            yield from (number / spec.rate for number in count())
        time = Fraction(0)
        for interval in cycle(VFR_INTERVALS_S):
            yield time
            time += interval

    times: list[Fraction] = []
    for time in exact():
        if times and time >= end:
            return tuple(times)
        times.append(round((start + time) / time_base) * time_base)
    raise AssertionError("exact() never ends")


def frame_image(spec: ClipSpec, index: int, suffix: str = ".mkv", painter: ScenePainter | None = None) -> Image:
    """Frame `index` as a file with that suffix stores it, before encoding: 8-bit BGR of (height, width, 3)."""
    spec.check()
    drawing = _storyboard(frame_times_s(spec, _container(Path("clip" + suffix)).time_base))[index]
    return stored_picture(painter or ScenePainter(*spec.shown_size), drawing, spec.width, spec.height, spec.rotation)


def beep_samples(begin: int, end: int, starts: Sequence[int]) -> NDArray[np.int16]:
    """Samples `begin` to `end` of the sound, mono: silence but for a beep at each of `starts` (sample numbers)."""
    length = int(BEEP_S * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    fade = np.clip((length - np.arange(length)) / (0.008 * SAMPLE_RATE), 0, 1)
    beep = np.rint(np.sin(2 * np.pi * BEEP_HZ * time) * fade * BEEP_LEVEL * 32767).astype(np.int16)
    sound = np.zeros(end - begin, np.int16)
    for start in starts:
        low, high = max(begin, start), min(end, start + length)
        if low < high:
            sound[low - begin : high - begin] = beep[low - start : high - start]
    return sound


def make_demo(
    path: str | os.PathLike[str],
    spec: ClipSpec | None = None,
    *,
    force: bool = False,
    painter: ScenePainter | None = None,
) -> DemoClip:
    """Write the clip to `path` (.mkv, .mp4 or .mov) and say what is in it.

    The file appears under its name only when it is complete. InputError if it exists and `force` is not given, or if
    `spec` asks for something impossible; MediaError if FFmpeg cannot write it. A `painter` of the spec's `shown_size`
    saves drawing the layers again where several clips are made; it must not be used elsewhere meanwhile.
    """
    spec, target = spec or ClipSpec(), Path(path)
    spec.check()
    container = _container(target)
    if spec.rotation and container.format == "matroska":
        raise InputError(f"{target}: mkv carries no rotation of {spec.rotation} degrees; name it .mp4 or .mov")
    if target.exists() and not force:
        raise InputError(f"{target} exists already; delete it, choose another name or ask to overwrite it")
    clip = describe_demo(target, spec)
    partial = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(partial), "w", format=container.format, options={"fflags": "+bitexact"}) as output:
            _write(output, clip, container, painter or ScenePainter(*spec.shown_size))
        os.replace(partial, target)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{target}: cannot write the demo clip ({error}); check the folder and the clip's format"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return clip


def describe_demo(path: str | os.PathLike[str], spec: ClipSpec) -> DemoClip:
    """What `make_demo` would write, or has written, to `path`: times and drawings, without looking at the file."""
    target = Path(path)
    times = frame_times_s(spec, _container(target).time_base)
    drawings = _storyboard(times)
    flashes = tuple(time for time, drawing in zip(times, drawings, strict=True) if drawing.flash)
    cuts = tuple(times[index] for index in cut_frames([time - times[0] for time in times]))
    return DemoClip(target, spec, times, flashes, cuts, drawings)


def _container(path: Path) -> Container:
    try:
        return CONTAINERS[path.suffix.lower()]
    except KeyError:
        raise InputError(f"{path}: a demo clip ends in {', '.join(CONTAINERS)}, not in {path.suffix!r}") from None


def _storyboard(times: Sequence[Fraction]) -> tuple[Drawing, ...]:
    return storyboard([time - times[0] for time in times])


def _write(output: OutputContainer, clip: DemoClip, container: Container, painter: ScenePainter) -> None:
    """Encode picture, sound and text side by side, so that the file is interleaved and little is held in memory."""
    spec = clip.spec
    video = _Video(output, spec, container.time_base)
    sound = _Sound(output, clip, spec.audio_codec or container.audio_codec) if spec.audio else None
    text = output.add_mux_stream(container.subtitle_codec) if spec.subtitles else None
    if text is not None:
        text.time_base = Fraction(1, 1000)
    output.start_encoding()
    texts = set(clip.flash_times_s if text is not None else ())
    for time, following, planes in zip(clip.times_s, _following(clip), _painted(clip, painter), strict=True):
        if sound:
            sound.write_until(following)
        video.write(planes, time, following - time)
        if text is not None and time in texts:
            _write_text(output, text, time, f"{float(time - clip.times_s[0]):.3f} s")
    if sound:
        sound.finish()
    video.finish()


def _painted(clip: DemoClip, painter: ScenePainter) -> Iterator[list[Plane]]:
    """Every frame's planes, painted by a second thread a few frames ahead of the encoder."""
    spec, fmt = clip.spec, pixel_format(clip.spec.pixel_format)

    def paint(drawing: Drawing) -> list[Plane]:
        picture = stored_picture(painter, drawing, spec.width, spec.height, spec.rotation)
        return planes_from_bgr(picture, fmt, spec.matrix, spec.color_range == "pc")

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="demo-painter") as pool:
        ahead: deque[Future[list[Plane]]] = deque()
        for drawing in clip.drawings:
            ahead.append(pool.submit(paint, drawing))
            if len(ahead) > PAINT_AHEAD_FRAMES:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _following(clip: DemoClip) -> tuple[Fraction, ...]:
    """The time at which each frame ends; the last lasts as long as the one before it."""
    times = clip.times_s
    last = times[-1] - times[-2] if len(times) > 1 else 1 / Fraction(clip.spec.rate)
    return (*times[1:], times[-1] + last)


class _Video:
    """The video stream being written. Colours, aspect and rotation are set before the first frame."""

    def __init__(self, output: OutputContainer, spec: ClipSpec, time_base: Fraction) -> None:
        rate = len(VFR_INTERVALS_S) / sum(VFR_INTERVALS_S, Fraction(0)) if spec.vfr else Fraction(spec.rate)
        options = {**CODEC_OPTIONS.get(spec.codec, {}), **dict(spec.codec_options)}
        stream: Any = output.add_stream(spec.codec, rate=rate.limit_denominator(1 << 20), options=options)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.pixel_format
        context = stream.codec_context
        context.time_base = time_base
        context.gop_size = max(1, round(KEYFRAME_EVERY_S * rate))
        context.sample_aspect_ratio = Fraction(spec.sample_aspect)
        context.color_range = RANGES[spec.color_range]
        context.colorspace = 0 if pixel_format(spec.pixel_format).is_rgb else MATRICES[spec.matrix]
        context.color_primaries, context.color_trc = PRIMARIES[spec.primaries], TRANSFERS[spec.transfer]
        if spec.rotation:
            if not hasattr(stream, "set_display_rotation"):
                raise InputError(f"PyAV {av.__version__} cannot write a rotation; install a newer one (av>=18)")
            stream.set_display_rotation(-spec.rotation)  # counter-clockwise there
        self._output, self._stream, self._spec, self._time_base = output, stream, spec, time_base

    def write(self, planes: Sequence[Plane], time: Fraction, duration: Fraction) -> None:
        frame = av.VideoFrame(self._spec.width, self._spec.height, self._spec.pixel_format)
        for target, values in zip(frame.planes, planes, strict=True):
            _fill(target, values)
        frame.pts, frame.time_base = int(time / self._time_base), self._time_base
        frame.duration = int(duration / self._time_base)
        context = self._stream.codec_context
        frame.colorspace, frame.color_range = context.colorspace, context.color_range
        frame.color_primaries, frame.color_trc = context.color_primaries, context.color_trc
        self._output.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._output.mux(self._stream.encode(None))


def _fill(plane: Any, values: Plane) -> None:
    """Copy samples into an FFmpeg plane, whose rows may be longer."""
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * values.shape[0]].reshape(values.shape[0], plane.line_size)
    as_bytes = np.ascontiguousarray(values).view(np.uint8)
    rows[:, : as_bytes.shape[1]] = as_bytes


class _Sound:
    """The sound stream being written, a second at a time."""

    def __init__(self, output: OutputContainer, clip: DemoClip, codec: str) -> None:
        self._stream: Any = output.add_stream(codec, rate=SAMPLE_RATE, layout="stereo")
        self._output = output
        self._starts = [round(time * SAMPLE_RATE) for time in clip.flash_times_s]
        self._position = round(clip.times_s[0] * SAMPLE_RATE)
        self._end = round(_following(clip)[-1] * SAMPLE_RATE)

    def write_until(self, time: Fraction) -> None:
        """Have at least the sound before `time` written, and no more than a second beyond it."""
        wanted = min(self._end, round(time * SAMPLE_RATE))
        while self._position < wanted:
            end = min(self._end, self._position + SAMPLE_RATE)
            starts = [s for s in self._starts if self._position - SAMPLE_RATE < s < end]
            mono = beep_samples(self._position, end, starts)
            frame = av.AudioFrame.from_ndarray(np.repeat(mono, 2)[None], format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._position, Fraction(1, SAMPLE_RATE)
            self._output.mux(self._stream.encode(frame))
            self._position = end

    def finish(self) -> None:
        self._output.mux(self._stream.encode(None))


def _write_text(output: OutputContainer, stream: Any, time: Fraction, words: str) -> None:
    """A subtitle of half a second."""
    payload = words.encode()
    if output.format.name != "matroska":
        payload = struct.pack(">H", len(payload)) + payload  # the 3GPP text sample: its length first
    packet: Any = av.Packet(payload)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = round(time * 1000)
    packet.duration = 500
    output.mux(packet)

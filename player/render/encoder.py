"""Encoding one segment: settings that are the same for every segment, wherever it is rendered, and the file it becomes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.video.frame import VideoFrame

from drba.errors import InputError, MediaError

#: mp4 keeps time bases and decoding times exactly and holds these codecs; QuickTime's variant the others (ProRes).
SEGMENT_FORMATS = ("mp4", "mov")
KEPT = "what is rendered is kept: make room and go on with --resume"
#: How names of files that are being written end.
TEMPORARY = "writing.mp4"


@dataclass(frozen=True)
class EncoderSettings:
    """`width` x `height` is the encoded size, `frame_format` the format frames are given in, `pixel_format` what is encoded.

    Colours are H.273 code points (`color_range` 1 limited, 2 full). `threads` changes what encoders write, so it is fixed here.
    """

    codec: str
    options: tuple[tuple[str, str], ...]
    width: int
    height: int
    frame_format: str
    pixel_format: str
    rate: Fraction
    sample_aspect: Fraction = Fraction(1)
    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    color_range: int = 0
    threads: int = 1

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EncoderSettings:
        """From JSON: fractions are strings, pairs lists."""
        options = tuple((str(name), str(value)) for name, value in data["options"])
        fractions = {name: Fraction(data[name]) for name in ("rate", "sample_aspect")}
        return cls(**{**data, **fractions, "options": options})

    def check(self) -> None:
        """InputError where this FFmpeg has no such encoder, or the encoder does not take the settings."""
        try:
            context: Any = av.CodecContext.create(self.codec, "w")
        except (av.error.FFmpegError, ValueError) as error:
            raise InputError(
                f"codec {self.codec!r}: this FFmpeg has no such encoder; try libx264 or libx265"
            ) from error
        if context.type != "video":
            raise InputError(f"codec {self.codec!r} encodes {context.type}; expected a video encoder such as libx264")
        context.options = dict(self.options)
        self._configure(context)
        try:
            context.open()
        except (av.error.FFmpegError, ValueError) as error:
            subject = f"{self.codec} with {self.pixel_format}, {self.width}x{self.height}"
            given = ", ".join(f"{name}={value}" for name, value in self.options if not name.endswith("-params"))
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"{subject}, {given or 'no options'}: the encoder does not take this ({reason})"
            ) from error
        if context.options:
            raise InputError(f"codec {self.codec!r} has no option {', '.join(context.options)}")

    def _configure(self, context: Any) -> None:
        context.width, context.height, context.pix_fmt = self.width, self.height, self.pixel_format
        context.time_base, context.framerate = 1 / self.rate, self.rate
        context.sample_aspect_ratio = self.sample_aspect
        context.color_range, context.colorspace = self.color_range, self.matrix
        context.color_primaries, context.color_trc = self.primaries, self.transfer
        context.thread_count = self.threads

    def open_stream(self, output: Any) -> Any:
        stream = output.add_stream(self.codec, rate=self.rate, options=dict(self.options))
        self._configure(stream.codec_context)
        return stream


class SegmentWriter:
    """Encodes frames into a file of a temporary name in `folder`; it gets its own when it is whole and on the disk."""

    def __init__(self, folder: Path, settings: EncoderSettings) -> None:
        """MediaError where nothing can be written there."""
        self._temporary = folder / f".{os.getpid()}.{TEMPORARY}"
        self._settings = settings
        self._frames = 0
        with self._errors():
            self._output, self._stream = self._open()

    def write(self, frame: VideoFrame) -> None:
        """Encode the next frame. Its `pts` is changed; its content is not."""
        settings = self._settings
        if frame.format.name != settings.pixel_format:
            colours: Any = {
                "src_colorspace": settings.matrix,
                "dst_colorspace": settings.matrix,
                "src_color_range": settings.color_range,
                "dst_color_range": settings.color_range,
            }
            same_kind = frame.format.is_rgb == av.VideoFormat(settings.pixel_format).is_rgb
            frame = frame.reformat(format=settings.pixel_format, **(colours if same_kind else {}))
        frame.pts, frame.time_base, frame.duration = self._frames, 1 / settings.rate, 1
        frame.colorspace, frame.color_range = settings.matrix, settings.color_range
        self._frames += 1
        with self._errors():
            self._output.mux(self._stream.encode(frame))

    def finish(self, path: Path) -> None:
        """Flush the encoder and name the file `path`; MediaError where it cannot be written whole."""
        with self._errors():
            self._output.mux(self._stream.encode(None))
            self._output.close()
            written = count_frames(self._temporary)
            if written != self._frames:
                raise MediaError(
                    f"{self._temporary}: {written} of {self._frames} frames were written; is the disk full?"
                )
            move_into_place(self._temporary, path)

    def abandon(self) -> None:
        """Remove what was written; never raises. Nothing after `finish`."""
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            self._output.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _open(self) -> tuple[Any, Any]:
        refused: Exception | None = None
        for name in SEGMENT_FORMATS:
            output: Any = av.open(str(self._temporary), "w", format=name)
            try:
                return output, self._settings.open_stream(output)
            except ValueError as error:
                refused = error
        raise InputError(
            f"codec {self._settings.codec!r} cannot be kept in {' or '.join(SEGMENT_FORMATS)}; choose another"
        ) from refused

    @contextlib.contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"{self._temporary.parent}: cannot be written ({reason}); {KEPT}") from error


def count_frames(path: Path) -> int:
    """Packets of the file's video stream."""
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def move_into_place(temporary: Path, path: Path, before_rename: Callable[[Path], None] | None = None) -> None:
    """Rename a file that is whole, after its content has reached the disk; OSError."""
    with temporary.open("rb+") as file:  # Windows flushes what may be written only
        os.fsync(file.fileno())
    if before_rename is not None:
        before_rename(temporary)
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have names in a folder survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

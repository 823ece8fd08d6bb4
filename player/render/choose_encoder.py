"""What the encoder of a film is unless the user says otherwise, and how each encoder is told quality and HDR data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.error

from drba.errors import InputError

from ..source import StreamInfo
from ..virtual_file import Colour, Mastering
from .encoder import EncoderSettings

MAX_THREADS = 16
HDR_TRANSFERS = {16, 18}  # PQ and HLG (H.273)


@dataclass(frozen=True)
class EncoderKind:
    """`quality` is the option that `--crf` means and its visually transparent default; `preset` the default preset."""

    quality: tuple[str, str] | None = None
    preset: str | None = None
    fixed: tuple[tuple[str, str], ...] = ()


#: What is known of encoders; others are taken with their own defaults.
KINDS = {
    "libx264": EncoderKind(("crf", "16"), "medium"),
    "libx265": EncoderKind(("crf", "16"), "medium"),
    "libsvtav1": EncoderKind(("crf", "18"), "6"),
    "libvpx-vp9": EncoderKind(("crf", "18"), None, (("b", "0"), ("row-mt", "1"))),
    "h264_nvenc": EncoderKind(("cq", "17"), "p5", (("rc", "vbr"), ("b", "0"))),
    "hevc_nvenc": EncoderKind(("cq", "18"), "p5", (("rc", "vbr"), ("b", "0"))),
    "av1_nvenc": EncoderKind(("cq", "22"), "p5", (("rc", "vbr"), ("b", "0"))),
    "ffv1": EncoderKind(None, None, (("level", "3"), ("slicecrc", "1"))),
}


@dataclass(frozen=True)
class EncoderWishes:
    """What the user asked for; None is the default."""

    codec: str | None = None
    quality: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
    hardware: bool = False


def choose_encoder(
    wishes: EncoderWishes, info: StreamInfo, rate: Fraction, chroma: int | None = None
) -> tuple[EncoderSettings, list[str]]:
    """Settings that were tried, and one line for everything that the user should know of them. InputError.

    `chroma` is the place of the source's chroma samples (H.273), None where unknown.
    """
    notes: list[str] = []
    codec = wishes.codec or software_codec(info)
    if wishes.hardware and wishes.codec is None:
        hardware = "hevc_nvenc" if codec == "libx265" else "h264_nvenc"
        try:
            settings = _settings(hardware, wishes, info, rate, chroma, notes)
            settings.check()
            return settings, notes
        except InputError:
            notes = [f"-hw: this machine has no NVENC that can encode this film; encoding with {codec}"]
    settings = _settings(codec, wishes, info, rate, chroma, notes)
    settings.check()
    return settings, notes


def software_codec(info: StreamInfo) -> str:
    """x264 for 8-bit YUV, which everything plays; x265 for deeper, HDR and RGB pictures, which x264 has no profile for."""
    fmt = info.layout.format
    return "libx265" if fmt.depth > 8 or fmt.is_rgb or info.colour.transfer in HDR_TRANSFERS else "libx264"


def _settings(
    codec: str, wishes: EncoderWishes, info: StreamInfo, rate: Fraction, chroma: int | None, notes: list[str]
) -> EncoderSettings:
    layout, colour = info.layout, info.colour
    frame_format = layout.format.name
    pixel_format = wishes.pixel_format or nearest_format(codec, frame_format)
    if wishes.pixel_format:
        _check_format(wishes.pixel_format)
    elif pixel_format != frame_format and not _equivalent(pixel_format, frame_format):
        notes.append(f"{codec} does not encode {frame_format}; the output is {pixel_format}")
    width, height = even_size(layout.width, layout.height, pixel_format)
    if (width, height) != (layout.width, layout.height):
        notes.append(
            f"{layout.width}x{layout.height}: encoders need whole chroma samples; the output is {width}x{height}, "
            "its last column or row repeated"
        )
    return EncoderSettings(
        codec=codec,
        options=_options(codec, wishes, colour, chroma),
        width=width,
        height=height,
        frame_format=frame_format,
        pixel_format=pixel_format,
        rate=rate,
        sample_aspect=info.sample_aspect,
        matrix=colour.matrix,
        primaries=colour.primaries,
        transfer=colour.transfer,
        color_range={None: 0, False: 1, True: 2}[colour.full_range],
        threads=_threads(),
    )


def _threads() -> int:
    return min(MAX_THREADS, os.cpu_count() or 1)


def _options(codec: str, wishes: EncoderWishes, colour: Colour, chroma: int | None) -> tuple[tuple[str, str], ...]:
    kind = KINDS.get(codec, EncoderKind())
    options = dict(kind.fixed)
    if wishes.quality is not None:
        if kind.quality is None:
            raise InputError(
                f"--crf: codec {codec!r} has no such quality; expected one of {', '.join(_with_quality())}"
            )
        options[kind.quality[0]] = f"{wishes.quality:g}"
    elif kind.quality is not None:
        options[kind.quality[0]] = kind.quality[1]
    preset = wishes.preset or kind.preset
    if preset is not None:
        options["preset"] = preset
    place = [] if chroma is None else [f"chromaloc={chroma}"]
    if codec == "libx265":
        # x265 makes its frame threads from the number of cores, and what it writes depends on them.
        frame_threads = max(1, min(4, _threads() // 2))
        fixed = ["log-level=error", "repeat-headers=1", f"frame-threads={frame_threads}"]
        options["x265-params"] = ":".join([*fixed, *_x265_hdr(colour), *place])
    elif codec == "libx264" and (params := _x264_hdr(colour) + place):
        options["x264-params"] = ":".join(params)
    return tuple(options.items())


def _with_quality() -> list[str]:
    return [name for name, kind in KINDS.items() if kind.quality]


def _x265_hdr(colour: Colour) -> list[str]:
    parts = [f"master-display={_display(colour.mastering)}"] if colour.mastering else []
    return parts + ([f"max-cll={colour.max_cll},{colour.max_fall}"] if colour.max_cll else [])


def _x264_hdr(colour: Colour) -> list[str]:
    parts = [f"mastering-display={_display(colour.mastering)}"] if colour.mastering else []
    return parts + ([f"cll={colour.max_cll},{colour.max_fall}"] if colour.max_cll else [])


def _display(mastering: Mastering) -> str:
    """SMPTE ST 2086 in x265's words: chromaticities in units of 0.00002, luminance in 0.0001 cd/m2."""
    red, green, blue, white = (
        f"({round(x * 50_000)},{round(y * 50_000)})" for x, y in (*mastering.primaries, mastering.white)
    )
    light = f"({round(mastering.max_luminance * 10_000)},{round(mastering.min_luminance * 10_000)})"
    return f"G{green}B{blue}R{red}WP{white}L{light}"


# --- pixel formats ----------------------------------------------------------------------------------------------------


def nearest_format(codec: str, name: str) -> str:
    """The encoder's format that holds `name` without loss, or nearest to it; InputError where it has none or does not exist."""
    try:
        formats = av.Codec(codec, "w").video_formats or []
    except (av.error.FFmpegError, ValueError):
        raise InputError(f"codec {codec!r}: this FFmpeg has no such encoder; try libx264 or libx265") from None
    wanted = av.VideoFormat(name)
    offered = [fmt for fmt in formats if fmt.components and not _deprecated(fmt.name)]
    if any(fmt.name == name for fmt in offered) or not formats:
        return name

    def rank(fmt: Any) -> tuple[bool, bool, bool, int]:
        missing = _depth(wanted) - _depth(fmt)
        return fmt.is_rgb != wanted.is_rgb, _subsampling(fmt) < _subsampling(wanted), missing > 0, abs(missing)

    best = min(offered, key=lambda fmt: (*rank(fmt), _subsampling(fmt), len(fmt.components)), default=None)
    if best is None:
        raise InputError(f"codec {codec!r} takes none of the formats that frames are carried in; choose another")
    return str(best.name)


def _deprecated(name: str) -> bool:
    return name.startswith("yuvj") or name.endswith("be")


def _depth(fmt: Any) -> int:
    return max(component.bits for component in fmt.components)


def _subsampling(fmt: Any) -> int:
    """Chroma samples for 8x8 luma samples, as a measure of how much colour a format holds."""
    if len(fmt.components) < 3:
        return 0
    return 64 if fmt.is_rgb else int(fmt.chroma_width(8) * fmt.chroma_height(8))


def _equivalent(a: str, b: str) -> bool:
    """Whether one is another arrangement of the same samples (nv12 for yuv420p, p010 for yuv420p10)."""
    first, second = av.VideoFormat(a), av.VideoFormat(b)
    return (_depth(first), _subsampling(first), first.is_rgb) == (_depth(second), _subsampling(second), second.is_rgb)


def _check_format(name: str) -> None:
    try:
        av.VideoFormat(name)
    except ValueError:
        raise InputError(f"pixel format {name!r} does not exist; expected one such as yuv420p or yuv420p10le") from None


def even_size(width: int, height: int, pixel_format: str) -> tuple[int, int]:
    """The size with whole chroma samples: players and encoders crop 4:2:0 pictures in steps of two."""
    fmt = av.VideoFormat(pixel_format)
    if len(fmt.components) < 3 or fmt.is_rgb:
        return width, height
    step_x, step_y = 8 // fmt.chroma_width(8), 8 // fmt.chroma_height(8)
    return -(-width // step_x) * step_x, -(-height // step_y) * step_y

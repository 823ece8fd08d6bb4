"""The media zoo: small files of every kind that people have, how each is made, and what becomes of it with DRBA on.

docs/media.md is the same table for users; tests/test_zoo.py plays every file in a real mpv, alone and with DRBA, and compares.
"""

from __future__ import annotations

import enum
import random
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import clips_mkv


class Outcome(enum.Enum):
    """What the viewer gets with DRBA on."""

    BETWEEN = "in-betweens"
    OWN = "its own pictures"  # DRBA is on, and there is nothing to draw
    PARTLY = "in-betweens up to there"  # then mpv plays on alone, or DRBA begins again
    REFUSED = "off"  # DRBA says why in one line, mpv plays on alone
    NOTHING = "nothing"  # mpv has nothing to play either


class Pictures(enum.Enum):
    """Which of the film's own pictures are shown with DRBA on, of those that mpv shows alone."""

    ALL = "all"
    BETWEEN = "those that output times fall on"  # irregular times: in-betweens are drawn at regular ones
    UNSEEKABLE = "those after mpv's seek"  # in such a file mpv ends up anywhere, and switching DRBA on or off is a seek
    CONCEALED = "as damage is concealed"  # by mpv's FFmpeg, and by another one in DRBA


Make = Callable[[Path], None]


@dataclass(frozen=True)
class Specimen:
    """`name` is the file's name, `kind` what it is, `make` writes it. `why` explains the outcome to users; where DRBA is off it
    is part of the one line that DRBA says."""

    name: str
    kind: str
    make: Make
    outcome: Outcome = Outcome.BETWEEN
    why: str = ""
    pictures: Pictures = Pictures.ALL


class CannotMake(Exception):
    """This machine's FFmpeg cannot write that kind of file."""


FRAMES, RATE = 12, 24
_X264 = ("-c:v", "libx264", "-preset", "ultrafast")
_MPEG2 = ("-c:v", "mpeg2video", "-q:v", "4")
_SOUND = "sine=frequency=440:sample_rate=48000:duration=0.5"
_MISSING = ("Unknown encoder", "No such filter", "not a suitable", "Encoder not found")


def ffmpeg(*arguments: str | Path) -> None:
    """CannotMake where an encoder, muxer or filter is missing."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode and any(words in done.stderr for words in _MISSING):
        raise CannotMake(done.stderr.strip().splitlines()[0])
    assert not done.returncode, f"{' '.join(command)}\n{done.stderr}"


def film(
    *encoder: str,
    size: str = "64x48",
    rate: str = str(RATE),
    frames: int = FRAMES,
    sound: str = "",
    filters: str = "",
    offset_s: float = 0.0,
) -> Make:
    """A picture in which everything moves a little; `sound` is the codec of half a second of a tone, which `offset_s` delays."""

    def make(path: Path) -> None:
        width, height = map(int, size.split("x"))
        drawn = f"testsrc2=s={width + 96}x{height + 96}:r={rate},format=yuv444p,crop={width}:{height}:2*n:n:exact=1"
        picture = f"{drawn},format=yuv420p" + (f",{filters}" if filters else "")
        inputs = ["-f", "lavfi", "-i", picture]
        if sound:
            inputs += ["-itsoffset", str(offset_s), "-f", "lavfi", "-i", _SOUND, "-c:a", sound, "-strict", "-2"]
        ffmpeg(*inputs, "-frames:v", str(frames), "-g", "6", "-threads", "1", *encoder, path)

    return make


def changed(make: Make, change: Callable[[bytes], bytes]) -> Make:
    """The same file with its bytes changed."""

    def remake(path: Path) -> None:
        make(path)
        path.write_bytes(change(path.read_bytes()))

    return remake


def joined(*parts: Make) -> Make:
    """The bytes of several files one after the other, as a broadcast is cut together."""

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            pieces = [Path(folder) / f"{number}{path.suffix}" for number in range(len(parts))]
            for part, piece in zip(parts, pieces, strict=True):
                part(piece)
            path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))

    return make


def remuxed(make: Make, source: str, *arguments: str) -> Make:
    """The streams of a file `source` written anew with these options."""

    def remake(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            first = Path(folder) / f"first{source}"
            make(first)
            ffmpeg("-i", first, "-map", "0", "-c", "copy", *arguments, path)

    return remake


def written(data: bytes) -> Make:
    return lambda path: void(path.write_bytes(data))


def void(_: object) -> None:
    return None


def flipped(data: bytes) -> bytes:
    """One bit in every 200 bytes or so wrong, but for the head of the file."""
    rng = random.Random(3)
    broken = bytearray(data)
    for _ in range(max(3, len(data) // 200)):
        broken[rng.randrange(min(1500, len(data) // 3), len(data))] ^= 1 << rng.randrange(8)
    return bytes(broken)


def pulled_down(data: bytes) -> bytes:
    """MPEG-2 with the flags of 3:2 pulldown: fields to be repeated, in turn three and two (ISO 13818-2, 6.3.10)."""
    film = bytearray(data)
    at, number = -1, 0
    while (at := data.find(b"\0\0\1\xb3", at + 1)) >= 0:
        film[at + 7] = film[at + 7] & 0xF0 | 4  # 29.97 pictures a second for television
    at = -1
    while (at := data.find(b"\0\0\1\xb5", at + 1)) >= 0:
        if data[at + 4] >> 4 == 1:  # sequence extension: not a progressive one, whose flags mean whole frames
            film[at + 5] &= 0xF7
        if data[at + 4] >> 4 == 8:  # picture coding extension
            top_first, repeated = ((1, 1), (0, 0), (0, 1), (1, 0))[number % 4]
            film[at + 7] = film[at + 7] & 0x7D | top_first << 7 | repeated << 1
            number += 1
    return bytes(film)


def without(first: float, last: float) -> Callable[[bytes], bytes]:
    """Without the part between these shares of the length."""
    return lambda data: data[: int(len(data) * first)] + data[int(len(data) * last) :]


def packets_without(first: float, last: float) -> Callable[[bytes], bytes]:
    """As `without`, but whole packets of a transport stream."""

    def cut(data: bytes) -> bytes:
        count = len(data) // 188
        return data[: int(count * first) * 188] + data[int(count * last) * 188 :]

    return cut


_H264_TS = film(*_X264, "-bf", "2", sound="mp2")


CODECS = (
    Specimen("h264.mkv", "H.264 with B-frames", film(*_X264, "-bf", "2", sound="flac")),
    Specimen(
        "hevc.mp4",
        "HEVC",
        film(
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-x265-params",
            "log-level=0:bframes=2",
            "-tag:v",
            "hvc1",
            sound="aac",
        ),
    ),
    Specimen(
        "av1.webm",
        "AV1",
        film("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-b:v", "100k", sound="libopus"),
    ),
    Specimen("vp8.webm", "VP8", film("-c:v", "libvpx", "-cpu-used", "8", "-deadline", "realtime", sound="libvorbis")),
    Specimen("vp9.webm", "VP9", film("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", sound="libopus")),
    Specimen("mpeg1.mpg", "MPEG-1 program stream", film("-c:v", "mpeg1video", "-q:v", "4", sound="mp2")),
    Specimen("mpeg2.vob", "MPEG-2 as on a DVD", film(*_MPEG2, "-bf", "2", "-f", "dvd", sound="ac3")),
    Specimen(
        "mpeg4.avi",
        "MPEG-4 with B-frames in AVI, which has no times",
        film("-c:v", "mpeg4", "-bf", "2", "-q:v", "4", sound="libmp3lame"),
    ),
    Specimen("msmpeg4.avi", "MS MPEG-4 (DivX 3)", film("-c:v", "msmpeg4", "-q:v", "4", sound="libmp3lame")),
    Specimen("wmv2.wmv", "Windows Media", film("-c:v", "wmv2", "-q:v", "4", sound="wmav2")),
    Specimen(
        "rv20.rm",
        "RealVideo",
        film("-c:v", "rv20", "-q:v", "4", sound="ac3"),
        why="its times are cut to milliseconds: a third of its own pictures miss theirs by more than half of one",
        pictures=Pictures.BETWEEN,
    ),
    Specimen("theora.ogv", "Theora", film("-c:v", "libtheora", "-q:v", "7", sound="libvorbis")),
    Specimen("prores.mov", "ProRes 422, 10 bit", film("-c:v", "prores_ks", "-profile:v", "2", sound="pcm_s16le")),
    Specimen(
        "dnxhr.mxf",
        "DNxHR in MXF",
        film("-c:v", "dnxhd", "-profile:v", "dnxhr_hq", size="256x128", filters="format=yuv422p", sound="pcm_s16le"),
    ),
    Specimen("ffv1.mkv", "FFV1", film("-c:v", "ffv1", sound="flac")),
    Specimen("huffyuv.avi", "HuffYUV", film("-c:v", "huffyuv", sound="pcm_s16le")),
    Specimen("utvideo.avi", "Ut Video", film("-c:v", "utvideo", sound="pcm_s16le")),
    Specimen("mjpeg.avi", "Motion JPEG", film("-c:v", "mjpeg", "-q:v", "3", sound="pcm_s16le")),
    Specimen("jpeg2000.mov", "JPEG 2000", film("-c:v", "jpeg2000", "-pix_fmt", "yuv420p")),
    Specimen("dv.dv", "DV", film("-c:v", "dvvideo", size="720x576", rate="25", frames=8, filters="format=yuv420p")),
    Specimen("cinepak.avi", "Cinepak", film("-c:v", "cinepak", frames=8)),
    Specimen("svq1.mov", "Sorenson Video", film("-c:v", "svq1")),
    Specimen(
        "animated.gif",
        "GIF",
        film("-c:v", "gif"),
        why="its times are rounded to hundredths: most of its own pictures fall between two output times",
        pictures=Pictures.BETWEEN,
    ),
    Specimen("animated.apng", "APNG", film("-c:v", "apng", "-f", "apng")),
    Specimen(
        "animated.webp",
        "animated WebP",
        film("-c:v", "libwebp_anim", "-q:v", "50"),
        Outcome.NOTHING,
        "FFmpeg does not read it",
    ),
    Specimen("screen.mkv", "screen recording (FFmpeg's Flash Screen Video)", film("-c:v", "flashsv")),
)

CONTAINERS = (
    Specimen("h264.ts", "transport stream", _H264_TS),
    Specimen("h264.m2ts", "transport stream as on a Blu-ray", film(*_X264, sound="ac3")),
    Specimen("h264.flv", "Flash video", film(*_X264, sound="aac")),
    Specimen("h264.3gp", "3GP", film(*_X264, sound="aac")),
    Specimen(
        "fragmented.mp4",
        "fragmented MP4",
        film(*_X264, "-movflags", "frag_keyframe+empty_moov", sound="aac"),
        why="its first picture is longer: the others fall between two output times",
        pictures=Pictures.BETWEEN,
    ),
    Specimen("index-last.mov", "QuickTime with its index at the end", film(*_X264, sound="aac")),
    Specimen("live.mkv", "Matroska of a live recording: no length, no index", film(*_X264, "-live", "1", sound="flac")),
    Specimen("mpeg2.mxf", "MXF", film(*_MPEG2, rate="25", size="64x48", sound="pcm_s16le")),
    Specimen("ffv1.nut", "NUT", film("-c:v", "ffv1", sound="flac")),
    Specimen("raw.y4m", "YUV4MPEG2", film("-pix_fmt", "yuv420p", "-strict", "-1")),
    Specimen("raw.h264", "H.264 alone, without any container", film(*_X264)),
    Specimen("raw.m2v", "MPEG-2 alone", film(*_MPEG2)),
    Specimen("vp9.ivf", "IVF", film("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime")),
)

PIXELS = (
    Specimen("hi10p.mkv", "4:2:0, 10 bit (H.264)", film(*_X264, "-pix_fmt", "yuv420p10le")),
    Specimen(
        "main12.mkv",
        "4:2:0, 12 bit (HEVC)",
        film("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0", "-pix_fmt", "yuv420p12le"),
    ),
    Specimen("422.mkv", "4:2:2", film(*_X264, "-pix_fmt", "yuv422p")),
    Specimen("444p10.mkv", "4:4:4, 10 bit", film(*_X264, "-pix_fmt", "yuv444p10le")),
    Specimen("411.avi", "4:1:1", film("-c:v", "rawvideo", "-pix_fmt", "yuv411p"), why="carried as 4:4:4"),
    Specimen("410.avi", "4:1:0", film("-c:v", "rawvideo", "-pix_fmt", "yuv410p"), why="carried as 4:4:4"),
    Specimen("440.mkv", "4:4:0", film("-c:v", "ffv1", "-pix_fmt", "yuv440p"), why="carried as 4:4:4"),
    Specimen("gray.mkv", "grey", film(*_X264, "-pix_fmt", "gray")),
    Specimen("gray16.mkv", "grey, 16 bit", film("-c:v", "ffv1", "-pix_fmt", "gray16le")),
    Specimen("rgb.mkv", "RGB (H.264)", film("-c:v", "libx264rgb", "-preset", "ultrafast", "-pix_fmt", "rgb24")),
    Specimen("rgb48.mkv", "RGB, 16 bit", film("-c:v", "ffv1", "-pix_fmt", "rgb48le")),
    Specimen("bgr24.avi", "RGB, uncompressed", film("-c:v", "rawvideo", "-pix_fmt", "bgr24")),
    Specimen("palette.mov", "256 colours (QuickTime Animation)", film("-c:v", "qtrle", "-pix_fmt", "rgb24")),
    Specimen("mono.nut", "black and white, 1 bit", film("-c:v", "rawvideo", "-pix_fmt", "monow")),
    Specimen("nv12.nut", "4:2:0, two planes", film("-c:v", "rawvideo", "-pix_fmt", "nv12")),
    Specimen("yuyv.avi", "4:2:2, packed, as of a camera", film("-c:v", "rawvideo", "-pix_fmt", "yuyv422")),
    Specimen("v210.mov", "4:2:2, 10 bit, packed", film("-c:v", "v210", "-pix_fmt", "yuv422p10le")),
    Specimen("full-range.mp4", "full range", film(*_X264, "-pix_fmt", "yuvj420p")),
    Specimen(
        "alpha-prores.mov",
        "transparency (ProRes 4444)",
        film(
            "-c:v",
            "prores_ks",
            "-profile:v",
            "4",
            "-pix_fmt",
            "yuva444p10le",
            filters="format=yuva444p10le,colorchannelmixer=aa=0.5",
        ),
        why="opaque",
    ),
    Specimen("alpha-ffv1.mkv", "transparency, 4:2:0", film("-c:v", "ffv1", "-pix_fmt", "yuva420p"), why="opaque"),
    Specimen(
        "alpha.webm",
        "transparency (VP9)",
        film("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-pix_fmt", "yuva420p"),
        why="opaque, as in mpv alone",
    ),
    Specimen("alpha-rgb.mov", "transparency, RGB", film("-c:v", "qtrle", "-pix_fmt", "argb"), why="opaque"),
)

FIELDS = (
    Specimen(
        "interlaced.ts",
        "interlaced, top field first (MPEG-2)",
        film(*_MPEG2, "-flags", "+ildct+ilme", "-top", "1", rate="50", filters="interlace=scan=tff", sound="mp2"),
        why="drawn as if each picture were one moment; off if mpv deinterlaces it",
    ),
    Specimen(
        "interlaced.mkv",
        "interlaced, bottom field first (H.264)",
        film(*_X264, "-x264-params", "bff=1", rate="50", filters="interlace=scan=bff"),
        why="likewise",
    ),
    Specimen(
        "telecined.mkv",
        "telecined 3:2 in its pictures",
        film(*_X264, rate="24000/1001", filters="telecine=pattern=23", frames=15),
        why="the pictures that were made of two are the film's own",
    ),
    Specimen(
        "soft-telecine.vob",
        "telecined 3:2 by flags, as on a DVD",
        changed(film(*_MPEG2, "-f", "vob", rate="24000/1001"), pulled_down),
        why="shown at twice the 29.97 that its flags make of it; its own pictures fall between two output times",
        pictures=Pictures.BETWEEN,
    ),
    Specimen(
        "decimated.mkv",
        "every drawing held for two or three frames",
        film(*_X264, filters="framestep=3,fps=24", frames=24),
    ),
)

TIMES = (
    Specimen(
        "vfr.mkv",
        "variable frame rate",
        film(*_X264, "-vsync", "passthrough", filters="settb=1/1000,setpts='N*42+mod(N*N*7\\,23)'", sound="flac"),
        why="shown at a steady rate: most of its own pictures fall between two of those times",
        pictures=Pictures.BETWEEN,
    ),
    Specimen(
        "vfr-24-60.mp4",
        "24 frames a second, then 60",
        film(
            *_X264,
            "-vsync",
            "passthrough",
            filters="settb=1/600,setpts='if(lt(N\\,6)\\,N*25\\,150+(N-6)*10)'",
            frames=24,
        ),
        why="likewise, at twice the mean rate",
        pictures=Pictures.BETWEEN,
    ),
    Specimen(
        "slide-show.mp4",
        "a picture every half second",
        film(*_X264, rate="2", frames=4),
        Outcome.OWN,
        "more than a quarter of a second apart: a slide show",
    ),
    Specimen("120fps.mkv", "120 frames a second", film(*_X264, rate="120", frames=60)),
    Specimen(
        "1000fps.mkv",
        "1000 frames a second",
        film(*_X264, rate="1000", frames=200),
        Outcome.REFUSED,
        "2000 were asked for, at most 1000 are shown",
    ),
    Specimen("ntsc-film.mkv", "23.976 frames a second", film(*_X264, rate="24000/1001")),
    Specimen(
        "negative.mkv",
        "starts before zero: lead-in of the sound",
        film(*_X264, "-bf", "2", "-avoid_negative_ts", "disabled", sound="aac"),
    ),
    Specimen("negative.ts", "negative times", film(*_X264, "-bf", "2", "-output_ts_offset", "-0.3", sound="mp2")),
    Specimen(
        "edit-list.mp4",
        "MP4 whose edit list skips the first frames",
        remuxed(film(*_X264, "-bf", "2", sound="aac", frames=24), ".mp4", "-ss", "0.2"),
    ),
    Specimen("no-times.avi", "H.264 with B-frames in AVI: no times", film(*_X264, "-bf", "2")),
    Specimen("starts-late.ts", "starts after ten hours", film(*_X264, "-output_ts_offset", "36000", sound="mp2")),
    Specimen(
        "wrap.ts",
        "times wrap around in the middle (33 bits)",
        film(*_X264, "-output_ts_offset", "95441.9", sound="mp2", frames=24),
    ),
    Specimen(
        "jump-forward.ts",
        "times jump a minute ahead",
        joined(film(*_X264, sound="mp2"), film(*_X264, "-output_ts_offset", "60", sound="mp2")),
        outcome=Outcome.PARTLY,
        why="the film's times jump by 60 s",
    ),
    Specimen(
        "jump-back.ts",
        "times jump back",
        joined(film(*_X264, "-output_ts_offset", "60", sound="mp2"), film(*_X264, sound="mp2")),
        outcome=Outcome.PARTLY,
        why="the film's times jump back",
        pictures=Pictures.UNSEEKABLE,
    ),
    Specimen(
        "same-times.mkv",
        "pairs of frames with the same time",
        film(*_X264, "-vsync", "passthrough", filters="settb=1/1000,setpts='floor(N/2)*84'"),
        why="the second one of each pair, as without DRBA; the first one is shown for no time",
        pictures=Pictures.BETWEEN,
    ),
    Specimen(
        "gap.mkv",
        "two seconds without a picture in the middle",
        film(
            *_X264, "-vsync", "passthrough", filters="settb=1/1000,setpts='N*42+if(gt(N\\,5)\\,2000\\,0)'", sound="flac"
        ),
    ),
    Specimen(
        "picture-later.mkv",
        "the picture begins after the sound",
        film(*_X264, "-vsync", "passthrough", filters="settb=1/1000,setpts='N*42+217'", sound="flac"),
    ),
)

CHANGES = (
    Specimen(
        "resolution.ts",
        "another size in mid-stream",
        joined(film(*_X264), film(*_X264, "-output_ts_offset", "0.5", size="96x64", frames=36)),
        outcome=Outcome.PARTLY,
        why="the picture changes from",
    ),
    Specimen(
        "smaller.ts",
        "a smaller size in mid-stream",
        joined(film(*_X264, size="128x96"), film(*_X264, "-output_ts_offset", "0.5", frames=36)),
        outcome=Outcome.PARTLY,
        why="the picture changes from",
    ),
    Specimen(
        "aspect.ts",
        "another pixel aspect in mid-stream",
        joined(
            film(*_MPEG2, "-aspect", "4:3"), film(*_MPEG2, "-aspect", "16:9", "-output_ts_offset", "0.5", frames=36)
        ),
        outcome=Outcome.PARTLY,
        why="the picture changes from",
    ),
    Specimen(
        "format.ts",
        "4:2:0, then 4:2:2 of 10 bit",
        joined(film(*_X264), film(*_X264, "-pix_fmt", "yuv422p10le", "-output_ts_offset", "0.5", frames=36)),
        outcome=Outcome.PARTLY,
        why="the picture changes from",
    ),
)

DAMAGE = (
    Specimen("flipped.ts", "bits flipped (transport stream)", changed(_H264_TS, flipped), pictures=Pictures.CONCEALED),
    Specimen(
        "flipped.mkv",
        "bits flipped (Matroska)",
        changed(film(*_X264, sound="flac"), flipped),
        pictures=Pictures.CONCEALED,
    ),
    Specimen(
        "flipped.avi",
        "bits flipped (AVI, MPEG-4)",
        changed(film("-c:v", "mpeg4", "-q:v", "4", sound="libmp3lame"), flipped),
        pictures=Pictures.CONCEALED,
    ),
    Specimen(
        "flipped.mp4",
        "bits flipped (HEVC)",
        changed(
            film("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0", "-movflags", "faststart"),
            flipped,
        ),
        pictures=Pictures.CONCEALED,
    ),
    Specimen(
        "truncated.mkv",
        "cut off in the middle",
        changed(film(*_X264, frames=72), without(0.5, 1)),
        pictures=Pictures.CONCEALED,
    ),
    Specimen(
        "truncated.ts",
        "cut off in the middle",
        changed(film(*_X264, frames=72), without(0.5, 1)),
        pictures=Pictures.CONCEALED,
    ),
    Specimen(
        "truncated.avi",
        "cut off in the middle, index lost",
        changed(film("-c:v", "mpeg4", frames=72), without(0.5, 1)),
        pictures=Pictures.CONCEALED,
    ),
    Specimen(
        "no-index.mp4",
        "MP4, cut off before its index",
        changed(film(*_X264, sound="aac"), without(0.6, 1)),
        Outcome.NOTHING,
        "nobody can read it",
    ),
    Specimen(
        "mid-gop.ts",
        "begins between key frames",
        changed(film(*_X264, "-bf", "2", sound="mp2", frames=24), packets_without(0, 0.2)),
    ),
    Specimen(
        "hole.ts", "a hole in the middle", changed(film(*_X264, sound="mp2", frames=24), packets_without(0.4, 0.6))
    ),
    Specimen(
        "garbage.ts", "begins with garbage", changed(_H264_TS, lambda data: random.Random(1).randbytes(5000) + data)
    ),
    Specimen("wrong-name.mp4", "Matroska that calls itself MP4", film(*_X264, "-f", "matroska")),
)

SIZES = (
    Specimen("1x1.mkv", "1x1", film("-c:v", "ffv1", size="1x1"), Outcome.OWN, "too small to see a motion in"),
    Specimen("1x64.mkv", "1x64", film("-c:v", "ffv1", size="1x64")),
    Specimen("2x2.mkv", "2x2", film("-c:v", "ffv1", size="2x2")),
    Specimen("7x5.mkv", "7x5", film("-c:v", "ffv1", size="7x5")),
    Specimen(
        "odd.webm",
        "odd width and height (175x99)",
        film("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", size="175x99"),
    ),
    Specimen("8192x16.mkv", "8192 wide", film(*_X264, size="8192x16", frames=8)),
    Specimen("16x8192.mkv", "8192 high", film(*_X264, size="16x8192", frames=8)),
)

SHAPES = (
    Specimen(
        "dvd-16x9.vob",
        "anamorphic, as on a DVD",
        film(*_MPEG2, "-aspect", "16:9", "-f", "dvd", size="90x72", rate="25"),
    ),
    Specimen(
        "sar-contradicts.mp4",
        "pixel aspect of container and codec contradict each other",
        remuxed(film(*_X264, filters="setsar=4/3"), ".mp4", "-aspect", "2:1"),
    ),
    Specimen(
        "rotated.mp4",
        "turned by 90 degrees (display matrix)",
        remuxed(film(*_X264, sound="aac"), ".mp4", "-metadata:s:v", "rotate=90"),
    ),
    Specimen("odd-angle.mp4", "turned by 30 degrees", remuxed(film(*_X264), ".mp4", "-metadata:s:v", "rotate=30")),
    Specimen("cropped.mp4", "cropped by the codec", film(*_X264, size="62x46")),
)

CHAPTERS = """;FFMETADATA1
[CHAPTER]
TIMEBASE=1/1000
START=300
END=9000
title=longer than the film
[CHAPTER]
TIMEBASE=1/1000
START=100
END=400
[CHAPTER]
TIMEBASE=1/1000
START=100
END=100
title=begins with the one before
"""


def with_odd_chapters(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, chapters = Path(folder) / "source.mkv", Path(folder) / "chapters.txt"
        film(*_X264, sound="flac")(source)
        chapters.write_text(CHAPTERS)
        ffmpeg("-i", source, "-i", chapters, "-map", "0", "-map_chapters", "1", "-c", "copy", path)


def with_editions(*editions: bytes) -> Make:
    def make(path: Path) -> None:
        film(*_X264, "-reserve_index_space", str(clips_mkv.RESERVED_BYTES), sound="flac")(path)
        clips_mkv.put_chapters(path, b"".join(editions))

    return make


def with_attachments(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, font, cover = (Path(folder) / name for name in ("source.mkv", "font.ttf", "cover.png"))
        film(*_X264, sound="flac")(source)
        font.write_bytes(bytes(1000))
        film("-c:v", "png", size="32x32", frames=1)(cover)
        attach = ["-attach", font, "-metadata:s:t:0", "mimetype=font/ttf"]
        attach += ["-attach", cover, "-metadata:s:t:1", "mimetype=image/png"]
        ffmpeg("-i", source, "-map", "0", "-c", "copy", *attach, path)


def with_cover(picture: Make | None = None) -> Make:
    """A cover as the first picture of a file, before its film if it has one."""

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, cover = Path(folder) / "source.mkv", Path(folder) / "cover.png"
            film("-c:v", "png", size="32x32", frames=1)(cover)
            other: list[str | Path] = ["-f", "lavfi", "-i", _SOUND]
            if picture is not None:
                picture(source)
                other = ["-i", source, "-c", "copy"]
            ffmpeg("-i", cover, *other, "-map", "0", "-map", "1", "-disposition:v:0", "attached_pic", path)

    return make


def with_two_pictures(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sources = [Path(folder) / f"{number}.mkv" for number in (1, 2)]
        for source, size in zip(sources, ("64x48", "96x64"), strict=True):
            film(*_X264, size=size)(source)
        ffmpeg("-i", sources[0], "-i", sources[1], "-map", "0", "-map", "1", "-c", "copy", path)


def only_sound(path: Path) -> None:
    """Not shorter: with half a second the film had now and then ended, though paused, before DRBA was asked for."""
    ffmpeg("-f", "lavfi", "-i", "sine=f=440:r=48000:d=3", "-c:a", "flac", path)


EXTRAS = (
    Specimen("odd-chapters.mkv", "chapters that overlap, end after the film, are in no order", with_odd_chapters),
    Specimen(
        "two-editions.mkv",
        "a second edition by ordered chapters",
        with_editions(clips_mkv.edition(1, 0, 0.5, ordered=False), clips_mkv.edition(2, 0.1, 0.4, ordered=True)),
    ),
    Specimen(
        "ordered.mkv",
        "put together by ordered chapters",
        with_editions(clips_mkv.edition(1, 0.1, 0.4, ordered=True)),
        Outcome.REFUSED,
        "put together from parts of files (ordered chapters)",
    ),
    Specimen("attachments.mkv", "fonts and a cover attached", with_attachments),
    Specimen("cover-first.mp4", "a cover as its first picture", with_cover(picture=film(*_X264, sound="aac"))),
    Specimen("two-pictures.mkv", "two films side by side", with_two_pictures, why="the chosen one"),
)

SOUND = (
    Specimen("sound-later.mkv", "the sound begins after the picture", film(*_X264, sound="flac", offset_s=0.2)),
    Specimen("sound-longer.mkv", "the sound is longer than the picture", film(*_X264, sound="flac", frames=6)),
    Specimen("sound-shorter.mkv", "the sound is shorter than the picture", film(*_X264, sound="flac", frames=24)),
    Specimen("only-sound.mka", "sound alone", only_sound, Outcome.REFUSED, "no video is playing"),
    Specimen(
        "cover.mp3",
        "sound with a cover",
        with_cover(),
        Outcome.REFUSED,
        "a still picture has nothing between its frames",
    ),
)

NOTHING = (
    Specimen(
        "one-frame.mkv", "a film of one frame", film(*_X264, frames=1), Outcome.OWN, "there is nothing to be between"
    ),
    Specimen("two-frames.mkv", "a film of two frames", film(*_X264, frames=2)),
    Specimen(
        "still.png",
        "a still picture",
        film("-c:v", "png", frames=1),
        Outcome.REFUSED,
        "a still picture has nothing between its frames",
    ),
    Specimen(
        "still.jpg",
        "a photograph",
        film("-c:v", "mjpeg", frames=1),
        Outcome.REFUSED,
        "a still picture has nothing between its frames",
    ),
    Specimen("empty.mkv", "an empty file", written(b""), Outcome.NOTHING, "nobody can read it"),
    Specimen(
        "text.mkv",
        "text that calls itself a film",
        written(b"This is not a film.\n" * 100),
        Outcome.NOTHING,
        "nobody can read it",
    ),
    Specimen(
        "no-frames.mkv",
        "the head of a film, and no frame",
        changed(film(*_X264), lambda data: data[:600]),
        Outcome.NOTHING,
        "there is no picture in it",
    ),
)

#: By the headings of docs/media.md.
GROUPS = {
    "Codecs": CODECS,
    "Containers": CONTAINERS,
    "Pixels": PIXELS,
    "Fields and pulldown": FIELDS,
    "Times": TIMES,
    "Changes in mid-stream": CHANGES,
    "Damage": DAMAGE,
    "Sizes": SIZES,
    "Shapes": SHAPES,
    "Chapters, tracks, attachments": EXTRAS,
    "Sound": SOUND,
    "Hardly a film": NOTHING,
}
ALL = tuple(specimen for group in GROUPS.values() for specimen in group)
BY_NAME = {specimen.name: specimen for specimen in ALL}


@dataclass(frozen=True)
class Folder:
    """Where files are made when they are first asked for."""

    root: Path

    def path(self, name: str) -> Path:
        """The file of that specimen; CannotMake where this machine cannot make it."""
        path = self.root / "zoo" / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            BY_NAME[name].make(path)
        return path


def table() -> str:
    """The tables of docs/media.md."""
    lines = []
    for heading, group in GROUPS.items():
        lines += [f"## {heading}", "| file | with DRBA on | why |", "|---|---|---|"]
        plain = [specimen.kind for specimen in group if specimen.outcome is Outcome.BETWEEN and not specimen.why]
        lines.append(f"| {'; '.join(plain)} | {Outcome.BETWEEN.value} | |")
        special = (specimen for specimen in group if specimen.kind not in plain)
        lines += [f"| {specimen.kind} | {specimen.outcome.value} | {specimen.why} |" for specimen in special]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

"""Clips for the tests, made once for each folder, and what measures flashes and beeps in any picture and sound."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from drba.pixels import Plane
from player.demo.clip import SAMPLE_RATE, ClipSpec, DemoClip, describe_demo, frame_image, make_demo
from player.demo.scene import ScenePainter, flash_side_px

#: 320x180 for four seconds at 23.976 frames a second, encoded with B-frames as films are.
SMALL = ClipSpec(seconds=4, width=320, height=180, codec_options=(("preset", "veryfast"),))
_TINY = replace(SMALL, seconds=2.2)
_MASTER = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
_PQ = ClipSpec(
    seconds=2.2,
    width=320,
    height=180,
    codec="libx265",
    codec_options=(("x265-params", f"log-level=error:hdr10=1:repeat-headers=1:{_MASTER}"),),
    pixel_format="yuv420p10le",
    matrix="bt2020nc",
    primaries="bt2020",
    transfer="smpte2084",
)
_SD = replace(_TINY, matrix="smpte170m", primaries="smpte170m", transfer="smpte170m", rate=Fraction(30000, 1001))

_VP9 = (("deadline", "realtime"), ("cpu-used", "8"))

#: File name and contents of every kind of picture that must come through unchanged; the spec is what is to be
#: expected of it.
COLOUR_VARIANTS: dict[str, tuple[str, ClipSpec]] = {
    "bt601": ("bt601.mkv", replace(_SD, width=240, height=160)),
    "bt601-pal": ("bt601pal.mkv", replace(_SD, matrix="bt470bg", primaries="bt470bg", rate=Fraction(25))),
    "bt709": ("bt709.mkv", _TINY),
    "bt2020-pq-10bit": ("pq.mkv", _PQ),
    "bt2020-hlg-10bit": ("hlg.mkv", replace(_PQ, transfer="arib-std-b67", codec="libx264", codec_options=())),
    "full-range": ("full.mkv", replace(_TINY, color_range="pc")),
    "422": ("422.mkv", replace(_TINY, pixel_format="yuv422p")),
    "422-10bit": ("422p10.mkv", replace(_TINY, pixel_format="yuv422p10le")),
    "444": ("444.mkv", replace(_TINY, pixel_format="yuv444p")),
    "odd-420": ("odd420.mkv", replace(_TINY, width=175, height=99, codec="libvpx-vp9", codec_options=_VP9)),
    "odd-444": ("odd444.mkv", replace(_TINY, width=175, height=99, pixel_format="yuv444p")),
    "anamorphic": ("anamorphic.mkv", replace(_TINY, width=216, height=144, sample_aspect=Fraction(32, 27))),
    "rotated-90": ("rotated90.mp4", replace(_TINY, rotation=90)),
    "rotated-180": ("rotated180.mp4", replace(_TINY, rotation=180)),
    "rotated-270": ("rotated270.mp4", replace(_TINY, rotation=270)),
}


def cached(folder: Path, name: str, spec: ClipSpec) -> DemoClip:
    """The clip under that file name in `folder`, made unless it is there. Folders belong to one version of the code."""
    path = folder / name
    if path.exists():
        return describe_demo(path, spec)
    return make_demo(path, spec, force=True, painter=_painter(*spec.shown_size))


_painter = lru_cache(maxsize=6)(ScenePainter)


def standard(folder: Path) -> DemoClip:
    """Four seconds of 23.976 frames a second, in mkv with flac."""
    return cached(folder, "standard.mkv", SMALL)


def ntsc(folder: Path) -> DemoClip:
    """The same at 29.97 frames a second."""
    return cached(folder, "ntsc.mkv", replace(SMALL, rate=Fraction(30000, 1001)))


def with_cut(folder: Path) -> DemoClip:
    """Seven seconds, with a scene cut at 5.5 s, and subtitles."""
    return cached(folder, "cut.mkv", replace(SMALL, seconds=7, subtitles=True))


def vfr(folder: Path) -> DemoClip:
    """Frames 1/24, 1/12 and 1/30 s apart in turn."""
    return cached(folder, "vfr.mkv", replace(SMALL, vfr=True))


def starts_at_10(folder: Path) -> DemoClip:
    """Timestamps of picture and sound begin at 10 s."""
    return cached(folder, "starts10.mkv", replace(SMALL, start_s=Fraction(10)))


def mp4(folder: Path) -> DemoClip:
    """H.264 and AAC in mp4."""
    return cached(folder, "standard.mp4", SMALL)


def colour_variants(folder: Path, names: Iterable[str] = tuple(COLOUR_VARIANTS)) -> dict[str, DemoClip]:
    """The clips of COLOUR_VARIANTS, or the named ones."""
    return {name: cached(folder, *COLOUR_VARIANTS[name]) for name in names}


def tiny(folder: Path, name: str, **changes: object) -> DemoClip:
    """A clip of 96x64 and 1.25 s under that file name: what costs little to render. `changes` are the spec's fields."""
    return cached(folder, name, replace(SMALL, **{"seconds": 1.25, "width": 96, "height": 64, **changes}))  # type: ignore[arg-type]


def rich(folder: Path) -> Path:
    """An mkv with HDR10 picture, two sounds, two ASS subtitles, three fonts, a cover, twelve chapters and tags, 2.2 s long."""
    path = folder / "rich.mkv"
    if path.exists():
        return path
    picture = cached(folder, *COLOUR_VARIANTS["bt2020-pq-10bit"]).path
    for number, style in enumerate(("Alpha", "Beta")):
        lines = [
            f"Dialogue: 0,0:00:0{k}.10,0:00:0{k}.90,{style},,0,0,0,,{{\\i1}}line {k}{{\\i0}}\\Nof {style}"
            for k in (0, 1)
        ]
        (folder / f"{number}.ass").write_text(ASS_HEAD.format(style=style) + "\n".join(lines) + "\n")
    fonts = [folder / f"font{number}.ttf" for number in range(3)]
    for number, font in enumerate(fonts):
        font.write_bytes(bytes([number]) * 1000)
    cv2.imwrite(str(folder / "cover.png"), np.full((30, 20, 3), 90, np.uint8))
    chapters = [
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={k * 180}\nEND={k * 180 + 180}\ntitle=Part {k + 1}\n" for k in range(12)
    ]
    (folder / "meta.txt").write_text(";FFMETADATA1\ntitle=A rich film\nartist=Somebody\n" + "".join(chapters))
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(picture)]
    command += ["-f", "lavfi", "-t", "2.2", "-i", "sine=frequency=440:sample_rate=48000"]
    command += ["-i", str(folder / "0.ass"), "-i", str(folder / "1.ass"), "-i", str(folder / "meta.txt")]
    command += ["-map", "0:v", "-map", "0:a", "-map", "1:a", "-map", "2", "-map", "3", "-map_metadata", "4"]
    for font in fonts:
        command += ["-attach", str(font)]
    command += [
        "-metadata:s:t",
        "mimetype=font/ttf",
        "-attach",
        str(folder / "cover.png"),
        "-metadata:s:t:3",
        "mimetype=image/png",
    ]
    command += ["-c", "copy", "-c:a:1", "aac", "-metadata:s:a:0", "language=jpn", "-metadata:s:a:1", "language=eng"]
    command += [
        "-metadata:s:a:1",
        "title=Commentary",
        "-metadata:s:s:0",
        "language=eng",
        "-metadata:s:s:1",
        "language=ger",
    ]
    command += ["-disposition:a:1", "comment", "-disposition:s:1", "forced", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


ASS_HEAD = """[Script Info]
ScriptType: v4.00+
PlayResX: 320
PlayResY: 180

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Alignment, MarginL, MarginR, MarginV, Encoding
Style: {style},Font {style},20,&H00FFFFFF,0,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def broken_inputs(folder: Path) -> dict[str, Path]:
    """Files that are not a whole film, by what is wrong with them; `missing` does not exist."""
    whole = standard(folder).path.read_bytes()
    paths = {
        name: folder / file
        for name, file in (
            ("missing", "nothing-here.mkv"),
            ("directory", "directory.mkv"),
            ("empty", "empty.mkv"),
            ("text", "text.mkv"),
            ("truncated", "truncated.mkv"),
            ("header only", "header.mkv"),
            ("audio only", "audio.mka"),
            ("still png", "still.png"),
            ("still jpg", "still.jpg"),
        )
    }
    paths["directory"].mkdir(exist_ok=True)
    paths["empty"].write_bytes(b"")
    paths["text"].write_text("This is not a film.\n" * 100)
    paths["truncated"].write_bytes(whole[: len(whole) * 6 // 10])
    paths["header only"].write_bytes(whole[:600])
    copy = [
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-i",
        str(standard(folder).path),
        "-vn",
        "-c",
        "copy",
        str(paths["audio only"]),
    ]
    subprocess.run(copy, check=True, stdin=subprocess.DEVNULL)
    picture = frame_image(SMALL, 10, painter=_painter(*SMALL.shown_size))
    for name in ("still png", "still jpg"):
        cv2.imwrite(str(paths[name]), picture)
    return paths


# --- measuring ------------------------------------------------------------------------------------------------------


def flash_times(frames: Iterable[tuple[float, Plane]], white: float = 235) -> list[float]:
    """Time of the brightest frame of every flash in `frames`, which are (time in s, luma plane) in order.

    `white` is the code value of white: 235 for 8 bits of limited range, times 4 for 10 bits. A flash is where the top
    left corner is nearer to white than to its usual level around that time; in-between frames of one count as the
    same flash.
    """
    times, levels = [], []
    for time, luma in frames:
        side = flash_side_px(luma.shape[1], luma.shape[0])
        edge = side // 8  # the border may be smeared by interpolation
        times.append(time)
        levels.append(float(luma[edge : side - edge, edge : side - edge].mean()) / white)
    if not times:
        return []
    when, level = np.array(times), np.array(levels)
    usual = np.array([np.median(level[np.abs(when - time) < 0.45]) for time in times])
    bright = level > (usual + 1) / 2
    edges = np.flatnonzero(np.diff(np.concatenate([[False], bright, [False]]).astype(int)))
    return [times[begin + int(np.argmax(level[begin:end]))] for begin, end in edges.reshape(-1, 2)]


def file_frames(path: Path) -> Iterator[tuple[float, Plane]]:
    """(Time in s, luma plane) of every frame of a file, in order."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.time is not None
            samples: Plane = np.frombuffer(memoryview(frame.planes[0]), np.uint8)
            if frame.format.components[0].bits > 8:
                samples = samples.view(np.uint16)
            rows = samples[: samples.size // frame.height * frame.height].reshape(frame.height, -1)
            yield frame.time, rows[:, : frame.width].copy()


def beep_times(path: Path, level: float = 0.25) -> list[float]:
    """Time in s at which each beep of a file's sound begins, within 0.1 ms where the sound is lossless.

    A beep begins at the first sample that reaches `level` of the loudest one after 0.2 s without any; the time that a
    1 kHz sine takes to get there is taken off.
    """
    sound, start_s = _sound(path)
    loud = np.flatnonzero(np.abs(sound) > level * max(float(np.abs(sound).max(initial=0)), 1e-3))
    if not loud.size:
        return []
    first = loud[np.concatenate([[True], np.diff(loud) > 0.2 * SAMPLE_RATE])]
    rise_s = np.arcsin(level) / (2 * np.pi * 1000)
    return [float(start_s + sample / SAMPLE_RATE - rise_s) for sample in first]


def _sound(path: Path) -> tuple[NDArray[np.float32], float]:
    """A file's sound as mono samples at 48 kHz and the time of the first; gaps are filled with silence."""
    pieces: list[tuple[float, NDArray[np.float32]]] = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        for decoded in container.decode(audio=0):
            for frame in resampler.resample(decoded):
                assert frame.pts is not None and frame.time_base is not None
                pieces.append((float(frame.pts * frame.time_base), frame.to_ndarray()[0].astype(np.float32)))
    if not pieces:
        return np.zeros(0, np.float32), 0.0
    start_s = pieces[0][0]
    places = [round((time - start_s) * SAMPLE_RATE) for time, _ in pieces]
    sound = np.zeros(max(place + len(part) for place, (_, part) in zip(places, pieces, strict=True)), np.float32)
    for place, (_, part) in zip(places, pieces, strict=True):
        sound[place : place + len(part)] = part
    return sound, start_s

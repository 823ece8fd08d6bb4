"""What of the source is in the output besides its frames: tracks, fonts, chapters, tags, colours, HDR data, aspect, rotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import clips
import pytest
from render_helpers import FAST, probe, render

COLOUR = ("color_range", "color_space", "color_transfer", "color_primaries", "chroma_location")


@pytest.fixture(scope="module")
def rich(clip_folder: Path) -> Path:
    return clips.rich(clip_folder)


def kinds(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(stream["codec_type"], stream.get("codec_name", "")) for stream in found["streams"]]


def chapters(found: dict[str, Any]) -> list[tuple[float, float, str]]:
    return [(float(c["start_time"]), float(c["end_time"]), c["tags"]["title"]) for c in found["chapters"]]


def hdr(found: dict[str, Any]) -> dict[str, str]:
    """Display volume and light level that the container states, as numbers with four digits."""
    numbers: dict[str, str] = {}
    for data in found["streams"][0].get("side_data_list", []):
        for name, value in data.items():
            if name != "side_data_type":
                top, _, bottom = str(value).partition("/")
                numbers[name] = f"{float(top) / float(bottom or 1):.4f}"
    return numbers


HDR10 = {
    "red_x": "0.6800", "red_y": "0.3200", "green_x": "0.2650", "green_y": "0.6900", "blue_x": "0.1500",
    "blue_y": "0.0600", "white_point_x": "0.3127", "white_point_y": "0.3290", "min_luminance": "0.0050",
    "max_luminance": "1000.0000", "max_content": "1000.0000", "max_average": "400.0000",
}  # fmt: skip


def test_a_rich_mkv_comes_out_with_everything(rich: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    render(rich, output, "--fps", "2x", *FAST)
    given, made = probe(rich), probe(output)
    assert kinds(made) == kinds(given)
    assert len(made["chapters"]) == 12 and chapters(made) == chapters(given)
    assert made["format"]["tags"]["title"] == "A rich film" and made["format"]["tags"]["ARTIST"] == "Somebody"
    for before, after in zip(given["streams"], made["streams"], strict=True):
        assert after["disposition"] == before["disposition"]
        for name in ("language", "title", "filename", "mimetype"):
            assert after["tags"].get(name) == before["tags"].get(name)
    assert [made["streams"][0][name] for name in COLOUR] == [given["streams"][0][name] for name in COLOUR]
    assert hdr(made) == HDR10
    with av.open(str(rich)) as source, av.open(str(output)) as copy:
        attached = [[s.data for s in container.streams if s.type == "attachment"] for container in (source, copy)]
        assert attached[0] == attached[1] and len(attached[0]) == 3
        frame = next(copy.decode(video=0))
        assert {data.type.name for data in frame.side_data} >= {
            "MASTERING_DISPLAY_METADATA",
            "CONTENT_LIGHT_LEVEL",
        }  # in the bit stream, too
    for kind in ("a:0", "a:1", "s:0", "s:1"):
        assert packets(output, kind) == packets(rich, kind)


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """(Time in s, content) of one track: `a:1` is the second sound."""
    with av.open(str(path)) as container:
        streams = container.streams.audio if kind[0] == "a" else container.streams.subtitles
        stream = streams[int(kind[2:])]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.pts is not None]


def test_mp4_keeps_what_it_can_hold_and_says_what_it_cannot(
    rich: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.mp4"
    capsys.readouterr()
    render(rich, output, "--fps", "2x", *FAST)
    said = capsys.readouterr().err
    made = probe(output)
    shown = [kind for kind in kinds(made) if kind[0] != "data"]  # chapters are a text track, too
    assert shown == [
        ("video", "hevc"),
        ("audio", "flac"),
        ("audio", "aac"),
        ("subtitle", "mov_text"),
        ("subtitle", "mov_text"),
        ("video", "png"),
    ]
    assert [stream["tags"]["language"] for stream in made["streams"][1:5]] == ["jpn", "eng", "eng", "ger"]
    assert made["streams"][2]["tags"]["handler_name"] == "Commentary"
    assert chapters(made) == chapters(probe(rich)) and hdr(made) == HDR10
    assert said.count("becomes mov_text; styles and positions are lost") == 2
    assert said.count("3 attachments (fonts) are left out: mp4 cannot hold them") == 1
    with av.open(str(output)) as container:
        texts = [bytes(packet) for packet in container.demux(container.streams.subtitles[0])]
    assert any(b"line 1\nof Alpha" in text for text in texts)


def test_subtitles_of_mp4_become_ass_in_mkv(rich: Path, clip_folder: Path, tmp_path: Path) -> None:
    middle, output = tmp_path / "middle.mp4", tmp_path / "out.mkv"
    render(rich, middle, "--fps", "2x", "--range", "0-0.5", *FAST)
    render(middle, output, "--fps", "2x", *FAST)
    assert [kind for kind in kinds(probe(output)) if kind[0] == "subtitle"] == [("subtitle", "ass")] * 2
    assert b"line 0" in packets(output, "s:0")[0][1]


@pytest.mark.parametrize("name", ["bt601", "bt601-pal", "bt2020-hlg-10bit", "full-range", "422-10bit", "444"])
def test_colours_and_formats_stay(name: str, clip_folder: Path, tmp_path: Path) -> None:
    clip = clips.colour_variants(clip_folder, [name])[name]
    output = tmp_path / "out.mkv"
    render(clip.path, output, "--fps", "2x", "--range", "0-0.3", *FAST)
    given, made = probe(clip.path)["streams"][0], probe(output)["streams"][0]
    for field in (*COLOUR[:4], "pix_fmt", "width", "height"):
        assert made.get(field) == given.get(field), field


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_place_of_chroma_samples_stays(codec: str, clip_folder: Path, tmp_path: Path) -> None:
    options = (("x264-params", "chromaloc=2"),)
    clip = clips.tiny(clip_folder, "topleft.mkv", codec_options=options, audio=False)
    output = tmp_path / "out.mkv"
    render(clip.path, output, "--fps", "2x", "--range", "0-0.2", "--codec", codec, *FAST)
    assert probe(clip.path)["streams"][0]["chroma_location"] == "topleft"
    assert probe(output)["streams"][0]["chroma_location"] == "topleft"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("anamorphic", ".mkv"),
        ("anamorphic", ".mp4"),
        ("rotated-90", ".mkv"),
        ("rotated-180", ".mp4"),
        ("rotated-270", ".mp4"),
    ],
)
def test_aspect_and_rotation_stay(name: str, suffix: str, clip_folder: Path, tmp_path: Path) -> None:
    clip = clips.colour_variants(clip_folder, [name])[name]
    output = tmp_path / f"out{suffix}"
    render(clip.path, output, "--fps", "2x", "--range", "0-0.2", *FAST)
    given, made = probe(clip.path)["streams"][0], probe(output)["streams"][0]

    def rotation(stream: dict[str, Any]) -> int:
        return next((int(data["rotation"]) for data in stream.get("side_data_list", []) if "rotation" in data), 0)

    assert rotation(made) % 360 == rotation(given) % 360 == -clip.spec.rotation % 360
    assert made.get("sample_aspect_ratio") == given.get("sample_aspect_ratio")

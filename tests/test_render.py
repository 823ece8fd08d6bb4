"""Whole renders of small films: frames, times, sound against picture, sizes, and what cannot be rendered."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import clips
import netweights
import numpy as np
import pytest
from render_helpers import FAST, LOSSLESS, frames, leftovers, pictures, probe, refusal, render

from drba.errors import EngineError
from drba.pixels import FrameLayout, pixel_format
from drba.timeline import SAME_TIME_S, exact_rate
from engines import EngineState, StreamSpec
from player import render_cli
from player.render.settled import settled

NTSC24, NTSC30 = Fraction(24000, 1001), Fraction(30000, 1001)
HALF_MS = Fraction(1, 2000)


@pytest.mark.parametrize(
    ("source_rate", "wanted", "suffix"),
    [
        (NTSC24, "59.94", ".mp4"),
        (NTSC24, "59.94", ".mkv"),
        (Fraction(24), "60", ".mp4"),
        (Fraction(25), "60", ".mp4"),
        (NTSC30, "120", ".mp4"),
        (NTSC30, "120", ".mkv"),
        (NTSC24, "2x", ".mp4"),
        (Fraction(25), "3x", ".mp4"),
    ],
    ids=str,
)
def test_frame_count_times_and_length_are_exact_and_source_frames_unchanged(
    source_rate: Fraction, wanted: str, suffix: str, clip_folder: Path, tmp_path: Path
) -> None:
    name = f"tiny{float(source_rate):.3f}{suffix}"
    source = clips.tiny(clip_folder, name, rate=source_rate, audio=False).path
    output = tmp_path / f"out{suffix}"
    render(source, output, "--fps", wanted, *LOSSLESS)
    rate = source_rate * int(wanted[0]) if wanted.endswith("x") else exact_rate(Fraction(wanted))
    given, made = frames(source), frames(output)
    assert len(made) == math.ceil(len(given) * rate / source_rate)
    rounding_s = HALF_MS if suffix == ".mkv" else 0  # Matroska counts milliseconds
    assert max(abs(time_s - number / rate) for number, (time_s, _) in enumerate(made)) <= rounding_s
    with_source = 0
    for time_s, picture in given:
        number = round(time_s * rate)
        if abs(number / rate - time_s) <= SAME_TIME_S:
            assert made[number][1] == picture
            with_source += 1
    whole = rate / source_rate
    assert with_source >= len(given) // whole.denominator or wanted == "120"
    stated = Fraction(probe(output)["format"]["duration"])
    assert abs(stated - len(made) / rate) <= Fraction(1, 1000)
    assert leftovers(output) == []


def test_a_film_of_variable_rate_comes_out_at_a_steady_one(clip_folder: Path, tmp_path: Path) -> None:
    clip = clips.tiny(clip_folder, "tinyvfr.mkv", vfr=True)
    output = tmp_path / "out.mp4"
    render(clip.path, output, "--fps", "120", *LOSSLESS)
    made, given = frames(output), frames(clip.path)
    assert [time_s for time_s, _ in made] == [Fraction(k, 120) for k in range(len(made))]
    end_s = given[-1][0] + (given[-1][0] - given[-2][0])
    assert len(made) == pytest.approx(end_s * 120, abs=8)  # the file does not say how long its last frame is
    for time_s, picture in given:
        number = round(time_s * 120)
        if abs(Fraction(number, 120) - time_s) <= SAME_TIME_S:
            assert made[number][1] == picture


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("standard", ".mkv"), ("mp4", ".mp4"), ("mp4", ".mkv"), ("starts_at_10", ".mp4"), ("vfr", ".mkv")],
)
def test_flash_and_beep_are_as_far_apart_as_in_the_source(
    kind: str, suffix: str, clip_folder: Path, tmp_path: Path
) -> None:
    clip = getattr(clips, kind)(clip_folder)
    output = tmp_path / f"out{suffix}"
    # Every frame of the film of variable rate falls on an output time at 120: what is shown then is the flash itself.
    render(clip.path, output, "--fps", "120" if kind == "vfr" else "2x", *FAST)
    before, after = (
        np.subtract(clips.flash_times(clips.file_frames(path)), clips.beep_times(path)) for path in (clip.path, output)
    )
    assert len(before) == len(after) > 1
    assert np.abs(after - before).max() <= 0.001


def test_a_range_has_the_frames_and_the_sound_of_the_whole(clip_folder: Path, tmp_path: Path) -> None:
    clip = clips.standard(clip_folder)
    whole, part = tmp_path / "whole.mkv", tmp_path / "part.mkv"
    render(clip.path, whole, "--fps", "2x", *LOSSLESS)
    render(clip.path, part, "--fps", "2x", "--range", "1-2.5", *LOSSLESS)
    rate = 2 * NTSC24
    first, end = math.ceil(rate), math.ceil(rate * Fraction(5, 2))
    assert pictures(part) == pictures(whole)[first:end]
    assert abs(frames(part)[0][0]) <= HALF_MS
    beeps = [time_s - first / rate for time_s in clips.beep_times(whole) if 1.1 < time_s < 2.4]
    assert clips.beep_times(part)[-len(beeps) :] == pytest.approx(beeps, abs=0.001)


@pytest.mark.parametrize("count", [1, 2])
def test_clips_of_one_and_two_frames(count: int, clip_folder: Path, tmp_path: Path) -> None:
    clip = clips.tiny(clip_folder, f"frames{count}.mp4", seconds=count / 25 - 0.01, rate=Fraction(25), audio=False)
    output = tmp_path / "out.mp4"
    render(clip.path, output, "--fps", "50", *LOSSLESS)
    given, made = pictures(clip.path), pictures(output)
    assert len(given) == count and len(made) == 2 * count
    assert made[::2] == given and made[-1] == given[-1]


@pytest.mark.parametrize(
    ("size", "options", "encoded"),
    [
        ((95, 63), FAST, (96, 64)),
        ((95, 63), LOSSLESS, (96, 64)),
        ((95, 63), (*FAST, "--pix-fmt", "yuv444p"), (95, 63)),
        ((2, 2), FAST, (2, 2)),
    ],
    ids=str,
)
def test_odd_and_very_small_sizes(
    size: tuple[int, int],
    options: tuple[str, ...],
    encoded: tuple[int, int],
    clip_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    width, height = size
    clip = clips.tiny(
        clip_folder, f"odd{width}x{height}.mkv", width=width, height=height, seconds=0.3, audio=False, codec="ffv1"
    )
    output = tmp_path / "out.mkv"
    render(clip.path, output, "--fps", "2x", *options)
    stream = probe(output)["streams"][0]
    assert (stream["width"], stream["height"]) == encoded
    assert (f"the output is {encoded[0]}x{encoded[1]}" in capsys.readouterr().err) == (size != encoded)
    if options == LOSSLESS:
        (_, given), (_, made) = next(clips.file_frames(clip.path)), next(clips.file_frames(output))
        assert np.array_equal(made[:height, :width], given)
        assert np.array_equal(made[:height, width], given[:, -1]) and np.array_equal(made[height], made[height - 1])


def test_a_network_renders_and_a_segment_of_it_alone_is_the_same(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a network keeps of a triplet serves the next one: a segment's frames must not depend on the one before it."""
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    netweights.install("rife-4.6")
    source = clips.tiny(clip_folder, "tiny24.000.mp4", rate=Fraction(24), audio=False).path
    common = ["-m", "rife-4.6", "--fps", "2x", *LOSSLESS, "--segment-frames", "7"]
    whole, part = tmp_path / "whole.mp4", tmp_path / "part.mp4"
    assert render_cli.main([str(source), str(whole), *common, "--range", "0-0.7"]) == 0
    assert render_cli.main([str(source), str(part), *common, "--range", "0.2916-0.7"]) == 0
    assert pictures(part) == pictures(whole)[14:]


def test_a_server_renders_the_same_frames(clip_folder: Path, tmp_path: Path) -> None:
    source = clips.tiny(clip_folder, "tiny24.000.mp4", rate=Fraction(24), audio=False).path
    here, there = tmp_path / "here.mp4", tmp_path / "there.mp4"
    render(source, here, "--fps", "60", *LOSSLESS)
    render(source, there, "--fps", "60", *LOSSLESS, "--server")
    assert pictures(there) == pictures(here)


class Building:
    """A renderer that is something else until an engine is built, which ends when it is looked at the third time."""

    def __init__(self, becomes: str) -> None:
        self.model, self.engine, self._becomes = "flow", "cpu", becomes
        self.looks, self.closed = 0, False

    @property
    def state(self) -> EngineState:
        self.looks += 1
        if self.looks < 3:
            return EngineState("flow", "cpu", "part render, 4 of 10", "tensorrt", 0.4)
        self.model = self._becomes
        return EngineState(self.model, "tensorrt", "the tensorrt engine is not used (out of memory)")

    def render(self, *_: object) -> None:
        raise AssertionError("nothing is rendered here")

    def close(self) -> None:
        self.closed = True


def test_a_film_is_begun_only_when_its_engine_is_built() -> None:
    spec = StreamSpec(FrameLayout(32, 32, pixel_format("gray")), model="rife-4.26")
    said: list[str] = []
    assert settled(Building("rife-4.26"), spec, said.append).model == "rife-4.26"
    assert said == ["building tensorrt for films of this size first; that takes minutes, once"]
    failing = Building("flow")
    with pytest.raises(
        EngineError, match=r"rife-4.26 cannot render: the tensorrt engine is not used \(out of memory\)"
    ):
        settled(failing, spec)
    assert failing.closed


# --- what cannot be rendered ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--codec", "libnothing"), "no such encoder"),
        (("--codec", "aac"), "expected a video encoder"),
        (("--pix-fmt", "yuv999p"), "pixel format 'yuv999p' does not exist"),
        (("--pix-fmt", "rgb48be"), "libx264 with rgb48be"),
        (("--preset", "warp"), "preset=warp"),
        (("--codec", "ffv1", "--crf", "3"), "no such quality"),
        (("--codec", "prores_ks"), "cannot be put into .mp4"),
        (("--codec", "ffv1", "--preset", "slow"), "no option preset"),
        (("--fps", "24"), "has 24 frames a second already"),
        (("--fps", "fast"), "expected a number"),
        (("-m", "sepconv"), "model 'sepconv' does not exist"),
        (("-m", "gmfss"), "drba models"),
        (("--engine", "steam"), "engine 'steam' does not exist"),
        (("--range", "9-10"), "the film ends"),
        (("--server", "film.mkv"), "expected a paired machine's name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_options_are_one_line(
    options: tuple[str, ...],
    words: str,
    clip_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    source = clips.tiny(clip_folder, "tiny24.000.mp4", rate=Fraction(24), audio=False).path
    assert words in refusal(capsys, source, tmp_path / "out.mp4", *options)
    assert not list(tmp_path.glob("out*"))


def test_wrong_files_are_one_line(clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clips.tiny(clip_folder, "tiny24.000.mp4", rate=Fraction(24), audio=False).path
    broken = clips.broken_inputs(clip_folder)
    existing = tmp_path / "existing.mp4"
    existing.write_text("mine")
    for arguments, words in (
        ((broken["missing"], tmp_path / "out.mkv"), "no such file"),
        ((broken["text"], tmp_path / "out.mkv"), "cannot be opened"),
        ((broken["audio only"], tmp_path / "out.mkv"), "no video"),
        ((source, existing), "exists already"),
        ((source, source), "the same file"),
        ((source, clip_folder / "." / source.name, "--force"), "the same file"),
        ((source, tmp_path / "nowhere" / "out.mkv"), "no such folder"),
        ((source, tmp_path / "out.avi"), "must end in"),
        ((source, Path("/proc") / "out.mkv"), "cannot be written"),
        ((source,), "expected a source and an output"),
    ):
        assert words in refusal(capsys, *arguments), arguments
    assert existing.read_text() == "mine"


def test_force_overwrites_only_when_the_new_one_is_whole(clip_folder: Path, tmp_path: Path) -> None:
    source = clips.tiny(clip_folder, "tiny24.000.mp4", rate=Fraction(24), audio=False).path
    output = tmp_path / "out.mp4"
    output.write_text("mine")
    render(source, output, "--force", *FAST)
    assert len(pictures(output)) == 60


def test_json_progress_is_one_object_a_line(
    clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    source = clips.tiny(clip_folder, "tiny24.000.mp4", rate=Fraction(24), audio=False).path
    capsys.readouterr()
    render(source, tmp_path / "out.mp4", "--json-progress", *FAST)
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    assert events[0]["event"] == "begin" and events[-1]["event"] == "done"
    assert events[-1]["frames"] == events[-1]["total"] == 60
    assert sum(events[-1][kind] for kind in ("source", "held", "cut", "interpolated")) == 60

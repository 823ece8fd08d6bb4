"""Renders that are killed, stopped, out of room, or resumed with something else."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import clips
import pytest
from render_helpers import FAST, command, environment, frames, leftovers, pictures, probe, refusal, render

KILLS = 10
#: Small segments, with B-frames and encoder threads as large ones have.
OPTIONS = ("--fps", "60", "--segment-frames", "20")


@pytest.fixture(scope="module")
def source(clip_folder: Path) -> Path:
    return clips.tiny(clip_folder, "long24.mkv", rate=Fraction(24), seconds=5).path


@pytest.fixture(scope="module")
def timed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """An uninterrupted render, and the seconds it takes."""
    output = tmp_path_factory.mktemp("whole") / "out.mkv"
    began = time.monotonic()
    subprocess.run(command(source, output, *OPTIONS), check=True, env=environment(), capture_output=True)
    return output, time.monotonic() - began


@pytest.fixture(scope="module")
def whole(timed: tuple[Path, float]) -> Path:
    return timed[0]


def test_after_ten_kills_the_film_is_the_same_as_without(
    source: Path, timed: tuple[Path, float], tmp_path: Path
) -> None:
    whole, takes_s = timed
    seed = int(os.environ.get("DRBA_TEST_SEED", "5"))
    rng = random.Random(seed)
    output = tmp_path / "out.mkv"
    kills, finished = 0, False
    while kills < KILLS or not finished:
        process = subprocess.Popen(
            command(source, output, *OPTIONS, "--resume"),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, said = process.communicate(timeout=rng.uniform(0.2, 0.8) * takes_s if kills < KILLS else 60)
            assert process.returncode == 0, (seed, said)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills, finished = kills + 1, False
        if output.exists() and not leftovers(output):  # finished, or killed when it had been
            assert pictures(output) == pictures(whole), seed
            output.unlink()
            finished = True
    assert leftovers(output) == []


def stop_midway(source: Path, output: Path) -> str:
    """Start a render, press Ctrl+C when the first segment is there; the last line that it says."""
    process = subprocess.Popen(
        command(source, output, *OPTIONS, "--json-progress"), env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = output.with_name(output.name + ".drba-part")
    for line in process.stdout:
        if json.loads(line)["event"] == "begin":
            break
    while process.poll() is None and not any(folder.glob("0*.mp4")):
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read().splitlines()
    assert process.wait() == 130, rest
    return str(json.loads(rest[-1])["text"])


def test_ctrl_c_leaves_a_part_that_plays_and_resume_goes_on(source: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    said = stop_midway(source, output)
    so_far = output.with_name("out.mkv.drba-part") / "so-far.mkv"
    assert str(so_far) in said and "--resume" in said and not output.exists()
    part = frames(so_far)
    assert 20 <= len(part) < 300
    expected = frames(whole)[: len(part)]
    assert [time_s for time_s, _ in part] == [time_s for time_s, _ in expected]
    whole_segments = max(int(path.stem.split("-")[1]) for path in so_far.parent.glob("0*.mp4"))
    assert part[:whole_segments] == expected[:whole_segments]
    sound = probe(so_far)["streams"][1]
    assert sound["codec_type"] == "audio"
    render(source, output, *OPTIONS, "--resume")
    assert frames(output) == frames(whole)
    assert leftovers(output) == []


def test_resume_refuses_what_was_begun_differently(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(source.read_bytes())
    output = tmp_path / "out.mkv"
    stop_midway(film, output)
    assert "an unfinished render; go on with --resume" in refusal(capsys, film, output, *OPTIONS)
    assert "fps 60, now 50" in refusal(
        capsys, film, output, "--model", "flow", "--fps", "50", "--segment-frames", "20", "--resume"
    )
    os.utime(film, ns=(1, 1))
    assert "begun with another file" in refusal(capsys, film, output, "--model", "flow", *OPTIONS, "--resume")
    manifest = output.with_name("out.mkv.drba-part") / "manifest.json"
    manifest.write_text("{")
    assert "no render that can be resumed" in refusal(capsys, film, output, *OPTIONS, "--resume")
    render(film, output, "--fps", "2x", "--force", *FAST)
    assert len(pictures(output)) == 240


def test_a_kill_before_the_first_word_was_written_leaves_nothing_in_the_way(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    folder = output.with_name("out.mkv.drba-part")
    for option in ((), ("--resume",)):
        folder.mkdir()
        (folder / ".manifest.json").write_text("{")
        render(source, output, "--range", "0-0.1", "--force", *FAST, *option)
        assert leftovers(output) == []


def test_two_renders_of_one_output_do_not_meet(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.mkv"
    stop_midway(source, output)
    import fcntl

    with (output.with_name("out.mkv.drba-part") / "manifest.json").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for option in ("--resume", "--force"):
            assert "another drba-render is working" in refusal(
                capsys, source, output, "--model", "flow", *OPTIONS, option
            )


@pytest.mark.parametrize("limit_bytes", [8_000, 60_000], ids=["in a segment", "while joining"])
def test_no_room_is_one_line_and_nothing_is_lost(limit_bytes: int, source: Path, whole: Path, tmp_path: Path) -> None:
    """A limit of the size of files stands for a full disk: writing fails in the same place, with another number."""
    output = tmp_path / "out.mkv"
    assert limit_bytes < whole.stat().st_size
    before = tmp_path / "mine.txt"
    before.write_text("mine")
    done = subprocess.run(
        command(source, output, *OPTIONS),
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1, lines
    assert "cannot be written (File too large)" in lines[0] and "--resume" in lines[0]
    assert not output.exists() and before.read_text() == "mine"
    render(source, output, *OPTIONS, "--resume")
    assert pictures(output) == pictures(whole)
    assert leftovers(output) == ["mine.txt"]

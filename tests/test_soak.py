"""Seconds of what benchmarks/soak.py does for half an hour, by the same code; and that its measures find what they should."""

from __future__ import annotations

import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from footprint import Held, resident_mib, slope_mib_per_minute
from frame_ledger import FrameLedger, Timeline
from soaking import MAX_SLOPE, Life, Soak, soak
from test_stress import half_minute

FILM = Fraction(24000, 1001)


@pytest.mark.alone
@pytest.mark.timeout(300)  # ten seconds; minutes where the machine is busy
def test_a_short_soak_loses_nothing_and_keeps_nothing(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory says nothing in seconds; open files, threads and frames do."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("DRBA_RUNTIME_DIR", str(folder))
    result = soak(
        half_minute(clip_folder), FILM, tmp_path,
        minutes=0.05, at_least=6, seed=4, warm_up_s=600, deaths_until=100, check_s=60, death_s=2,
    )  # fmt: skip
    assert not result.problems
    assert result.comparisons >= 2 and result.deaths >= 1
    assert {life.name for life in result.lives} == {"mpv", "bridge of mpv", "player", "bridge of player", "server"}
    for viewer in result.viewers:
        drba = viewer.ledger.counts["drba"]
        assert drba.seen == drba.expected > 30, drba


# --- frames: a log as mpv writes it, with one thing wrong in it ---


def line(module: str, text: str) -> str:
    return f"[   1.234][v][{module}] {text}\n"


def played(numbers: list[int], checksums: dict[int, int], shown: int, rate: Fraction = 2 * FILM) -> list[str]:
    """A seek to frame 10, then these frames; the viewer leaves at frame `shown`."""
    stated = (rate + Fraction(1, 99991)).limit_denominator(99991)  # mpv's own rate is a rounded one
    lines = [line("cplayer", f"hr-seek, skipping to {float(10 / rate):f}")]
    for index, number in enumerate(numbers):
        if index == 0:
            lines.append(line("ffmpeg", f"Parsed_showinfo_0: config in time_base: 1/1000000, frame_rate: {stated}"))
        lines.append(
            line(
                "ffmpeg",
                f"Parsed_showinfo_0: n:{index:4d} pts:{round(number / rate * 1_000_000):7d} pts_time:0 fmt:yuv420p "
                f"checksum:{checksums.get(number, 7):08X} plane_checksum:[0]",
            )
        )
        if index == 0:
            lines.append(line("cplayer", f"playback restart complete @ {float(number / rate):f}, audio=playing"))
    lines.append(line("cplayer", f"ledger: {float(shown / rate):f} no"))
    return lines


RIGHT = {number: 1000 + number // 2 for number in range(0, 40, 2)}  # frames that are the film's own


@pytest.mark.parametrize(
    ("numbers", "checksums", "shown", "found"),
    [
        (list(range(10, 20)), RIGHT, 18, ""),
        ([*range(10, 15), *range(16, 20)], RIGHT, 18, "lost [15]"),
        ([*range(10, 15), *range(14, 20)], RIGHT, 18, "twice [14]"),
        (list(range(11, 20)), RIGHT, 18, "expected frame 10"),
        (list(range(10, 16)), RIGHT, 18, "lost [16, 17, 18]"),
        ([10, 12, 11, *range(13, 20)], RIGHT, 18, "lost [], twice []"),  # out of order
        (list(range(10, 20)), {**RIGHT, 14: RIGHT[12]}, 18, "does not show the film's frame 7"),
    ],
)
def test_a_frame_that_is_wrong_is_found(numbers: list[int], checksums: dict[int, int], shown: int, found: str) -> None:
    ledger = FrameLedger(Timeline(FILM, [1000 + number for number in range(30)]), 2 * FILM)
    for text in played(numbers, checksums, shown):
        ledger.feed(text)
    ledger.finish()
    assert bool(ledger.problems) is bool(found) and found in "".join(ledger.problems)
    counts = ledger.counts["drba"]
    assert counts.expected == 9 and (counts.seen == 9) is (len(numbers) == 10)


def test_a_film_that_ends_early_is_found() -> None:
    timeline = Timeline(FILM, [1000 + number for number in range(20)])
    for last, lost in ((40, 0), (39, 1)):
        ledger = FrameLedger(timeline, 2 * FILM)
        for text in (*played(list(range(10, last)), RIGHT, 20), line("vf", "filter output EOF")):
            ledger.feed(text)
        ledger.finish()
        assert (ledger.counts["drba"].lost, ledger.counts["drba"].expected) == (lost, 30)


# --- memory ---


def test_a_process_that_leaks_is_found() -> None:
    """A real one: it keeps a quarter of a MiB a step, which stands for four seconds."""
    program = (
        "import sys\nkept = []\nfor line in sys.stdin:\n    kept.append(b'x' * int(line))\n    print(flush=True)\n"
    )
    for step_bytes, slope in ((1 << 18, 0.25 * 15), (0, 0.0)):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            samples = []
            for step in range(100):
                process.stdin.write(b"%d\n" % step_bytes)
                process.stdin.flush()
                process.stdout.readline()
                samples.append((4.0 * step, resident_mib(process.pid)))
        assert slope_mib_per_minute(samples) == pytest.approx(slope, abs=0.5)
        result = Soak(minutes=2, warm_up_s=0, seed=1, lives=[Life("bridge", process.pid, 0.0, samples)])
        result.judge()
        assert [text.split(":")[0] for text in result.problems] == ([f"bridge {process.pid}"] if slope else [])


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.5])
def test_a_slope_is_found_under_noise_and_jumps(slope: float) -> None:
    """25 minutes of a player whose buffer fills and empties by 40 MiB, with a tenth of the time something else."""
    rng = random.Random(5)
    samples = []
    for second in range(1500):
        stray = 100.0 if second % 300 < 30 else 0.0
        samples.append((float(second), 150 + slope * second / 60 + rng.uniform(-20, 20) + stray))
    found = slope_mib_per_minute(samples)
    assert found == pytest.approx(slope, abs=0.25)
    assert (found >= MAX_SLOPE) is (slope >= MAX_SLOPE)


def test_too_short_a_life_says_nothing_of_memory() -> None:
    life = Life("server", 1, 0.0, [(float(second), second) for second in range(400)], [Held(1, 1)])
    assert life.slope(warm_up_s=200) is None and life.slope(warm_up_s=0) is not None

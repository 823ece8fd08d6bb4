"""`drba bench`: the floor against arithmetic by hand, what is measured and how, the command with its JSON, table and
chart, and cells that cannot be measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import netweights
import pytest
import torch
from rich.console import Console

from drba.floor import Cost
from drba.models import find
from drba.networks.cost import _Counter, cost
from drba.networks.ifnet import SPECS
from drba.pixels import FrameLayout, Plane, pixel_format
from drba.stages import measured_by, stage
from engines.clocks import HostClock
from player.bench import matrix as bench_matrix
from player.bench.cell import Cell, Settings, TooSlow, _measured, is_out_of_memory
from player.bench.chart import check_chart
from player.bench.engines import named
from player.bench.matrix import Matrix, better, in_process, measure_all, plan
from player.bench.speed import CYCLE_FRAMES, TIMES_24_TO_60, Feed, measure, moving_frames
from player.bench.table import WIDTH, matrix_tables, verdict

REPOSITORY = Path(__file__).resolve().parent.parent
LAYOUT = FrameLayout(128, 96, pixel_format("yuv420p"))
QUICK = Settings("yuv420p", 1.0, seconds=0.1, limit_s=60.0, threads=2)


def drba(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, with this checkout's packages."""
    command = [sys.executable, "-m", "player.cli", "bench", *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env=variables)


# --- the floor --------------------------------------------------------------------------------------------------------


def test_a_convolution_is_counted_as_by_hand() -> None:
    """3 channels of 16x16 to 8 of 8x8 through 3x3: each of 8 * 8 * 8 results takes 3 * 3 * 3 multiply-adds."""
    with _Counter() as counter:
        torch.nn.functional.conv2d(torch.zeros(1, 3, 16, 16), torch.zeros(8, 3, 3, 3), stride=2, padding=1)
    assert counter.operations == {"float32": 2 * 8 * 8 * 8 * 27}
    assert counter.bytes == 4 * (3 * 16 * 16 + 8 * 3 * 3 * 3 + 8 * 8 * 8)


@pytest.mark.parametrize(
    ("bytes_per_second", "floor_s"), [(1e3, 4.0), (1e6, 0.02 + 0.01)], ids=["bytes decide", "operations decide"]
)
def test_the_floor_is_the_longer_of_computing_and_moving(bytes_per_second: float, floor_s: float) -> None:
    found = Cost({"float16": 2e6, "float32": 1e5}, moved_bytes=4000.0, layer_bytes=1e9)
    assert found.floor_s({"float16": 1e8, "float32": 1e7}, bytes_per_second) == pytest.approx(floor_s)


def test_the_operations_of_rife_are_those_of_its_layers() -> None:
    """4.6 has no encoder: its blocks once an in-between, and the coarsest one once a source frame for the flow."""

    def block(inputs: int, width: int, outputs: int, height: int, columns: int) -> int:
        at_half, at_quarter = height * columns // 4, height * columns // 16
        reduce = at_half * inputs * (width // 2) * 9 + at_quarter * (width // 2) * width * 9
        residual = 8 * at_quarter * width * width * 9
        return 2 * (reduce + residual + at_quarter * width * 4 * outputs * 16)

    height, columns = 128, 192
    counts = []
    for i, (width, level) in enumerate(zip(SPECS["4.6"].widths, SPECS["4.6"].levels, strict=True)):
        inputs = 6 + 1 + (0 if i == 0 else 5)  # two images, the timestep; flow and mask
        counts.append(block(inputs, width, 5, height // level, columns // level))
    found = cost(find("rife-4.6"), FrameLayout(columns, height, pixel_format("yuv420p"))).operations
    assert found["float32"] == sum(counts) + counts[0] / 2


def test_the_bytes_are_the_formula() -> None:
    planes, pixels = 128 * 96 * 3 // 2, 128 * 96
    assert cost(find("flow"), LAYOUT) == Cost({}, 3 * planes + pixels / 2, 0.0)
    state = netweights.rule_weights("rife-4.26.heavy")["flownet"]
    # The coarsest block stays in float32. The fast form has some fewer: folded betas, outputs that nobody reads.
    weights = sum(value.numel() * (4 if name.startswith("block0.") else 2) for name, value in state.items())
    kept = 128 * 128 * (3 * 4 + 16 * 2)  # padded to 64; 16 features in half precision
    found = cost(find("rife-4.26.heavy"), LAYOUT, torch.float16)
    assert found.moved_bytes == pytest.approx((planes + kept + weights) / 2 + 2 * kept + planes, rel=5e-3)
    assert set(found.operations) == {"float16", "float32"}


# --- what is measured -------------------------------------------------------------------------------------------------


def test_time_in_a_stage_within_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(HostClock, "_now", lambda self: now[0])

    def work(seconds: float) -> None:
        now[0] += seconds

    clock = HostClock()
    with measured_by(clock):
        work(1)
        with stage("network"):
            work(2)
            with stage("drm"):
                work(4)
            work(8)
        with stage("download"):
            work(16)
    with stage("network"):  # nobody measures any more
        work(32)
    assert clock.seconds() == {"other": 1 + 32, "network": 2 + 8, "drm": 4, "download": 16}


def test_the_content_moves_in_every_frame_and_is_new_in_every_triplet() -> None:
    frames = moving_frames(LAYOUT)
    assert len(frames) == CYCLE_FRAMES
    assert all(cv2.norm(a[0], b[0], cv2.NORM_L1) > LAYOUT.width for a, b in pairwise(frames))
    middles: list[int] = []

    class Recorder:
        model = engine = "test"

        def render(self, triplet: Any, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
            assert tuple(times) in TIMES_24_TO_60 and len(outputs) == len(times)
            numbers = [frame.number for frame in (triplet.previous, triplet.middle, triplet.following)]
            assert numbers == [numbers[1] - 1, numbers[1], numbers[1] + 1]
            middles.append(numbers[1])

        def close(self) -> None:
            pass

    speed = measure(Recorder(), Feed(LAYOUT, frames), seconds=0.05, threads=2)
    assert len(set(middles)) == len(middles) > speed.inbetweens / 2 > 0


def test_the_times_are_those_of_24_to_60() -> None:
    """Source frames at 0, 1, 2; output frames every 24 / 60 of that: those nearest to frames 1 and 2, but for frame 2."""
    output = [k * 24 / 60 for k in range(9)]
    asked = [[t - middle + 1 for t in output if abs(t - middle) < 0.5 and t != middle] for middle in (1, 2)]
    assert [tuple(round(t, 9) for t in times) for times in asked] == [TIMES_24_TO_60[1], TIMES_24_TO_60[0]]


def test_a_cell_that_would_take_too_long_is_given_up_early() -> None:
    cell = Cell("flow", "cpu", 64, 48, replace(QUICK, limit_s=1e-6))
    with pytest.raises(TooSlow, match=r"too slow: \d+ ms an in-between \(see --limit\)"):
        _measured(cell, lambda: None)


# --- cells that cannot be measured ------------------------------------------------------------------------------------


def test_a_cell_says_why_it_cannot_run_and_others_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path))
    flow, rife = find("flow"), find("rife-4.6")
    everything = Matrix([flow, rife], named(()), False, [(64, 48), (32, 32)], random_weights=False)
    cells = [(cell.model.name, cell.engine.name, cell.width, cell.weights) for cell in plan(everything)]
    assert cells[:2] == [("flow", "cpu", 32, "none"), ("flow", "cpu", 64, "none")]
    assert ("rife-4.6", "torch-cpu", 32, "missing") in cells
    assert "drba models fetch rife-4.6" in plan(everything)[-1].reason
    chosen = replace(everything, engines=named(["cpu"]), engines_named=True, random_weights=True)
    assert [(cell.model.name, cell.reason) for cell in plan(chosen)][::2] == [
        ("flow", ""),
        ("rife-4.6", "it runs the flow model only"),
    ]


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


def killed(number: int, answers: Connection) -> None:
    answers.send({"floor_ms": 1.0})
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "out of memory: the system ended the process"), (signal.SIGSEGV, "crashed (SIGSEGV)")],
)
def test_a_process_that_dies_leaves_what_it_had_sent_and_a_reason(number: int, reason: str) -> None:
    assert in_process(killed, number) == {"floor_ms": 1.0, "failed": reason}


def test_ctrl_c_waits_until_a_process_is_started_whichever_thread_takes_it() -> None:
    end, reached = threading.Event(), False
    other = threading.Thread(target=end.wait)
    other.start()
    with pytest.raises(KeyboardInterrupt), bench_matrix._interrupts_kept_back():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    end.set()
    other.join()
    assert reached


def test_the_better_of_two_peaks_counts() -> None:
    before = {"cpu": {"device": "cpu", "operations": {"float32": 1.0}, "bytes": 5.0}}
    after = {"cpu": {"device": "cpu", "operations": {"float32": 3.0}, "bytes": 4.0}}
    best = {"cpu": {"device": "cpu", "operations": {"float32": 3.0}, "bytes": 5.0}}
    assert better(before, after) == best == better(after, before)


def test_what_is_too_slow_is_not_tried_larger_and_ctrl_c_keeps_what_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[dict[str, Any] | type[BaseException]] = [
        {"machine": {}, "peaks": {"cpu": {"device": "cpu", "operations": {"float32": 1e9}, "bytes": 1e9}}},
        {**COST, "failed": "too slow: 9 ms an in-between", "too_slow": True},
        MEASURED,
        KeyboardInterrupt,
    ]

    def answer(*_: Any) -> dict[str, Any]:
        found = answers.pop(0)
        if isinstance(found, type):
            raise found
        return found

    monkeypatch.setattr(bench_matrix, "in_process", answer)
    networks = [find("rife-4.6"), find("rife-4.15")]
    sizes = [(64, 48), (128, 96)]
    result = measure_all(Matrix(networks, named(["torch-cpu"]), True, sizes, random_weights=True), QUICK)
    outcomes = [cell.get("failed", "measured").partition(":")[0] for cell in result["cells"]]
    assert outcomes == ["too slow", "too slow at a smaller size already", "measured", "interrupted"]
    assert result["interrupted"] is True
    measured = result["cells"][2]
    assert measured["times_floor"] == pytest.approx(1000 / 96 / 2.0) and measured["fits_24_to_60"] is True
    shown = printed(result)
    assert "? rife-4.6 on torch-cpu, 64x48: too slow: 9 ms an in-between" in shown
    assert "Interrupted" in shown and "Weights without meaning" in shown
    assert max(map(len, shown.splitlines())) <= WIDTH


COST = {"operations": {"float32": 2e6}, "moved_bytes": 4.0, "layer_bytes": 4.0}
MEASURED = {
    **COST,
    "median_ms": 15.0,
    "p99_ms": 20.0,
    "in_betweens_per_second": 96.0,
    "peak_memory_mib": None,
    "shares": {"upload": 0.1, "network": 0.7, "drm": 0.1, "download": 0.1},
}


def printed(result: dict[str, Any]) -> str:
    console = Console(width=WIDTH, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    for part in matrix_tables(result):
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize(
    ("per_second", "words"), [(61, "fits"), (50, "just fits"), (48, "just fits"), (47.9, "does not fit")]
)
def test_a_verdict_for_viewers(per_second: float, words: str) -> None:
    assert verdict(per_second, 48) == words


def test_a_chart_without_matplotlib_is_one_line_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Exception, match=r"pip install 'drba-player\[bench\]'"):
        check_chart(tmp_path / "chart.png")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)  # four processes that import PyTorch: 15 s, and minutes where the machine is busy
def test_a_model_is_measured_without_its_weights(tmp_path: Path) -> None:
    chart = tmp_path / "chart.png"
    arguments = ["--seconds", "0.1", "--size", "96x64", "--pixel-format", "yuv444p10le", "--json", "--chart", chart]
    models = ["--model", "flow", "--model", "rife-4.15.lite", "--random-weights"]
    done = drba(*arguments, *models, DRBA_DATA_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {"cpu", "cpu_count", "load_1min", "system", "drba", "python", "opencv", "torch"} <= set(result["machine"])
    assert result["peaks"]["cpu"]["operations"]["float32"] > 1e8 and result["peaks"]["cpu"]["bytes"] > 1e8
    assert not result["interrupted"]
    cells = [cell for cell in result["cells"] if cell["engine"] in ("cpu", "torch-cpu")]
    assert [(cell["model"], cell["weights"]) for cell in cells] == [("flow", "none"), ("rife-4.15.lite", "random")]
    for cell in cells:
        assert (cell["width"], cell["height"]) == (96, 64)
        assert 0 < cell["median_ms"] <= cell["p99_ms"] and cell["cpu_ms"] > 0 and cell["in_betweens_per_second"] > 0
        assert cell["floor_ms"] > 0 and cell["times_floor"] > 0 and cell["in_betweens_timed"] >= 6
        assert sum(cell["shares"].values()) == pytest.approx(1)
        assert cell["peak_memory_mib"] > 0
    flow, rife = cells
    assert {"flow", "drm", "warp"} <= set(flow["shares"])
    assert {"upload", "network", "drm", "download"} <= set(rife["shares"]) and rife["shares"]["network"] > 0.4
    assert not (tmp_path / "weights").exists()
    shown = printed(result)
    assert "96x64" in shown and "GFLOP/s in float32" in shown and "Weights without meaning" in shown
    picture = cv2.imread(str(chart))
    assert picture is not None and picture.std() > 5


def test_ctrl_c_prints_what_is_there_and_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "player.cli", "bench", "--model", "flow", "--seconds", "60", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not (any(tmp_path.glob("drba-bench-*")) and children.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    started = children.read_text().split()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1 and "Traceback" not in stderr
    assert json.loads(stdout)["interrupted"] is True
    assert started and not any(Path(f"/proc/{child}/exe").exists() for child in started)
    assert not list(tmp_path.glob("drba-bench-*"))

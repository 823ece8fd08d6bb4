"""The benchmarks of the device path run, on the processor with tiny pictures where there is no card."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "none"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def benchmark(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("device_kernels").main(["--size", "40x24"])
    shown = capsys.readouterr().out
    assert ("mean nothing" in shown) != torch.cuda.is_available()
    assert shown.count("| warp") == 8 and shown.count("| splat") == 2 and "RGB to yuv420p10le" in shown


def test_levers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "levers.json"
    benchmark("device_levers").main(
        ["--model", "rife-4.15.lite", "--size", "64x64", "--triplets", "2", "--json", str(file)]
    )
    shown = capsys.readouterr().out
    result = json.loads(file.read_text())["rows"]
    assert [row["rung"] for row in result][:2] == ["reference, eager", "fast, eager"] and "+ CUDA graphs" in shown
    assert all(row["ms"] > 0 and row["psnr_db"] > 45 for row in result)

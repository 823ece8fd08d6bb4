"""`drba engines` as a user calls it, with ONNX Runtime in the place of TensorRT."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import netweights
import pytest
import torch
from ort_builder import OnnxRuntimeBuilder

from engines.build import EngineBuild
from engines.engine_cache import EngineCache
from player import engines_cli
from player.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = "rife-4.15.lite"
TITLE = f"{MODEL} 96x64 fp16"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> OnnxRuntimeBuilder:
    netweights.install(MODEL)
    builder = OnnxRuntimeBuilder("1")
    monkeypatch.setattr(engines_cli, "make_builder", lambda: builder)
    return builder


def test_build_list_verify_and_clean(builder: OnnxRuntimeBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time it is there already
        assert main(["engines", "build", MODEL, "90x60"]) == 0
        assert capsys.readouterr().out == f"onnxruntime: {TITLE} is ready\n"
    assert len(builder.builds) == 3
    assert main(["engines", "list"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "size", "precision", "built", "by", "MiB", "last", "use", "state"]
    assert line.split()[:3] == [MODEL, "96x64", "fp16"] and "ONNX Runtime 1" in line and "verified: " in line
    assert main(["engines", "verify"]) == 0
    assert f"{TITLE}: ok: " in capsys.readouterr().out
    assert main(["engines", "clean"]) == 0
    assert capsys.readouterr().out == "removed 0 files, 0.0 MiB\n"
    assert main(["engines", "clean", "--all"]) == 0
    assert capsys.readouterr().out.startswith("removed 5 files, ")
    assert main(["engines", "list"]) == 0
    assert capsys.readouterr().out.startswith("no engines in ")


def test_damaged_engines_and_those_of_another_version_are_found_and_removed(
    builder: OnnxRuntimeBuilder, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["engines", "build", MODEL, "96x64"])
    builder.version = "2"
    assert main(["engines", "verify"]) == 0
    assert f"{TITLE}: files ok; not compared, it was built by ONNX Runtime 1" in capsys.readouterr().out
    builder.version = "1"
    (render,) = [entry for entry in EngineCache().entries() if entry.key.get("part") == "render"]
    render.content.write_bytes(b"damaged")
    assert main(["engines", "verify"]) == 1
    assert f"{TITLE}: damaged (1 of 4 files); it will be built again" in capsys.readouterr().out
    assert main(["engines", "clean", "--stale"]) == 0
    assert capsys.readouterr().out.startswith("removed 1 files")
    builder.version = "2"
    assert main(["engines", "clean"]) == 0
    assert capsys.readouterr().out.startswith("removed 4 files") and not EngineCache().entries()


def test_interrupting_a_build_cancels_it(
    builder: OnnxRuntimeBuilder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    builds: list[EngineBuild] = []
    wait = EngineBuild.wait
    builder.gate = threading.Event()

    def interrupted_once(build: EngineBuild, timeout_s: float | None = None) -> str:
        if not builds:
            builds.append(build)
            raise KeyboardInterrupt
        assert builder.gate is not None
        builder.gate.set()
        return wait(build, timeout_s)

    monkeypatch.setattr(EngineBuild, "wait", interrupted_once)
    assert main(["engines", "build", MODEL, "96x64"]) == 1
    assert builds[0].state == "cancelled"
    assert capsys.readouterr().err == "drba: cancelling; parts that are finished are kept\n"


def test_a_build_that_fails_is_one_line(builder: OnnxRuntimeBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    builder.fails = "not enough memory"
    assert main(["engines", "build", MODEL, "96x64"]) == 1
    assert capsys.readouterr().err == "drba: onnxruntime: not enough memory\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
@pytest.mark.parametrize("command", [["build", "rife-4.6"], ["verify"]])
def test_without_tensorrt_one_line_says_so(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", *command]) == 2
    assert capsys.readouterr().err == (
        "drba: TensorRT needs an NVIDIA card and a PyTorch with CUDA; this PyTorch finds none\n"
    )


def test_without_tensorrt_listing_and_cleaning_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "list"]) == 0 and main(["engines", "clean", "--all"]) == 0
    assert main(["engines", "clean"]) == 0
    assert "removed 0 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flow"], "model flow has no parts that TensorRT can run"),
        (["gmfss"], "model gmfss has no parts that TensorRT can run"),
        (["rife-9"], "model 'rife-9' does not exist"),
        (["rife", "1080p"], "size '1080p' is none; expected WIDTHxHEIGHT"),
        (["rife", "0x5"], "size '0x5' is none"),
        (["rife", "99999x5"], "size '99999x5' is none"),
    ],
)
def test_what_cannot_be_built_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "build", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_command_line_starts_without_torch() -> None:
    import subprocess

    code = "import sys, player.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0

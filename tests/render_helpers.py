"""Running drba-render in this process or its own, and looking at what it wrote."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from player import render_cli

ROOT = Path(__file__).resolve().parent.parent
#: Lossless and quick: what comes out of the decoder is what went into the encoder.
LOSSLESS = ("--codec", "ffv1")
FAST = ("--preset", "ultrafast")


def render(source: Path, output: Path, *options: str) -> None:
    """Render with the flow model; fails the test unless it succeeds."""
    assert render_cli.main([str(source), str(output), "--model", "flow", *options]) == 0


def command(source: Path, output: Path, *options: str) -> list[str]:
    """The same as a process of its own."""
    return [sys.executable, "-m", "player.render_cli", str(source), str(output), "--model", "flow", *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line with which the program refuses."""
    capsys.readouterr()
    assert render_cli.main([str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def frames(path: Path) -> list[tuple[Fraction, str]]:
    """(Time in s, digest of the picture) of every frame of a file's first video stream."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None and frame.time_base is not None
            digest = hashlib.blake2b(frame.to_ndarray().tobytes(), digest_size=8).hexdigest()
            found.append((frame.pts * frame.time_base, digest))
    return found


def pictures(path: Path) -> list[str]:
    return [digest for _, digest in frames(path)]


def probe(path: Path) -> dict[str, Any]:
    """What ffprobe says of format, streams and chapters."""
    shown = ["-show_format", "-show_streams", "-show_chapters"]
    done = subprocess.run(["ffprobe", "-v", "error", *shown, "-of", "json", str(path)], check=True, capture_output=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def leftovers(output: Path) -> list[str]:
    """Everything in the output's folder but the output."""
    return sorted(entry.name for entry in output.parent.iterdir() if entry != output)

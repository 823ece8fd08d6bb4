"""`drba status`, `stop` and `logs` with real servers, and completion scripts in real shells."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_server import ROOT, Film, Place, connect, private_place, run

import drba
from player.cli import main
from player.completion import PROGRAMS, SHELLS, script
from player.server_cli import Tail, duration
from server.client import server_status
from server.logs import BRIDGE, log_path, rotating_handler


@pytest.fixture
def place() -> Iterator[Place]:
    with private_place() as made:
        yield made


def test_without_a_server_there_is_nothing_wrong(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == main(["stop"]) == 0
    assert capsys.readouterr().out == "no server is running\n" * 2
    assert main(["logs"]) == 0
    assert capsys.readouterr().out == f"nothing has been logged yet in {place.folder}\n"


def test_status_stop_and_logs_of_a_server_with_a_player(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with await connect("--workers", "1") as client:
            film = await Film.open(client)
            await film.ask(5)
            assert main(["status"]) == 0
            out = capsys.readouterr().out
            assert f"drba-server {drba.__version__}, process {client.server_pid}, up" in out and "1 worker\n" in out
            assert "requests: 1 rendered, 0 dropped, 0 failed" in out
            rows = out.splitlines()
            assert rows[2].split() == ["player", "picture", "model", "requests"]
            assert "38x21 yuv420p10le" in rows[3] and "1 rendered in" in rows[3]
            await film.close()
        assert main(["stop"]) == 0
        assert capsys.readouterr().out == "the server has ended\n"

    run(test())
    assert server_status() is None
    assert main(["logs", "-n", "2"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == f"==> {place.folder}/server.log <==" and len(lines) == 2
    assert "ending: asked to stop" in lines[0] and "ended after 1 requests" in lines[1]


def test_logs_follow_what_is_added(place: Place) -> None:
    command = [sys.executable, "-m", "player.cli", "logs", "-f", "-n", "0"]
    log_path(BRIDGE).write_text("of yesterday\n")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=place.environment) as follower:
        assert follower.stdout is not None
        assert "nothing" in follower.stdout.readline()
        with log_path(BRIDGE).open("a") as log:
            log.write("of today\n")
        assert [follower.stdout.readline() for _ in range(2)] == [f"==> {log_path(BRIDGE)} <==\n", "of today\n"]
        follower.send_signal(subprocess.signal.SIGINT)  # type: ignore[attr-defined]
        assert follower.wait(10) == 0
    log_path(BRIDGE).unlink()


def test_a_log_that_is_rotated_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    tail = Tail(path)
    assert tail.new() == []
    handler = rotating_handler(path)
    log = logging.Logger("test")
    log.addHandler(handler)
    log.info("one")
    assert [line.rpartition(" ")[2] for line in tail.new()] == ["one"]
    handler.doRollover()  # type: ignore[attr-defined]
    log.info("two")
    handler.stream.write("no line yet")  # type: ignore[attr-defined]
    handler.flush()
    assert [line.rpartition(" ")[2] for line in tail.new()] == ["two"]
    handler.close()


def test_a_closed_pipe_is_a_normal_end(place: Place) -> None:
    log_path(BRIDGE).write_text("a line of the log\n" * 50_000)
    command = f"{sys.executable} -m player.cli logs -n 50000 | head -n 2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, env=place.environment)
    assert done.stdout.endswith("a line of the log\n") and done.stderr == ""
    log_path(BRIDGE).unlink()


@pytest.mark.parametrize(("seconds", "text"), [(9.9, "9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_command_imports_itself_only() -> None:
    """The bridge must start quickly, and a status needs neither a decoder nor torch."""
    for command, unwanted in (
        ("bridge", ("player.setup.doctor", "player.setup.command", "shtab")),
        ("status", ("av", "player.bridge")),
    ):
        code = f"import sys; from player.cli import make_parser; make_parser({command!r}); print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.split()
        assert "player.cli" in loaded and not {*unwanted, "torch", "rich"} & set(loaded)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    for command in ("setup", "doctor", "uninstall-script", "models", "bench", "status", "stop", "logs", "completion"):
        assert f"\n    {command}" in out, command


# --- completion -------------------------------------------------------------------------------------------------------

BASH = """
source /dev/stdin
complete_it() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _shtab_drba; echo "${COMPREPLY[*]}"; }
"""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_the_shell_takes(shell: str, program: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not on this machine")
    path = tmp_path / "script"
    path.write_text(script(shell, program))
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["do"], {"doctor"}),
        (["models", "fetch", "gmf"], {"gmfss", "gmfss-union"}),
        (["bench", "speed", "--model", "distil-drba-v1"], {"distil-drba-v1"}),
        (["doctor", "--no"], {"--no-measure"}),
    ],
)
def test_completing(words: list[str], expected: set[str]) -> None:
    bash = BASH + f"complete_it drba {' '.join(words)}"
    done = subprocess.run(
        ["bash", "-c", bash], input=script("bash", "drba"), capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == expected
    if not shutil.which("fish"):
        pytest.skip("bash completes it; fish is not on this machine")
    fish = f"source -; complete -C 'drba {' '.join(words)}'"
    done = subprocess.run(
        ["fish", "-c", fish], input=script("fish", "drba"), capture_output=True, text=True, check=True
    )
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} == expected

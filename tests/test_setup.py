"""`drba setup` on a machine with nothing configured, then plain mpv with what it has installed."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import clips
import pytest
from helpers_server import ROOT
from weights_server import weights_server

from drba.errors import DrbaError
from drba.models import ModelSpec, find
from player import paths
from player.cli import main
from player.setup import command as setup
from player.setup import mpv_config, script_conf
from player.setup.trial import play_trial

QUIET = ["setup", "--yes", "--no-trial"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, whose name has a blank, a quote and a letter that is not ASCII."""
    folder = tmp_path / 'Zoë\'s "home"'
    folder.mkdir()
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPV_HOME", "DRBA_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("no_proxy", "*")
    return folder


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_from_nothing_to_in_betweens_in_plain_mpv(
    home: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(QUIET) == 0
    out = capsys.readouterr().out
    script, conf = home / ".config/mpv/scripts/drba.lua", home / ".config/mpv/script-opts/drba.conf"
    assert f"{script}: installed" in out and f"{conf}: installed" in out
    assert script.read_bytes() == paths.lua_script().read_bytes()
    assert script_conf.parse(conf.read_text()) == {"command": paths.drba_program()}

    trial = play_trial("mpv", clips.cached(clip_folder, "two.mkv", replace(clips.SMALL, seconds=2)).path, 2)
    assert trial.loaded and trial.came_on and not any("cannot" in line for line in trial.said)
    report = trial.report.as_dict()
    assert report["model"] == "flow" and report["av_difference_ms"]["samples"]

    assert main(QUIET) == 0
    assert f"{script}: current" in capsys.readouterr().out
    assert main(["uninstall-script"]) == 0
    assert f"{script}: removed" in capsys.readouterr().out
    assert not script.exists() and not conf.exists()
    assert main(["uninstall-script"]) == 0
    assert "has installed nothing here" in capsys.readouterr().out


def test_a_trial_that_shows_nothing_says_why(home: Path, clip_folder: Path) -> None:
    film = clips.standard(clip_folder).path
    trial = play_trial("mpv", film, 1)
    assert not trial.loaded and setup._why_not(trial) == "mpv did not load drba.lua"
    main(QUIET)
    mpv_config.options_path().write_text("command=/nowhere/drba\n")
    trial = play_trial("mpv", film, 1)
    assert trial.loaded and not trial.came_on and "/nowhere/drba` was not found" in setup._why_not(trial)


def test_what_the_viewer_changed_stays_and_is_checked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed options file is as good as ours, as long as the script finds the program through it."""
    main(QUIET)
    conf = mpv_config.options_path()
    conf.write_text(f"fps=60\ncommand={paths.drba_program()}\n")
    assert main(QUIET) == 0
    assert f"{conf}: yours, left as it is" in capsys.readouterr().out
    conf.write_text("fps=60\ncommand=/nowhere/drba\n")
    assert main(QUIET) == 1
    assert f"write command={paths.drba_program()} into" in "".join(capsys.readouterr().out.split("\n"))
    assert main([*QUIET, "--force"]) == 0
    assert "what was there is now" in capsys.readouterr().out
    assert "fps=60\ncommand=/nowhere/drba\n" in [path.read_text() for path in home.rglob("drba.conf.*")]
    assert main(["uninstall-script"]) == 0
    assert not conf.exists()


def test_without_mpv_nothing_is_changed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(QUIET) == 1
    out = capsys.readouterr().out
    assert "mpv is not in PATH" in out and "setup cannot go on" in out
    assert not mpv_config.script_path().exists()


def test_one_question_and_no_means_no(home: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "player.cli", "setup", "--no-trial"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ) as asked:
        os.write(ours, b"n\n")
        out, _ = asked.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 0 and out.count("[Y/n]") == 1 and out.endswith("nothing was changed\n")
    assert not mpv_config.script_path().exists()


def test_a_question_that_nobody_can_answer_is_not_asked(home: Path) -> None:
    command = [sys.executable, "-m", "player.cli", "setup"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
    assert (
        done.returncode == 2 and done.stderr == "drba: setup has a question and nobody can answer it here; give --yes\n"
    )
    assert not files_in(home)


# --- models -----------------------------------------------------------------------------------------------------------

HEAVY, PLAIN, OLD = find("rife-4.26.heavy"), find("rife-4.26"), find("rife-4.6")


@pytest.mark.parametrize(
    ("models", "fitting", "name", "downloaded"),
    [
        ([HEAVY, PLAIN, OLD], {HEAVY, PLAIN}, HEAVY.name, [HEAVY]),
        ([HEAVY, PLAIN, OLD], {OLD}, OLD.name, [HEAVY, PLAIN, OLD]),
        ([HEAVY], set(), None, [HEAVY]),
        ([], set(), None, []),
    ],
)
def test_the_first_model_that_fits_is_the_last_one_fetched(
    models: Sequence[ModelSpec], fitting: set[ModelSpec], name: str | None, downloaded: list[ModelSpec]
) -> None:
    done: list[ModelSpec] = []
    assert setup.fetch_fitting(models, done.append, lambda model: model in fitting) == name
    assert done == downloaded


def test_only_files_with_known_digests_are_fetched_unasked() -> None:
    wanted = setup._wanted(None)
    assert [model.name for model in wanted][:2] == ["rife-4.26.heavy", "rife-4.26"]
    assert all(part.digest for model in wanted for part in model.parts)
    assert [model.name for model in setup._wanted("rife4.22")] == ["rife-4.22"]
    assert setup._wanted("flow") == []
    with pytest.raises(DrbaError, match="does not exist"):
        setup._wanted("rife-9")


def test_a_model_that_is_asked_for_is_fetched(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with weights_server() as site:
        site.files["/HolyWu/vs-rife/releases/download/model/flownet_v4.22.pkl"] = b"PK\x03\x04" + bytes(1000)
        assert main([*QUIET, "--model", "rife-4.22", "--mirror", site.url]) == 0
        assert "rife-4.22: fetched" in capsys.readouterr().out


def test_offline_the_flow_model_plays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where setup chose the model, that is all right; where it was asked for one, it says so by its status too."""
    nobody = "http://127.0.0.1:9"
    assert setup._fetch([HEAVY, PLAIN], nobody, choose=True)
    out = capsys.readouterr().out
    assert (
        out.startswith("no network was fetched (")
        and out.endswith("the flow-only model plays\n")
        and out.count("\n") == 1
    )
    assert main([*QUIET, "--model", "rife-4.26", "--mirror", nobody]) == 1
    assert "no network was fetched" in capsys.readouterr().out
    assert mpv_config.script_path().exists(), "the rest is done all the same"

"""`drba doctor` on machines that are broken in real ways: no mpv, damaged weights, scripts of another version, folders that
cannot be written, programs that hang."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import netweights
import pytest
from helpers_server import ROOT, alive, private_place, soon

import drba
from drba import weights
from drba.errors import DrbaError
from drba.models import find
from engines.engine_cache import EngineCache
from player import paths
from player.cli import main
from player.setup import check_gpu, check_models, check_mpv, check_system, doctor, mpv_config, mpv_facts, script_conf
from player.setup.check import Check, run_checks
from player.setup.install import put
from player.setup.mpv_facts import parse_version
from player.setup.probe import ask
from player.setup.probes import probe
from server.client import server_status

STATES = {"ok", "info", "warn", "problem"}
#: What programs may rely on: these checks are always there.
NAMES = [
    "python", "packages", "cpu", "nvidia-driver", "cuda", "tensorrt", "cupy", "engines", "mpv", "mpv-config", "libmpv",
    "display", "folder:runtime", "folder:logs", "folder:data", "folder:cache", "folder:config", "script",
    "script-options", "options", "server", "weights", "engine-cache", "auto", "speed:720p", "speed:1080p",
]  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, where nothing is configured."""
    folder = tmp_path / "Zoë's home"
    folder.mkdir()
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "MPV_HOME", "DRBA_DATA_DIR", "DRBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def by_name(checks: Iterator[Check] | list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def doctor_json(*arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, object]]]:
    """The command's exit status, and its checks by name."""
    command = [sys.executable, "-m", "player.cli", "doctor", "--json", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, cwd=ROOT, env={**os.environ, **environment}
    )
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert set(result) == {"schema", "version", "ok", "checks"}
    assert (result["schema"], result["version"]) == (1, drba.__version__)
    assert result["ok"] == (done.returncode == 0)
    for check in result["checks"]:
        assert set(check) == {"name", "state", "found", "remedy", "data"}
        assert check["state"] in STATES and check["found"] and isinstance(check["data"], dict)
        assert check["remedy"] or check["state"] in ("ok", "info"), f"{check['name']} gives no advice"
    return done.returncode, {check["name"]: check for check in result["checks"]}


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_machine_with_nothing_configured_has_no_problem(home: Path) -> None:
    status, checks = doctor_json()
    assert status == 0 and list(checks) == NAMES
    assert checks["mpv-config"]["data"] == {"path": str(home / ".config" / "mpv")}
    assert checks["script"]["state"] == "warn" and checks["script"]["remedy"] == "drba setup"
    for size in ("720p", "1080p"):
        data = checks[f"speed:{size}"]["data"]
        assert isinstance(data, dict)
        assert data["model"] == "flow" and data["ms"] > 1 and data["budget_ms"] == 20.83
        assert re.match(r"24 -> 60: flow on cpu in [0-9.]+ ms of 20.8 ms, ", str(checks[f"speed:{size}"]["found"]))
    assert not list(home.rglob("*.lua")), "nothing is installed"


def test_every_fault_is_found_at_once_and_has_a_remedy(home: Path, tmp_path: Path) -> None:
    """No mpv, old script, options that mpv refuses, a program that is gone, damaged weights, a runtime folder for all."""
    script = mpv_config.script_path()
    put(script, b"-- of last year\n")
    write(mpv_config.options_path(), "speed=3\nscale=9\ncommand=/nowhere/drba\n")
    write(home / ".config" / "drba-player" / "config.toml", "fps = \n")
    write(weights.model_dir(find("rife-4.6")) / "flownet.pkl", "PK damaged")
    runtime, bare = tmp_path / "runtime", tmp_path / "bin"
    runtime.mkdir(mode=0o755)
    bare.mkdir()
    status, checks = doctor_json("--no-measure", PATH=str(bare), DRBA_RUNTIME_DIR=str(runtime))
    assert status == 1
    expected = {
        "mpv": ("mpv is not in PATH", "install it"),
        "script": ("another version", "drba setup"),
        "script-options": ("unknown option 'speed'", "correct the file"),
        "script-program": ("/nowhere/drba cannot be run", "write command="),
        "options": ("config.toml: cannot be read", "correct"),
        "folder:runtime": ("mode 0755, expected 0700", "chmod 700"),
        "weights:rife-4.6": ("flownet is changed", "drba models fetch rife-4.6"),
    }
    for name, (found, remedy) in expected.items():
        check = checks[name]
        assert check["state"] == "problem", check
        assert found in str(check["found"]) and remedy in str(check["remedy"]), check
    assert "expected a number from 0.25 to 4" in str(checks["script-options"]["found"])
    assert checks["folder:data"]["state"] == "ok"
    assert checks["python"]["state"] == checks["libmpv"]["state"] == "ok", "the rest is not touched by it"
    assert "speed:720p" not in checks


def test_the_table_says_the_same_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("mpv", "problem", "mpv is not in PATH", "install it"), Check("cpu", "info", "two cores")]
    doctor.show(checks)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "problem  mpv  mpv is not in PATH",
        "              -> install it",
        "info     cpu  two cores",
        "1 problem, 0 warnings",
    ]


# --- checks that go wrong themselves ----------------------------------------------------------------------------------


def test_a_check_that_fails_or_hangs_spoils_no_other() -> None:
    never = threading.Event()

    def fails() -> Iterator[Check]:
        yield Check("fails:first", "ok", "said before")
        raise ZeroDivisionError("a bug")

    def refuses() -> Iterator[Check]:
        raise DrbaError("subject x has y, expected z; do this")

    def hangs() -> list[Check]:
        never.wait()
        return []

    began = time.monotonic()
    found = run_checks(
        [("hangs", hangs), ("fails", fails), ("refuses", refuses), ("good", lambda: [Check("good", "ok", "fine")])], 0.5
    )
    assert time.monotonic() - began < 5
    never.set()
    assert [(check.name, check.state) for check in found] == [
        ("hangs", "problem"), ("fails:first", "ok"), ("fails", "problem"), ("refuses", "problem"), ("good", "ok"),
    ]  # fmt: skip
    hung, _, failed, refused, _ = found
    assert "did not finish within 0.5 s" in hung.found
    assert "ZeroDivisionError: a bug" in failed.found and "Traceback" in failed.data["traceback"]
    assert (refused.found, refused.remedy) == ("subject x has y, expected z", "do this")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/nowhere/program"], "cannot be run: No such file"),
        (["sh", "-c", "echo why >&2; exit 3"], "ended with status 3: why"),
        (["sh", "-c", "kill -SEGV $$"], "was ended by SIGSEGV"),
        (["sh", "-c", "trap '' TERM; sleep 60 & sleep 60"], "did not end within 0.3 s"),
    ],
)
def test_programs_that_do_not_answer(command: list[str], words: str) -> None:
    began = time.monotonic()
    assert words in ask(command, 0.3 if "sleep" in command[-1] else 20).failure
    assert time.monotonic() - began < 10


def test_whoever_interrupts_us_leaves_no_program_behind(tmp_path: Path) -> None:
    code = f"""
import threading, time, pathlib
from player.setup.probe import ask
file = pathlib.Path({str(tmp_path / "pid")!r})
threading.Thread(target=ask, args=(["sh", "-c", f"echo $$ > {{file}}; exec sleep 60"], 60), daemon=True).start()
while not (file.exists() and file.read_text()): time.sleep(0.01)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)
    pid = int((tmp_path / "pid").read_text())
    soon(lambda: not alive(pid))


def test_a_probe_that_crashes_is_told_from_one_that_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe("driver", timeout_s=20)["cards"] == [] or check_gpu.facts_of("driver")["version"]
    with pytest.raises(DrbaError, match="asking about nonsense failed"):
        probe("nonsense", timeout_s=20)


# --- mpv --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_mpv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a program `mpv` that is first in PATH; what it does is for the test to write."""
    path = write(tmp_path / "bin" / "mpv", "#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("exit 0", "runs no Lua scripts"),
        ("echo 'Error parsing option x'; exit 1", "ended with status 1: Error parsing option x"),
        ("sleep 60", "did not end within 0.5 s"),
    ],
)
def test_an_mpv_that_does_not_answer(does: str, words: str, fake_mpv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpv_facts, "TIMEOUT_S", 0.5 if "sleep" in does else 20)
    fake_mpv.write_text(f"#!/bin/sh\n{does}\n")
    with pytest.raises(DrbaError, match=words):
        list(check_mpv.check_mpv())


@pytest.mark.parametrize(
    ("facts", "name", "state", "words"),
    [
        ({"version": "mpv 0.32.0"}, "mpv", "problem", "0.33 or newer"),
        ({"version": "mpv git-2026-01-01"}, "mpv", "ok", "git-2026"),
        ({"http": False}, "mpv", "problem", "cannot play http"),
        ({"config": "/app/config/mpv"}, "mpv-config", "warn", "in a sandbox"),
    ],
)
def test_an_mpv_that_will_not_do(
    facts: dict[str, object], name: str, state: str, words: str, fake_mpv: Path, home: Path
) -> None:
    said = {"version": "mpv 0.35.1", "lua": "Lua 5.2", "http": True, "config": str(home / ".config" / "mpv"), **facts}
    fake_mpv.write_text(f"#!/bin/sh\ncat <<'EOF'\ndrba-facts{json.dumps(said)}\nEOF\n")
    check = by_name(check_mpv.check_mpv())[name]
    assert check.state == state and words in check.found


@pytest.mark.parametrize(
    ("text", "number"), [("mpv 0.35.1", (0, 35)), ("v0.38.0-dirty", (0, 38)), ("git-2024-01-01-abc", None)]
)
def test_versions(text: str, number: tuple[int, int] | None) -> None:
    assert parse_version(text) == number


def test_the_viewers_running_mpv_keeps_its_socket(home: Path, tmp_path: Path) -> None:
    """Asking reads mpv.conf, which may name the socket and the log of the mpv that plays just now."""
    log = write(tmp_path / "log", "of the film that plays\n")
    socket = write(tmp_path / "socket", "in use")
    write(home / ".config" / "mpv" / "mpv.conf", f"input-ipc-server={socket}\nlog-file={log}\nvo=gpu\nidle=yes\n")
    assert mpv_facts.mpv_facts().config == home / ".config" / "mpv"
    assert (log.read_text(), socket.read_text()) == ("of the film that plays\n", "in use")


def test_scripts_that_are_not_this_versions(tmp_path: Path) -> None:
    path = mpv_config.script_path()

    def state() -> tuple[str, str]:
        (check,) = check_mpv.check_script()
        return check.state, check.remedy

    assert state() == ("warn", "drba setup")
    put(path, b"-- of last year\n")
    assert state() == ("problem", "drba setup")
    path.write_text("-- with a change of my own\n")
    assert state() == ("warn", "drba setup --force (it is kept in a backup)")
    path.write_bytes(paths.lua_script().read_bytes())
    assert state() == ("ok", "")
    path.unlink()
    path.symlink_to(paths.lua_script())
    assert state() == ("ok", "")
    path.unlink()
    path.symlink_to(tmp_path / "removed checkout" / "drba.lua")
    assert state() == ("problem", "drba setup")


def test_the_program_that_the_script_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(mpv_config.script_path(), paths.lua_script().read_bytes())
    other = write(tmp_path / "an old version" / "drba", "#!/bin/sh\necho drba-player 0.0.9\n")
    other.chmod(0o755)

    def check(command: str) -> Check:
        put(mpv_config.options_path(), script_conf.default_text(command).encode(), force=True)
        return by_name(check_mpv.check_script_options())["script-program"]

    assert check(paths.drba_program()).state == "ok"
    assert check(str(other)).state == "warn" and "0.0.9" in check(str(other)).found
    assert check("/nowhere/drba").state == "problem" and check("/nowhere/drba").remedy == "drba setup"
    mpv_config.options_path().unlink()  # without options it is looked for in PATH
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    assert by_name(check_mpv.check_script_options())["script-program"].data["command"] == str(other)


def test_display_rates() -> None:
    text = (
        "Screen 0: minimum 8 x 8, current 4480 x 1440, maximum 32767 x 32767\n"
        "DP-0 connected primary 2560x1440+0+0 (normal left inverted right x axis y axis) 597mm x 336mm\n"
        "   2560x1440    143.97*+ 120.00    59.95  \n"
        "   1920x1080    119.88    60.00    50.00  \n"
        "HDMI-0 connected 1920x1080+2560+0 (normal left inverted right x axis y axis) 531mm x 299mm\n"
        "   1920x1080     60.00 +  59.94*   50.00  \n"
    )
    assert check_mpv.parse_xrandr(text) == [143.97, 59.94]
    assert check_mpv.parse_xrandr("screen connected 1280x720+0+0 0mm x 0mm\n   1280x720       0.00* \n") == []


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.fixture
def plain_user() -> Iterator[None]:
    """File permissions count for everyone but root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_folder_of_another_user(tmp_path: Path, plain_user: None) -> None:
    check = check_system.check_folder("data", Path("/usr/lib"))
    assert check.state == "problem" and "belongs to user 0" in check.found and "chown" in check.remedy
    check = check_system.check_folder("data", Path("/usr/lib/drba-player/weights"))
    assert check.state == "problem" and "/usr/lib cannot be written" in check.found


def test_folders(tmp_path: Path) -> None:
    assert check_system.check_folder("data", tmp_path).state == "ok"
    assert "made when it is needed" in check_system.check_folder("data", tmp_path / "a" / "b").found
    assert not (tmp_path / "a").exists()
    tmp_path.chmod(0o777)
    assert check_system.check_folder("data", tmp_path).remedy == f"chmod o-w {tmp_path}"
    file = write(tmp_path / "file", "")
    check = check_system.check_folder("data", file / "weights")
    assert check.state == "problem" and f"{file} is not a folder" in check.found


def test_a_driver_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library by the name of NVIDIA's that has none of its functions."""
    library = next(Path(sys.base_prefix).rglob("libpython3*.so*"), None) or next(
        Path("/usr/lib").rglob("libz.so.1"), None
    )
    if library is None:
        pytest.skip("no shared library was found to stand for a damaged one")
    shutil.copy(library, tmp_path / "libnvidia-ml.so.1")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    facts = probe("driver", timeout_s=20)
    assert facts["version"] == "?" and "driver does not work" in facts["why"]


def test_a_package_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata as pip leaves them, found before the real ones."""
    info = tmp_path / "msgpack-0.1.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: msgpack\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (check,) = check_system.check_packages()
    assert check.state == "problem" and "msgpack is 0.1, expected >=1.0.5" in check.found
    assert "-m pip install 'msgpack>=1.0.5'" in check.remedy


def test_a_server_of_another_version() -> None:
    with private_place() as place:
        code = "import drba; drba.__version__ = '0.0.9'; from server.main import main; main([])"
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=place.environment) as old:
            soon(lambda: server_status() is not None)
            (check,) = check_system.check_server()
            assert (check.state, check.remedy) == ("warn", "drba stop; the next film starts the new one")
            assert main(["stop"]) == 0 and old.wait(10) == 0
        assert next(iter(check_system.check_server())).data == {"running": False}


# --- models -----------------------------------------------------------------------------------------------------------


def test_weights_are_compared_and_nothing_is_written(home: Path) -> None:
    (none,) = check_models.check_weights()
    assert none.state == "info"
    netweights.install("rife-4.26.heavy")  # imported, so without a digest that anybody knows
    write(weights.model_dir(find("gmfss")) / "feat.pkl", "PK")
    before = sorted(home.rglob("*"))
    checks = by_name(check_models.check_weights())
    assert checks["weights:rife-4.26.heavy"].state == "info"
    assert checks["weights:gmfss"].data == {
        "flownet": "missing", "metric": "missing", "feat": "changed", "fusionnet": "missing",
    }  # fmt: skip
    assert sorted(home.rglob("*")) == before
    assert next(iter(check_models.check_auto())).data == {"candidates": ["rife-4.26.heavy", "flow"]}


def test_built_engines_are_compared(home: Path) -> None:
    def check() -> Check:
        (found,) = check_models.check_engine_cache()
        return found

    assert check().state == "info" and not list(home.rglob("engines"))
    cache = EngineCache()
    cache.put({"model": "rife-4.26", "part": "render"}, b"an engine")
    cache.put({"model": "rife-4.26", "part": "coarse"}, b"another one")
    assert (check().state, check().data["files"], check().data["bytes"]) == ("ok", 2, 20)
    cache.entries()[0].content.write_bytes(b"anything")
    assert (check().state, check().data["damaged"], check().remedy) == ("warn", 1, "drba engines clean")


@pytest.mark.parametrize(
    ("film", "screen", "expected"),
    [
        (
            Fraction(24),
            Fraction(60),
            Fraction(48),
        ),  # each fifth frame is one of the film's, two in a twelfth of a second
        (Fraction(24), Fraction(48), Fraction(24)),
        (Fraction(24000, 1001), Fraction(48000, 1001), Fraction(24000, 1001)),
        (Fraction(25), Fraction(60), Fraction(55)),
        (Fraction(24), Fraction(24), Fraction(0)),
    ],
)
def test_how_many_frames_have_to_be_made(film: Fraction, screen: Fraction, expected: Fraction) -> None:
    assert check_models.inbetweens_per_second(film, screen) == expected


@pytest.mark.parametrize(
    ("measured", "state", "words", "remedy"),
    [
        (100.0, "ok", "in 10.0 ms of 20.8 ms, fits", ""),
        (50.0, "warn", "in 20.0 ms of 20.8 ms, just", "--fps 2x (24 -> 48) fits"),
        (32.0, "warn", "too slow", "--fps 2x (24 -> 48) fits"),
        (20.0, "warn", "too slow", "choose smaller pictures"),
    ],
)
def test_verdicts(measured: float, state: str, words: str, remedy: str) -> None:
    check = check_models.verdict("1080p", "flow", "cpu", measured, disturbed=False)
    assert (check.state, check.remedy) == (state, remedy) and words in check.found
    disturbed = check_models.verdict("1080p", "flow", "cpu", measured, disturbed=True)
    assert "other programs" in disturbed.found and disturbed.state == state
    assert disturbed.remedy == ("measure again when the machine is quiet" if remedy else "")

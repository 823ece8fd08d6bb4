"""script-opts/drba.conf: what is written is what mpv's own reader finds in it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from drba.errors import InputError
from player.options import OPTIONS, SCRIPT_OPTIONS
from player.setup.mpv_facts import ARGUMENTS
from player.setup.script_conf import default_text, faults, parse

COMMAND = '/home/Zoë O\'Neil/my "programs"/= #1/drba'
READER = """
local options = %s
require("mp.options").read_options(options, "drba")
io.write(require("mp.utils").format_json(options), "\\n")
mp.command("quit")
"""


def read_by_mpv(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What drba.lua would find with this file."""
    (folder / "script-opts").mkdir(parents=True)
    (folder / "script-opts" / "drba.conf").write_text(text, encoding="utf-8")
    monkeypatch.setenv("MPV_HOME", str(folder))
    values = {option.name: option.default for option in OPTIONS + SCRIPT_OPTIONS}
    table = "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items()) + "}"
    script = folder / "drba.lua"
    script.write_text(READER % table)
    done = subprocess.run(["mpv", *ARGUMENTS, f"--script={script}"], capture_output=True, text=True, timeout=20)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_mpv_reads_the_defaults_and_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = default_text(COMMAND)
    found = read_by_mpv(text, tmp_path / "mpv", monkeypatch)
    expected = {option.name: option.default for option in OPTIONS + SCRIPT_OPTIONS} | {"command": COMMAND}
    assert found == expected
    assert parse(text) == {"command": COMMAND} and not list(faults(parse(text)))


def test_mpv_reads_every_option_with_its_mark_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option has its line, under a comment that explains it, and that line is one that mpv takes."""
    lines = default_text(COMMAND).splitlines()
    for option in OPTIONS + SCRIPT_OPTIONS:
        (at,) = [number for number, line in enumerate(lines) if line.lstrip("#").startswith(f"{option.name}=")]
        assert lines[at - 1] == f"# {option.help}"
    changed = {"fps": "60", "scdet": "no", "scale": "0.5", "auto": "yes", "max_fps": "25"}
    text = "\n".join(
        f"{name}={changed[name]}" if (name := line.lstrip("#").partition("=")[0]) in changed else line for line in lines
    )
    found = read_by_mpv(text, tmp_path / "mpv", monkeypatch)
    assert (found["fps"], found["scdet"], found["scale"], found["auto"], found["max_fps"]) == (
        "60",
        False,
        0.5,
        "yes",
        25,
    )
    assert parse(text) == {**changed, "command": COMMAND} and not list(faults(parse(text)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speed=3", "unknown option 'speed'"),
        ("scdet=true", "scdet = 'true'; expected yes or no"),
        ("scale=9", "expected a number from 0.25 to 4"),
        ("scale = 1", "unknown option 'scale '"),
        ("model=rife-9", "'rife-9' does not exist"),
        ("auto=sometimes", "'sometimes'; expected one of no, yes, always"),
        ("engine=abacus", "'abacus' does not exist"),
        ("fps=fast", "frame rate 'fast'"),
    ],
)
def test_what_mpv_would_refuse_is_named(text: str, words: str) -> None:
    (fault,) = faults(parse(text))
    assert words in fault


def test_a_path_that_no_line_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match="line break"):
        default_text("/opt/a\nb/drba")

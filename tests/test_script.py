"""drba.lua without mpv: linter, and its own tests (script_tests.lua) under the Luas that mpv is built with."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from player.paths import lua_script

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "script_tests.lua"
NAMES = re.findall(r'^test\("(.+)", function', TESTS.read_text(encoding="utf-8"), re.MULTILINE)


def test_luacheck_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["luacheck", "--no-color", "mpv-scripts", *map(str, (ROOT / "tests").glob("*.lua"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("interpreter", ["lua5.1", "luajit"])
@pytest.mark.parametrize("name", NAMES)
def test_script(interpreter: str, name: str) -> None:
    done = subprocess.run(
        [interpreter, str(TESTS), str(lua_script()), name], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_test_of_the_script_is_found() -> None:
    assert len(NAMES) == TESTS.read_text(encoding="utf-8").count("\ntest(") > 30

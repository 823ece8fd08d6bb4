"""Where mpv's configuration is: a table of its rules, and the same asked of a real mpv."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath

import pytest

from player.setup.mpv_config import config_folder, find_config_folder, script_installed
from player.setup.mpv_facts import mpv_facts

ROAMING = "C:\\Users\\Jörg O'Neil\\AppData\\Roaming"
PORTABLE = "D:\\my programs\\mpv\\portable_config"
MPV_EXE = "D:\\my programs\\mpv\\mpv.exe"


@pytest.mark.parametrize(
    ("environment", "present", "expected"),
    [
        ({"APPDATA": ROAMING}, [], ROAMING + "\\mpv"),
        ({"APPDATA": ROAMING}, [PORTABLE], PORTABLE),
        ({"APPDATA": ROAMING, "MPV_HOME": "E:\\mpv home"}, [PORTABLE], "E:\\mpv home"),
        ({"APPDATA": ROAMING, "MPV_HOME": ""}, [PORTABLE], None),
        ({}, [], None),
    ],
)
def test_windows(environment: Mapping[str, str], present: list[str], expected: str | None) -> None:
    found = find_config_folder("Windows", environment, lambda path: str(path) in present, MPV_EXE)
    assert (str(found) if found else None) == expected


def test_windows_without_mpv_in_the_path() -> None:
    found = find_config_folder("Windows", {"APPDATA": ROAMING}, lambda path: True, None)
    assert str(found) == ROAMING + "\\mpv"


#: Folders that exist under the home folder, the environment (HOME stands for it), and what mpv reads then.
UNIX = [
    ([], {"HOME": "HOME"}, ".config/mpv"),
    ([".mpv"], {"HOME": "HOME"}, ".mpv"),
    ([".mpv", ".config/mpv"], {"HOME": "HOME"}, ".config/mpv"),
    ([], {"HOME": "HOME", "XDG_CONFIG_HOME": "HOME/my files"}, "my files/mpv"),
    ([".mpv"], {"HOME": "HOME", "XDG_CONFIG_HOME": "HOME/xdg"}, ".mpv"),
    ([".mpv", "xdg/mpv"], {"HOME": "HOME", "XDG_CONFIG_HOME": "HOME/xdg"}, "xdg/mpv"),
    ([], {"HOME": "HOME", "XDG_CONFIG_HOME": ""}, ".config/mpv"),
    ([], {"XDG_CONFIG_HOME": "HOME/xdg"}, "xdg/mpv"),
    ([".mpv"], {"HOME": "HOME", "MPV_HOME": 'HOME/the "mpv" of Zoë\'s'}, 'the "mpv" of Zoë\'s'),
    ([".config/mpv"], {"HOME": "HOME", "MPV_HOME": ""}, None),
    ([], {"HOME": ""}, None),
    ([], {}, None),
]


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
@pytest.mark.parametrize(("present", "environment", "expected"), UNIX)
def test_unix(system: str, present: list[str], environment: Mapping[str, str], expected: str | None) -> None:
    environment = {name: value.replace("HOME", "/home/zoë") for name, value in environment.items()}

    def exists(path: PurePath) -> bool:
        return str(path) in [f"/home/zoë/{folder}" for folder in present]

    found = find_config_folder(system, environment, exists)
    assert (str(found) if found else None) == (f"/home/zoë/{expected}" if expected else None)


@pytest.mark.parametrize(("present", "environment", "expected"), UNIX)
def test_mpv_itself_reads_the_same_folder(
    present: list[str],
    environment: Mapping[str, str],
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder in present:
        (tmp_path / folder).mkdir(parents=True)
    for name in ("HOME", "XDG_CONFIG_HOME", "MPV_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("HOME", str(tmp_path)))
    wanted = tmp_path / expected if expected else None
    assert mpv_facts().config == wanted
    found = find_config_folder("Linux", os.environ, os.path.exists)
    assert (Path(found) if found else None) == wanted
    if wanted:
        assert config_folder() == wanted
    assert not script_installed()

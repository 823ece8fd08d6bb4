"""One table of options: command line, config file, and drba.lua's copy of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drba.errors import InputError
from player import options
from player.paths import lua_script
from player.play import build_mpv_options, make_parser, parse_mpv_argument


def lua_options() -> dict[str, str]:
    body = re.search(r"^local options = \{\n(.*?)^\}", lua_script().read_text(), re.MULTILINE | re.DOTALL)
    assert body
    return dict(re.findall(r"^\s+(\w+) = (.*?),", body[1], re.MULTILINE))


def test_the_script_has_the_same_options_and_defaults() -> None:
    found = lua_options()
    declared = options.OPTIONS + options.SCRIPT_OPTIONS
    assert set(found) == {option.name for option in declared}
    for option in declared:
        default = option.default
        expected = f'"{default}"' if isinstance(default, str) else str(default).lower()
        assert found[option.name] == expected, option.name


def resolve(arguments: list[str], config: dict[str, options.Value] | None = None) -> dict[str, options.Value]:
    return options.resolve(make_parser().parse_args(arguments), config or {})


def test_the_command_line_goes_over_the_config_file() -> None:
    assert resolve([])["fps"] == "auto"
    assert resolve([], {"fps": "60"})["fps"] == "60"
    assert resolve(["--fps", "2x"], {"fps": "60"})["fps"] == "2x"
    assert resolve(["--no-scdet"])["scdet"] is False
    assert resolve(["--scale", "0.5"])["scale"] == 0.5


@pytest.mark.parametrize("arguments", [["--scale", "9"], ["--scale", "x"], ["--scdet-threshold", "2"]])
def test_values_out_of_range_are_refused(arguments: list[str]) -> None:
    with pytest.raises(InputError, match="expected a number from"):
        resolve(arguments)


def test_config_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert options.load_config(path) == {}
    path.write_text("fps = 60\nscdet = false\nscale = 0.5\n")
    assert options.load_config(path) == {"fps": "60", "scdet": False, "scale": 0.5}
    for text, words in (("speed = 3", "unknown option 'speed'"), ("scdet = 3", "true or false"), ("fps =", "read")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            options.load_config(path)


@pytest.mark.parametrize(
    ("argument", "pair"),
    [
        ("--fs", ("fs", "yes")),
        ("--no-audio", ("audio", "no")),
        ("--start=60", ("start", "60")),
        ("--vf-append=hflip", ("vf-append", "hflip")),
        ("--script=x.lua", ("scripts-append", "x.lua")),
    ],
)
def test_mpv_arguments(argument: str, pair: tuple[str, str]) -> None:
    assert parse_mpv_argument(argument) == pair


@pytest.mark.parametrize("argument", ["film.mkv", "-fs", "--"])
def test_what_is_no_mpv_option_is_refused(argument: str) -> None:
    with pytest.raises(InputError, match="expected an mpv option"):
        parse_mpv_argument(argument)


def test_the_viewers_mpv_options_come_after_ours_and_before_the_scripts() -> None:
    built = build_mpv_options(resolve(["--fps", "60"]), ["--osc=no", "--script-opts-append=drba-fps=48"], start=True)
    names = [name for name, _ in built]
    assert built.index(("osc", "yes")) < built.index(("osc", "no"))
    assert ("script-opts-append", "drba-fps=60") in built
    assert ("script-opts-append", "drba-auto=always") in built
    assert names[-1] == "scripts-append"

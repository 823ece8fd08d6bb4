"""The options of the player, declared once: command line, config file and validation derive from this table.

drba.lua declares the same names and defaults for stock mpv; tests/test_options.py compares the two.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from drba.errors import InputError
from drba.models import find
from drba.ownership import foreign
from drba.timeline import parse_rate
from engines import check_engine

Value = str | float | bool


@dataclass(frozen=True)
class Option:
    """One option. `name` as in the config file and in script-opts; `minimum`..`maximum` bound numbers."""

    name: str
    default: Value
    help: str
    minimum: float = 0.0
    maximum: float = 0.0
    metavar: str = ""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def check(self, value: Any, source: str) -> Value:
        """`value` with this option's type; InputError says what `source` held and what was expected."""
        if isinstance(self.default, bool):
            if isinstance(value, bool):
                return value
            raise InputError(f"{source}: {self.name} = {value!r}; expected true or false")
        if isinstance(self.default, float):
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = float("nan")
            if not isinstance(value, bool) and self.minimum <= number <= self.maximum:
                return number
            raise InputError(
                f"{source}: {self.name} = {value!r}; expected a number from {self.minimum:g} to {self.maximum:g}"
            )
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        raise InputError(f"{source}: {self.name} = {value!r}; expected text")


#: What player, script and config file share.
OPTIONS = (
    Option(
        "fps",
        "auto",
        "frames a second to show: auto (the display's rate if known, else twice the film's), display, 2x, 60, 60000/1001",
        metavar="RATE",
    ),
    Option(
        "model",
        "auto",
        "what draws the in-betweens: auto (the best installed one that is fast enough here), flow (needs no network), "
        "or a network of `drba models list`",
        metavar="NAME",
    ),
    Option(
        "engine",
        "auto",
        "what runs the model: auto (the best that works here), tensorrt, torch-cuda (NVIDIA cards), torch-cpu, cpu (flow)",
        metavar="NAME",
    ),
    Option("scale", 1.0, "size at which motion is estimated: 0.5 faster, 2 finer", 0.25, 4.0, "S"),
    Option(
        "quality",
        "auto",
        "auto (as good as the machine can do just now), or a level for good: quality, balanced, fast, source",
        metavar="MODE",
    ),
    Option(
        "server",
        "",
        "whose card renders: a machine of `drba pair --list`, by name or tcp://HOST:PORT; empty: this one's",
        metavar="NAME",
    ),
    Option("scdet", True, "find scene cuts and do not interpolate across them"),
    Option(
        "scdet_threshold",
        0.3,
        "similarity (SSIM, 0 to 1) below which two frames are a cut; larger finds more",
        0.0,
        1.0,
        "T",
    ),
)
BY_NAME = {option.name: option for option in OPTIONS}
#: When drba.lua begins with DRBA on.
AUTO = ("no", "yes", "always")
#: What only drba.lua has.
SCRIPT_OPTIONS = (
    Option(
        "auto",
        "no",
        "begin with DRBA on: no; yes, in films within max_fps and max_height; always",
        metavar="no|yes|always",
    ),
    Option("max_fps", 31.0, "frames a second of the films that auto=yes begins with", 1.0, 1000.0),
    Option("max_height", 1440.0, "rows of the picture of the films that auto=yes begins with", 16.0, 16384.0),
    Option("remember", True, "begin each film with DRBA on or off as you left it there last time"),
    Option("command", "", "the `drba` program; empty: in .venv beside this script's real folder, then in PATH"),
)


def config_path() -> Path:
    return Path(platformdirs.user_config_dir("drba-player")) / "config.toml"


def load_config(path: Path | None = None) -> dict[str, Value]:
    """Defaults from the config file (TOML, one `name = value` a line); an absent file is an empty one."""
    path = path or config_path()
    if why := foreign(path):
        raise InputError(f"config file {path} {why}; make it yours alone, or remove it")
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    for name in data:
        if name not in BY_NAME:
            raise InputError(f"{path}: unknown option {name!r}; expected one of {', '.join(BY_NAME)}")
    return {name: BY_NAME[name].check(value, str(path)) for name, value in data.items()}


def add_arguments(
    parser: argparse.ArgumentParser,
    aliases: Mapping[str, Sequence[str]] | None = None,
    *,
    leave_out: Sequence[str] = (),
    helps: Mapping[str, str] | None = None,
) -> None:
    """One argument an option; absent ones are None, so that the config file shows through.

    By option name: `aliases` are further flags, `leave_out` those that the program does not have, `helps` other help texts.
    """
    for option in OPTIONS:
        if option.name in leave_out:
            continue
        flags = (option.flag, *(aliases or {}).get(option.name, ()))
        text = (helps or {}).get(option.name, f"{option.help} (default: {lua_value(option.default)})")
        if isinstance(option.default, bool):
            parser.add_argument(*flags, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(*flags, dest=option.name, default=None, metavar=option.metavar, help=text)


def defaults() -> dict[str, Value]:
    return {option.name: option.default for option in OPTIONS}


def resolve(arguments: argparse.Namespace, config: dict[str, Value]) -> dict[str, Value]:
    """Command line over config file over defaults."""
    resolved = defaults() | config
    for option in OPTIONS:
        given = getattr(arguments, option.name, None)
        if given is not None:
            resolved[option.name] = option.check(given, option.flag)
    return resolved


def check_choices(values: dict[str, Value]) -> None:
    """ModelError or InputError for a model or rate that cannot exist, an engine that cannot work, a server that is not paired."""
    if values["model"] != "auto":
        find(str(values["model"]))
    if values["server"]:
        from server.keys import find_server  # with ZeroMQ, which nobody else needs here

        find_server(str(values["server"]))  # which engines it has, it says itself
    else:
        check_engine(str(values["engine"]))
    auto = str(values.get("auto", "no"))
    if auto not in AUTO:
        raise InputError(f"auto = {auto!r}; expected one of {', '.join(AUTO)}")
    fps = str(values["fps"]).strip().lower()
    if fps not in ("auto", "display") and not fps.endswith("x"):
        parse_rate(fps)


def script_options(values: dict[str, Value]) -> list[str]:
    """Entries of mpv's script-opts that hand `values` to drba.lua."""
    return [f"drba-{name}={lua_value(value)}" for name, value in values.items()]


def lua_value(value: Value) -> str:
    """A value as drba.lua takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)

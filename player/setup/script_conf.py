"""script-opts/drba.conf, the options of drba.lua in mpv: written with every option explained, and checked.

mpv reads it line by line: `#` begins a comment, everything after the first `=` is the value, blanks included.
"""

from __future__ import annotations

from collections.abc import Iterator

from drba.errors import DrbaError, InputError

from ..options import OPTIONS, SCRIPT_OPTIONS, Option, Value, check_choices, defaults, lua_value

HEADER = """\
# DRBA in mpv. Written by `drba setup`, which leaves the file alone once you have changed it.
# Take the # away from a line and change the value; it counts from the next start of mpv.
# Keys are set in input.conf: KEY script-binding drba/toggle
"""
ALL = OPTIONS + SCRIPT_OPTIONS


def default_text(command: str) -> str:
    """The file with every option at its default and explained, except `command`, the program's full path.

    InputError where the path cannot be said in a line.
    """
    if "\n" in command or "\r" in command:
        raise InputError(
            f"program path {command!r} has a line break, which mpv's option files cannot hold; install elsewhere"
        )
    parts = [HEADER]
    for option in ALL:
        line = f"command={command}" if option.name == "command" else f"#{option.name}={lua_value(option.default)}"
        parts.append(f"\n# {option.help}\n{line}\n")
    return "".join(parts)


def parse(text: str) -> dict[str, str]:
    """What mpv reads in it: the last of several values of a name counts."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name] = value
    return found


def faults(values: dict[str, str]) -> Iterator[str]:
    """What is wrong with the values of a file, a line each. What mpv does then: it takes the default."""
    by_name = {option.name: option for option in ALL}
    good: dict[str, Value] = {}
    for name, text in values.items():
        if name not in by_name:
            yield f"unknown option {name!r}; expected one of {', '.join(by_name)}"
            continue
        try:
            good[name] = _checked(by_name[name], text)
        except InputError as error:
            yield str(error)
    try:
        check_choices(defaults() | good)
    except DrbaError as error:
        yield str(error)


def _checked(option: Option, text: str) -> Value:
    if isinstance(option.default, bool):
        if text not in ("yes", "no"):
            raise InputError(f"{option.name} = {text!r}; expected yes or no")
        return text == "yes"
    return option.check(text, "drba.conf")

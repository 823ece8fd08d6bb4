"""What `drba doctor` finds about mpv: the program, the library, our script in it, the display."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import drba
from drba.errors import DrbaError

from .. import paths
from . import mpv_config, script_conf
from .check import Check
from .install import is_ours
from .mpv_facts import MIN_VERSION, mpv_facts, parse_version
from .probe import ask
from .probes import probe

LIBMPV_TIMEOUT_S = 30.0
PROGRAM_TIMEOUT_S = 30.0
DISPLAY_TIMEOUT_S = 5.0
NEEDED = ".".join(map(str, MIN_VERSION))
SETUP = "drba setup"


def check_mpv() -> Iterator[Check]:
    facts = mpv_facts()
    found = f"{facts.version} with {facts.lua}, {facts.program}"
    data = {"version": facts.version, "lua": facts.lua, "program": facts.program, "http": facts.http}
    if not facts.new_enough:
        yield Check("mpv", "problem", f"{found}; {NEEDED} or newer is needed", "install a newer mpv", data)
    elif not facts.http:
        found = f"{found}; it cannot play http, by which in-between frames reach it"
        yield Check("mpv", "problem", found, "install an mpv whose FFmpeg has network protocols", data)
    else:
        yield Check("mpv", "ok", found, data=data)
    ours = mpv_config.find_here()
    if ours != facts.config:
        found = f"mpv reads {facts.config or 'no folder'}, expected {ours or 'none'}: it is started by a wrapper, or in a sandbox"
        remedy = f"MPV_HOME={facts.config} drba setup" if facts.config else "see how your mpv is started"
        yield Check("mpv-config", "warn", found, remedy, {"path": str(facts.config or ""), "expected": str(ours or "")})
    else:
        yield Check("mpv-config", "ok", f"{ours}", data={"path": str(ours)})


def check_libmpv() -> Iterator[Check]:
    facts = probe("libmpv", timeout_s=LIBMPV_TIMEOUT_S)
    number = parse_version(facts["version"])
    if facts["why"]:
        found = f"cannot be loaded ({facts['why']}): drba-player does not start; mpv itself does not need it"
        yield Check("libmpv", "problem", found, "install it (Debian, Ubuntu: apt install libmpv2)", facts)
    elif number is not None and number < MIN_VERSION:
        found = f"{facts['version']}; {NEEDED} or newer is needed"
        yield Check("libmpv", "problem", found, "install a newer libmpv", facts)
    else:
        yield Check("libmpv", "ok", facts["version"], data=facts)


def check_script() -> Iterator[Check]:
    """drba.lua in mpv's folder against this version's."""
    path = mpv_config.script_path()
    data = {"path": str(path), "installed": path.exists()}
    if path.is_symlink() and not path.exists():
        found = f"{path} is a link to {os.readlink(path)}, which is gone: mpv does not know the key D"
        yield Check("script", "problem", found, SETUP, data)
    elif not path.exists():
        found = f"not in {path.parent}: plain mpv does not know the key D; drba-player brings its own"
        yield Check("script", "warn", found, SETUP, data)
    elif path.read_bytes() == paths.lua_script().read_bytes():
        yield Check("script", "ok", f"{path} is that of this version", data=data)
    elif is_ours(path):
        yield Check("script", "problem", f"{path} is of another version than this program", SETUP, data)
    else:
        found = f"{path} is not this version's, and was changed or put there by hand"
        yield Check("script", "warn", found, f"{SETUP} --force (it is kept in a backup)", data)


def check_script_options() -> Iterator[Check]:
    """script-opts/drba.conf: values that mpv would refuse, and whether the script finds this program."""
    path = mpv_config.options_path()
    values: dict[str, str] = {}
    if path.exists():
        try:
            values = script_conf.parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DrbaError(f"{path} cannot be read ({error}); {SETUP} --force") from error
    data = {"path": str(path), "exists": path.exists(), "values": values}
    what = ", ".join(f"{name}={value}" for name, value in values.items()) or "all defaults"
    if faults := list(script_conf.faults(values)):
        yield Check(
            "script-options",
            "problem",
            f"{path}: {'; '.join(faults)}",
            "correct the file; mpv takes defaults there",
            data,
        )
    else:
        yield Check("script-options", "ok" if values else "info", f"{path}: {what}", data=data)
    if mpv_config.script_path().exists():
        yield _check_program(values.get("command", ""), path)


def _check_program(command: str, conf: Path) -> Check:
    """Whether the `drba` that the script would start is there and of this version."""
    program = command or _found_by_script()
    data = {"command": program}
    remedy = SETUP if not command or is_ours(conf) else f"write command={paths.drba_program()} into {conf}"
    answer = ask([os.path.expanduser(program), "--version"], PROGRAM_TIMEOUT_S)
    if answer.failure:
        return Check("script-program", "problem", f"the script cannot start DRBA: {answer.failure}", remedy, data)
    version = answer.out.strip().rpartition(" ")[2]
    data["version"] = version
    if version != drba.__version__:
        found = f"the script starts {program}, which is {version or 'another program'}; this one is {drba.__version__}"
        return Check("script-program", "warn", found, remedy, data)
    return Check("script-program", "ok", f"the script starts {program} {version}", data=data)


def _found_by_script() -> str:
    """Where drba.lua looks without `command`."""
    beside = mpv_config.script_path().resolve().parent / ".." / ".venv" / "bin" / "drba"
    return str(beside.resolve()) if beside.is_file() else shutil.which("drba") or "drba"


# --- display ----------------------------------------------------------------------------------------------------------


def check_display() -> Iterator[Check]:
    """The rate that `fps=auto` would take; mpv knows it for certain only while it shows a window."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield Check("display", "info", "none in this session", data={"rates": []})
        return
    answer = ask(["xrandr", "--current"], DISPLAY_TIMEOUT_S)
    rates = parse_xrandr(answer.out) if not answer.failure else []
    if not rates:
        yield Check("display", "info", "its rate is known once mpv shows a window", data={"rates": []})
    else:
        yield Check("display", "ok", ", ".join(f"{rate:g} Hz" for rate in rates), data={"rates": rates})


def parse_xrandr(text: str) -> list[float]:
    """The rate in use of every screen: the number before the `*` among its modes. A virtual screen says 0."""
    return [rate for number in re.findall(r"\s(\d+\.\d+)\*", text) if (rate := float(number))]

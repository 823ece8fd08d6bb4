"""What the mpv on this machine is and can do, said by itself: a script in it writes its facts and quits."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from drba.errors import DrbaError

from .probe import ask

TIMEOUT_S = 15.0
MIN_VERSION = (0, 33)
QUESTIONS = """\
local protocols = {}
for _, name in ipairs(mp.get_property_native("protocol-list") or {}) do protocols[name] = true end
io.write("drba-facts", require("mp.utils").format_json({
    version = mp.get_property("mpv-version"),
    lua = jit and jit.version or _VERSION,
    config = mp.command_native({"expand-path", "~~home/"}),
    http = protocols.http or false,
}), "\\n")
mp.command("quit")
"""


@dataclass(frozen=True)
class MpvFacts:
    """`config` is the folder it reads, None where it reads none; `lua` the language's version."""

    program: str
    version: str
    lua: str
    config: Path | None
    http: bool

    @property
    def new_enough(self) -> bool:
        """A version that is no number is a build of its own from newer sources."""
        number = parse_version(self.version)
        return number is None or number >= MIN_VERSION


def parse_version(text: str) -> tuple[int, int] | None:
    """ "mpv 0.35.1", "v0.38.0-dirty" -> (0, 35), (0, 38); None of "git-2024-01-01-abcdef"."""
    found = re.match(r"(?:mpv )?v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def mpv_facts() -> MpvFacts:
    """Ask the mpv in PATH; DrbaError where there is none, or it runs no Lua scripts, or does not answer.

    The viewer's mpv.conf is read, since it is part of what is asked for, except for what would reach beyond this process.
    """
    program = shutil.which("mpv")
    if program is None:
        raise DrbaError("mpv is not in PATH; install it (Debian, Ubuntu: apt install mpv)")
    with tempfile.TemporaryDirectory(prefix="drba-") as folder:
        script = Path(folder, "questions.lua")
        script.write_text(QUESTIONS)
        answer = ask([program, *ARGUMENTS, f"--script={script}"], TIMEOUT_S)
    line = next((line for line in answer.out.splitlines() if line.startswith("drba-facts")), None)
    if line is None:
        if answer.failure:
            raise DrbaError(f"{answer.failure}; try `mpv --no-config`, and look at mpv.conf if that works")
        raise DrbaError(f"{program} runs no Lua scripts (it said nothing); install an mpv that is built with Lua")
    facts = json.loads(line.removeprefix("drba-facts"))
    config = Path(facts["config"]) if facts.get("config") else None
    return MpvFacts(program, facts["version"].removeprefix("mpv "), facts["lua"], config, facts["http"])


#: No window, no sound, none of the viewer's scripts; nor may a running mpv lose its socket or its log to this one.
ARGUMENTS = (
    "--idle=once",
    "--vo=null",
    "--ao=null",
    "--force-window=no",
    "--terminal=no",
    "--load-scripts=no",
    "--input-ipc-server=",
    "--log-file=",
    "--save-position-on-quit=no",
)

"""Programs run as another user of the machine, which takes root: what they can get at is what every other user can."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NOBODY = 65534

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can start a process of another user"
)

#: Python itself and its modules may lie where only root gets at them: both are loaded before that is given up.
BECOME = """
import encodings.idna, os, socket, sys
if {zmq}: import zmq
os.setgroups([])
os.setgid({user})
os.setuid({user})
"""


def start(code: str, *arguments: object, user: int = NOBODY) -> subprocess.Popen[str]:
    """A program that has os, socket and sys, and zmq where it mentions it."""
    begin = BECOME.format(user=user, zmq="zmq" in code)
    command = [sys.executable, "-I", "-c", begin + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")


def says(code: str, *arguments: object, user: int = NOBODY) -> str:
    """What the program prints."""
    with start(code, *arguments, user=user) as process:
        output, _ = process.communicate(timeout=20)
    return output.strip()

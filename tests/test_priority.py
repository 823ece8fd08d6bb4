"""The server gives way to mpv, however the system shares the processor out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os
from server.priority import give_way
give_way()
print(os.nice(0), open("/proc/self/autogroup").read(), sep="\\n")
"""


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this system does not schedule sessions as groups"
)
@pytest.mark.parametrize("own_session", [True, False])
def test_only_a_session_of_its_own_gets_less_of_the_processor(own_session: bool) -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=own_session)
    niceness, group = done.stdout.split("\n")[:2]
    assert niceness == "5"
    assert group.endswith("nice 5") == own_session, "a shell's other programs must not be slowed down with the server"

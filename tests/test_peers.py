"""Who is at the other end of a socket."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from server.peers import open_pidfd, pid_in_address


@pytest.mark.parametrize(
    ("address", "pid"),
    [
        ("localhost:0:0:6380", 6380),
        ("host:1000:1000:1", 1),
        ("host:1000:1000:0", None),  # of another pid namespace
        ("127.0.0.1", None),
        ("::1", None),
        ("::ffff:10.0.0.1", None),
        ("host:a:b:c", None),
        ("", None),
    ],
)
def test_process_is_read_from_the_address_of_a_unix_socket(address: str, pid: int | None) -> None:
    assert pid_in_address(address) == pid


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pidfd is Linux's")
def test_descriptor_is_readable_when_the_process_has_ended() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        watched = open_pidfd(process.pid)
        assert watched is not None
        assert select.select([watched], [], [], 0)[0] == []
        assert process.stdin is not None
        process.stdin.close()
        assert select.select([watched], [], [], 10)[0] == [watched]
        os.close(watched)
    with pytest.raises(ProcessLookupError):
        open_pidfd(process.pid)
    assert open_pidfd(None) is None

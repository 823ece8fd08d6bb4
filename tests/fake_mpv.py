"""The other end of a bridge: mpv's IPC socket and drba.lua's messages, without mpv. The bridge is a real process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class FakeMpv:
    def __init__(self) -> None:
        self.pid = 0  # of the bridge
        self._told: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        while line := await reader.readline():
            command = json.loads(line)["command"]
            if command[0] == "script-message-to":
                await self._told.put((command[2], json.loads(command[3])))

    async def answer(self, verb: str) -> dict[str, Any]:
        """The bridge's next message of that kind; AssertionError where it says `failed`."""
        while True:
            told, data = await self._told.get()
            assert told != "failed", data
            if told == verb:
                return data

    def ask(self, verb: str, **data: Any) -> None:
        assert self._writer is not None
        event = {"event": "client-message", "args": ["drba-bridge", verb, json.dumps(data)]}
        self._writer.write(json.dumps(event).encode() + b"\n")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@asynccontextmanager
async def bridge() -> AsyncIterator[FakeMpv]:
    """A bridge that is ready."""
    mpv = FakeMpv()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/mpv.sock"
        listening = await asyncio.start_unix_server(mpv.take, path)
        command = (sys.executable, "-m", "player.cli", "bridge", "--ipc", path)
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
        mpv.pid = process.pid
        try:
            await mpv.answer("ready")
            yield mpv
        finally:
            mpv.close()
            listening.close()
            await asyncio.wait_for(process.wait(), 20)

"""mpv's JSON IPC for asyncio: commands, property changes and script messages over its unix socket."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

from drba.errors import DrbaError

from .peer_user import uid_of_listener

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2.0  # mpv listens before it starts us; after this it is gone
RETRY_S = 0.02
LINE_LIMIT_BYTES = 1 << 24  # a track list of a file with hundreds of attachments is long


class MpvIpc:
    """One connection to mpv. Iterate `events()` in one task; `command` may be used by any other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    async def connect(cls, path: str, timeout_s: float = CONNECT_TIMEOUT_S) -> MpvIpc:
        """Connect, waiting until mpv listens; DrbaError if it does not in time, or if it is another user's.

        Where somebody else has put a socket at a place that all can write to, mpv cannot open its own: what came through
        that one would have us open the viewer's files for them.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT_BYTES)
                break
            except OSError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise DrbaError(f"mpv does not listen at {path}: {error.strerror}") from error
                await asyncio.sleep(RETRY_S)
        owner = uid_of_listener(writer.get_extra_info("socket"))
        if owner not in (None, os.geteuid()):
            writer.close()
            raise DrbaError(
                f"mpv's socket {path} is user {owner}'s, expected {os.geteuid()}'s; have input-ipc-server in a folder of your own"
            )
        return cls(reader, writer)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Events until mpv closes the connection."""
        while True:
            try:
                line = await self._reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line:
                return
            try:
                message = json.loads(line)
            except ValueError:
                log.warning("mpv sent a line that is not JSON")
                continue
            answer = self._answers.pop(message.get("request_id", 0), None) if "event" not in message else None
            if answer is not None and not answer.done():
                answer.set_result(message)
            elif "event" in message:
                yield message

    def send(self, *command: Any) -> None:
        """A command whose answer nobody needs."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"command": command}).encode() + b"\n")

    async def command(self, *command: Any) -> Any:
        """Run a command and return its data; DrbaError if mpv refuses it."""
        request_id = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        self._writer.write(json.dumps({"command": command, "request_id": request_id}).encode() + b"\n")
        message = await answer
        if message.get("error") != "success":
            raise DrbaError(f"mpv refused {command[0]}: {message.get('error')}")
        return message.get("data")

    def observe(self, *properties: str) -> None:
        for identifier, name in enumerate(properties, 1):
            self.send("observe_property", identifier, name)

    async def close(self) -> None:
        self._writer.close()

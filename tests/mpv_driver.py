"""Drives a real mpv with drba.lua over its IPC, synchronously: commands, events, waiting for what the viewer would see."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from player.paths import drba_program, lua_script

DEADLINE_S = 20.0


class Mpv:
    """A running mpv; `with Mpv([...]) as mpv`. Log lines of the script are in `log`."""

    def __init__(
        self,
        files: Sequence[str | Path],
        *arguments: str,
        script_opts: dict[str, str] | None = None,
        script: bool = True,
        environment: dict[str, str] | None = None,
        inherits: bool = True,
        config: Path | None = None,
        player: Sequence[str] | None = None,
    ) -> None:
        """`config` is a folder for mpv's configuration and state; without it mpv has none. With `player`, arguments of
        drba-player, that is what runs, in a process of its own; it loads the script and sets its options itself.
        `environment` adds to the tests' own where it `inherits` that."""
        self.folder = tempfile.TemporaryDirectory(prefix="mpvtest")
        socket_path = os.path.join(self.folder.name, "ipc")
        options = {"drba-command": drba_program(), **(script_opts or {})}
        own = [
            f"--config-dir={config}" if config else "--no-config",
            "--vo=null",
            "--ao=null",
            "--terminal=no",
            f"--input-ipc-server={socket_path}",
        ]
        if player is not None:
            command = [sys.executable, "-m", "player.play", *player, *map(str, files), "--", *own, *arguments]
        else:
            own += ["--idle=no", "--script-opts=" + ",".join(f"{name}={value}" for name, value in options.items())]
            own += [f"--script={lua_script()}"] if script else []
            command = ["mpv", *own, *arguments, "--", *map(str, files)]
        self.process = subprocess.Popen(command, env={**(os.environ if inherits else {}), **(environment or {})})
        self.log: list[str] = []
        self.events: list[dict[str, Any]] = []
        self._ids = 0
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                self._socket.connect(socket_path)
                break
            except OSError:
                assert time.monotonic() < end and self.process.poll() is None, "mpv did not start"
                time.sleep(0.01)
        self.command("request_log_messages", "info")

    def __enter__(self) -> Mpv:
        return self

    def __exit__(self, *_: object) -> None:
        self.quit()
        self.folder.cleanup()

    def quit(self) -> int:
        """Quit as a viewer would; the exit status."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self._socket.sendall(b'{"command":["quit"]}\n')
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self._socket.close()
        return self.process.wait()

    def _read(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message, or None if none comes in time."""
        end = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                return None
            assert data, f"mpv ended; its log: {self.log}"
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if message.get("event") == "log-message":
            self.log.append(f"[{message['prefix']}] {message['text'].strip()}")
        if "event" in message:
            self.events.append({**message, "at": time.monotonic()})
        return message

    def command(self, *command: Any) -> Any:
        self._ids += 1
        request = self._ids
        self._socket.sendall(json.dumps({"command": command, "request_id": request}).encode() + b"\n")
        while True:
            message = self._read(DEADLINE_S)
            assert message is not None, f"no answer to {command}"
            if "event" not in message and message.get("request_id") == request:
                assert message["error"] == "success", f"{command}: {message['error']}"
                return message.get("data")

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self.command("get_property", name)
        except AssertionError:
            return default

    def set(self, name: str, value: Any) -> None:
        self.command("set_property", name, value)

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S, poll_s: float = 0.01) -> Any:
        """Read messages until `condition` is true; its value."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < end, f"did not come true in {timeout_s} s; log: {self.log[-10:]}"
            self._read(poll_s)
        return value

    def wait_event(self, name: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next event of that name after this call."""
        seen = len(self.events)

        def found() -> Any:
            return next((event for event in self.events[seen:] if event["event"] == name), None)

        found_event: dict[str, Any] = self.wait_for(found, timeout_s)
        return found_event

    def wait_log(self, text: str, timeout_s: float = DEADLINE_S) -> str:
        line: str = self.wait_for(lambda: next((line for line in self.log if text in line), None), timeout_s)
        return line

    def message(self, *words: str) -> None:
        self.command("script-message-to", "drba", *words)

    def drba_track(self) -> int | None:
        return next((t["id"] for t in self.get("track-list", []) if "DRBA" in t.get("title", "")), None)

    @property
    def is_on(self) -> bool:
        track = self.drba_track()
        return track is not None and self.get("vid") == track

    def seek(self, time_s: float) -> float:
        """Exact seek; seconds until pictures are shown again."""
        began = time.monotonic()
        seen = len(self.events)
        self.command("seek", time_s, "absolute+exact")
        event = self.wait_for(lambda: next((e for e in self.events[seen:] if e["event"] == "playback-restart"), None))
        # A seek that was under way may have ended first.
        self.wait_for(lambda: not self.get("seeking"))
        return float(event["at"] - began)

    def screenshot(self) -> bytes:
        path = os.path.join(self.folder.name, "shot.png")
        self.command("screenshot-to-file", path, "video")
        return Path(path).read_bytes()

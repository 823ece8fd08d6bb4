"""The bridge: one process beside each mpv, told by drba.lua over mpv's IPC what to publish.

Messages from the script arrive as `script-message drba-bridge VERB JSON`; answers go to the script as
`script-message-to drba VERB JSON`. The verbs are listed in docs/bridge.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from drba.errors import DrbaError
from engines.base import MEASURING
from server.client import Client, EngineState
from server.keys import RemoteServer, find_server
from server.logs import BRIDGE, log_path, rotating_handler

from .film import Film, FilmRequest
from .http_server import FrameServer
from .mpv_ipc import MpvIpc
from .plan import Kind
from .playhead import Playhead
from .servers import Servers
from .socket_folders import remove_dead, remove_folder

log = logging.getLogger("bridge")

SCRIPT = "drba"  # mpv's name for drba.lua
CLIENT_MESSAGE = "drba-bridge"
STATS_INTERVAL_S = 0.5
BEAT_S = 0.25  # drba.lua counts these: without them it shows the film's own picture
#: The film's own track takes over this much before a change: none of its pictures is missed.
LOST_EARLY_S = 0.1
MAX_INHERITED_FD = 1024


class Bridge:
    """Handles the script's messages until mpv goes away."""

    def __init__(self, ipc: MpvIpc, log_file: Path, remote: RemoteServer | None = None) -> None:
        """`remote` is the server that the viewer named; None for this machine's."""
        self._ipc = ipc
        self._log_file = log_file
        self._servers = Servers(remote)
        self._playhead = Playhead()
        self._http = FrameServer()
        self._client: Client | None = None  # that renders the film
        self._film: Film | None = None
        self._film_id = ""
        self._lost = False  # the script was told that the track cannot follow the film
        self._busy = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self._http.start()
        self._ipc.observe("time-pos", "pause", "seeking", "speed")
        self._servers.start()  # while the film is opened
        statistics, beats = self._spawn(self._send_stats()), self._spawn(self._beat())
        self._tell("ready", {"pid": os.getpid(), "log": str(self._log_file)})
        try:
            async for event in self._ipc.events():
                if event["event"] == "property-change":
                    self._property(event["name"], event.get("data"))
                elif event["event"] == "client-message" and event.get("args", [""])[0] == CLIENT_MESSAGE:
                    self._spawn(self._message(event["args"][1:]))
                elif event["event"] == "shutdown":
                    break
        finally:
            for task in (statistics, beats, *self._tasks):
                task.cancel()
            await self._http.stop()
            await self._close_film()
            await self._servers.close()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self, verb: str, data: dict[str, Any]) -> None:
        self._ipc.send("script-message-to", SCRIPT, verb, json.dumps(data))

    def _property(self, name: str, value: Any) -> None:
        if name == "time-pos" and value is not None:
            self._playhead.observe(float(value))
            self._look_ahead(float(value))
        elif name == "pause":
            self._playhead.paused = bool(value)
        elif name == "seeking":
            self._playhead.seeking = bool(value)
        elif name == "speed" and value:
            self._playhead.speed = float(value)

    async def _message(self, arguments: Sequence[str]) -> None:
        verb = arguments[0] if arguments else ""
        try:
            data = json.loads(arguments[1]) if len(arguments) > 1 else {}
            if verb == "open":
                async with self._busy:
                    await self._open(data)
            elif verb == "close":
                async with self._busy:
                    await self._close_film()
            elif verb == "cancel-build":
                async with self._busy:  # its build may be told while it is still being opened
                    if self._film is not None:
                        self._film.cancel_build()
            elif verb == "level":
                if self._film is not None:
                    self._film.set_mode(str(data["mode"]))
                    self._tell_level()
            else:
                log.warning("unknown message %r from the script; expected open, close, cancel-build or level", verb)
        except (DrbaError, ValueError, KeyError) as error:
            log.warning("%s: %s", verb, error)
            if verb == "level":  # nothing else is affected
                return
            self._tell(
                "failed", {"id": str(data.get("id", "")) if isinstance(data, dict) else "", "reason": str(error)}
            )
        except Exception as error:
            log.exception("message %s", verb)
            self._tell("failed", {"id": "", "reason": f"internal error: {error}"})

    async def _open(self, data: dict[str, Any]) -> None:
        await self._close_film()
        request = FilmRequest.parse(data)
        film = await Film.open(request, self._playhead)
        self._film, self._film_id = film, str(data.get("id", ""))
        try:
            film_id = self._film_id
            self._client = await self._servers.client()
            told = self._servers.second_choice(self._client)
            self._notice(told)
            self._notice(await film.attach(self._client, self._hearing(film_id), second_choice=bool(told)))
        except DrbaError:
            await self._close_film()
            raise
        announced = False

        def on_frame(number: int, kind: Kind) -> None:
            nonlocal announced
            if kind in (Kind.INTERPOLATED, Kind.REDUCED) and not announced:
                announced = True
                time_s = float(film.file.clock.time_s(number))
                self._tell("interpolating", {"id": self._film_id, "time_s": time_s, **self._describe(film)})

        film.track.on_frame = on_frame
        film.on_level(self._tell_level)
        self._lost = False
        url = self._http.add(film.track)
        log.info("%s: %s -> %s fps, %s on %s", request.path, film.source_rate, film.rate, film.model, film.engine)
        self._tell("opened", {"id": self._film_id, "url": url, **self._describe(film)})

    def _hearing(self, film_id: str) -> Callable[[EngineState], None]:
        return lambda state: self._engine_is(film_id, state)

    def _engine_is(self, film_id: str, state: EngineState) -> None:
        """Tell everyone what renders the film and what is being built to take over. That something is measured is not worth a
        line on the screen."""
        log.info("engine: %s", state)
        if state.building == MEASURING:
            state = replace(state, building="")
        self._ipc.send("script-message", "drba-engine", json.dumps({"id": film_id, **asdict(state)}))

    def _tell_level(self) -> None:
        if self._film is not None:
            stats = self._film.level_stats()
            told = {name: stats[name] for name in ("level", "mode", "why", "reduced")}
            self._ipc.send("script-message", "drba-level", json.dumps({"id": self._film_id, **told}))

    def _look_ahead(self, position_s: float) -> None:
        """Have the script go over to the film's own track where the added one cannot show what comes next."""
        if self._film is None or self._lost:
            return
        lost = self._film.lost_at(position_s, LOST_EARLY_S * max(1.0, self._playhead.speed))
        if lost is not None:
            self._lost = True
            log.info("at %.3f s: %s", lost.begin_s, lost.why)
            told = {"time_s": float(lost.begin_s), "reason": lost.why, "again": lost.again}
            self._tell("lost", {"id": self._film_id, **told})

    def _notice(self, text: str) -> None:
        """One line for the viewer about something that is not as asked for, and goes on."""
        if text:
            log.warning("%s", text)
            self._tell("notice", {"text": text})

    def _describe(self, film: Film) -> dict[str, Any]:
        return {
            "source_fps": float(film.source_rate),
            "output_fps": float(film.rate),
            "model": film.model,
            "engine": film.engine,
            "level": film.level,
            "rotation": film.info.rotation,
        }

    async def _close_film(self) -> None:
        film, self._film = self._film, None
        if film is not None:
            self._http.remove(film.track)
            await film.close()

    async def _change_server(self, film: Film) -> None:
        """Go over to the other server where the film's has been away for long, and back when it is there again."""
        if self._client is None or self._busy.locked():
            return
        better = await self._servers.better_than(self._client)
        if better is None:
            return
        async with self._busy:
            if film is not self._film:
                return
            self._client = better
            told = self._servers.second_choice(better)
            self._notice(told or self._servers.back)
            self._notice(await film.change_server(better, self._hearing(self._film_id), second_choice=bool(told)))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if self._film is not None:
                self._tell("beat", {})

    async def _send_stats(self) -> None:
        last = None
        while True:
            await asyncio.sleep(STATS_INTERVAL_S)
            film = self._film
            if film is None:
                continue
            try:
                await self._change_server(film)
            except DrbaError as error:
                log.warning("the server could not be changed: %s", error)
            stats = {
                "id": self._film_id,
                **self._describe(film),
                **film.stats.as_dict(),
                **film.level_stats(),
                "server_restarts": self._client.restarts if self._client else 0,
                "server_connected": bool(self._client and self._client.connected),
                "server": self._client.remote.name if self._client and self._client.remote else "",
            }
            if stats != last:
                self._ipc.send("script-message", "drba-stats", json.dumps(stats))
                last = stats


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bridge",
        help="started by drba.lua: publishes in-between frames to one mpv",
        description="Started by drba.lua, the script in mpv; nothing to start by hand. Decodes the film, asks drba-server for "
        "in-betweens, and publishes both as a video track to the one mpv that owns the socket.",
    )
    parser.add_argument("--ipc", required=True, metavar="SOCKET", help="mpv's input-ipc-server")
    parser.add_argument(
        "--owned-folder", metavar="DIR", type=Path, help="folder of that socket, removed when mpv is gone"
    )
    parser.add_argument(
        "--server", default="", metavar="NAME", help="the paired machine that renders (default: this one)"
    )
    parser.add_argument("--log", metavar="FILE", type=Path, help="log file (default: bridge.log in the log folder)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    # mpv 0.35 hands its listening IPC socket down to us; held open here, it would hide that mpv has died.
    os.closerange(3, MAX_INHERITED_FD)
    log_file = arguments.log or log_path(BRIDGE)
    handler = rotating_handler(log_file)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        if arguments.owned_folder:
            remove_dead(arguments.owned_folder)
        remote = find_server(arguments.server) if arguments.server else None
        asyncio.run(_main(arguments.ipc, log_file, remote))
    except DrbaError as error:
        print(f"drba bridge: {error}", file=sys.stderr)
        return error.exit_status
    finally:
        if arguments.owned_folder:
            remove_folder(arguments.owned_folder, Path(arguments.ipc))
    return 0


async def _main(path: str, log_file: Path, remote: RemoteServer | None) -> None:
    ipc = await MpvIpc.connect(path)
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, main.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await Bridge(ipc, log_file, remote).run()
    await ipc.close()

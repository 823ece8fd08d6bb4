"""A film that is being watched: its source, its virtual file, its place at the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from drba.errors import InputError, ModelError
from drba.timeline import OutputClock, exact_rate
from engines.base import EngineState, StreamSpec
from server.client import Client, FramePool, Session
from server.priority import default_workers

from .controller import Controller
from .decoder import Decoder
from .follow import Stretch
from .http_server import Track
from .level_memory import LevelMemory, Remembered, film_kind
from .levels import SOURCE_LEVEL, Mode, ModelAtScale, ladder, parse_mode
from .location import ffmpeg_options, locate, origin
from .playhead import Playhead
from .rates import output_rate
from .relations import SceneOptions
from .sessions import Sessions
from .source import StreamInfo, VideoSource, check_input, matrix_name
from .stats import Stats
from .stream import OutputStream, StreamContext
from .virtual_file import VirtualFile

#: Of films that were left sooner nothing is remembered.
WORTH_REMEMBERING_S = 20.0
LEVEL_CHANGES_TOLD = 100
POOL_SLOTS = (
    40  # decoded ahead, in the window, in flight and waiting to be sent, for one stream and the one it replaces
)


@dataclass(frozen=True)
class FilmRequest:
    """What the script asks for. `offset_s`: the file's time that is 0 on mpv's clock; `web`: FFmpeg's options for a URL."""

    path: str
    offset_s: Fraction = Fraction(0)
    fps: str = "auto"
    display_fps: float = 0.0
    model: str = "auto"
    engine: str = "auto"
    scale: float = 1.0
    scene: SceneOptions = field(default_factory=SceneOptions)
    stream: int | None = None
    quality: str = "auto"
    pixel_aspect: float = 0.0  # as mpv shows the film's own track; 0 where it has not said
    deinterlaced: bool = False  # mpv makes whole pictures of the fields of an interlaced film
    at_s: Fraction | None = None  # on mpv's clock: the picture's size and format are those there, not at the beginning
    web: dict[str, str] = field(default_factory=dict)
    origin: str | None = None  # that mpv says to every web server, that of the virtual file included

    @classmethod
    def parse(cls, data: dict[str, Any]) -> FilmRequest:
        """From the script's JSON; InputError names the field that is wrong."""
        try:
            stream = None if data.get("stream") is None else int(data["stream"])
            place = locate(str(data["path"]), stream, int(data.get("video") or 0))
            return cls(
                path=place.url,
                stream=place.stream,
                web=ffmpeg_options(data.get("web") or {}) if "://" in place.url else {},
                origin=origin(data.get("web") or {}),
                offset_s=Fraction(data.get("offset_s", 0)).limit_denominator(1_000_000),
                fps=str(data.get("fps", "auto")),
                display_fps=float(data.get("display_fps") or 0),
                model=str(data.get("model", "auto")),
                engine=str(data.get("engine", "auto")),
                scale=float(data.get("scale", 1.0)),
                quality=str(data.get("quality", "auto")),
                scene=SceneOptions(bool(data.get("scdet", True)), float(data.get("scdet_threshold", 0.3))),
                pixel_aspect=float(data.get("pixel_aspect") or 0),
                deinterlaced=bool(data.get("deinterlaced")),
                at_s=None if data.get("at_s") is None else Fraction(data["at_s"]).limit_denominator(1_000_000),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the script's request is malformed: {error!r}") from error


class Film:
    """Owns everything of one film; `close` gives it all back."""

    def __init__(self, request: FilmRequest, source: VideoSource, playhead: Playhead) -> None:
        self.request = request
        self.info: StreamInfo = source.info
        self.stats = Stats()
        self.source_rate = exact_rate(self.info.average_rate or Fraction(24))
        self.rate = output_rate(request.fps, self.source_rate, request.display_fps)
        clock = OutputClock.aligned(self.rate, source.first_s - request.offset_s)
        layout = self.info.layout
        frames = clock.frames_until(self.info.end_s - request.offset_s)
        self.file = VirtualFile(layout, clock, frames, self.info.colour, self._sample_aspect())
        self._pool = FramePool(layout.frame_bytes, POOL_SLOTS)
        matrix = matrix_name(self.info)
        self.spec = StreamSpec(
            layout=layout,
            matrix=matrix,
            full_range=bool(self.info.colour.full_range),
            model=request.model,
            engine=request.engine,
            scale=request.scale,
        )
        decoder = Decoder(source, self._pool, request.offset_s, request.scene, matrix)
        mode = parse_mode(request.quality)
        self._session: Session | None = None  # the film's own: of the model that was asked for
        self._laddered = ""  # the model that the levels were made for
        self._sessions = Sessions(self._open_session)
        self._memory = LevelMemory()
        self._began_at = time.monotonic()
        controller = Controller((SOURCE_LEVEL,), mode=mode)
        self._context = StreamContext(
            clock,
            frames,
            self._pool,
            decoder,
            playhead,
            self.stats,
            self._sessions,
            controller,
            frame_s=1 / self.source_rate,
            fill_up=not self.info.duration_estimated,
        )
        self.track = Track(self.file, lambda first: OutputStream(self._context, first), request.origin)

    def _sample_aspect(self) -> Fraction:
        """What mpv found counts: containers and codecs contradict each other, and players choose differently."""
        if self.request.pixel_aspect > 0:
            return Fraction(self.request.pixel_aspect).limit_denominator(10_000)
        return self.info.sample_aspect

    @classmethod
    async def open(cls, request: FilmRequest, playhead: Playhead) -> Film:
        """Open the source in a thread; MediaError or InputError say in one line why it cannot be played with DRBA."""
        check_input(request.path)
        at_s = None if request.at_s is None else request.at_s + request.offset_s
        source = await asyncio.to_thread(
            VideoSource, request.path, stream=request.stream, options=request.web, at_s=at_s
        )
        try:
            if request.deinterlaced and source.info.interlaced:
                raise InputError(
                    f"{request.path}: interlaced, and mpv deinterlaces it, which it cannot do to DRBA's pictures"
                )
            return cls(request, source, playhead)
        except BaseException:
            source.close()
            raise

    async def attach(
        self,
        client: Client,
        on_engine: Callable[[EngineState], None] = lambda state: None,
        *,
        second_choice: bool = False,
    ) -> str:
        """Open the film's session at the server; until then, and without one, it plays source frames. `on_engine` hears
        what renders it, now and after every change.

        Where the model cannot be had (its weights are missing) the flow-only one plays, and the reason is returned. A
        `second_choice` is not the server that was named: it need not have the engine that was.
        """
        self._client = client
        engine = "auto" if second_choice else self.request.engine
        self.spec = replace(self.spec, model=self.request.model, engine=engine)

        def hear(state: EngineState) -> None:
            if self._session is not None and state.model != self._laddered:  # a better one has been built meanwhile
                self._make_levels()
            on_engine(state)

        told = ""
        try:
            self._session = await client.open_session(self.spec, self._pool, on_engine=hear)
        except ModelError as error:
            if self.spec.model in ("auto", "flow"):
                raise
            self.spec = replace(self.spec, model="flow", engine="auto")
            self._session = await client.open_session(self.spec, self._pool, on_engine=hear)
            where = f"{client.remote.name}: " if client.remote else ""
            told = f"{where}{error}; playing with the flow model"
        self._make_levels()
        return told

    async def change_server(
        self,
        client: Client,
        on_engine: Callable[[EngineState], None] = lambda state: None,
        *,
        second_choice: bool = False,
    ) -> str:
        """Go on at another server; source frames until it has opened the film. Errors as of `attach`."""
        left, self._session = self._sessions, None
        self._sessions = self._context.sessions = Sessions(self._open_session)
        leaving = asyncio.ensure_future(left.close())  # a server that is away keeps nobody waiting
        try:
            return await self.attach(client, on_engine, second_choice=second_choice)
        finally:
            await leaving

    def _make_levels(self) -> None:
        """The levels below what the film's session turned out to render with; begin with the one that worked last time."""
        assert self._session is not None
        self._laddered = self._session.model
        best = ModelAtScale(self._session.model, self.spec.scale)
        self._sessions.put(best, self._session)
        levels = ladder(best.model, best.scale, self.source_rate, self.rate, self.info.layout, workers=self._workers)
        known = self._memory.recall(self._kind)
        names = [level.name for level in levels]
        start = names.index(known.level) if known.level in names else 0
        before = self._context.controller
        controller = Controller(levels, mode=before.mode, start=start, calm_ms=known.calm_ms, worked=known.worked)
        if len(before.levels) > 1:
            controller.follow(before, f"{best.model} is ready")
        self._context.controller = controller

    @property
    def _workers(self) -> int:
        """In-betweens that the server renders at once."""
        return self._client.workers or default_workers()

    @property
    def _kind(self) -> str:
        best = ModelAtScale(self.model, self.spec.scale)
        place = self._client.remote.name if self._client.remote else ""
        return film_kind(best, self.source_rate, self.rate, self.info.layout, place)

    async def _open_session(self, renderer: ModelAtScale) -> Session:
        engine = self.spec.engine if renderer.model == self.model else "auto"
        if engine == "auto" and renderer.model == self.model and self.engine == "tensorrt":
            engine = "torch-cuda"  # "auto" would build an engine for it, just when there is no time to spare
        spec = replace(self.spec, model=renderer.model, scale=renderer.scale, engine=engine)
        return await self._client.open_session(spec, self._pool)

    def set_mode(self, text: str) -> None:
        """Who chooses the level; InputError for what is no mode."""
        self._context.controller.set_mode(parse_mode(text))

    def on_level(self, tell: Callable[[], None]) -> None:
        """Have `tell` called whenever the level has changed by itself."""
        self._context.on_level = tell

    def lost_at(self, position_s: float, early_s: float) -> Stretch | None:
        """Why, if so, the film cannot be shown on its track at a place of the player's clock, or soon behind it."""
        return self._context.decoder.follower.at(position_s, early_s)

    def level_stats(self) -> dict[str, Any]:
        """For the statistics: what is played, why, and what it leaves of the time. Times in seconds since the film was opened."""
        controller = self._context.controller
        level = controller.level
        per_s = level.per_s * self._context.playhead.speed
        return {
            "level": level.name,
            "mode": controller.mode.value,
            "why": controller.why,
            "reduced": controller.index > 0,
            "levels": [
                [0.0, controller.first.name, ""],
                *(
                    [round(change.at - self._began_at, 2), change.level.name, change.why]
                    for change in controller.changes[-LEVEL_CHANGES_TOLD:]
                ),
            ],
            "use": None if controller.use is None else round(controller.use, 2),
            "budget_ms": round(1000 * level.workers / per_s, 2) if per_s else None,
            "lead_s": round(controller.lead.now_s, 2),
            "queue": self._context.queued,
        }

    @property
    def model(self) -> str:
        return self._session.model if self._session else self.spec.model

    @property
    def engine(self) -> str:
        return self._session.engine if self._session else self.spec.engine

    @property
    def level(self) -> str:
        return self._context.controller.level.name

    def cancel_build(self) -> None:
        """Give up the engine that is being built for this film, if one is."""
        if self._session is not None:
            self._session.cancel_build()

    async def close(self) -> None:
        self._context.decoder.close()
        self._remember()
        await self._sessions.close()
        self._pool.close()

    def _remember(self) -> None:
        controller = self._context.controller
        if controller.mode is Mode.AUTO and controller.held_s > WORTH_REMEMBERING_S:
            level = controller.levels[controller.steadiest]
            self._memory.keep(self._kind, Remembered(level.name, controller.costs.all_calm_ms, controller.worked))

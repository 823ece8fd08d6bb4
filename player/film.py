"""A film that is being watched: its source, its virtual file, its place at the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from drba.errors import DrbaError, InputError, ModelError
from drba.timeline import OutputClock, exact_rate
from engines.base import EngineState, StreamSpec
from server.client import Client, FramePool

from .decoder import Decoder
from .http_server import Track
from .playhead import Playhead
from .rates import output_rate
from .relations import SceneOptions
from .source import StreamInfo, VideoSource, check_input, matrix_name
from .stats import Stats
from .stream import OutputStream, StreamContext
from .virtual_file import VirtualFile

log = logging.getLogger(__name__)

POOL_SLOTS = (
    40  # decoded ahead, in the window, in flight and waiting to be sent, for one stream and the one it replaces
)


@dataclass(frozen=True)
class FilmRequest:
    """What the script asks for. `offset_s`: the file's time that is 0 on mpv's clock."""

    path: str
    offset_s: Fraction = Fraction(0)
    fps: str = "auto"
    display_fps: float = 0.0
    model: str = "auto"
    engine: str = "auto"
    scale: float = 1.0
    scene: SceneOptions = field(default_factory=SceneOptions)
    stream: int | None = None
    pixel_aspect: float = 0.0  # as mpv shows the film's own track; 0 where it has not said

    @classmethod
    def parse(cls, data: dict[str, Any]) -> FilmRequest:
        """From the script's JSON; InputError names the field that is wrong."""
        try:
            return cls(
                path=str(data["path"]),
                offset_s=Fraction(data.get("offset_s", 0)).limit_denominator(1_000_000),
                fps=str(data.get("fps", "auto")),
                display_fps=float(data.get("display_fps") or 0),
                model=str(data.get("model", "auto")),
                engine=str(data.get("engine", "auto")),
                scale=float(data.get("scale", 1.0)),
                scene=SceneOptions(bool(data.get("scdet", True)), float(data.get("scdet_threshold", 0.3))),
                pixel_aspect=float(data.get("pixel_aspect") or 0),
                stream=None if data.get("stream") is None else int(data["stream"]),
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
        clock = OutputClock.aligned(self.rate, self.info.start_s - request.offset_s)
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
        self._context = StreamContext(clock, frames, self._pool, decoder, playhead, self.stats)
        self.track = Track(self.file, lambda first: OutputStream(self._context, first))

    def _sample_aspect(self) -> Fraction:
        """What mpv found counts: containers and codecs contradict each other, and players choose differently."""
        if self.request.pixel_aspect > 0:
            return Fraction(self.request.pixel_aspect).limit_denominator(10_000)
        return self.info.sample_aspect

    @classmethod
    async def open(cls, request: FilmRequest, playhead: Playhead) -> Film:
        """Open the source in a thread; MediaError or InputError say in one line why it cannot be played with DRBA."""
        check_input(request.path)
        source = await asyncio.to_thread(VideoSource, request.path, stream=request.stream)
        try:
            return cls(request, source, playhead)
        except BaseException:
            source.close()
            raise

    async def attach(self, client: Client, on_engine: Callable[[EngineState], None] = lambda state: None) -> str:
        """Open the film's session at the server; until then, and without one, it plays source frames. `on_engine` hears
        what renders it, now and after every change.

        Where the model cannot be had (its weights are missing) the flow-only one plays, and the reason is returned.
        """
        try:
            self._context.session = await client.open_session(self.spec, self._pool, on_engine=on_engine)
        except ModelError as error:
            if self.spec.model in ("auto", "flow"):
                raise
            self.spec = replace(self.spec, model="flow", engine="auto")
            self._context.session = await client.open_session(self.spec, self._pool, on_engine=on_engine)
            return f"{error}; playing with the flow model"
        return ""

    @property
    def model(self) -> str:
        return self._context.session.model if self._context.session else self.spec.model

    @property
    def engine(self) -> str:
        return self._context.session.engine if self._context.session else self.spec.engine

    def cancel_build(self) -> None:
        """Give up the engine that is being built for this film, if one is."""
        if self._context.session is not None:
            self._context.session.cancel_build()

    async def close(self) -> None:
        self._context.decoder.close()
        if self._context.session is not None:
            try:
                await self._context.session.close()
            except DrbaError as error:
                log.info("closing the session: %s", error)
        self._pool.close()

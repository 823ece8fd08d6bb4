"""What the server asks of an engine: one renderer a stream, planes in, planes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drba.pixels import FrameLayout, Plane


@dataclass(frozen=True)
class StreamSpec:
    """Everything about a stream that a renderer is prepared for.

    `matrix` is FFmpeg's name of the YUV matrix (`bt709`, `smpte170m`, `bt2020nc`, ...; `unspecified` where the stream does not
    say), `scale` the optical flow scale (1 = the model's own; 0.5 is faster, 2 finer), `linear` the form of the DRM.
    """

    layout: FrameLayout
    matrix: str = "unspecified"
    full_range: bool = False
    model: str = "flow"
    engine: str = "auto"
    scale: float = 1.0
    linear: bool = True


@dataclass(frozen=True)
class SourceFrame:
    """One decoded frame. `number` is unique within the stream's life; `planes` share memory that the caller owns."""

    number: int
    planes: Sequence[Plane]


@dataclass(frozen=True)
class Triplet:
    """Three consecutive source frames, the outer ones None at a scene cut or at the film's ends (not both).

    The intervals are the times between the frames in any common unit; they differ where the frame rate varies.
    """

    previous: SourceFrame | None
    middle: SourceFrame
    following: SourceFrame | None
    interval_before: float = 1.0
    interval_after: float = 1.0


@dataclass(frozen=True)
class Motion:
    """What a model sees of a triplet's motion, to look at: float32 at the size of the luma plane.

    The flows are (height, width, 2) as (x, y) in pixels from the middle frame to the previous and to the following one;
    `ratio` (height, width) is the distance ratio that the model follows, 0..1: distance to the previous frame over both, 1/2 for
    even motion. None where a frame is missing; a flow is longer than the picture where the model does not know it.
    """

    to_previous: NDArray[np.float32] | None
    to_following: NDArray[np.float32] | None
    ratio: NDArray[np.float32] | None


class Renderer(Protocol):
    """What an engine makes of a model: renders in-between frames of one stream. `render` may be called by several
    threads at once."""

    @property
    def model(self) -> str:
        """Its name in the registry of models."""

    @property
    def engine(self) -> str:
        """Its name in the registry of engines."""

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        """Write the frame at each time into the matching output's planes.

        Times are in 0..2 where 0 is the previous, 1 the middle and 2 the following frame; a time on a side whose frame is
        missing is an error of the caller (ValueError). Derived data of a frame is kept by its number and reused.
        """

    def close(self) -> None:
        """Free device memory; the renderer is not used afterwards."""


class LocalRenderer(Renderer, Protocol):
    """A renderer in this process, which can be asked what it sees."""

    def motion(self, triplet: Triplet) -> Motion | None:
        """Flows and distance ratio of a triplet; None for a model without optical flow (DistilDRBA)."""


#: What `EngineState.building` says while it is measured which model is fast enough, before anything is built.
MEASURING = "measuring"


@dataclass(frozen=True)
class EngineState:
    """What renders a stream now, and what is being built to take over.

    `note` is one line for people: why it is this engine and not a better one, what the build does, or how it ended.
    `building` is the name of the engine that is being built, or `MEASURING`; empty where neither is done. `progress` (0..1) is
    that of the build.
    """

    model: str
    engine: str
    note: str = ""
    building: str = ""
    progress: float = 0.0


class StreamRenderer(Renderer, Protocol):
    """What `engines.open_renderer` makes of a StreamSpec: a renderer whose engine may change while the stream plays."""

    @property
    def state(self) -> EngineState:
        """Safe to read in any thread."""

    @property
    def lost(self) -> str:
        """Why it will never render again (its process has ended); empty while it can."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after every change of `state` or `lost` from now on, in any thread; one watcher at a time."""

    def cancel_build(self) -> None:
        """Give up what is being built for this stream: what renders now goes on. Nothing where nothing is built."""


class Build(Protocol):
    """An engine that is being built in the background. Safe to use from several threads; `changed` of `watch` is called
    without any lock held."""

    @property
    def name(self) -> str:
        """Of the engine: `tensorrt`."""

    @property
    def state(self) -> str:
        """`waiting`, `building`, `verifying`, or how it ended: `done`, `failed` (refused too), `cancelled`."""

    @property
    def progress(self) -> float:
        """0..1."""

    @property
    def message(self) -> str:
        """One line for people: what it does, or why it failed."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after every change from now on, in any thread; one watcher at a time."""

    def cancel(self) -> None:
        """Give it up, soon."""


class SharedBuild(Build, Protocol):
    """A build as one of the streams that wait for it sees it: `cancel` stops it unless others wait for it too."""

    def leave(self) -> None:
        """The stream has ended: what has not begun is given up, what has is finished for the next film."""

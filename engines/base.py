"""What the server asks of an engine: one renderer a stream, planes in, planes out."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Renders in-between frames of one stream. `render` may be called by several threads at once."""

    model: str
    engine: str

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        """Write the frame at each time into the matching output's planes.

        Times are in 0..2 where 0 is the previous, 1 the middle and 2 the following frame; a time on a side whose frame is
        missing is an error of the caller (ValueError). Derived data of a frame is kept by its number and reused.
        """

    def motion(self, triplet: Triplet) -> Motion | None:
        """Flows and distance ratio of a triplet; None where there are none (DistilDRBA) or they are not here (a server)."""

    def close(self) -> None:
        """Free device memory; the renderer is not used afterwards."""

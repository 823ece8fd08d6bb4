"""What the server and the processes of its cards say to each other: pickled, over a socket pair that nobody else has."""

from __future__ import annotations

from dataclasses import dataclass

from drba.errors import DrbaError
from engines.base import EngineState, StreamSpec

from .messages import SharedMemory


@dataclass(frozen=True)
class OpenStream:
    """Answered when the renderer is there; a StreamChanged comes before that."""

    stream: int
    spec: StreamSpec
    memory: SharedMemory


@dataclass(frozen=True)
class RenderStream:
    """A triplet's frames as (number, slot), the outer ones None at the film's ends and at cuts. Answered when the frames
    are in the slots `outputs`."""

    stream: int
    previous: tuple[int, int] | None
    middle: tuple[int, int]
    following: tuple[int, int] | None
    interval_before: float
    interval_after: float
    times: tuple[float, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class CancelStreamBuild:
    stream: int


@dataclass(frozen=True)
class CloseStream:
    stream: int


Question = OpenStream | RenderStream | CancelStreamBuild | CloseStream


@dataclass(frozen=True)
class Asked:
    number: int
    question: Question


@dataclass(frozen=True)
class Answered:
    number: int
    error: DrbaError | None = None


@dataclass(frozen=True)
class StreamChanged:
    stream: int
    state: EngineState


@dataclass(frozen=True)
class Logged:
    """A line for the server's log."""

    level: int
    line: str


Report = Answered | StreamChanged | Logged

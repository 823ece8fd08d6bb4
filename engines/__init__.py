"""How an interpolator is executed. `open_renderer` is all that the server needs of this package."""

from .base import EngineState, Renderer, SourceFrame, StreamRenderer, StreamSpec, Triplet
from .registry import ENGINES, Engine, check_engine
from .start import open_renderer

__all__ = [
    "ENGINES",
    "Engine",
    "EngineState",
    "Renderer",
    "SourceFrame",
    "StreamRenderer",
    "StreamSpec",
    "Triplet",
    "check_engine",
    "open_renderer",
]

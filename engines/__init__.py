"""How an interpolator is executed. `open_renderer` is all that the server needs of this package."""

from __future__ import annotations

from drba.errors import ModelError

from .base import Renderer, SourceFrame, StreamSpec, Triplet

__all__ = ["Renderer", "SourceFrame", "StreamSpec", "Triplet", "open_renderer"]


def open_renderer(spec: StreamSpec) -> Renderer:
    """Make the renderer of a stream; ModelError where its model or engine does not exist."""
    if spec.model in ("auto", "flow"):
        if spec.engine not in ("auto", "cpu"):
            raise ModelError(f"engine {spec.engine!r}: the flow model runs on the engine 'cpu'; use --engine auto")
        from .flow import FlowRenderer

        return FlowRenderer(spec)
    raise ModelError(f"model {spec.model!r} is unknown; expected one of: auto, flow")

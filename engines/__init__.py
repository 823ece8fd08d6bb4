"""How an interpolator is executed. `open_renderer` is all that the server needs of this package."""

from __future__ import annotations

from drba.errors import ModelError
from drba.models import ModelSpec, find

from .base import Renderer, SourceFrame, StreamSpec, Triplet

__all__ = ["ENGINES", "Renderer", "SourceFrame", "StreamSpec", "Triplet", "open_renderer"]

#: Names that `engine` takes, and the torch device each means for networks.
ENGINES = {"auto": "auto", "cpu": "cpu", "torch-cpu": "cpu", "torch-cuda": "cuda"}


def open_renderer(spec: StreamSpec) -> Renderer:
    """Make the renderer of a stream; ModelError where its model or engine does not exist or its weights are missing."""
    if spec.engine not in ENGINES:
        raise ModelError(f"engine {spec.engine!r} does not exist; expected one of {', '.join(ENGINES)}")
    if spec.model == "auto":
        from .choice import choose

        chosen = choose(spec, _open_network) if spec.engine != "cpu" else None
        return chosen if chosen is not None else _open_flow(spec)
    model = find(spec.model)
    if model.family == "flow":
        if spec.engine not in ("auto", "cpu"):
            raise ModelError(f"engine {spec.engine!r}: the flow model runs on the engine 'cpu'; use --engine auto")
        return _open_flow(spec)
    return _open_network(spec, model)


def _open_flow(spec: StreamSpec) -> Renderer:
    from .flow import FlowRenderer

    return FlowRenderer(spec)


def _open_network(spec: StreamSpec, model: ModelSpec) -> Renderer:
    from .network import NetworkRenderer  # imports torch

    return NetworkRenderer(spec, model, ENGINES[spec.engine])

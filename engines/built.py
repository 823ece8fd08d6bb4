"""Engines that a builder such as TensorRT makes of a network's parts: opened from the cache, or built in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from drba.models import ModelSpec

from .base import LocalRenderer, SharedBuild, StreamSpec
from .shared_builds import SharedBuilds

if TYPE_CHECKING:
    import torch

    from drba.networks.interpolator import Interpolator

    from .build import Builder, EngineRequest


class BuiltEngine:
    """What the registry needs of one builder. Without torch until `open` or `build` is called; safe to use from several
    threads."""

    def __init__(
        self, name: str, device: str, make_builder: Callable[[], Builder], precisions: Sequence[str] | None = None
    ) -> None:
        """`make_builder` is called once; `precisions` are those of `build.ENGINE_PRECISIONS` if None."""
        self._name, self._device, self._make_builder = name, device, make_builder
        self._precisions = precisions
        self._lock = threading.Lock()
        self._builder: Builder | None = None
        self._builds = SharedBuilds()

    def open(self, spec: StreamSpec, model: ModelSpec) -> LocalRenderer | None:
        """A renderer on engines that were built and verified; None where there are none. EngineError where all were
        refused."""
        from drba.networks.parts import PRECISIONS

        from .build import ENGINE_PRECISIONS, cached_engines
        from .engine_cache import EngineCache
        from .network import NetworkRenderer

        builder = self._get_builder()
        request = request_for(model, spec.layout.width, spec.layout.height, spec.scale, builder)
        engines = cached_engines(request, builder, EngineCache(), self._precisions or ENGINE_PRECISIONS)
        if engines is None:
            return None
        renderer = NetworkRenderer(spec, model, self._device)
        renderer.use(engines.attach(request.load(PRECISIONS[engines.precision].weights)), self._name)
        return renderer

    def build(self, spec: StreamSpec, model: ModelSpec) -> SharedBuild:
        """Begin to build, or join a build of the same model at the same padded size."""
        from .build import ENGINE_PRECISIONS, EngineBuild
        from .engine_cache import EngineCache

        builder = self._get_builder()
        request = request_for(model, spec.layout.width, spec.layout.height, spec.scale, builder)
        key = (request.model, request.height, request.width, request.scale)
        precisions = self._precisions or ENGINE_PRECISIONS
        return self._builds.join(key, lambda: EngineBuild(request, builder, EngineCache(), precisions))

    def _get_builder(self) -> Builder:
        with self._lock:
            if self._builder is None:
                self._builder = self._make_builder()
            return self._builder


def request_for(model: ModelSpec, width: int, height: int, scale: float, builder: Builder) -> EngineRequest:
    """What to build for a picture of this size. ModelError where the model is not installed."""
    import torch

    import drba

    from .build import EngineRequest

    loaded: dict[torch.dtype, Interpolator] = {}

    def load(dtype: torch.dtype) -> Interpolator:
        if dtype not in loaded:
            loaded[dtype] = drba.load(model.name, device=builder.device, dtype=dtype, scale=scale, mode="fast")
        return loaded[dtype]

    return EngineRequest(model.name, *load(torch.float16).padded_size(height, width), scale, load)

"""The networks under PyTorch, or with parts of them built for the device: planes to RGB, DRM and network there, and back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import drba
from drba.drm import distance_ratio
from drba.errors import EngineError
from drba.models import ModelSpec
from drba.networks.interpolator import DrmOptions, Interpolator, Known
from drba.networks.levers import Levers, with_levers
from drba.pixels import Plane
from drba.stages import stage

from .base import Motion, SourceFrame, StreamSpec, Triplet
from .colour import ColourConverter
from .frames import CachedFrame, FrameCache, Places
from .graphs import CudaRecorder, GraphCache, Recorder, with_graphs
from .lanes import Lanes, Staging

#: Less to do for the same numbers, also within half precision (docs/cuda.md). `shuffles` is more arithmetic for what may
#: be a faster convolution: it waits for a measurement.
GPU_LEVERS = Levers(together=True, sums=True)


class NetworkRenderer:
    """Renders with any model of the registry, for playing in its fast form.

    Threads that call `render` overlap: while one copies planes in or out, or waits for its own frames, another's work is
    on the device. Only enqueueing it is done by one at a time; on the CPU, where enqueueing is doing, that means one
    triplet at a time, which keeps all cores busy by itself.
    """

    def __init__(
        self,
        spec: StreamSpec,
        model: ModelSpec,
        device: str = "auto",
        *,
        mode: str = "fast",
        levers: Levers | None = None,
        graphs: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        """ModelError where weights are missing or do not fit. `mode` is "fast" or "reference" (docs/networks.md).
        `levers` (None: what suits the device) and `graphs` False are for comparing; `recorder` takes the place of CUDA's
        in tests."""
        self.interpolator = drba.load(model.name, device=device, scale=spec.scale, mode=mode)
        target = self.interpolator.device
        self.model = model.name
        self.engine = f"torch-{target.type}"
        self._spec = spec
        self._colour = ColourConverter(spec.layout, spec.matrix, spec.full_range, target)
        self._padded = self.interpolator.padded_size(spec.layout.height, spec.layout.width)
        self._lanes = Lanes(spec.layout, target)
        self._frames = FrameCache(lambda source: self._lanes.upload(source.planes), self._forgotten)
        self._places = Places(self._padded, target)
        if target.type == "cuda":
            torch.backends.cudnn.benchmark = True  # shapes are fixed: the fastest algorithm is worth looking for
            recorder = recorder or CudaRecorder(target)
        self._graphs = GraphCache(recorder) if recorder is not None and graphs else None
        self.use(with_levers(self.interpolator, levers or (GPU_LEVERS if target.type == "cuda" else Levers())))
        self._running, self._closed = 0, False
        self._state = threading.Lock()

    def use(self, network: Interpolator, engine: str | None = None) -> None:
        """Go over to another interpolator of the same model and size between two triplets, such as `self.interpolator`
        with parts that were built for the device; `engine` is its name."""
        with self._lanes.computing():
            if self._graphs is not None:
                self._lanes.settle()
                self._graphs.clear()
                network = with_graphs(network, self._graphs, self._padded)
            self._network = network
            self._frames.forget_derived()
        self.engine = engine or self.engine

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        wanted = _in_between(triplet, times)
        with self._state:
            if self._closed:
                raise RuntimeError("this renderer is closed")
            self._running += 1
        sent: dict[int, Staging] = {}
        try:
            for time, out in zip(times, outputs, strict=True):
                if time in (0, 1, 2):
                    _copy(_source(triplet, int(time)), out)
            if wanted:
                try:
                    self._enqueue(triplet, times, wanted, sent)
                except torch.OutOfMemoryError:
                    self._make_room(sent)
                    self._enqueue(triplet, times, wanted, sent)
            for index in sorted(sent):
                with stage("download"):
                    self._lanes.fetch(sent[index], outputs[index])
                del sent[index]
        finally:
            for staging in sent.values():
                self._lanes.drop(staging)
            with self._state:
                self._running -= 1
                last = self._closed and not self._running
            if last:
                self._free()

    def close(self) -> None:
        """Renders that run come to their end; the last of them frees the device."""
        with self._state:
            idle, self._closed = not self._running and not self._closed, True
        if idle:
            self._free()

    def _free(self) -> None:
        self._frames.shrink()
        with self._lanes.computing():
            self._lanes.settle()
            if self._graphs is not None:
                self._graphs.clear()
            self._places = Places(self._padded, self.interpolator.device)
        self._lanes.close()

    def motion(self, triplet: Triplet) -> Motion | None:
        with self._held(triplet) as frames, self._lanes.computing():
            middle = self._known(frames[1])
            flows = []
            for frame in (frames[0], frames[2]):
                flow = None if frame is None else self.interpolator.flow(middle.image, self._known(frame).image)
                if frame is not None and flow is None:
                    return None
                flows.append(None if flow is None else flow[..., : self._spec.layout.height, : self._spec.layout.width])
            before, after = flows
            ratio = None
            if before is not None and after is not None:
                intervals = {"interval10": triplet.interval_before, "interval12": triplet.interval_after}
                ratio = distance_ratio(before, after, **intervals)[0][0, 0].cpu().numpy()
            return Motion(_pixels(before), _pixels(after), ratio)

    @contextmanager
    def _held(self, triplet: Triplet) -> Iterator[tuple[CachedFrame | None, CachedFrame, CachedFrame | None]]:
        """Previous, middle and following frame, on their way up or there already."""
        sources = [source for source in (triplet.previous, triplet.middle, triplet.following) if source is not None]
        with stage("upload"):
            held = self._frames.hold(sources)
        by_number = {frame.number: frame for frame in held}

        def found(source: SourceFrame | None) -> CachedFrame | None:
            return None if source is None else by_number[source.number]

        try:
            yield found(triplet.previous), by_number[triplet.middle.number], found(triplet.following)
        finally:
            self._frames.release(held)

    def _enqueue(self, triplet: Triplet, times: Sequence[float], wanted: list[float], sent: dict[int, Staging]) -> None:
        """Put everything on the lanes, the results' way down included; `sent` receives them by their place in `times`."""
        drm = DrmOptions(self._spec.linear, triplet.interval_before, triplet.interval_after)
        with self._held(triplet) as frames, self._lanes.computing(), stage("network"):
            for time, rgb in self._rendered(frames, wanted, drm):
                for index in (i for i, asked in enumerate(times) if asked == time):
                    with stage("download"):
                        staging = sent[index] = self._lanes.outgoing()
                        self._colour.to_planes(self._checked(rgb), staging.device)
                        self._lanes.send(staging, rgb)

    def _rendered(
        self,
        frames: tuple[CachedFrame | None, CachedFrame, CachedFrame | None],
        times: list[float],
        drm: DrmOptions,
    ) -> Iterator[tuple[float, Tensor]]:
        """Each frame must be read before the next is asked for, which may overwrite it (`engines.graphs`)."""
        previous, following = (None if frame is None else self._known(frame) for frame in (frames[0], frames[2]))
        middle = self._known(frames[1])
        before = after = None
        if frames[0] is not None and frames[2] is not None:
            before = self._network.turned(self._motion(frames[0], frames[1]))
            after = self._motion(frames[1], frames[2])
        step = self._network.batch_max or len(times)
        for start in range(0, len(times), step):
            chunk = times[start : start + step]
            yield from zip(
                chunk, self._network.between(previous, middle, following, before, after, chunk, drm), strict=True
            )

    def _checked(self, rgb: Tensor) -> Tensor:
        """EngineError for a picture of another shape: on a card nothing else would keep its samples from being read beyond it."""
        layout = self._spec.layout
        channels, height, width = rgb.shape[-3:]
        if channels != 3 or height < layout.height or width < layout.width:
            expected = f"3x{layout.height}x{layout.width} or larger"
            raise EngineError(f"the network's picture is {channels}x{height}x{width}, expected {expected}")
        return rgb

    def _make_room(self, sent: dict[int, Staging]) -> None:
        """Another program has taken the device's memory: give up what can be made anew, once, before the request fails."""
        for index in list(sent):
            self._lanes.drop(sent.pop(index))
        with self._lanes.computing():
            self._lanes.settle()
            if self._graphs is not None:
                self._graphs.clear()
            self._frames.forget_derived()
            if self.interpolator.device.type == "cuda":
                torch.cuda.empty_cache()

    def _known(self, frame: CachedFrame) -> Known:
        if frame.image is None:
            frame.place, frame.image = self._places.take(frame.number)
        if frame.staging is not None:
            with stage("upload"):
                self._colour.to_rgb(self._lanes.arrived(frame.staging), frame.image)
                self._lanes.used(frame.staging)
            frame.staging = None
        if frame.known is None:
            frame.known = self._network.known(frame.image)
        return frame.known

    def _motion(self, first: CachedFrame, second: CachedFrame) -> object:
        """Always seen from the earlier frame, so that it is the same whichever triplet asks first."""
        if first.number not in second.motions:
            second.motions[first.number] = self._network.motion(self._known(first), self._known(second))
        return second.motions[first.number]

    def _forgotten(self, frame: CachedFrame) -> None:
        if frame.staging is not None:
            self._lanes.unused(frame.staging)
        if frame.place is not None:
            self._places.give(frame.place)


def _pixels(flow: Tensor | None) -> NDArray[np.float32] | None:
    return None if flow is None else flow[0].permute(1, 2, 0).cpu().numpy()


def _copy(source: Sequence[Plane], out: Sequence[Plane]) -> None:
    for plane_source, plane_out in zip(source, out, strict=True):
        np.copyto(plane_out, plane_source)


def _source(triplet: Triplet, time: int) -> Sequence[Plane]:
    source = (triplet.previous, triplet.middle, triplet.following)[time]
    if source is None:
        raise ValueError(f"time {time} lies on the side whose frame is missing")
    return source.planes


def _in_between(triplet: Triplet, times: Sequence[float]) -> list[float]:
    """The distinct times that are not a source frame's, ascending."""
    low = 1 if triplet.previous is None else 0
    high = 1 if triplet.following is None else 2
    for time in times:
        if not low <= time <= high:
            raise ValueError(f"time {time} lies on the side whose frame is missing; expected {low}..{high}")
    return sorted({float(time) for time in times} - {0.0, 1.0, 2.0})

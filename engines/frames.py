"""Source frames on the device, by number, so that triplets reuse each other's work in whatever order they come."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drba.networks.interpolator import Known

from .base import SourceFrame
from .lanes import Staging

CACHED_FRAMES = 4  # the three of a triplet and the next one's last; more are kept while more are in use
FIXED_PLACES = CACHED_FRAMES + 1  # while the next frame comes in


class Places:
    """Buffers of frames' images. A frame's follows from its number, so that neighbours lie in the same few pairs of
    buffers again and again: CUDA graphs are bound to places. Methods may be called by any thread."""

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self._size, self._device = size, device
        self._buffers: dict[int, Tensor] = {}
        self._free = set(range(FIXED_PLACES))
        self._lock = threading.Lock()

    def take(self, number: int) -> tuple[int, Tensor]:
        """(place, image (1, 3, H, W) float32) for the frame of that number: another place where its own is in use."""
        with self._lock:
            place = number % FIXED_PLACES
            if place not in self._free:
                others = [free for free in self._free if free >= FIXED_PLACES]
                place = others[0] if others else max(FIXED_PLACES, max(self._buffers, default=0) + 1)
            self._free.discard(place)
            if place not in self._buffers:
                self._buffers[place] = torch.empty((1, 3, *self._size), device=self._device)
            return place, self._buffers[place]

    def give(self, place: int) -> None:
        with self._lock:
            self._free.add(place)


@dataclass
class CachedFrame:
    """`staging` until it was converted, then `image` at its `place`; these, `known` and `motions` (by the number of the
    frame before) belong to the thread on the compute lane. `users` are renders that run."""

    number: int
    staging: Staging | None
    place: int | None = None
    image: Tensor | None = None
    known: Known | None = None
    motions: dict[int, Any] = field(default_factory=dict)
    users: int = 0


class FrameCache:
    """Bounded by what is in use, or `capacity` where that is more. Methods may be called by any thread.

    `upload` makes a frame's staging, one thread at a time, so that a frame that two triplets share goes up once;
    `forget` takes what a dropped frame had.
    """

    def __init__(
        self,
        upload: Callable[[SourceFrame], Staging],
        forget: Callable[[CachedFrame], None],
        capacity: int = CACHED_FRAMES,
    ) -> None:
        self._upload, self._forget, self._capacity = upload, forget, capacity
        self._frames: OrderedDict[int, CachedFrame] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def hold(self, sources: Sequence[SourceFrame]) -> list[CachedFrame]:
        """The frames, going up where they are not known. Each call is followed by one of `release`."""
        held: list[CachedFrame] = []
        with self._lock:
            try:
                for source in sources:
                    frame = self._frames.get(source.number)
                    if frame is None:
                        frame = self._frames[source.number] = CachedFrame(source.number, self._upload(source))
                    self._frames.move_to_end(source.number)
                    frame.users += 1
                    held.append(frame)
            except BaseException:
                self._release(held)
                raise
        return held

    def release(self, held: Sequence[CachedFrame]) -> None:
        """They are not used any more by what is enqueued from here on."""
        with self._lock:
            self._release(held)

    def forget_derived(self) -> None:
        """Of every frame what the network made of it; on the compute lane."""
        with self._lock:
            for frame in self._frames.values():
                frame.known, frame.motions = None, {}

    def shrink(self) -> None:
        """Keep nothing that is not in use, now and later."""
        with self._lock:
            self._capacity = 0
            self._release(())

    def _release(self, held: Sequence[CachedFrame]) -> None:
        for frame in held:
            frame.users -= 1
        idle = [frame for frame in self._frames.values() if not frame.users]
        for frame in idle[: max(0, len(self._frames) - self._capacity)]:
            del self._frames[frame.number]
            for other in self._frames.values():
                other.motions.pop(frame.number, None)
            self._forget(frame)

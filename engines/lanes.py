"""The ways of a frame through a device: up, through the computation, and down, each a CUDA stream of its own.

What waits for what is said with events on the device, so that the three overlap across triplets and no thread waits
for anything but its own result. On the CPU the same code runs with streams that do everything at once (`torch.cpu`).
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from drba.errors import EngineError
from drba.pixels import FrameLayout, Plane

# Uploads that may wait for the device before `upload` waits for the oldest: the three new frames of a triplet after a
# seek, twice. Downloads are as many as results are asked for.
UPLOADS_AHEAD = 6


class Staging:
    """Room for one frame's planes in pinned memory and on the device; on the CPU both are the same memory."""

    def __init__(self, frame_bytes: int, device: torch.device, event: Any) -> None:
        pinned = device.type == "cuda"
        self.host = torch.empty(frame_bytes, dtype=torch.uint8, pin_memory=pinned)
        self.device = torch.empty(frame_bytes, dtype=torch.uint8, device=device) if pinned else self.host
        # The sum of a result's samples, which travels with it: no number where one of them is none.
        self.sum_host = torch.zeros((), pin_memory=pinned)
        self.sum_device = torch.zeros((), device=device) if pinned else self.sum_host
        self.event = event  # recorded after the last use that was enqueued


class Lanes:
    """Of one renderer: one layout, one device. Methods may be called by any thread; those on the compute lane, by the
    thread that is inside `computing`."""

    def __init__(self, layout: FrameLayout, device: torch.device) -> None:
        self._layout, self._device = layout, device
        cuda = device.type == "cuda"
        self._streams: Any = torch.cuda if cuda else torch.cpu
        # Threads that wait for an event sleep: a core that spins is one less for decoding.
        self._new_event: Callable[[], Any] = (lambda: torch.cuda.Event(blocking=True)) if cuda else torch.cpu.Event
        self._up, self._compute, self._down = (self._new_stream() for _ in range(3))
        self._computing = threading.Lock()
        self._uploads, self._downloads = _Pool(self._new_staging), _Pool(self._new_staging)

    @property
    def staged_bytes(self) -> int:
        """Of pinned memory, and as much of the device's; for tests and reports."""
        return (self._uploads.made + self._downloads.made) * self._layout.frame_bytes

    def upload(self, planes: Sequence[Plane]) -> Staging:
        """Copy planes, which the caller may then reuse, and start their way up. Then `used` or `unused`."""
        staging = self._uploads.take(UPLOADS_AHEAD)
        try:
            self._layout.copy(planes, staging.host.numpy())
        except BaseException:
            self._uploads.give(staging)
            raise
        with self._streams.stream(self._up):
            _copy(staging.host, staging.device)
            staging.event.record(self._up)
        return staging

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The compute lane, one thread at a time: what is done with tensors here is enqueued there, without gradients."""
        with self._computing, torch.no_grad(), self._streams.stream(self._compute):
            yield

    def arrived(self, staging: Staging) -> Tensor:
        """On the compute lane: an upload's bytes, for what is enqueued from here on."""
        self._compute.wait_event(staging.event)
        return staging.device

    def used(self, staging: Staging) -> None:
        """On the compute lane: what reads the upload is enqueued; its memory serves again when that is done."""
        staging.event.record(self._compute)
        self._uploads.give(staging)

    def unused(self, staging: Staging) -> None:
        """An upload that nothing reads."""
        self._uploads.give(staging)

    def outgoing(self) -> Staging:
        """Room for a result, to be written on the compute lane, then given to `send`."""
        return self._downloads.take(None)

    def send(self, staging: Staging, rgb: Tensor) -> None:
        """On the compute lane: start the way down of a result, made of `rgb`. Then `fetch` or `drop` it, outside."""
        staging.sum_device.copy_(rgb.sum(dtype=torch.float32))
        staging.event.record(self._compute)
        self._down.wait_event(staging.event)
        with self._streams.stream(self._down):
            _copy(staging.device, staging.host)
            _copy(staging.sum_device, staging.sum_host)
            staging.event.record(self._down)

    def fetch(self, staging: Staging, out: Sequence[Plane]) -> None:
        """Wait for one result and copy it into the caller's planes; EngineError, and the caller drops it, where it was made of
        values that are no numbers: they would be a black or speckled picture."""
        staging.event.synchronize()
        if not math.isfinite(staging.sum_host.item()):
            raise EngineError("the network's picture has values that are no numbers, expected finite ones")
        for source, target in zip(self._layout.views(staging.host.numpy()), out, strict=True):
            target[:] = source
        self._downloads.give(staging)

    def drop(self, staging: Staging) -> None:
        """A result that nobody wants."""
        self._downloads.give(staging)

    def settle(self) -> None:
        """Wait for everything that was enqueued: before what it uses is taken away."""
        if self._device.type == "cuda":
            for stream in (self._up, self._compute, self._down):
                stream.synchronize()

    def close(self) -> None:
        """Wait for everything that was enqueued and free the memory. Nothing may be enqueued any more."""
        self.settle()
        self._uploads.clear()
        self._downloads.clear()

    def _new_stream(self) -> Any:
        return torch.cuda.Stream(self._device) if self._device.type == "cuda" else torch.cpu.Stream()

    def _new_staging(self) -> Staging:
        return Staging(self._layout.frame_bytes, self._device, self._new_event())


class _Pool:
    """Stagings that nobody has, the longest unused first."""

    def __init__(self, make: Callable[[], Staging]) -> None:
        self._make = make
        self._free: deque[Staging] = deque()
        self._lock = threading.Lock()
        self.made = 0

    def take(self, limit: int | None) -> Staging:
        """One whose use by the device is over; a new one where all are in use and there are fewer than `limit`."""
        with self._lock:
            oldest = self._free.popleft() if self._free else None
            if oldest is not None and not oldest.event.query() and (limit is None or self.made < limit):
                self._free.appendleft(oldest)
                oldest = None
            self.made += oldest is None
        if oldest is None:
            return self._make()
        oldest.event.synchronize()
        return oldest

    def give(self, staging: Staging) -> None:
        with self._lock:
            self._free.append(staging)

    def clear(self) -> None:
        with self._lock:
            self.made -= len(self._free)
            self._free.clear()


def _copy(source: Tensor, target: Tensor) -> None:
    if source is not target:
        target.copy_(source, non_blocking=True)

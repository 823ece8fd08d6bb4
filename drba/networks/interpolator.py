"""What every network interpolator has in common: the public interface, checks, padding to the network's size
multiple."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, ModelError
from .parts import NetworkPart, Parts, Precision

Mode = Literal["reference", "fast"]
MODES: tuple[Mode, ...] = ("reference", "fast")

SCALE_MIN, SCALE_MAX = 0.25, 4.0
SCALE_DENOMINATOR_MAX = 16  # finer fractions would pad frames to absurd multiples


@dataclass(frozen=True)
class DrmOptions:
    """How distance ratio maps are made: their form, and the times between the frames in any common unit."""

    linear: bool = True
    interval_before: float = 1.0
    interval_after: float = 1.0

    @property
    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of the functions in `drba.drm`."""
        return {"linear": self.linear, "interval10": self.interval_before, "interval12": self.interval_after}


@dataclass(frozen=True)
class Known:
    """A frame as a network sees it: `image` padded, at least float32, on the device; `data` what the network derived from
    this frame alone (its own type; None where there is nothing)."""

    image: Tensor
    data: Any


@dataclass(frozen=True)
class State:
    """What a triplet leaves for the next one: that one's previous and middle frame, the motion between them as seen from
    the middle one, and the frames' height and width before padding."""

    previous: Known
    middle: Known
    motion: Any
    size: tuple[int, int]


class Interpolator(ABC):
    """Renders frames between frames with one network on one device.

    Frames are float tensors (1, 3, H, W), RGB in 0..1, of one size of at least 1x1, on any device; results are float32
    tensors of that shape on `device` (float64 where `dtype` is). Frames that are not divisible by the network's size
    multiple are padded on the right and bottom by repeating the edge; others are not resampled. An instance has no
    mutable state: threads may share it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        size_multiple: int,
        device: torch.device,
        dtype: torch.dtype,
        scale: float,
        mode: Mode,
    ) -> None:
        if mode not in MODES:
            raise ModelError(f"mode {mode!r} does not exist; expected one of {', '.join(MODES)}")
        self.network = network.to(device=device).eval().requires_grad_(False)
        self.device, self.dtype, self.mode = device, dtype, mode
        self.scale = float(scale)
        self.size_multiple = scaled_multiple(size_multiple, scale)
        self.parts: Parts = {}
        self.batch_max: int | None = None  # timesteps that `parts` render at once; None: any number

    @property
    def fast(self) -> bool:
        return self.mode == "fast"

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """What frames of a size are padded to: both sides divisible by the size multiple."""
        return height + -height % self.size_multiple, width + -width % self.size_multiple

    def network_parts(self, height: int, width: int, precision: Precision | None = None) -> tuple[NetworkPart, ...]:
        """The network's parts at a padded size, see `networks.parts`; none where it has no parts or the mode is not
        fast. `precision` None is what `parts` compute in; another one must have the same `weights`."""
        return ()

    def with_parts(self, parts: Parts, *, batch: int | None = None) -> Self:
        """This interpolator with some of its parts replaced; `batch` is the most timesteps that they render at once
        (None: any)."""
        other = copy.copy(self)
        other.parts, other.batch_max = {**self.parts, **parts}, batch
        return other

    def pair(self, first: Tensor, second: Tensor, timesteps: Sequence[float]) -> list[Tensor]:
        """The frames at `timesteps` in 0..1 between two frames, without distance ratio maps (beside a scene cut, or at
        the ends of a film). 0 and 1 return the given frame itself. InputError for frames or timesteps outside the
        contract."""
        self._check([first, second], timesteps, 1.0)
        wanted = _inner(timesteps, (0.0, 1.0))
        inner: dict[float, Tensor] = {}
        if wanted:
            with torch.no_grad():
                frames = [self.known(self._prepare(frame)) for frame in (first, second)]
                inner = dict(zip(wanted, self._pair(frames[0], frames[1], wanted), strict=True))
        return self._finish(timesteps, inner, {0.0: first, 1.0: second})

    def triplet(
        self,
        previous: Tensor,
        middle: Tensor,
        following: Tensor,
        timesteps: Sequence[float],
        state: State | None = None,
        *,
        linear: bool = True,
        interval_before: float = 1.0,
        interval_after: float = 1.0,
    ) -> tuple[list[Tensor], State]:
        """The frames at `timesteps` in 0..2 (1 = the middle frame) with distance ratio maps, and the state for the next
        triplet.

        0, 1 and 2 return the given frame itself. `state` is what the triplet before left (its middle and following
        frames are this one's previous and middle): flows and features are not computed again. `linear` chooses the form
        of the map. Pass both intervals where the time between the frames differs. InputError for arguments outside the
        contract.
        """
        self._check([previous, middle, following], timesteps, 2.0)
        if not (interval_before > 0 and interval_after > 0):
            raise InputError(f"intervals are {interval_before} and {interval_after}; expected both above 0")
        size = (middle.shape[-2], middle.shape[-1])
        if state is not None and state.size != size:
            raise InputError(
                f"state belongs to frames of {state.size}, these are {size}; start a new size with state=None"
            )
        wanted = _inner(timesteps, (0.0, 1.0, 2.0))
        drm = DrmOptions(linear, interval_before, interval_after)
        with torch.no_grad():
            if state is None:
                first, second = (self.known(self._prepare(frame)) for frame in (previous, middle))
                before = self.motion(second, first)
            else:
                first, second, before = state.previous, state.middle, state.motion
            third = self.known(self._prepare(following))
            after = self.motion(second, third)
            rendered = self._triplet((first, second, third), before, after, wanted, drm)
        inner = dict(zip(wanted, rendered, strict=True))
        given = {0.0: previous, 1.0: middle, 2.0: following}
        return self._finish(timesteps, inner, given), State(second, third, self.turned(after), size)

    # The same in steps, for a renderer that keeps what it knows of frames and their motion by their numbers. Frames are
    # already of `padded_size`, float32 and on the device; results too. Gradients are off.

    def flow(self, first: Tensor, second: Tensor) -> Tensor | None:
        """Optical flow first -> second as the distance ratio map takes it, to look at: (1, 2, H, W) float32 as (x, y) in
        pixels, longer than the frame where it is unknown. None for a network without one (DistilDRBA). InputError as
        `pair`."""
        self._check([first, second], [], 1.0)
        with torch.no_grad():
            flow = self._flow(self._prepare(first), self._prepare(second))
        if flow is None:
            return None
        height, width = first.shape[-2:]
        padded = height + -height % self.size_multiple, width + -width % self.size_multiple
        # Each vector covers the pixels it was estimated for; between them nothing is known that could be shown.
        enlarged = F.interpolate(flow, size=padded, mode="nearest") * (padded[0] / flow.shape[-2])
        return enlarged[..., :height, :width].float()

    def _flow(self, first: Tensor, second: Tensor) -> Tensor | None:
        """Of padded float32 frames on the device: (1, 2, h, w) in pixels of its own size, a whole fraction of theirs."""
        return None

    @abstractmethod
    def known(self, image: Tensor) -> Known:
        """What the network derives from one frame alone."""

    def motion(self, first: Known, second: Known) -> Any:
        """What it derives from two neighbouring frames, as seen from `first`; None where nothing."""
        return None

    def turned(self, motion: Any) -> Any:
        """The same motion as seen from the other frame; computes nothing."""
        return motion

    def between(
        self,
        previous: Known | None,
        middle: Known,
        following: Known | None,
        before: Any,
        after: Any,
        timesteps: Sequence[float],
        drm: DrmOptions,
    ) -> list[Tensor]:
        """The frames at `timesteps`, which ascend, in 0..2 without 0, 1 and 2: of a triplet, or without distance ratio
        maps where an outer frame is None. `before` and `after` are the motion as seen from the middle frame; not needed
        without one of the outer frames. InputError for a time on a side without a frame."""
        times = [float(t) for t in timesteps]
        if previous is not None and following is not None:
            return self._triplet((previous, middle, following), before, after, times, drm)
        start, pair = (1.0, (middle, following)) if previous is None else (0.0, (previous, middle))
        if pair[0] is None or pair[1] is None or not all(start < t < start + 1 for t in times):
            raise InputError(f"times are {times}; expected times on the side of the middle frame that has a frame")
        return self._pair(pair[0], pair[1], [t - start for t in times])

    @abstractmethod
    def _pair(self, first: Known, second: Known, timesteps: list[float]) -> list[Tensor]:
        """Timesteps inside 0..1, ascending."""

    @abstractmethod
    def _triplet(
        self, frames: tuple[Known, Known, Known], before: Any, after: Any, timesteps: list[float], drm: DrmOptions
    ) -> list[Tensor]:
        """Timesteps inside 0..2 and not 1, ascending; motion as seen from the middle frame."""

    def _check(self, frames: list[Tensor], timesteps: Sequence[float], end: float) -> None:
        shape = frames[0].shape
        for frame in frames:
            if frame.ndim != 4 or frame.shape[:2] != (1, 3) or 0 in frame.shape or not frame.is_floating_point():
                found = f"{frame.dtype} of shape {tuple(frame.shape)}"
                raise InputError(f"frame is {found}; expected a float tensor (1, 3, H, W) in 0..1")
            if frame.shape != shape:
                raise InputError(f"frames are of shapes {tuple(shape)} and {tuple(frame.shape)}; expected one size")
        for timestep in timesteps:
            if not 0 <= timestep <= end:
                raise InputError(f"timestep {timestep} is out of range; expected 0..{end:g}")

    def _prepare(self, frame: Tensor) -> Tensor:
        frame = frame.to(device=self.device, dtype=torch.promote_types(self.dtype, torch.float32))
        height, width = frame.shape[-2:]
        padded = self.padded_size(height, width)
        bottom, right = padded[0] - height, padded[1] - width
        return F.pad(frame, (0, right, 0, bottom), mode="replicate") if bottom or right else frame

    def _finish(
        self, timesteps: Sequence[float], inner: dict[float, Tensor], given: dict[float, Tensor]
    ) -> list[Tensor]:
        height, width = given[0.0].shape[-2:]
        return [
            given[float(t)] if float(t) in given else inner[float(t)][..., :height, :width].contiguous()
            for t in timesteps
        ]


def scaled_multiple(multiple: int, scale: float) -> int:
    """Smallest number of pixels that is a whole number of the network's `multiple` after scaling by the flow `scale`.

    ModelError for a scale outside 0.25..4 or that is no fraction of small numbers.
    """
    fraction = Fraction(scale).limit_denominator(SCALE_DENOMINATOR_MAX) if math.isfinite(scale) else Fraction(0)
    if not SCALE_MIN <= scale <= SCALE_MAX or abs(float(fraction) - scale) > 1e-6:
        raise ModelError(
            f"flow scale is {scale}; expected 0.25 to 4 in steps of a sixteenth or coarser, such as 0.5 or 1"
        )
    whole = multiple * fraction.denominator
    return whole // math.gcd(whole, fraction.numerator)


def in_chunks(
    items: list[float], frame: Tensor, render: Callable[[list[float]], Tensor], batch_max: int | None
) -> list[Tensor]:
    """Call `render` on as many timesteps at once as the device gains from (`batch_max` at most); returns one
    (1, 3, H, W) each.

    On the CPU larger batches of large frames only cost memory (two frames of 720p at once were no faster than one by
    one); a GPU is kept busy by them at the coarse levels.
    """
    limit_pixels = (1 << 18) if frame.device.type == "cpu" else (1 << 23)
    size = max(1, limit_pixels // (frame.shape[-2] * frame.shape[-1]))
    if batch_max is not None:
        size = min(size, batch_max)
    rendered: list[Tensor] = []
    for start in range(0, len(items), size):
        rendered.extend(render(items[start : start + size]).split(1))
    return rendered


def time_tensor(times: Sequence[float], like: Tensor) -> Tensor:
    """(N, 1, 1, 1). Filled on the device: copying numbers from the CPU would wait for everything before."""
    return torch.stack([like.new_full((1, 1, 1), time) for time in times])


def _inner(timesteps: Sequence[float], given: tuple[float, ...]) -> list[float]:
    """The distinct timesteps that must be rendered, in order."""
    return sorted({float(t) for t in timesteps} - set(given))

"""What a network learns from: two frames, the one in between, when that was, and how it moved.

An example is a function of the seed and its number alone, so training can go on where it stopped and two runs see the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from . import scenes
from .clips import CUT_ERROR, FLOW_CELL, HARD_CELL, OFFSETS, Clip, given_flow
from .collages import collage

#: (frames before, frames after) the one in between, and how often. Two frames of film apart is what playing at twice the rate
#: of a film of 12 drawings a second means, and what quality is measured on.
WINDOWS = {(-1, 1): 0.8, (-1, 2): 0.08, (-2, 1): 0.08, (-2, 2): 0.04}
NEIGHBOURS = (-1, 1)
ANYWHERE_SHARE = 0.5  # of the examples, cut out of anywhere; the rest where optical flow alone fails
STILL_SHARE = 0.25  # chosen whatever moves in them; the rest by how much moves
_MIRRORED = np.array([-1, 1, -1, 1], np.float32)  # what the vectors of both flows are multiplied by, left for right
MOTION_PX_MAX = 8.0  # mean motion above which a frame is not preferred further


@dataclass(frozen=True)
class Example:
    """Frames (H, W, 3) uint8 RGB; the rest at a quarter of the size: `timestep` (h, w) in 0..1, `flow` (h, w, 4) from the middle
    frame to the first, then the second, in pixels of the full size, `known` (h, w) how far that flow may be trusted, 0..1.
    `given` (h, w, 4) is what the network gets: flow from the first frame to the second and back, in pixels of the full size."""

    first: NDArray[np.uint8]
    middle: NDArray[np.uint8]
    second: NDArray[np.uint8]
    timestep: NDArray[np.float32]
    flow: NDArray[np.float32]
    known: NDArray[np.float32]
    given: NDArray[np.float32]


class Examples(Dataset[dict[str, Tensor]]):
    """`length` examples of (height, width), both divisible by 64. `shares` of them are drawn (`scenes`) and made of cut-up film
    frames (`collages`), the rest is film, seen in a `zoom` from and to; without films all are drawn."""

    def __init__(
        self,
        clips: Sequence[Clip],
        size: tuple[int, int],
        zoom: tuple[float, float],
        shares: tuple[float, float],
        length: int,
        seed: tuple[int, ...],
    ) -> None:
        self._clips, self._size, self._length, self._seed, self._zoom = clips, size, length, seed, zoom
        self._drawn, self._cut = shares if clips else (1.0, 0.0)
        self._choices = {window: _choices(clips, window) for window in WINDOWS} if clips else {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng((*self._seed, number))
        kind = rng.random()
        if kind < self._drawn:
            example = _reduced(scenes.example(rng, self._size))
        elif kind < self._drawn + self._cut:
            example = _reduced(collage(rng, lambda: self._still(rng)))
        else:
            example = self._from_film(rng)
        return tensors(coloured(turned(example, rng), rng))

    def _still(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A piece of any frame."""
        clip = self._clips[int(rng.integers(len(self._clips)))]
        scale = float(np.exp(rng.uniform(*np.log(self._zoom))))
        top, left, height, width = self._piece(rng, clip, scale)
        image = clip.crop(int(rng.integers(len(clip.frames))), top, left, height, width)
        return np.asarray(cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_AREA), np.uint8)

    def _piece(
        self, rng: np.random.Generator, clip: Clip, scale: float, hard: NDArray[np.float32] | None = None
    ) -> tuple[int, int, int, int]:
        """Top, left, height and width of the pixels that fill an example at this scale; around one of the `hard` cells."""
        height, width = (
            min(int(side / scale) // 8 * 8, full) for side, full in zip(self._size, clip.size, strict=True)
        )
        ends = clip.size[0] - height, clip.size[1] - width
        if hard is None or not hard.any():
            top, left = (int(rng.integers(0, end // 8 + 1)) * 8 for end in ends)
            return top, left, height, width
        cell = int(rng.choice(hard.size, p=hard.ravel() / hard.sum(dtype=np.float64)))
        centre = (np.array(divmod(cell, hard.shape[1])) + rng.random(2)) * HARD_CELL
        corner = centre - (height / 2, width / 2)
        top, left = (int(np.clip(place, 0, end)) // 8 * 8 for place, end in zip(corner, ends, strict=True))
        return top, left, height, width

    def _from_film(self, rng: np.random.Generator) -> Example:
        window = list(WINDOWS)[rng.choice(len(WINDOWS), p=list(WINDOWS.values()))]
        places, moving = self._choices[window]
        index = rng.integers(len(places)) if rng.random() < STILL_SHARE else int(np.searchsorted(moving, rng.random()))
        clip, number = self._clips[places[index][0]], int(places[index][1])
        scale = float(np.exp(rng.uniform(*np.log(self._zoom))))
        if rng.random() < 0.5:
            scale = min(max(1.0, self._zoom[0]), self._zoom[1])
        hard = None if rng.random() < ANYWHERE_SHARE else clip.hard[number]
        top, left, height, width = self._piece(rng, clip, scale, hard)
        first, middle, second = (
            clip.crop(number + offset, top, left, height, width) for offset in (window[0], 0, window[1])
        )
        cells = (
            slice(top // FLOW_CELL, (top + height) // FLOW_CELL),
            slice(left // FLOW_CELL, (left + width) // FLOW_CELL),
        )
        both = [clip.flows[number, OFFSETS.index(offset)][cells].astype(np.float32) for offset in window]
        flow = np.concatenate(both, -1)
        given = clip.given[number].astype(np.float32) if window == NEIGHBOURS else _between(clip, number, window)
        given = given[cells]
        rows, columns = self._size[0] // FLOW_CELL, self._size[1] // FLOW_CELL
        if (height, width) != self._size:
            first, middle, second = (
                np.asarray(cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
                for image in (first, middle, second)
            )
            factors = np.array([self._size[1] / width, self._size[0] / height] * 2, np.float32)
            flow, given = (
                cv2.resize(field, (columns, rows), interpolation=cv2.INTER_AREA) * factors for field in (flow, given)
            )
        timestep = np.full((rows, columns), -window[0] / (window[1] - window[0]), np.float32)
        return Example(first, middle, second, timestep, flow, _trust(first, middle, second, flow), given)


def _between(clip: Clip, number: int, window: tuple[int, int]) -> NDArray[np.float32]:
    first, second = (clip.small_luma(number + offset) for offset in window)
    return given_flow(first, second)


def _choices(clips: Sequence[Clip], window: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(clip, frame) of every window that has no cut in it, (N, 2), and the running sum of how likely each is to be taken."""
    places, weights = [], []
    columns = [OFFSETS.index(offset) for offset in window]
    for index, clip in enumerate(clips):
        whole = (clip.errors[:, columns] < CUT_ERROR).all(1)
        for number in np.flatnonzero(whole):
            places.append((index, number))
            flow = clip.flows[number, columns][:, ::8, ::8].astype(np.float32)
            weights.append(float(np.clip(np.abs(flow).sum(-1).mean(), 0.2, MOTION_PX_MAX)))
    running = np.cumsum(weights)
    return np.array(places), running / running[-1]


def _trust(*arguments: NDArray) -> NDArray[np.float32]:
    """Where warping either frame by its flow gives the middle one: 1, and less by what is left, (h, w)."""
    first, middle, second, flow = arguments
    rows, columns = flow.shape[:2]
    small = [cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA) for image in (first, middle, second)]
    x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    left = np.full((rows, columns), 255.0, np.float32)
    for image, vectors in ((small[0], flow[..., :2]), (small[2], flow[..., 2:])):
        place = vectors / FLOW_CELL
        warped = cv2.remap(
            image, x + place[..., 0], y + place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        left = np.minimum(left, cv2.absdiff(warped, small[1]).max(-1).astype(np.float32))
    return np.exp(-left / 24).astype(np.float32)


def _reduced(scene: scenes.Example) -> Example:
    """A drawn example as those of films: its maps at a quarter of the size."""
    height, width = scene.timestep.shape
    size = (width // FLOW_CELL, height // FLOW_CELL)
    flow, timestep, known = (
        cv2.resize(field, size, interpolation=cv2.INTER_AREA) for field in (scene.flow, scene.timestep, scene.known)
    )
    grays = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (scene.first, scene.second))
    given = given_flow(*(cv2.resize(gray, size, interpolation=cv2.INTER_AREA) for gray in grays))
    return Example(scene.first, scene.middle, scene.second, timestep, flow, np.asarray(known, np.float32), given)


def turned(example: Example, rng: np.random.Generator) -> Example:
    """Mirrored, turned by a quarter, played backward: each or not."""
    images = [example.first, example.middle, example.second]
    maps, flows = [example.timestep, example.known], [example.flow, example.given]
    if rng.random() < 0.5:
        images, maps = [image[:, ::-1] for image in images], [field[:, ::-1] for field in maps]
        flows = [flow[:, ::-1] * _MIRRORED for flow in flows]
    if rng.random() < 0.5:
        images, maps = [image[::-1] for image in images], [field[::-1] for field in maps]
        flows = [flow[::-1] * -_MIRRORED for flow in flows]
    if example.first.shape[0] == example.first.shape[1] and rng.random() < 0.5:
        images, maps = [image.swapaxes(0, 1) for image in images], [field.T for field in maps]
        flows = [flow.swapaxes(0, 1)[..., [1, 0, 3, 2]] for flow in flows]
    if rng.random() < 0.5:
        images, maps[0], flows = images[::-1], 1 - maps[0], [flow[..., [2, 3, 0, 1]] for flow in flows]
    first, middle, second = images
    return Example(first, middle, second, maps[0], flows[0], maps[1], flows[1])


def coloured(example: Example, rng: np.random.Generator) -> Example:
    """Other colours, the same in all three frames: channels changed about, brightness, contrast, gamma, now and then inverted."""
    order = rng.permutation(3)
    curve = np.linspace(0, 1, 256) ** float(np.exp(rng.uniform(-0.3, 0.3)))
    curve = 0.5 + (curve - 0.5) * rng.uniform(0.7, 1.1) + rng.uniform(-0.08, 0.08)
    if rng.random() < 0.1:
        curve = 1 - curve
    table = (curve.clip(0, 1) * 255).round().astype(np.uint8)
    first, middle, second = (table[image[..., order]] for image in (example.first, example.middle, example.second))
    return replace(example, first=first, middle=middle, second=second)


def tensors(example: Example) -> dict[str, Tensor]:
    """The same as tensors, channels first: frames uint8, the rest float32."""
    images = {name: getattr(example, name) for name in ("first", "middle", "second")}
    maps = {
        "timestep": example.timestep[..., None],
        "flow": example.flow,
        "known": example.known[..., None],
        "given": example.given * np.float32(1 / FLOW_CELL),
    }
    return {
        name: torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
        for name, array in {**images, **maps}.items()
    }

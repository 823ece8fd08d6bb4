"""How consecutive source frames belong together: the comparisons that planning needs, for playing and rendering alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from drba import scene
from drba.pixels import FrameLayout, Plane

from .plan import Relation, relation
from .source import DecodedFrame


@dataclass(frozen=True)
class SceneOptions:
    """Scene-cut detection: whether, and below which SSIM (0..1)."""

    detect: bool = True
    threshold: float = scene.DEFAULT_THRESHOLD


class Describer:
    """Compares each frame with the one before it. Used by one thread."""

    def __init__(self, layout: FrameLayout, options: SceneOptions, matrix: str, full_range: bool | None) -> None:
        self._layout = layout
        self._options = options
        self._matrix = matrix
        self._full_range = bool(full_range)
        self._last: tuple[Fraction, scene.Thumbnail | None, scene.Signature] | None = None

    def relation(self, planes: Sequence[Plane], time_s: Fraction) -> Relation:
        """Of the frame at `time_s` to the one given before; the first of all begins a scene."""
        signature = scene.held_signature(planes[0], self._layout.format.depth)
        thumbnail = None
        if self._options.detect:
            thumbnail = scene.thumbnail(planes, self._layout, self._matrix, self._full_range)
        last, self._last = self._last, (time_s, thumbnail, signature)
        if last is None:
            return Relation.CUT
        last_s, last_thumbnail, last_signature = last
        held = scene.is_held(last_signature, signature)
        cut = (
            not held
            and thumbnail is not None
            and last_thumbnail is not None
            and scene.is_cut(last_thumbnail, thumbnail, self._options.threshold)
        )
        return relation(time_s - last_s, cut=cut, held=held)


def shown_from(frames: Iterable[DecodedFrame], time_s: Fraction) -> Iterator[DecodedFrame]:
    """Of frames in order of time those from the one before the one shown at `time_s` on: a triplet needs them."""
    waiting: deque[DecodedFrame] | None = deque(maxlen=2)
    for frame in frames:
        if waiting is not None:
            if frame.time_s <= time_s:
                waiting.append(frame)
                continue
            yield from waiting
            waiting = None
        yield frame
    yield from waiting or ()

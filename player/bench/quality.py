"""Interpolation quality: leave out every second frame of a clip, restore it as the player would, compare with it.

Frames 0, 2, 4, ... are kept and 1, 3, 5, ... left out. A left-out frame lies halfway between two kept ones, so the
player renders it from the later one's triplet (player/plan.py); cuts and held drawings are found between kept frames,
as in play.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from drba import scene
from drba.dis import FlowEstimator
from drba.pixels import FrameLayout, Plane
from drba.remap import PlaneWarper
from engines.base import Renderer, SourceFrame, Triplet

from ..plan import Relation, relation
from .metrics import SsimReference, mse, psnr_db

MOVING_SHARE = 0.25
#: How a left-out frame is replaced. `repeat` is the kept frame before it (what is shown without DRBA), `blend` the mean
#: of its neighbours, `symmetric` that of both warped by half the flow found between them, without splatting.
METHODS = ("repeat", "blend", "symmetric", "model", "model_no_drm", "model_reference")


@dataclass(frozen=True)
class Picture:
    """A frame of the clip as tightly packed planes; `number` is its place in the clip, from 0."""

    number: int
    time_s: Fraction
    planes: Sequence[Plane]


@dataclass(frozen=True)
class Gap:
    """A left-out frame. `triplet` restores it at time 0.5, None across a cut; `held`: the player repeats `after`."""

    wanted: Picture
    before: Picture
    after: Picture
    triplet: Triplet | None
    held: bool


@dataclass(frozen=True)
class FrameScore:
    """One restored frame: mean squared error (peak 1, not below the cap's) and SSIM by method.

    `motion_px` is the mean length of the optical flow from the kept frame after it to the one before, in full-size
    pixels: over the distance of two frames of the clip.
    """

    number: int
    motion_px: float
    mse: dict[str, float]
    ssim: dict[str, float]


@dataclass(frozen=True)
class Quality:
    """Mean of the frames' PSNR, PSNR of their mean squared error, mean SSIM; gains are over `blend`."""

    frames: int
    psnr_db: float
    psnr_of_mean_mse_db: float
    ssim: float
    psnr_gain_db: float
    ssim_gain: float


# --- which frame is restored from what --------------------------------------------------------------------------------


def gaps(
    pictures: Iterable[Picture], layout: FrameLayout, matrix: str = "unspecified", full_range: bool = False
) -> Iterator[Gap]:
    """Every second of `pictures` as a gap between its neighbours; the last one has no neighbour and is dropped."""

    def related(a: Picture, b: Picture) -> Relation:
        first, second = (scene.held_signature(picture.planes[0], layout.format.depth) for picture in (a, b))
        held = scene.is_held(first, second)
        small_a, small_b = (scene.thumbnail(picture.planes, layout, matrix, full_range) for picture in (a, b))
        cut = not held and scene.is_cut(small_a, small_b)
        return relation(b.time_s - a.time_s, cut=cut, held=held)

    kept: list[Picture] = []  # previous, middle and following of the triplet about to be used
    left_out: list[Picture] = []
    relations: list[Relation] = []
    for index, picture in enumerate(pictures):
        if index % 2:
            left_out.append(picture)
            continue
        kept.append(picture)
        if len(kept) > 1:
            relations.append(related(kept[-2], kept[-1]))
        if len(kept) == 3:
            yield _gap(left_out.pop(0), kept, relations)
            kept.pop(0)
            relations.pop(0)
    if len(kept) == 2:
        yield _gap(left_out.pop(0), kept, relations)


def _gap(wanted: Picture, kept: Sequence[Picture], relations: Sequence[Relation]) -> Gap:
    before, after = kept[0], kept[1]
    triplet = None
    if relations[0] is not Relation.CUT:
        following = kept[2] if len(kept) == 3 and relations[1] is not Relation.CUT else None
        triplet = Triplet(
            _source(before),
            _source(after),
            _source(following) if following else None,
            float(after.time_s - before.time_s),
            float(following.time_s - after.time_s) if following else 1.0,
        )
    return Gap(wanted, before, after, triplet, relations[0] is Relation.HELD)


def _source(picture: Picture) -> SourceFrame:
    return SourceFrame(picture.number, picture.planes)


# --- restoring and comparing ------------------------------------------------------------------------------------------


class Restorer:
    """Restores left-out frames of one stream by every method. Thread-safe as renderers are.

    `renderers` maps `model`, `model_no_drm` and `model_reference`, or some of them, to renderers of the stream.
    """

    def __init__(self, layout: FrameLayout, renderers: dict[str, Renderer], scale: float = 1.0) -> None:
        self.layout = layout
        self.methods = tuple(method for method in METHODS if method in renderers or not method.startswith("model"))
        self._renderers = renderers
        self.estimator = FlowEstimator(layout, scale)
        flow_shape = (self.estimator.rows, self.estimator.columns)
        factor = self.estimator.factor
        self._warper = PlaneWarper(layout.plane_shapes[0], flow_shape, factor, factor)

    def motion(self, gap: Gap) -> NDArray[np.float32]:
        """Optical flow from the kept frame after the gap to the one before, in reduced pixels."""
        a, b = gap.after, gap.before
        return self.estimator.flow(a.number, a.planes[0], b.number, b.planes[0])

    def luma(self, gap: Gap, method: str, flow: NDArray[np.float32]) -> Plane:
        before, after = gap.before.planes[0], gap.after.planes[0]
        if method == "repeat":
            return before
        if method == "blend":
            blend: Plane = np.empty_like(after)
            cv2.addWeighted(before, 0.5, after, 0.5, 0.0, dst=blend)
            return blend
        if method == "symmetric":
            out = np.empty_like(after)
            self._warper.render([(after, before, out)], flow * np.float32(-0.5), flow * np.float32(0.5), 0.5)
            return out
        return self.restored(gap, method)[0]

    def restored(self, gap: Gap, method: str) -> Sequence[Plane]:
        """All planes of the frame as the player would show it with the renderer `method`."""
        if gap.held:
            return gap.after.planes
        assert gap.triplet is not None
        out = self.layout.views(bytearray(self.layout.frame_bytes))
        self._renderers[method].render(gap.triplet, [0.5], [out])
        return out

    def score(self, gap: Gap) -> FrameScore:
        flow = self.motion(gap)
        wanted = gap.wanted.planes[0]
        peak = self.layout.format.max_value
        reference = SsimReference(wanted, peak)
        lumas = {method: self.luma(gap, method, flow) for method in self.methods}
        return FrameScore(
            gap.wanted.number,
            float(np.mean(cv2.magnitude(flow[..., 0], flow[..., 1]))) * self.estimator.factor,
            {method: mse(wanted, luma, peak) for method, luma in lumas.items()},
            {method: reference.ssim(luma) for method, luma in lumas.items()},
        )


def score_all(restorer: Restorer, all_gaps: Iterable[Gap], threads: int) -> tuple[list[FrameScore], int, int]:
    """Scores of the gaps in order, the number left out because of a cut, and that of held drawings in the scores."""
    scores: list[FrameScore] = []
    cuts = held = 0
    waiting: deque[Future[FrameScore]] = deque()
    with ThreadPoolExecutor(threads, "bench") as pool:
        for gap in all_gaps:
            if gap.triplet is None:
                cuts += 1
                continue
            held += gap.held
            waiting.append(pool.submit(restorer.score, gap))
            if len(waiting) > threads:
                scores.append(waiting.popleft().result())
        scores += [future.result() for future in waiting]
    return scores, cuts, held


def most_moving(scores: Sequence[FrameScore], share: float = MOVING_SHARE) -> list[FrameScore]:
    """The `share` of the frames (rounded up) with the most motion, most first."""
    return sorted(scores, key=lambda score: -score.motion_px)[: -int(-len(scores) * share // 1)]


def summarise(scores: Sequence[FrameScore], method: str) -> Quality:
    """`scores` must not be empty."""

    def means(name: str) -> tuple[float, float, float]:
        errors = [score.mse[name] for score in scores]
        of_frames = float(np.mean([psnr_db(error) for error in errors]))
        return of_frames, psnr_db(float(np.mean(errors))), float(np.mean([score.ssim[name] for score in scores]))

    psnr, of_mean, similarity = means(method)
    blend_psnr, _, blend_similarity = means("blend")
    return Quality(len(scores), psnr, of_mean, similarity, psnr - blend_psnr, similarity - blend_similarity)

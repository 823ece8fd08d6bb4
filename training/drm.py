"""Does a distance ratio map keep a figure in one place? python -m training.drm MODEL [--weights FILE] [--scenes N]

Prints, for `held` scenes of both kinds, where the in-between halfway through the jump shows the figure and how well (see
`ghosts`): a plain blend of the two frames, the model without distance ratio maps, and with them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import drba
from drba.errors import DrbaError, InputError

from .ghosts import Drawn, Judge
from .held import HeldScene, held_scene
from .paint import Image

if TYPE_CHECKING:
    from drba.networks.interpolator import Interpolator

KINDS = ("blend", "without DRM", "with DRM")


def halfway(model: Interpolator, scene: HeldScene) -> dict[str, Image]:
    """Halfway through the jump, by each of KINDS: (H, W, 3) uint8 RGB."""
    frames = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255 for frame in scene.frames]
    before, after = frames[:2] if scene.mirrored else frames[1:]
    without = model.pair(before, after, [0.5])[0]
    with_drm = model.triplet(frames[0], frames[1], frames[2], [scene.jump_time])[0][0]
    return dict(zip(KINDS, map(_image, ((before + after) / 2, without, with_drm)), strict=True))


def judged(model: Interpolator, scene: HeldScene) -> dict[str, Drawn]:
    """How each of KINDS drew the figure."""
    judge = Judge(scene, scene.jump_time)
    return {kind: judge.drawn(image) for kind, image in halfway(model, scene).items()}


def off_place(drawn: Drawn, scene: HeldScene) -> float:
    """How far from where it rests the figure was drawn, 0..1 of its jump."""
    return abs(drawn.place - scene.resting_place)


def _image(frame: torch.Tensor) -> Image:
    return np.asarray((frame[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.drm", description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--scenes", type=int, default=12, help="of each kind (default: 12)")
    options = parser.parse_args(arguments)
    try:
        if options.scenes < 1:
            raise InputError(f"--scenes is {options.scenes}; expected a whole number from 1")
        model = drba.load(options.model, weights=options.weights)
    except DrbaError as error:
        print(f"training.drm: {error}", file=sys.stderr)
        return error.exit_status
    rows: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    for seed in range(options.scenes):
        for mirrored in (False, True):
            scene = held_scene(seed, mirrored=mirrored)
            for kind, drawn in judged(model, scene).items():
                rows[kind].append((off_place(drawn, scene), drawn.ghost, drawn.sharpness))
    print(f"{options.model}, medians of {2 * options.scenes} scenes:  off its place  ghost  sharpness")
    for kind, values in rows.items():
        off, ghost, sharpness = np.median(values, axis=0)
        print(f"{kind:>12}  {off:.2f}  {ghost:.2f}  {sharpness:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

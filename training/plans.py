"""How each network is trained, stage by stage. Imports no torch: the command line takes the networks' names from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """Some steps of a training: how many of the coarsest `blocks` learn (None: all), on batches of which size (height, width);
    the `zoom` that films are seen in, from and to, and the flow scale that makes up for it; which `shares` of the examples
    are drawn and collages; the learning rate, which rises over `warmup` steps and falls to a hundredth."""

    steps: int
    batch: int
    size: tuple[int, int]
    learning_rate: float
    blocks: int | None = None
    zoom: tuple[float, float] = (0.5, 1.25)
    scale: float = 1.0
    shares: tuple[float, float] = (0.15, 0.1)
    warmup: int = 200


@dataclass(frozen=True)
class Plan:
    """A training: with the films it decides every number that comes out, but for rounding."""

    network: str
    stages: tuple[Stage, ...]
    seed: int = 1

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> tuple[int, int]:
        """The stage that makes a step, and the number of the step in it."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        raise IndexError(f"step {step} is beyond the plan")


#: The coarse blocks learn first, from nearly whole frames of half the size: the finer ones can only mend what they find, and a
#: small crop shows the coarsest block 16 places, from which nothing was learned in 1,250 steps.
PLANS = {
    "drba-small": Plan(
        "drba-small",
        (
            Stage(1500, 4, (256, 448), 2e-3, blocks=2, zoom=(0.35, 0.6), scale=2.0, shares=(0.0, 0.7)),
            Stage(9000, 4, (256, 256), 8e-4),
        ),
    )
}

"""How each network is trained, stage by stage. Imports no torch: the command line takes the networks' names from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """Some steps of a training: batches of which size (height, width), the `zoom` that films are seen in, from and to; which
    `shares` of the examples are drawn and collages; the learning rate, which rises over `warmup` steps and falls to a
    hundredth."""

    steps: int
    batch: int
    size: tuple[int, int]
    learning_rate: float
    zoom: tuple[float, float] = (0.5, 1.25)
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


PLANS = {"drba-small": Plan("drba-small", (Stage(3500, 4, (256, 256), 6e-4, shares=(0.15, 0.45)),))}

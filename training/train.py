"""The training loop: goes on from the last checkpoint in its folder, writes a log, checkpoints and pictures there."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Subset

from drba.networks.refine import DIFFERENCE, SPECS, TIME_FLOW, RefineNet

from .clips import Clip
from .examples import Examples
from .forward import interpolate, unlearned
from .loss import gain_db, total
from .plans import Plan, Stage

log = logging.getLogger(__name__)

CHECKPOINT = "last.pt"
INPUTS = "first", "second", "given", "timestep"  # of an example, what a network is given
AVERAGED_OVER = 400  # steps that the weights' running mean remembers; that mean is what is validated and shipped
GRADIENT_NORM_MAX = 1.0
FIRST_GAIN = 5.0  # warped frames differ by little of their range
LOG_EVERY, SAVE_EVERY, REPORT_EVERY = 50, 250, 1000  # steps

Report = Callable[[int, RefineNet], dict[str, float]]


@dataclass(frozen=True)
class Place:
    """Where this process is among those that train together in a `torch.distributed` group, and what it computes on."""

    rank: int = 0
    processes: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009


class Training:
    """A network, its running mean and its optimizer, at some step of a plan.

    With several processes each learns from its share of every batch, all make the same steps, and the first writes. On a CPU
    that others use too, processes of one thread wait for each other once a step, threads of one process at every operation (5 s
    a step instead of 0.3, measured).
    """

    def __init__(self, plan: Plan, folder: Path, place: Place, start: Mapping[str, Tensor] | None = None) -> None:
        self._plan, self._folder, self._place = plan, folder, place
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(plan.seed)
        self.network = started(RefineNet(SPECS[plan.network]))
        if start is not None:
            self.network.load_state_dict(start)
        self.network.to(place.device)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        parameters = self.network.parameters()
        self._optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=1e-2)
        self.step = 0
        if (folder / CHECKPOINT).exists():
            self._resume()

    def run(self, films: Sequence[Clip], report: Report | None = None) -> list[float]:
        """To the end of the plan; the loss of each step made here. `films` may be empty: then all examples are drawn."""
        losses: list[float] = []
        while self.step < self._plan.steps:
            losses += self._run_stage(films, report)
        return losses

    def _run_stage(self, films: Sequence[Clip], report: Report | None) -> list[float]:
        place, (index, done) = self._place, self._plan.at(self.step)
        stage = self._plan.stages[index]
        examples = Examples(
            films, stage.size, stage.zoom, stage.shares, stage.steps * stage.batch, (self._plan.seed, index)
        )
        mine = range(done * stage.batch + place.rank, len(examples), place.processes)
        losses: list[float] = []
        sums: dict[str, float] = {}
        counted, start_s = 0, time.monotonic()
        for number, batch in enumerate(DataLoader(Subset(examples, mine), stage.batch // place.processes), done):
            parts = self.learn(ready(batch, place.device), stage, number)
            losses.append(parts["loss"])
            if place.rank:
                continue
            sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
            counted += 1
            last = number + 1 == stage.steps
            if self.step % LOG_EVERY == 0 or last:
                means = {name: round(value / counted, 5) for name, value in sums.items()}
                self._write({"step": self.step, "s": round(time.monotonic() - start_s, 1), **means})
                sums, counted = {}, 0
            if self.step % SAVE_EVERY == 0 or last:
                self._save()
            if report is not None and (self.step % REPORT_EVERY == 0 or last):
                self._write({"step": self.step, "validation": report(self.step, self.averaged)})
        return losses

    def learn(self, batch: dict[str, Tensor], stage: Stage, number: int) -> dict[str, float]:
        """Step `number` of a stage; the loss, its parts, and the norm of the gradient."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate(stage, number)
        inputs = [batch[name] for name in INPUTS]
        result = interpolate(self.network, *inputs)
        teaching = 0.2 + 0.8 * (1 - number / stage.steps) ** 2  # the teacher starts what the image then decides
        loss, parts = total(result, batch, teaching)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._place.processes > 1:
            _average(self.network, self._place.processes)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM_MAX)
        self._optimizer.step()
        self.step += 1
        new = max(1 / AVERAGED_OVER, 1 / (number + 1))  # each stage begins its own mean
        with torch.no_grad():
            for mean, parameter in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(parameter, new)
        with torch.no_grad():
            gain = gain_db(result.image, unlearned(*inputs), batch["middle"])
        return {**parts, "norm": float(norm), "gain_db": gain}

    def _states(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {"network": self.network, "averaged": self.averaged, "optimizer": self._optimizer}

    def _resume(self) -> None:
        saved = torch.load(self._folder / CHECKPOINT, weights_only=True, map_location="cpu")
        for name, part in self._states().items():
            part.load_state_dict(saved[name])
        self.step = int(saved["step"])
        log.info("going on from step %d", self.step)

    def _save(self) -> None:
        path = self._folder / CHECKPOINT
        unfinished = path.with_suffix(".part")
        states = {name: part.state_dict() for name, part in self._states().items()}
        torch.save({"step": self.step, "plan": asdict(self._plan), **states}, unfinished)
        unfinished.replace(path)

    def _write(self, line: dict[str, object]) -> None:
        log.info("%s", line)
        with (self._folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def started(network: RefineNet) -> RefineNet:
    """Begins as what the given flow makes of the frames: each block adds nothing. Signals keep their size through the layers, and
    differences of frames, which are small, count for more."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for index, block in enumerate(network.blocks):
        entry = block.get_parameter("conv0.0.0.weight")
        start = DIFFERENCE + TIME_FLOW
        differences = [slice(0, DIFFERENCE)]
        if index + 1 < len(network.blocks):
            differences.append(slice(start, start + 2 * DIFFERENCE))
        with torch.no_grad():
            for part in differences:
                entry[:, part] *= FIRST_GAIN
        nn.init.zeros_(block.get_parameter("lastconv.0.weight"))
        nn.init.zeros_(block.get_parameter("lastconv.0.bias"))
        for name, parameter in block.named_parameters():
            if name.endswith(".beta"):
                nn.init.constant_(parameter, 0.3)
    return network


def rate(stage: Stage, number: int) -> float:
    """Learning rate of a stage's step: rises linearly over `warmup` steps, then falls as a cosine to a hundredth."""
    if number < stage.warmup:
        return stage.learning_rate * (number + 1) / stage.warmup
    passed = (number - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, passed))))


def ready(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch of `examples` on the device, images in 0..1."""
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    return {name: tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor for name, tensor in moved.items()}


def _average(network: nn.Module, processes: int) -> None:
    """Every process's gradients become the mean of all."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(joined)
    joined /= processes
    for gradient, mean in zip(gradients, joined.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))

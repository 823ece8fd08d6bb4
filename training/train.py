"""The training loop: goes on from the last checkpoint in its folder, writes a log, checkpoints and pictures there."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Subset

from drba.networks.ifnet import SPECS, IFNet

from .examples import Examples
from .forward import interpolate
from .loss import total

log = logging.getLogger(__name__)

CHECKPOINT = "last.pt"
AVERAGED_OVER = 1000  # steps that the weights' running mean remembers; that mean is what is validated and shipped


@dataclass(frozen=True)
class Plan:
    """A training: with the films it decides every number that comes out, but for rounding."""

    network: str = "drba-small"
    steps: int = 13_000
    batch: int = 4
    size: tuple[int, int] = (256, 256)
    learning_rate: float = 1e-3
    warmup: int = 300
    seed: int = 1


def train(
    plan: Plan,
    examples: Examples,
    folder: Path,
    *,
    device: torch.device,
    report: Callable[[int, IFNet], dict[str, float]] | None = None,
    log_every: int = 50,
    save_every: int = 250,
    report_every: int = 1000,
    rank: int = 0,
    processes: int = 1,
) -> list[float]:
    """Train to the end of the plan, from where the folder's checkpoint stopped; the loss of each step made here.

    With several processes this is the one of number `rank` in a `torch.distributed` group: it learns from its share of every
    batch, all make the same steps, and the first writes. On a CPU that others use too, processes of one thread wait for each
    other once a step, threads of one process at every operation (5 s a step instead of 0.3, measured).
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    network = started(IFNet(SPECS[plan.network])).to(device)
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    step = _resumed(folder / CHECKPOINT, network, averaged, optimizer)
    remaining = Subset(examples, range(step * plan.batch + rank, plan.steps * plan.batch, processes))
    loader = DataLoader(remaining, plan.batch // processes)
    losses: list[float] = []
    sums: dict[str, float] = {}
    start_s = time.monotonic()
    for batch in loader:
        progress = step / plan.steps
        for group in optimizer.param_groups:
            group["lr"] = rate(plan, step)
        batch = _ready(batch, device)
        loss, parts = total(interpolate(network, batch["first"], batch["second"], batch["timestep"]), batch, progress)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if processes > 1:
            _average(network, processes)
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        keep = min(1 - 1 / AVERAGED_OVER, 1 - 1 / (step + 1))
        with torch.no_grad():
            for mean, value in zip(averaged.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        losses.append(float(loss.detach()))
        if rank:
            continue
        for name, value in {"loss": losses[-1], "norm": float(norm), **parts}.items():
            sums[name] = sums.get(name, 0.0) + value
        if step % log_every == 0 or step == plan.steps:
            count = log_every if step % log_every == 0 else step % log_every
            means = {name: round(value / count, 5) for name, value in sums.items()}
            _write(folder, {"step": step, "s": round(time.monotonic() - start_s, 1), **means})
            sums = {}
        if step % save_every == 0 or step == plan.steps:
            _save(folder / CHECKPOINT, step, plan, network, averaged, optimizer)
        if report is not None and (step % report_every == 0 or step == plan.steps):
            _write(folder, {"step": step, "validation": report(step, averaged)})
    return losses


def started(network: IFNet) -> IFNet:
    """Begins as a plain blend of both frames: blocks say nothing yet, so no first step tears the images apart."""
    for block in network.blocks:
        nn.init.normal_(block.lastconv[0].weight, std=1e-3)  # type: ignore[index, union-attr]
        nn.init.zeros_(block.lastconv[0].bias)  # type: ignore[index, union-attr]
        for layer in block.convblock:
            nn.init.constant_(layer.beta, 0.5)
    return network


def rate(plan: Plan, step: int) -> float:
    """Learning rate: rises linearly over `warmup` steps, then falls as a cosine to a hundredth."""
    if step < plan.warmup:
        return plan.learning_rate * (step + 1) / plan.warmup
    passed = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return plan.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, passed))))


def _average(network: nn.Module, processes: int) -> None:
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(joined)
    joined /= processes
    for gradient, mean in zip(gradients, joined.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _ready(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    return {name: tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor for name, tensor in moved.items()}


def _resumed(path: Path, network: IFNet, averaged: IFNet, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict(state["network"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("going on from step %d", state["step"])
    return int(state["step"])


def _save(
    path: Path, step: int, plan: Plan, network: IFNet, averaged: IFNet, optimizer: torch.optim.Optimizer
) -> None:
    unfinished = path.with_suffix(".part")
    parts = {"network": network, "averaged": averaged, "optimizer": optimizer}
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"step": step, "plan": asdict(plan), **state}, unfinished)
    unfinished.replace(path)


def _write(folder: Path, line: dict[str, object]) -> None:
    log.info("%s", line)
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")

"""What `drba doctor` finds about the graphics card: driver, CUDA in torch, TensorRT, CuPy."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from drba.errors import DrbaError

from .doctor_check import Check
from .probe import ask
from .probes import probe

SMI_TIMEOUT_S = 15.0  # waking a sleeping card takes seconds
PROBE_TIMEOUT_S = 60.0  # importing torch from a cold, slow disk
NVIDIA_VENDOR, DISPLAY_CLASS = "0x10de", "0x03"
EXTRA = "pip install 'drba-player[nvidia]'"


def check_driver() -> Iterator[Check]:
    program = shutil.which("nvidia-smi")
    if program is None:
        if has_nvidia_card():
            found = "an NVIDIA card is there, its driver is not (no nvidia-smi)"
            yield Check("nvidia-driver", "warn", found, "install NVIDIA's driver (Debian: apt install nvidia-driver)")
        else:
            yield Check("nvidia-driver", "info", "no NVIDIA card: the flow-only model plays on the processor")
        return
    query = "--query-gpu=name,driver_version,memory.total"
    answer = ask([program, query, "--format=csv,noheader,nounits"], SMI_TIMEOUT_S)
    if answer.failure:
        yield Check(
            "nvidia-driver",
            "problem",
            answer.failure,
            "install the driver again, or start the machine again after an update",
        )
        return
    cards = parse_smi(answer.out)
    found = "; ".join(f"{card['name']}, {card['memory_mib']} MiB, driver {card['driver']}" for card in cards)
    yield Check("nvidia-driver", "ok", found or "nvidia-smi lists no card", data={"cards": cards})


def parse_smi(text: str) -> list[dict[str, Any]]:
    """nvidia-smi's CSV without header and units, a line a card."""
    rows = ([field.strip() for field in line.split(",")] for line in text.splitlines() if line.count(",") == 2)
    return [{"name": name, "driver": driver, "memory_mib": memory} for name, driver, memory in rows]


@cache
def has_nvidia_card() -> bool:
    """Linux only; False where the system does not say."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == NVIDIA_VENDOR and kind.startswith(DISPLAY_CLASS):
            return True
    return False


def card_expected() -> bool:
    """Whether there is a card that CUDA could use."""
    return has_nvidia_card() or shutil.which("nvidia-smi") is not None


_asking = threading.Lock()


def cuda_facts() -> dict[str, Any]:
    """What torch says of CUDA; asked once however many checks want to know, since importing torch takes seconds."""
    with _asking:
        return _cuda_facts()


@cache
def _cuda_facts() -> dict[str, Any]:
    try:
        return probe("torch", timeout_s=PROBE_TIMEOUT_S)
    except DrbaError as error:
        return {"version": "", "built_for": "", "why": str(error), "crashed": True}


def check_cuda() -> Iterator[Check]:
    facts = cuda_facts()
    torch = f"torch {facts['version']}"
    if facts.get("crashed"):
        yield Check("cuda", "problem", facts["why"], f"{sys.executable} -m pip install --force-reinstall torch", facts)
    elif not facts["why"]:
        memory = facts["memory_bytes"] / 2**30
        found = (
            f"{torch} runs on {facts['device']} (compute capability {facts['compute_capability']}, {memory:.0f} GiB)"
        )
        yield Check("cuda", "ok", found, data=facts)
    elif card_expected():
        remedy = "update NVIDIA's driver"
        if not facts["built_for"]:
            remedy = "install a torch that is built with CUDA: https://pytorch.org/get-started/locally"
        yield Check("cuda", "warn", f"{torch}: {facts['why']}", remedy, facts)
    else:
        found = f"{torch}: {facts['why']}; networks run on the processor, for trying them"
        yield Check("cuda", "info", found, data=facts)


def check_tensorrt() -> Iterator[Check]:
    yield check_library("tensorrt", "tensorrt", "runs networks fastest")


def check_cupy() -> Iterator[Check]:
    yield check_library("cupy", "cupy-cuda12x", "splats on the card")


def check_library(name: str, distribution: str, use: str) -> Check:
    """What is worth having where CUDA works, and of no use elsewhere: imported there only."""
    if cuda_facts()["why"]:
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return Check(name, "info", "not installed, and of no use without CUDA", data={"version": ""})
        return Check(name, "info", f"{version}, not tried without CUDA", data={"version": version})
    facts = probe(name, timeout_s=PROBE_TIMEOUT_S)
    if not facts["why"]:
        return Check(name, "ok", f"{facts['version']}, {use}", data=facts)
    missing = not facts["version"]
    return Check(name, "info" if missing else "problem", f"{facts['why']} ({use})", EXTRA, facts)

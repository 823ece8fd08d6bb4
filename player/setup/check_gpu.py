"""What `drba doctor` finds about the graphics card: driver, CUDA in torch, TensorRT, CuPy."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from drba.errors import DrbaError

from .check import Check
from .probes import probe

#: Waking a sleeping card takes seconds, and importing torch from a cold disk more.
TIMEOUTS_S = {"driver": 20.0, "engines": 60.0, "torch": 60.0, "tensorrt": 60.0, "cupy": 60.0}
NVIDIA_VENDOR, DISPLAY_CLASS = "0x10de", "0x03"
EXTRA = "pip install 'drba-player[nvidia]'"


def check_driver() -> Iterator[Check]:
    facts = facts_of("driver")
    if not facts["why"]:
        cards = (f"{card['name']} ({card['memory_bytes'] / 2**30:.0f} GiB)" for card in facts["cards"])
        yield Check("nvidia-driver", "ok", f"{facts['version']}: {', '.join(cards)}", data=facts)
    elif facts["version"]:
        remedy = "start the machine again after an update of the driver, else install it again"
        yield Check("nvidia-driver", "problem", facts["why"], remedy, facts)
    elif has_nvidia_card():
        found = "an NVIDIA card is there, its driver is not"
        yield Check("nvidia-driver", "warn", found, "install it (Debian: apt install nvidia-driver)", facts)
    else:
        yield Check("nvidia-driver", "info", "no NVIDIA card: the flow-only model plays on the processor", data=facts)


def has_nvidia_card() -> bool:
    """Whether the system's bus has one, with or without a driver. Linux only; False where the system does not say."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == NVIDIA_VENDOR and kind.startswith(DISPLAY_CLASS):
            return True
    return False


def check_engines() -> Iterator[Check]:
    """Which engines work here, and which of them have yet to be built for the models that are installed."""
    facts = probe("engines", timeout_s=TIMEOUTS_S["engines"])
    missing: dict[str, str] = facts["missing"]
    found = f"{', '.join(name for name, reason in missing.items() if not reason)} work here"
    found += "".join(f"; {name}: {reason}" for name, reason in missing.items() if reason)
    if facts["to_build"]:
        found += f"; not built yet: {', '.join(facts['to_build'])}"
        yield Check("engines", "warn", found, "drba setup builds them; else the first film does, in minutes", facts)
    else:
        yield Check("engines", "ok", found, data=facts)


_asking = {"driver": threading.Lock(), "torch": threading.Lock()}


def facts_of(what: str) -> dict[str, Any]:
    """What the driver or torch says; asked once however many checks want to know. `crashed` where it did not come back."""
    with _asking[what]:
        return _asked(what)


@cache
def _asked(what: str) -> dict[str, Any]:
    try:
        return probe(what, timeout_s=TIMEOUTS_S[what])
    except DrbaError as error:
        return {"version": "?", "why": str(error), "crashed": True}


def card_expected() -> bool:
    """Whether there is a card that CUDA should be able to use."""
    return has_nvidia_card() or not facts_of("driver")["why"]


def check_cuda() -> Iterator[Check]:
    facts = facts_of("torch")
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
    yield check_library("tensorrt", ("tensorrt-cu13", "tensorrt-cu12", "tensorrt"), "runs networks fastest")


def check_cupy() -> Iterator[Check]:
    yield check_library(
        "cupy", ("cupy-cuda13x", "cupy-cuda12x", "cupy"), "samples, splats and converts colours on the card"
    )


def check_library(name: str, distributions: Sequence[str], use: str) -> Check:
    """What is worth having where CUDA works, and of no use elsewhere: imported there only. It may have been installed under
    any of `distributions`."""
    if facts_of("torch")["why"]:
        installed = {dist.metadata["Name"].lower(): dist.version for dist in metadata.distributions()}
        version = next((installed[name] for name in distributions if name in installed), "")
        if not version:
            return Check(name, "info", "not installed, and of no use without CUDA", data={"version": ""})
        return Check(name, "info", f"{version}, not tried without CUDA", data={"version": version})
    facts = probe(name, timeout_s=TIMEOUTS_S[name])
    if not facts["why"]:
        return Check(name, "ok", f"{facts['version']}, {use}", data=facts)
    missing = not facts["version"]
    return Check(name, "info" if missing else "problem", f"{facts['why']} ({use})", EXTRA, facts)

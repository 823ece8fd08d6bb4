"""What may crash, hang or take seconds to import, asked in a process of its own: `python -m player.setup.probes WHAT ...`.

Prints one JSON object. Used by `drba doctor` and `drba setup` through `probe`.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from drba.errors import DrbaError

from .probe import ask_module


def probe(what: str, *arguments: str, timeout_s: float) -> dict[str, Any]:
    """The facts about one of PROBES. DrbaError where it crashed or did not come back."""
    answer = ask_module("player.setup.probes", what, *arguments, timeout_s=timeout_s)
    if answer.failure:
        raise DrbaError(f"asking about {what} failed: {answer.failure}")
    facts: dict[str, Any] = json.loads(answer.out.splitlines()[-1])
    return facts


def driver() -> dict[str, Any]:
    """NVIDIA's, asked through its management library; `why` is empty where it lists cards."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return {"version": "", "cards": [], "why": "no NVIDIA driver is installed"}
    except pynvml.NVMLError as error:
        return {"version": "?", "cards": [], "why": f"the NVIDIA driver does not work ({error})"}
    version = pynvml.nvmlSystemGetDriverVersion()
    cards = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        cards.append(
            {"name": pynvml.nvmlDeviceGetName(handle), "memory_bytes": memory.total, "free_bytes": memory.free}
        )
    pynvml.nvmlShutdown()
    return {"version": version, "cards": cards, "why": "" if cards else "the NVIDIA driver lists no card"}


def engines() -> dict[str, Any]:
    """Engines, best first, each with what this machine lacks for it; and which have to be built yet for installed models."""
    from engines import ENGINES

    from .check_models import installed_candidates
    from .engines import missing_builds

    to_build = [
        f"{model.name} at {size} on {engine.name}" for model, size, engine in missing_builds(installed_candidates())
    ]
    return {"missing": {engine.name: engine.missing() for engine in ENGINES}, "to_build": to_build}


def torch() -> dict[str, Any]:
    """`why` is empty where a kernel ran on the card."""
    import torch

    facts: dict[str, Any] = {"version": torch.__version__, "built_for": torch.version.cuda or "", "why": ""}
    if not torch.version.cuda:
        return {**facts, "why": "this torch is built without CUDA"}
    with warnings.catch_warnings(record=True) as said:  # torch says why as a warning
        warnings.simplefilter("always")
        if not torch.cuda.is_available():
            return {**facts, "why": str(said[-1].message).splitlines()[0] if said else "torch sees no CUDA device"}
    try:
        torch.zeros(1, device="cuda").add_(1).item()
    except RuntimeError as error:
        return {**facts, "why": str(error).splitlines()[0]}
    device = torch.cuda.get_device_properties(0)
    facts["device"] = device.name
    facts["compute_capability"] = f"{device.major}.{device.minor}"
    facts["memory_bytes"] = device.total_memory
    return facts


def tensorrt() -> dict[str, Any]:
    """A `version` of "" means that it is not installed; `why` is empty where a builder can be made."""
    try:
        import tensorrt as trt
    except ModuleNotFoundError:
        return {"version": "", "why": "it is not installed"}
    except Exception as error:  # a library it needs is missing or of another version
        return {"version": "?", "why": f"it cannot be imported: {error}"}
    why = ""
    try:
        if trt.Builder(trt.Logger(trt.Logger.ERROR)) is None:
            why = "it cannot make a builder"
    except Exception as error:
        why = f"it cannot make a builder: {error}"
    return {"version": trt.__version__, "why": why}


def cupy() -> dict[str, Any]:
    """As `tensorrt`; `why` is empty where a kernel ran on the card."""
    try:
        import cupy as cp
    except ModuleNotFoundError:
        return {"version": "", "why": "it is not installed"}
    except Exception as error:
        return {"version": "?", "why": f"it cannot be imported: {error}"}
    try:
        (cp.zeros(1) + 1).get()
    except Exception as error:
        return {"version": cp.__version__, "why": str(error).splitlines()[0]}
    return {"version": cp.__version__, "why": ""}


def libmpv() -> dict[str, Any]:
    import locale

    locale.setlocale(locale.LC_NUMERIC, "C")  # libmpv refuses to start with another decimal separator
    try:
        import mpv
    except OSError as error:
        return {"version": "", "why": str(error).splitlines()[0]}
    player = mpv.MPV(config=False, vo="null", ao="null")
    version = str(player.mpv_version)
    player.terminate()
    return {"version": version.removeprefix("mpv "), "why": ""}


def speed(size: str, seconds: str) -> dict[str, Any]:
    """What `auto` plays films of a size with, why, and how fast that is with the server's threads. Builds no engine."""
    from engines import ENGINES, open_renderer
    from server.main import default_workers

    from ..bench.speed import Feed, measure, moving_frames
    from .engines import stream_spec

    spec = stream_spec(size)
    renderer = open_renderer(spec, [replace(engine, build=None) for engine in ENGINES])
    threads = default_workers()
    feed = Feed(spec.layout, moving_frames(spec.layout))
    result = measure(renderer, feed, seconds=float(seconds), threads=threads)
    facts = {
        "model": renderer.model,
        "engine": renderer.engine,
        "note": renderer.state.note,
        "threads": threads,
        "inbetweens_per_second": result.inbetweens_per_second,
        # of the cores that its threads wanted, what they got: less than 1 where other programs took the rest
        "cpu_share": min(1.0, result.cpu_ms * result.inbetweens_per_second / 1000 / threads),
    }
    renderer.close()
    return facts


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "driver": driver,
    "engines": engines,
    "torch": torch,
    "tensorrt": tensorrt,
    "cupy": cupy,
    "libmpv": libmpv,
    "speed": speed,
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](*sys.argv[2:])))

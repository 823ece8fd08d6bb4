"""What may crash, hang or take seconds to import, asked in a process of its own: `python -m player.probes WHAT ...`.

Prints one JSON object. Used by `drba doctor` and `drba setup` through `probe`.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

from drba.errors import DrbaError

from .probe import ask_module


def probe(what: str, *arguments: str, timeout_s: float) -> dict[str, Any]:
    """The facts about one of PROBES. DrbaError where it crashed or did not come back."""
    answer = ask_module("player.probes", what, *arguments, timeout_s=timeout_s)
    if answer.failure:
        raise DrbaError(f"asking about {what} failed: {answer.failure}")
    facts: dict[str, Any] = json.loads(answer.out.splitlines()[-1])
    return facts


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


def speed(width: str, height: str, seconds: str) -> dict[str, Any]:
    """Which model `auto` chooses for yuv420p at a size, what was said about it, and how fast it is with the server's threads."""
    from drba.pixels import FrameLayout, pixel_format
    from engines import StreamSpec, open_renderer
    from server.main import default_workers

    from .bench_speed import measure, moving_frames

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("engines").addHandler(handler)
    logging.getLogger("engines").setLevel(logging.INFO)
    layout = FrameLayout(int(width), int(height), pixel_format("yuv420p"))
    renderer = open_renderer(StreamSpec(layout, "bt709", model="auto"))
    threads = default_workers()
    result = measure(renderer, layout, moving_frames(layout), seconds=float(seconds), threads=threads)
    facts = {
        "model": renderer.model,
        "engine": renderer.engine,
        "said": said,
        "threads": threads,
        "inbetweens_per_second": result.inbetweens_per_second,
        "median_ms": result.median_ms,
    }
    renderer.close()
    return facts


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "torch": torch,
    "tensorrt": tensorrt,
    "cupy": cupy,
    "libmpv": libmpv,
    "speed": speed,
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](*sys.argv[2:])))

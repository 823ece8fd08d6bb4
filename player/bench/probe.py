"""What this machine is and reaches at best, found out in a process of its own: PyTorch stays out of the command's."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import drba


def machine_info() -> dict[str, Any]:
    """What a measurement depends on besides the program. `load_1min`: the processes that wanted to run just before."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return {
        "cpu": found.group(1) if found else platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count() or 1,
        "load_1min": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "drba": drba.__version__,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def probe(seconds: float, answers: Connection) -> None:
    """The process: sends {"machine": ..., "peaks": {"cpu": ..., "cuda": ... where there is a card}}. `seconds` is how long
    each peak is tried."""
    import torch

    from engines.peaks import measure_peaks

    machine: dict[str, Any] = {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    peaks = {"cpu": asdict(measure_peaks(torch.device("cpu"), seconds))}
    if torch.cuda.is_available():
        peaks["cuda"] = asdict(measure_peaks(torch.device("cuda"), seconds))
        machine |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "driver": _driver()}
    answers.send({"machine": machine, "peaks": peaks})


def _driver() -> str | None:
    """The NVIDIA driver's version, None where its own tool is missing."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split("\n")[0] or None
    except (OSError, subprocess.TimeoutExpired):
        return None

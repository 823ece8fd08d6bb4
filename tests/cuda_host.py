"""The device path's kernels on the processor, compiled by g++ through tests/cuda_host.cpp."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from drba.networks import kernels

ADAPTER = Path(__file__).with_name("cuda_host.cpp")


def kernel_names() -> list[str]:
    """Of the functions that macros make: their last arguments are the names."""
    uses = re.findall(r"^(?:SAMPLE|SPLAT|COLOURS)\((.*)\)$", kernels.SOURCE.read_text(), re.MULTILINE)
    return [name for use in uses for name in use.replace(" ", "").split(",") if "_" in name and name != "half_t"]


class HostLauncher:
    """Takes the place of CuPy: runs a kernel to its end at once. Refuses arguments whose number or sizes differ from the
    kernel's parameters, which CUDA would not notice."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("g++")
        assert compiler, "g++ is missing; the Makefile installs it"
        (folder / "exports.inc").write_text("".join(f"EXPORT({name})\n" for name in kernel_names()))
        library = folder / "kernels.so"
        half = ["-mf16c"] if platform.machine() in ("x86_64", "AMD64") else []
        folders = ["-I", str(folder), "-I", str(kernels.SOURCE.parent)]
        options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", *half, *folders]
        command = [compiler, *options, "-o", str(library), str(ADAPTER)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self._library = ctypes.CDLL(str(library))
        self.launched: list[str] = []

    def __call__(
        self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: tuple[kernels.Scalar, ...]
    ) -> None:
        values = [np.array(value) for value in arguments]
        places = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = (ctypes.c_int * len(values))(*(value.itemsize for value in values))
        dims = [(ctypes.c_uint * 3)(*dim) for dim in (grid, block)]
        assert getattr(self._library, f"host_{name}")(*dims, places, sizes, len(values)) == 0, (
            f"{name}: the {len(values)} arguments do not fit the kernel's parameters"
        )
        self.launched.append(name)

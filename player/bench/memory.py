"""How much memory rendering takes at its peak: of the process, or of a CUDA device."""

from __future__ import annotations

import re
from pathlib import Path

MIB = 1 << 20


class ProcessMemory:
    """How far the process grows from now on, at its peak; None where the system does not say (only Linux does)."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is in use now (proc(5))
        except OSError:
            self._before = None  # the peak could be that of the imports
        else:
            self._before = self._status("VmRSS")

    def peak_mib(self) -> float | None:
        peak = self._status("VmHWM")
        return None if peak is None or self._before is None else (peak - self._before) / 1024

    def _status(self, name: str) -> int | None:
        try:
            found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        except OSError:
            return None
        return int(found.group(1)) if found else None


class CudaMemory:
    """Device memory that PyTorch handed out at its peak, or that the whole card lost since now where that is more
    (TensorRT and CuPy take their own)."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda
        self._free_before = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0

    def peak_mib(self) -> float | None:
        lost = self._free_before - self._cuda.mem_get_info()[0]
        return max(self._cuda.max_memory_allocated(), lost) / MIB

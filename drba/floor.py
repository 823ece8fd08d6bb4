"""The least time that an in-between frame takes on a device, from what it costs and what the device can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What one in-between costs; `drba.networks.cost` counts it, and says what is left out. `operations` by dtype name
    (coarse parts stay in float32 where the rest is in float16)."""

    operations: dict[str, float]
    moved_bytes: float
    layer_bytes: float

    def floor_s(self, operations_per_second: Mapping[str, float], bytes_per_second: float) -> float:
        """The least time on a device of these peaks; operations and bytes are taken to overlap perfectly."""
        computing = sum(count / operations_per_second[dtype] for dtype, count in self.operations.items())
        return max(computing, self.moved_bytes / bytes_per_second)

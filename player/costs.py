"""What an in-between costs with each renderer: now, lately and when nothing else kept the machine busy."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from itertools import islice, takewhile
from statistics import median

from .levels import ModelAtScale

KEPT = 256  # samples of each renderer: more than five seconds of 48 in-betweens a second
NEWEST = 5  # whose median is the present cost: one slow frame is no trend, five are a tenth of a second at 24 -> 60 fps
PRESENT_S = 3.0  # older samples say nothing about the present


class Costs:
    """Milliseconds of one in-between by renderer, in the order of time. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float], calm_ms: Mapping[ModelAtScale, float]) -> None:
        self._clock = clock
        self._samples: defaultdict[ModelAtScale, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._calm_ms = dict(calm_ms)

    def add(self, renderer: ModelAtScale, cost_ms: float) -> None:
        self._samples[renderer].append((self._clock(), cost_ms))
        present_ms = self.present_ms(renderer)
        if present_ms is not None:
            self._calm_ms[renderer] = min(present_ms, self._calm_ms.get(renderer, math.inf))

    def within(self, renderer: ModelAtScale, seconds: float) -> list[tuple[float, float]]:
        """(when, ms) of the samples of the last `seconds`."""
        since = self._clock() - seconds
        newest_first = takewhile(lambda sample: sample[0] >= since, reversed(self._samples[renderer]))
        return list(newest_first)[::-1]

    def present_ms(self, renderer: ModelAtScale) -> float | None:
        """Median of the newest samples; None while there are none of the last seconds."""
        samples = self._samples[renderer]
        newest = [cost for when, cost in islice(reversed(samples), NEWEST) if when >= self._clock() - PRESENT_S]
        return median(newest) if len(newest) >= 3 else None

    def latest_ms(self, renderer: ModelAtScale) -> float | None:
        """The newest sample, however old."""
        samples = self._samples[renderer]
        return samples[-1][1] if samples else None

    def steady_ms(self, renderer: ModelAtScale, seconds: float) -> float | None:
        """What four of five samples of the last `seconds` stay below; None unless they fill most of that time."""
        samples = self.within(renderer, seconds)
        if len(samples) < 3 or samples[-1][0] - samples[0][0] < seconds / 2:
            return None
        return sorted(cost for _, cost in samples)[math.ceil(len(samples) * 0.8) - 1]

    def calm_ms(self, renderer: ModelAtScale) -> float | None:
        """The lowest present cost there ever was, remembered ones included."""
        return self._calm_ms.get(renderer)

    @property
    def all_calm_ms(self) -> dict[ModelAtScale, float]:
        return dict(self._calm_ms)

    def inflation(self, renderer: ModelAtScale) -> float:
        """How many times its calm cost it costs now; 1 where that is not known."""
        now, calm = self.present_ms(renderer), self.calm_ms(renderer)
        return now / calm if now and calm else 1.0

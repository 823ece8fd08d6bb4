"""CUDA graphs of a network's parts: the hundreds of launches of a part become one.

A graph works on the very memory that it was recorded with. A part is recorded once for each set of places that its
inputs lie at; the renderer keeps frames in a few fixed buffers, so the same sets come back. Its results lie at fixed
places too: they hold until the part runs again with inputs at the same places.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from drba.networks.interpolator import Interpolator
from drba.networks.parts import PartFunction

log = logging.getLogger(__name__)

Key = tuple[Any, ...]

#: Inputs that never lie where they did, by the names of `networks.parts`, and parts whose results are read later.
MOVING = ("timestep", "time", "flows")
KEPT = ("layers", "encode")

#: More than the sets of places that a renderer's frame buffers make; beyond it something does not come back.
GRAPHS_MAX = 64
KNOWN_KEYS_MAX = 256
WARM_UP_RUNS = 2  # the first chooses algorithms and fills caches
#: Mean difference between the first replay and plain execution, as a share of the mean value.
TOLERANCE = 1e-3


class Recorder(Protocol):
    """Makes a replayable record of a function's work on the current device."""

    def record(
        self, function: PartFunction, inputs: Sequence[Tensor | None], *, kept: bool
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        """(replay, its outputs). Outputs are undefined until the first replay. Those of a `kept` record hold between its
        own replays; others only until any other record is replayed. Raises where it cannot be recorded."""


class CudaRecorder:
    """Records on a stream of its own, so that other threads may go on using theirs."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._shared = torch.cuda.graph_pool_handle()

    def record(
        self, function: PartFunction, inputs: Sequence[Tensor | None], *, kept: bool
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_RUNS):
                function(*inputs)
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Graphs of one pool use the same scratch memory, also for results: what must outlast another graph's replay gets
        # a pool of its own.
        pool = None if kept else self._shared
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
            outputs = function(*inputs)
        return graph.replay, outputs


@dataclass
class _Record:
    replay: Callable[[], None]
    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor | None, ...] = field(repr=False)  # keeps their memory from being given to others


class GraphCache:
    """Records of one renderer's parts; used by one thread at a time (the compute lane's)."""

    def __init__(self, recorder: Recorder, graphs_max: int = GRAPHS_MAX) -> None:
        self._recorder, self._graphs_max = recorder, graphs_max
        self._records: dict[Key, _Record] = {}
        self._seen: OrderedDict[Key, None] = OrderedDict()
        self._fixed: dict[Key, Tensor] = {}
        self._plain: set[str] = set()  # parts that run without
        self._full = False

    def __len__(self) -> int:
        return len(self._records)

    def wrap(
        self, name: str, function: PartFunction, *, moving: Sequence[int] = (), kept: bool = False
    ) -> PartFunction:
        """`function` with its work recorded. `moving` are the positions of small inputs that never lie where they did
        (timesteps): they are copied to a fixed place. `kept`: its results are read after other parts ran."""

        def run(*inputs: Tensor | None) -> tuple[Tensor, ...]:
            if name in self._plain:
                return function(*inputs)
            placed = tuple(
                self._at_fixed_place(name, i, value) if i in moving and value is not None else value
                for i, value in enumerate(inputs)
            )
            key = (name, *map(_place, placed))
            record = self._records.get(key)
            if record is None:
                return self._first_times(name, key, function, placed, kept)
            record.replay()
            return record.outputs

        return run

    def clear(self) -> None:
        """Forget every record: the parts behind them have changed or are not used any more."""
        self._records.clear()
        self._seen.clear()
        self._fixed.clear()
        self._plain.clear()
        self._full = False

    def _first_times(
        self, name: str, key: Key, function: PartFunction, inputs: tuple[Tensor | None, ...], kept: bool
    ) -> tuple[Tensor, ...]:
        """Plain the first time, since most sets of places of rare paths never come back; recorded the second time. A part
        whose results are kept is recorded at once: other parts' inputs lie where its results do."""
        if key not in self._seen and not kept:
            self._seen[key] = None
            while len(self._seen) > KNOWN_KEYS_MAX:
                self._seen.popitem(last=False)
            return function(*inputs)
        expected = function(*inputs)
        if len(self._records) >= self._graphs_max:
            if not self._full:
                log.warning("%d CUDA graphs are recorded already; more of %r run without", self._graphs_max, name)
            self._full = True
            return expected
        try:
            replay, outputs = self._recorder.record(function, inputs, kept=kept)
            replay()
        except RuntimeError as error:  # torch's and the driver's
            self._give_up(name, f"it cannot be recorded: {str(error).splitlines()[0]}")
            return expected
        if not all(map(_agree, outputs, expected)):
            self._give_up(name, "its replay differs from plain execution")
            return expected
        self._records[key] = _Record(replay, outputs, inputs)
        return outputs

    def _give_up(self, name: str, reason: str) -> None:
        self._plain.add(name)
        self._records = {key: record for key, record in self._records.items() if key[0] != name}
        log.warning("the part %r runs without a CUDA graph, slower: %s", name, reason)

    def _at_fixed_place(self, name: str, position: int, value: Tensor) -> Tensor:
        key = (name, position, tuple(value.shape), value.dtype)
        fixed = self._fixed.get(key)
        if fixed is None:
            fixed = self._fixed[key] = torch.empty_like(value, memory_format=torch.contiguous_format)
        return fixed.copy_(value)


def with_graphs(network: Interpolator, cache: GraphCache, padded: tuple[int, int]) -> Interpolator:
    """The interpolator with its parts recorded, one timestep at a time; itself where it has no parts."""
    described = network.network_parts(*padded)
    if not described:
        return network
    wrapped = {
        part.name: cache.wrap(
            part.name,
            network.parts[part.name],
            moving=[i for i, spec in enumerate(part.inputs) if spec.name in MOVING],
            kept=part.name in KEPT,
        )
        for part in described
    }
    return network.with_parts(wrapped, batch=1)


def _place(value: Tensor | None) -> Key | None:
    return None if value is None else (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Waits for the device: once a record. False for NaN on one side only."""
    found, expected = found.double(), expected.double()
    difference = (
        (found - expected).abs().nan_to_num(nan=0.0 if torch.equal(found.isnan(), expected.isnan()) else torch.inf)
    )
    return bool(difference.mean() <= TOLERANCE * (expected.nan_to_num(0.0).abs().mean() + TOLERANCE))

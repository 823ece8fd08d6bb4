"""Building a network's parts with a compiler such as TensorRT in the background, verifying them, using them.

For a renderer (all of it may be called from any thread):

    request = request_for(model, width, height, scale, builder)   # engines/built.py, which does all of this
    engines = cached_engines(request, builder, cache)        # Engines, or None: not built yet
    build = EngineBuild(request, builder, cache)             # a thread; .state .progress .message .watch() .cancel()
    ...                                                      # play with PyTorch; now and then:
    if build.state == "done":                                # and build.engines is there
        interpolator = build.engines.attach(interpolator)    # between two triplets; the next one with state=None

A request's `load(dtype)` gives the model's interpolator as `drba.load` makes it, in fast mode on the builder's device
(float16, and float32 once to verify with); not one that was rewritten for PyTorch, whose weights would be another key. What
`attach` returns must be used by one thread and on one CUDA stream at a time. State kept from before must not be used with
it: its precision may be another. While a build runs on a card, CUDA graphs must be captured with
capture_error_mode="thread_local".

Precisions are tried in order; the first whose frames agree with PyTorch's float32 (engines/verification.py) is used. The
verdict is kept in the cache with the digests of the engines it was spoken about, a refusal too, so that nothing is built
twice. One build at a time in the process and, by a file lock, on the machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from drba.errors import DrbaError, EngineError
from drba.networks.interpolator import Interpolator
from drba.networks.parts import PRECISIONS, NetworkPart, PartFunction, Parts, Precision

from .engine_cache import EngineCache
from .onnx_export import EXPORTER_VERSION, export_part
from .verification import Difference, difference, render_test

log = logging.getLogger(__name__)

#: Whole-float32 engines are not worth it: PyTorch in float16 is as fast and already there.
ENGINE_PRECISIONS = ("fp16", "fp16-fp32-warps", "fp16-all")
VERIFYING_SHARE = 0.05  # of the progress

Report = Callable[[float], bool]  # how far, 0..1 -> whether to go on
Load = Callable[[torch.dtype], Interpolator]
#: "waiting" is for another build to end; the last three are final.
State = Literal["waiting", "building", "verifying", "done", "failed", "cancelled"]
FINAL: tuple[State, ...] = ("done", "failed", "cancelled")


class BuildCancelled(Exception):
    """`report` returned False."""


class EngineRefused(EngineError):
    """Every precision was built once and differed from PyTorch; the message says by how much."""


class Builder(Protocol):
    """Makes engines of ONNX graphs for one device. Used by one thread at a time."""

    name: str
    device: torch.device

    def fingerprint(self) -> str:
        """Everything that an engine is tied to, such as the compiler's version and the device."""

    def build(self, graph: bytes, report: Report, timings: bytes | None) -> tuple[bytes, bytes | None]:
        """ONNX -> (engine, timings for the next build; None if it keeps none). BuildCancelled, EngineError."""

    def load(self, engine: bytes, part: NetworkPart) -> PartFunction:
        """EngineError where the bytes are no engine of that part here."""


@dataclass(frozen=True)
class EngineRequest:
    """What to build: a model at a padded size and flow scale. See the module for `load`."""

    model: str
    height: int
    width: int
    scale: float
    load: Load

    def __str__(self) -> str:
        return f"{self.model} {self.width}x{self.height}" + (f" scale {self.scale:g}" if self.scale != 1 else "")


@dataclass(frozen=True)
class Engines:
    """Parts that were verified, those without weights as PyTorch modules."""

    parts: Parts
    precision: str
    builder: str

    def attach(self, interpolator: Interpolator) -> Interpolator:
        """The interpolator on these parts; see the module for what that asks of the caller."""
        return interpolator.with_parts(self.parts, batch=1)


def cached_engines(
    request: EngineRequest, builder: Builder, cache: EngineCache, precisions: Sequence[str] = ENGINE_PRECISIONS
) -> Engines | None:
    """Engines that were built and verified before, without building anything; None where there are none.

    EngineRefused where every precision was refused.
    """
    refusals = []
    for name in precisions:
        candidate = _Candidate(request, builder, cache, PRECISIONS[name])
        verdict = candidate.verdict()
        if verdict is None:
            return None
        if not verdict["accepted"]:
            refusals.append(f"{name}: {verdict['difference']}")
            continue
        engines = candidate.stored()
        if engines is None or candidate.digests(engines) != verdict["engines"]:
            return None
        return candidate.loaded(engines)
    raise _refused(request, builder, refusals)


class EngineBuild:
    """A build in a thread of its own, which begins at once (or when the build before it has ended).

    `progress` is 0..1 within the precision that is being tried, `message` one line for the viewer. `refused` says of a
    build that "failed" that it was built and no precision agreed with PyTorch. Read them at any time, in any thread.
    """

    def __init__(
        self,
        request: EngineRequest,
        builder: Builder,
        cache: EngineCache,
        precisions: Sequence[str] = ENGINE_PRECISIONS,
    ) -> None:
        self.request = request
        self.state: State = "waiting"
        self.progress = 0.0
        self.refused = False
        self.message = f"{builder.name}: {request} waits for another build"
        self.engines: Engines | None = None
        self._builder, self._cache, self._precisions = builder, cache, precisions
        self._changed: Callable[[], None] = lambda: None
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"build {request}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Of the builder."""
        return self._builder.name

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after every change from now on, in the build's thread; one watcher at a time."""
        self._changed = changed

    def cancel(self) -> None:
        """Ask the build to end; it does so at its next step. Parts that are finished stay in the cache."""
        self._cancelled.set()

    def wait(self, timeout_s: float | None = None) -> State:
        """Until it has ended or the time is over; the state then."""
        self._thread.join(timeout_s)
        return self.state

    def _run(self) -> None:
        try:
            with _one_at_a_time(self._check_wanted), self._cache.building(self._check_wanted), _stream(self._builder):
                self._build()
        except BuildCancelled:
            self._end("cancelled", "was cancelled")
        except EngineRefused as error:
            self.refused = True
            self._end("failed", str(error))
        except DrbaError as error:
            self._end("failed", str(error))
        except Exception as error:  # what a compiler or the device raises must not end the server
            log.exception("building %s", self.request)
            reason = str(error).strip().splitlines() or [""]
            self._end("failed", f"failed with {type(error).__name__}: {reason[0]}")

    def _build(self) -> None:
        refusals = []
        reference: Tensor | None = None
        for name in self._precisions:
            candidate = _Candidate(self.request, self._builder, self._cache, PRECISIONS[name])
            verdict = candidate.verdict()
            if verdict is not None and not verdict["accepted"]:
                refusals.append(f"{name}: {verdict['difference']}")
                continue
            self._tell("building", 0.0, f"building {self.request} {name}")
            engines = self._engines(candidate)
            digests = candidate.digests(engines)
            result = candidate.loaded(engines)
            if verdict is None or verdict["engines"] != digests:
                self._check_wanted()
                self._tell("verifying", 1 - VERIFYING_SHARE, f"verifying {self.request} {name}")
                if reference is None:
                    reference = self._render(self.request.load(torch.float32))
                found = difference(self._render(result.attach(candidate.interpolator)), reference)
                candidate.judge(found, digests)
                log.info("%s: %s %s against PyTorch: %s", self._builder.name, self.request, name, found)
                if not found.acceptable:
                    refusals.append(f"{name}: {found}")
                    continue
            self.engines = result
            self._end("done", f"{self.request} {name} is ready")
            return
        raise _refused(self.request, self._builder, refusals)

    def _engines(self, candidate: _Candidate) -> dict[str, bytes]:
        """Every part's engine, from the cache or built."""
        engines = candidate.stored_parts()
        graphs = {
            part.name: export_part(part, candidate.precision, self._builder.device)
            for part in candidate.parts
            if part.name not in engines
        }
        total, built = sum(map(len, graphs.values())), 0  # a graph's size is mostly its weights: its share of the work
        for name, graph in graphs.items():

            def report(fraction: float, name: str = name, begin: int = built, size: int = len(graph)) -> bool:
                progress = (1 - VERIFYING_SHARE) * (begin + size * fraction) / total
                precision = candidate.precision.name
                self._tell("building", progress, f"building {self.request} {precision}, {name} {fraction:.0%}")
                return not self._cancelled.is_set()

            self._check_wanted()
            report(0.0)
            engine, timings = self._builder.build(graph, report, candidate.timings())
            candidate.keep(name, engine, timings)
            engines[name] = engine
            built += len(graph)
        return engines

    def _render(self, interpolator: Interpolator) -> Tensor:
        return render_test(interpolator, self.request.height, self.request.width)

    def _check_wanted(self) -> None:
        if self._cancelled.is_set():
            raise BuildCancelled

    def _end(self, state: State, what: str) -> None:
        log.info("%s: %s %s", self._builder.name, self.request, what)
        self._tell(state, 1.0 if state == "done" else self.progress, what)

    def _tell(self, state: State, progress: float, what: str) -> None:
        """The state last: who sees "done" finds the rest as it is then."""
        self.progress, self.message = progress, f"{self._builder.name}: {what}"
        self.state = state
        self._changed()


def compared_again(request: EngineRequest, builder: Builder, cache: EngineCache, precision: str) -> Difference | None:
    """Compare stored engines with PyTorch anew and keep the new verdict; None where they are not all there."""
    candidate = _Candidate(request, builder, cache, PRECISIONS[precision])
    engines = candidate.stored()
    if engines is None:
        return None
    with _stream(builder):
        reference = render_test(request.load(torch.float32), request.height, request.width)
        result = candidate.loaded(engines).attach(candidate.interpolator)
        found = difference(render_test(result, request.height, request.width), reference)
    candidate.judge(found, candidate.digests(engines))
    return found


class _Candidate:
    """One precision of a request: its parts, and what the cache has of them."""

    def __init__(self, request: EngineRequest, builder: Builder, cache: EngineCache, precision: Precision) -> None:
        self.precision = precision
        self.interpolator = request.load(precision.weights)
        self._builder, self._cache = builder, cache
        every = self.interpolator.network_parts(request.height, request.width, precision)
        if not every:
            raise EngineError(f"model {request.model} has no parts to build; use a RIFE or DistilDRBA model")
        self.parts = [part for part in every if part.has_weights]
        self._modules: dict[str, PartFunction] = {part.name: part.module for part in every if not part.has_weights}
        self._key = {
            "builder": builder.name,
            "fingerprint": builder.fingerprint(),
            "exporter": EXPORTER_VERSION,
            "model": request.model,
            "weights": weights_digest(self.interpolator),
            "height": request.height,
            "width": request.width,
            "scale": request.scale,
            "precision": precision.name,
        }
        self._timings_key = {name: self._key[name] for name in ("builder", "fingerprint")} | {"kind": "timings"}

    def verdict(self) -> dict[str, Any] | None:
        content = self._cache.get(self._key | {"kind": "verdict"})
        return None if content is None else json.loads(content)

    def judge(self, found: Difference, digests: dict[str, str]) -> None:
        verdict = {"accepted": found.acceptable, "difference": str(found), "engines": digests}
        self._cache.put(self._key | {"kind": "verdict"}, json.dumps(verdict).encode())
        if not found.acceptable:  # nothing will ever load them
            for name in digests:
                self._cache.remove(self._part_key(name))

    def stored_parts(self) -> dict[str, bytes]:
        found = {part.name: self._cache.get(self._part_key(part.name)) for part in self.parts}
        return {name: engine for name, engine in found.items() if engine is not None}

    def stored(self) -> dict[str, bytes] | None:
        """Every part's engine, or None where one is missing."""
        engines = self.stored_parts()
        return engines if len(engines) == len(self.parts) else None

    def timings(self) -> bytes | None:
        return self._cache.get(self._timings_key)

    def keep(self, part: str, engine: bytes, timings: bytes | None) -> None:
        self._cache.put(self._part_key(part), engine)
        if timings is not None:
            self._cache.put(self._timings_key, timings)

    def digests(self, engines: dict[str, bytes]) -> dict[str, str]:
        return {name: hashlib.sha256(engine).hexdigest() for name, engine in sorted(engines.items())}

    def loaded(self, engines: dict[str, bytes]) -> Engines:
        parts = dict(self._modules)
        for part in self.parts:
            parts[part.name] = self._builder.load(engines[part.name], part)
            self._cache.hold(self._part_key(part.name))
        return Engines(parts, self.precision.name, self._builder.name)

    def _part_key(self, part: str) -> dict[str, Any]:
        return self._key | {"kind": "engine", "part": part}


def weights_digest(interpolator: Interpolator) -> str:
    """SHA-256 of a network's tensors as they are computed with."""
    digest = hashlib.sha256()
    for name, tensor in sorted(interpolator.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _refused(request: EngineRequest, builder: Builder, refusals: list[str]) -> EngineRefused:
    return EngineRefused(
        f"engines of {request} differ from PyTorch ({'; '.join(refusals)}) and are not used; PyTorch is. "
        f"Another version of {builder.name} may do better"
    )


_BUILDING = threading.Lock()


@contextmanager
def _one_at_a_time(check_wanted: Callable[[], None]) -> Iterator[None]:
    while not _BUILDING.acquire(timeout=0.2):
        check_wanted()
    try:
        yield
    finally:
        _BUILDING.release()


def _stream(builder: Builder) -> AbstractContextManager[Any]:
    """A stream of its own, so that exporting and verifying do not wait in the line of what is playing."""
    if builder.device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(builder.device))

"""What `drba doctor` finds about models: weights, what `auto` can choose from, and a measured verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from drba import weights
from drba.errors import DrbaError
from drba.models import ModelSpec, find, models

from .check import Check, State
from .probes import probe

SIZES = ("720p", "1080p")  # of engine_setup.SIZES
FILM_RATE, SCREEN_RATE = Fraction(24), Fraction(60)
MEASURE_S = 1.0
MEASURE_TIMEOUT_S = 90.0  # with networks to be measured first, one after the other
#: Of the time there is, what rendering may take: decoding, hand-over and mpv want their part.
FITTING_SHARE = 0.8
REINSTALL = "install drba-player again"
QUIET_SHARE = 0.8  # of the processor that rendering gets on a quiet machine, and more


def check_weights() -> Iterator[Check]:
    """Every file of every installed model against its digest. Nothing is written."""
    found = [spec for spec in models() if any(weights.find_file(spec, part.name) for part in spec.parts)]
    if not found:
        yield Check("weights", "info", "no network is installed; the flow-only model needs none")
    for spec in found:
        yield _check_model(spec)


def _check_model(spec: ModelSpec) -> Check:
    from drba.integrity import part_status

    name, remedy = f"weights:{spec.name}", f"drba models fetch {spec.name}"
    in_package = spec.shipped and not any(weights.find_own_file(spec, part.name) for part in spec.parts)
    if in_package:
        remedy = REINSTALL
    try:
        parts = [part_status(spec, part, note=False) for part in spec.parts]
    except DrbaError as error:
        return Check(name, "problem", str(error), remedy)
    data = {part.part.name: part.state for part in parts}
    bad = [f"{part.part.name} is {part.state}" for part in parts if part.state in ("missing", "changed")]
    if bad:
        return Check(name, "problem", ", ".join(bad), remedy, data)
    if any(part.state == "recorded" for part in parts):
        return Check(
            name, "info", "installed; no digest is known to check it by", f"drba models verify {spec.name}", data
        )
    return Check(name, "ok", f"{'in the package' if in_package else 'installed'} and as it should be", data=data)


def check_engine_cache() -> Iterator[Check]:
    """Built engines that are kept, against their checksums. Whether they are those that are needed, the check `engines` says."""
    from engines.engine_cache import EngineCache

    cache = EngineCache()
    entries = cache.entries()
    damaged = [entry for entry in entries if cache.read(entry) is None]
    size = sum(entry.size_bytes for entry in entries)
    data = {"path": str(cache.folder), "files": len(entries), "bytes": size, "damaged": len(damaged)}
    if not entries:
        yield Check("engine-cache", "info", "no engine has been built here", data=data)
    elif damaged:
        found = (
            f"{len(damaged)} of {len(entries)} files in {cache.folder} are damaged; they are built again when needed"
        )
        yield Check("engine-cache", "warn", found, "drba engines clean", data)
    else:
        yield Check("engine-cache", "ok", f"{len(entries)} files in {cache.folder}, {size / 1e6:.0f} MB", data=data)


def installed_candidates() -> list[ModelSpec]:
    """The networks that `--model auto` can choose from, best first."""
    from engines.choice import CANDIDATES

    return [model for model in map(find, CANDIDATES) if weights.is_installed(model)]


def check_auto() -> Iterator[Check]:
    """What `--model auto` has to choose from; what it chooses, and why, the measurement shows."""
    candidates = [model.name for model in installed_candidates()]
    if candidates:
        found = f"takes the first that is fast enough for the film: {', '.join(candidates)}, flow"
    else:
        found = "flow, since no network is installed"
    yield Check("auto", "ok", found, data={"candidates": [*candidates, "flow"]})


def inbetweens_per_second(film: Fraction, screen: Fraction) -> Fraction:
    """How many frames have to be made each second: shown ones less those that fall on one of the film's.

    Frames of both fall together every 1 / gcd(film, screen) seconds.
    """
    common = math.gcd(film.numerator * screen.denominator, screen.numerator * film.denominator)
    return screen - Fraction(common, film.denominator * screen.denominator)


def check_speed(size: str) -> Iterator[Check]:
    """A short measurement of what `--model auto` chooses for a size, with as many threads as the server has."""
    facts = probe("speed", size, f"{MEASURE_S:g}", timeout_s=MEASURE_TIMEOUT_S)
    if installed_candidates():  # else the check `auto` has said it all
        yield Check(f"auto:{size}", "info", facts["note"], data={"model": facts["model"], "engine": facts["engine"]})
    disturbed = facts["engine"] == "cpu" and facts["cpu_share"] < QUIET_SHARE
    yield verdict(size, facts["model"], facts["engine"], facts["inbetweens_per_second"], disturbed)


def verdict(size: str, model: str, engine: str, measured: float, disturbed: bool) -> Check:
    """Whether `measured` in-betweens a second are enough for a film of 24 on a screen of 60. `disturbed`: other programs
    took a good part of the processor meanwhile."""
    needed = float(inbetweens_per_second(FILM_RATE, SCREEN_RATE))
    took_ms, budget_ms = 1000 / measured, 1000 / needed
    found = f"{FILM_RATE} -> {SCREEN_RATE}: {model} on {engine} in {took_ms:.1f} ms of {budget_ms:.1f} ms"
    state: State = "ok"
    remedy = ""
    if measured * FITTING_SHARE >= needed:
        found += ", fits"
    else:
        state = "warn"
        found += ", just" if measured >= needed else ", too slow: source frames stand in for late ones"
        twice = float(inbetweens_per_second(FILM_RATE, 2 * FILM_RATE))
        fits_twice = measured * FITTING_SHARE >= twice
        remedy = f"--fps 2x ({FILM_RATE} -> {2 * FILM_RATE}) fits" if fits_twice else "choose smaller pictures"
    if disturbed:
        found += " (measured while other programs kept the processor busy)"
        remedy = remedy and "measure again when the machine is quiet"
    data = {
        "model": model,
        "engine": engine,
        "ms": round(took_ms, 2),
        "budget_ms": round(budget_ms, 2),
        "fits": state == "ok",
        "disturbed": disturbed,
    }
    return Check(f"speed:{size}", state, found, remedy, data)

"""How far a render is and where its time goes: counted by the pipeline, shown as a bar or as lines of JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ..plan import Kind

INTERVAL_S = 0.25
#: What a render makes; a player may also reduce.
KINDS = (Kind.SOURCE, Kind.HELD, Kind.CUT, Kind.INTERPOLATED)
SECONDS = ("decode_s", "render_s", "encode_s", "wait_s")
#: Fields of Counts that are sums over the work done.
GROWING = (*(kind.value for kind in KINDS), *SECONDS)


@dataclass
class Counts:
    """Output frames by kind, and seconds: `decode_s` decoding and comparing, `render_s` of all render threads, `encode_s`
    encoding, `wait_s` the encoder waiting for frames. Each field has one writing thread, but for `render_s`."""

    source: int = 0
    held: int = 0
    cut: int = 0
    interpolated: int = 0
    decode_s: float = 0.0
    render_s: float = 0.0
    encode_s: float = 0.0
    wait_s: float = 0.0
    workers: int = 1
    processes: int = 1  # that decode, render and encode side by side
    began_s: float = field(default_factory=time.perf_counter)
    ended_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def frames(self) -> int:
        return self.source + self.held + self.cut + self.interpolated

    @property
    def elapsed_s(self) -> float:
        return (self.ended_s or time.perf_counter()) - self.began_s

    @property
    def frames_per_s(self) -> float:
        return self.frames / max(self.elapsed_s, 1e-9)

    def count(self, kind: Kind) -> None:
        setattr(self, kind.value, getattr(self, kind.value) + 1)

    def rendered(self, seconds: float) -> None:
        with self._lock:
            self.render_s += seconds

    def numbers(self) -> dict[str, float]:
        """What grows with the work: for another process, which adds it to its own with `add`."""
        return {name: getattr(self, name) for name in GROWING}

    def add(self, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            setattr(self, name, getattr(self, name) + value)

    def shares(self) -> str:
        """Frames by kind in percent, as words."""
        kinds = {"source": self.source, "interpolated": self.interpolated, "held": self.held, "at cuts": self.cut}
        return ", ".join(f"{100 * n / max(self.frames, 1):.0f} % {name}" for name, n in kinds.items())

    def where_time_went(self) -> str:
        """Shares of the elapsed time; the stages overlap."""
        elapsed = max(self.elapsed_s, 1e-9) * self.processes
        busy = self.render_s / elapsed * self.processes / self.workers
        return (
            f"decoding {self.decode_s / elapsed:.0%}, interpolating {busy:.0%} of {self.workers} threads, "
            f"encoding {self.encode_s / elapsed:.0%}, encoder waiting {self.wait_s / elapsed:.0%}"
        )


class Display(Protocol):
    """What a user or a program sees of one render."""

    def note(self, text: str) -> None: ...
    def film(self, number: int, count: int, skipped: int) -> None:
        """What follows is film `number` of `count`; `skipped` of those before it took no time. Not called for a single one."""

    def begin(self, output: str, before: int, total: int, model: str, engine: str) -> None:
        """`before` of `total` output frames exist already."""

    def update(self, counts: Counts) -> None: ...
    def stopped(self, counts: Counts, text: str) -> None: ...
    def done(self, counts: Counts) -> None: ...
    def failed(self, text: str) -> None: ...


@dataclass(frozen=True)
class Films:
    """Film `number` of `count` is being rendered, since `began_s`; `skipped` ones before it cost no time."""

    number: int
    count: int
    skipped: int
    began_s: float

    def words(self, share: float) -> str:
        """Where the whole is when `share` (0..1) of this film is done; films are taken to be of one length."""
        rendered = self.number - 1 - self.skipped + share
        elapsed_s = time.perf_counter() - self.began_s
        left = f", {clock_time(elapsed_s / rendered * (self.count - self.skipped - rendered))} left" if rendered else ""
        return f"film {self.number} of {self.count}{left}"


class Ticker:
    """Calls `tick` a few times a second, in a thread, and once at the end."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._tick()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._tick()


class BarDisplay:
    """A bar on a terminal; elsewhere the notes and the last lines only."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = self._all = TaskID(0)
        self._films: Films | None = None
        self._output, self._model, self._before, self._total = "", "", 0, 0

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def film(self, number: int, count: int, skipped: int) -> None:
        began_s = self._films.began_s if self._films else time.perf_counter()
        self._films = Films(number, count, skipped, began_s)

    def begin(self, output: str, before: int, total: int, model: str, engine: str) -> None:
        self._output, self._before, self._total, self._model = output, before, total, f"{model} on {engine}"
        if self._console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %  {task.description}"))
            # Standard output is not touched: who leads it elsewhere (`Cluster`) must find it so.
            self._progress = Progress(*columns, console=self._console, redirect_stdout=False)
            if self._films is not None:
                self._all = self._progress.add_task("", total=self._films.count)
            self._task = self._progress.add_task("starting", total=max(total, 1), completed=before)
            self._progress.start()

    def update(self, counts: Counts) -> None:
        if self._progress is None:
            return
        rate, left = counts.frames_per_s, self._total - self._before - counts.frames
        rest = clock_time(left / rate) if counts.frames and left > 0 else "0:00"
        text = f"{rate:.1f} frames/s, {rest} left; {counts.shares()}" if counts.frames else "starting"
        self._progress.update(self._task, completed=self._before + counts.frames, description=text)
        if self._films is not None:
            share = min(1.0, (self._before + counts.frames) / max(self._total, 1))
            done = self._films.number - 1 + share
            self._progress.update(self._all, completed=done, description=self._films.words(share))

    def stopped(self, counts: Counts, text: str) -> None:
        self._end_bar()
        self.note(f"{self._output}: {self._before + counts.frames} of {self._total} frames, {text}")

    def done(self, counts: Counts) -> None:
        self._end_bar()
        self.note(
            f"{self._output}: {self._before + counts.frames} frames ({counts.shares()}) in {clock_time(counts.elapsed_s)}, "
            f"{counts.frames_per_s:.1f} frames/s with {self._model}; {counts.where_time_went()}"
        )

    def failed(self, text: str) -> None:
        self._end_bar()
        print(f"drba-render: {text}", file=sys.stderr)

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class JsonDisplay:
    """One JSON object a line on the standard output; `event` says what it is."""

    def __init__(self) -> None:
        self._stream = sys.stdout  # what it is now: libraries write to what it is later
        self._fixed: dict[str, Any] = {}
        self._place: dict[str, int] = {}
        self._before = 0

    def note(self, text: str) -> None:
        self._print("note", text=text)

    def film(self, number: int, count: int, skipped: int) -> None:
        self._place = {"film": number, "films": count}

    def begin(self, output: str, before: int, total: int, model: str, engine: str) -> None:
        self._fixed, self._before = {**self._place, "output": output, "total": total}, before
        self._print("begin", **self._fixed, frames=before, model=model, engine=engine)

    def update(self, counts: Counts) -> None:
        self._print("progress", **self._state(counts))

    def stopped(self, counts: Counts, text: str) -> None:
        self._print("stopped", text=text, **self._state(counts))

    def done(self, counts: Counts) -> None:
        seconds = {name: round(getattr(counts, name), 3) for name in SECONDS}
        self._print("done", **self._state(counts), elapsed_s=round(counts.elapsed_s, 3), **seconds)

    def failed(self, text: str) -> None:
        self._print("failed", text=text)

    def _state(self, counts: Counts) -> dict[str, Any]:
        frames, rate = self._before + counts.frames, counts.frames_per_s
        left_s = max(0, self._fixed["total"] - frames) / rate if counts.frames else None
        kinds = {kind.value: getattr(counts, kind.value) for kind in KINDS}
        eta = None if left_s is None else round(left_s, 1)
        return {**self._fixed, "frames": frames, **kinds, "frames_per_s": round(rate, 2), "left_s": eta}

    def _print(self, event: str, **data: Any) -> None:
        print(json.dumps({"event": event, **data}), file=self._stream, flush=True)


def clock_time(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"

"""A stream's renderer that goes over to a better engine, between two triplets, when that one has been built."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from drba.pixels import Plane

from .base import EngineState, LocalRenderer, Motion, SharedBuild, Triplet

log = logging.getLogger(__name__)


@dataclass
class _Held:
    """A renderer and how many threads are in it; closed by the last one after it was retired."""

    renderer: LocalRenderer
    users: int = 0
    retired: bool = False


class SwappingRenderer:
    """Renders with the first renderer until another one replaces it. Safe to use from several threads.

    A call of `render` stays with the renderer that it began with, so no request is lost or waits for the swap.
    """

    lost = ""

    def __init__(self, first: LocalRenderer, note: str = "") -> None:
        self._lock = threading.Lock()
        self._held = _Held(first)
        self._state = EngineState(first.model, first.engine, note)
        self._changed: Callable[[], None] = lambda: None
        self._build: SharedBuild | None = None  # until it has ended

    @property
    def model(self) -> str:
        return self._state.model

    @property
    def engine(self) -> str:
        return self._state.engine

    @property
    def state(self) -> EngineState:
        return self._state

    def watch(self, changed: Callable[[], None]) -> None:
        with self._lock:
            self._changed = changed

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        with self._in_use() as renderer:
            renderer.render(triplet, times, outputs)

    def motion(self, triplet: Triplet) -> Motion | None:
        with self._in_use() as renderer:
            return renderer.motion(triplet)

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[LocalRenderer]:
        """The present renderer, which is not closed before the caller has left it."""
        with self._lock:
            held = self._held
            held.users += 1
        try:
            yield held.renderer
        finally:
            with self._lock:
                held.users -= 1
                last = held.retired and not held.users
            if last:
                held.renderer.close()

    def close(self) -> None:
        with self._lock:
            build, self._build = self._build, None
            self._changed = lambda: None
        if build is not None:
            build.leave()
        self._retire(self._held)

    def cancel_build(self) -> None:
        build = self._build
        if build is not None:
            build.cancel()

    def replace_when_built(
        self, build: SharedBuild, open_built: Callable[[], LocalRenderer | str], then: Callable[[], None] = lambda: None
    ) -> None:
        """Go over to what `open_built` makes (in a thread of its own) when the build is done, and call `then`; where it is
        not done in the end, or that fails, stay and say why in `state.note`. A text that it returns is such a note: there is
        nothing better than what plays."""
        with self._lock:
            closed = self._held.retired
            self._build = None if closed else build
        if closed:
            build.leave()
            return
        build.watch(lambda: self._follow(build, open_built, then))
        self._follow(build, open_built, then)  # what happened before anybody watched

    def _follow(
        self, build: SharedBuild, open_built: Callable[[], LocalRenderer | str], then: Callable[[], None]
    ) -> None:
        with self._lock:
            if self._build is not build:  # it has ended, or this stream has
                return
            stage, state = build.state, self._state
            if stage == "done":
                self._build = None
                self._state = replace(state, building=build.name)  # until it is swapped, also where it was done at once
                arguments = (build.name, open_built, then)
                threading.Thread(target=self._swap, args=arguments, name="swap", daemon=True).start()
                return
            if stage in ("failed", "cancelled"):
                self._build = None
                state = self._staying(f"the {build.name} engine is not used ({build.message})")
            else:
                percent = int(build.progress * 100) / 100
                state = replace(state, note=build.message, building=build.name, progress=percent)
            # While something is built only its percent counts: the text may change a hundred times a second.
            told = (state.building, state.progress) != (self._state.building, self._state.progress)
            self._state, changed = state, self._changed if told else None
        if changed is not None:
            changed()

    def _staying(self, why: str) -> EngineState:
        state = self._state
        note = f"{why}; {state.model} on {state.engine} goes on"
        log.warning("%s", note)
        return EngineState(state.model, state.engine, note)

    def _swap(self, name: str, open_built: Callable[[], LocalRenderer | str], then: Callable[[], None]) -> None:
        try:
            renderer = open_built()
        except Exception as error:  # whatever an engine raises, what plays now plays on
            log.exception("the %s engine cannot be opened", name)
            with self._lock:
                self._state = self._staying(f"the {name} engine cannot be opened ({error})")
                changed = self._changed
            changed()
            return
        if isinstance(renderer, str):
            with self._lock:
                self._state = EngineState(self._state.model, self._state.engine, renderer)
                changed = self._changed
            log.info("%s", renderer)
            changed()
            return
        note = f"{renderer.model} on {renderer.engine} from here on"
        with self._lock:
            old, self._held = self._held, _Held(renderer)
            closed = old.retired
            self._state = EngineState(renderer.model, renderer.engine, note)
            changed = self._changed
        if closed:  # the stream has ended meanwhile
            renderer.close()
            return
        log.info("%s", note)
        changed()
        self._retire(old)
        then()

    def _retire(self, held: _Held) -> None:
        with self._lock:
            unused = not held.retired and not held.users
            held.retired = True
        if unused:
            held.renderer.close()

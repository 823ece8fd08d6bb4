"""The film's sessions at the server, one for each renderer that its levels want: opened when wanted, closed when long unused."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from drba.errors import DrbaError
from server.client import RenderResult, Session

from .levels import ModelAtScale

log = logging.getLogger(__name__)

UNUSED_S = 60.0
FIRST_LATENCY_S = 0.05
#: Of the newest request: a slower one is believed sooner, for a frame that comes late has held up the ones after it.
SLOWER_WEIGHT, FASTER_WEIGHT = 0.5, 0.1
#: Each time that a request is not worth making, what is known of the latency is believed a little less: else one slow second
#: would keep everything from being asked for ever.
DOUBT = 0.98
NETWORK_DOUBT = 0.9  # a network changes its speed faster than a machine does
#: Without an answer, while the server itself is there: a worker hangs. Not sooner than a few times what a triplet takes.
HANGS_S, HANGS_TIMES = 1.0, 3.0
#: Then the server is replaced. A renderer that has never answered may take longer: it loads what it needs.
GIVEN_UP_S, GIVEN_UP_TIMES = 10.0, 10.0
HELD_UP_S = 0.5  # between two looks: then it was this process that did nothing


@dataclass
class _Place:
    session: Session | None = None  # None while it is being opened, and after it could not be
    opening: asyncio.Task[None] | None = None
    latency_s: float = FIRST_LATENCY_S  # of a triplet, from asking to having it; smoothed
    wanted_at: float = 0.0
    waits_since: float | None = None  # while requests are unanswered: since when there is no answer
    looked_at: float = 0.0
    answered: bool = False  # ever

    def silent_s(self) -> float:
        """How long it has rendered nothing of what it was asked for, as far as this process would have heard."""
        now = time.monotonic()
        held_up_s = now - self.looked_at if now - self.looked_at > HELD_UP_S else 0.0
        self.looked_at = now
        if self.waits_since is None or not self.answered or self.session is None or not self.session.in_flight:
            return 0.0
        self.waits_since = min(now, self.waits_since + held_up_s)
        return now - self.waits_since


class Sessions:
    """Belongs to the event loop. `close` it before the frame pool."""

    def __init__(self, open_session: Callable[[ModelAtScale], Awaitable[Session]]) -> None:
        self._open_session = open_session
        self._places: dict[ModelAtScale, _Place] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def put(self, renderer: ModelAtScale, session: Session) -> None:
        """A session that is open already; where it went over to a better model, its old place is given up."""
        self._places = {key: place for key, place in self._places.items() if place.session is not session}
        self._places[renderer] = _Place(session, wanted_at=time.monotonic())

    def get(self, renderer: ModelAtScale | None) -> Session | None:
        place = self._places.get(renderer) if renderer else None
        return place.session if place else None

    def ready(self, renderer: ModelAtScale | None) -> bool:
        session = self.get(renderer)
        return session is not None and session.ready

    def answers(self, renderer: ModelAtScale | None) -> bool:
        """Whether a request would be answered: a server that has stalled, or whose workers hang, is as good as none."""
        session = self.get(renderer)
        return session is not None and session.answers and not self.hangs(renderer)

    def hangs(self, renderer: ModelAtScale | None) -> bool:
        """Whether the server is there, but what was asked for does not come; a server that goes on so is replaced."""
        place = self._places.get(renderer) if renderer else None
        if place is None or place.session is None or not place.session.answers or place.session.outgoing is not None:
            return False  # what is late from another machine is late on the way
        silent_s = place.silent_s()
        if silent_s <= max(HANGS_S, HANGS_TIMES * place.latency_s):
            return False
        if silent_s > max(GIVEN_UP_S, GIVEN_UP_TIMES * place.latency_s):
            place.waits_since = None
            place.session.give_up(f"a request was not rendered within {GIVEN_UP_S:g} s: another server is started")
        return True

    def heard(self, renderer: ModelAtScale | None) -> bool:
        """Whether what is late now is late for the level that was chosen."""
        session = self.get(renderer)
        return session is not None and session.heard and not self.hangs(renderer)

    def idle(self, renderer: ModelAtScale | None) -> bool:
        """Whether nothing is under way whose answer would tell how long one takes now."""
        session = self.get(renderer)
        return session is not None and session.outgoing is None and not session.in_flight

    def over_network(self, renderer: ModelAtScale | None) -> bool:
        session = self.get(renderer)
        return session is not None and session.outgoing is not None

    def room(self, renderer: ModelAtScale | None) -> bool:
        """Whether one more request makes sense."""
        session = self.get(renderer)
        return session is not None and session.room

    def want(self, renderers: Iterable[ModelAtScale]) -> None:
        """Have these open, in the background; what could not be opened once is not tried again for this film."""
        now = time.monotonic()
        for renderer in renderers:
            place = self._places.setdefault(renderer, _Place())
            place.wanted_at = now
            if place.session is None and place.opening is None:
                place.opening = asyncio.ensure_future(self._open(renderer, place))
        for renderer, place in list(self._places.items()):
            if place.session is not None and now - place.wanted_at > UNUSED_S:
                del self._places[renderer]
                closing = asyncio.ensure_future(_close(place.session))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def _open(self, renderer: ModelAtScale, place: _Place) -> None:
        try:
            place.session = await self._open_session(renderer)
        except DrbaError as error:
            log.warning("the level with %s at scale %g is left out: %s", renderer.model, renderer.scale, error)

    def cancel(self, generation: int) -> None:
        """Drop the requests of all generations before `generation`."""
        for place in self._places.values():
            if place.session is not None:
                place.session.cancel(generation)

    async def close(self) -> None:
        places, self._places = list(self._places.values()), {}
        for place in places:
            if place.opening is not None:
                place.opening.cancel()
        await asyncio.gather(*(place.opening for place in places if place.opening), return_exceptions=True)
        await asyncio.gather(*(_close(place.session) for place in places if place.session), *self._closing)

    # --- latency ------------------------------------------------------------------------------------------------------

    def latency_s(self, renderer: ModelAtScale) -> float:
        place = self._places.get(renderer)
        return place.latency_s if place else FIRST_LATENCY_S

    def asked(self, renderer: ModelAtScale) -> None:
        place = self._places.get(renderer)
        if place is not None and place.session is not None and place.session.in_flight <= 1:
            place.waits_since = place.looked_at = time.monotonic()

    def answered(self, renderer: ModelAtScale, result: RenderResult | None, *, alone: bool = False) -> None:
        """None for a request that failed. `alone`: nothing else was under way when it was made."""
        if (place := self._places.get(renderer)) is None:
            return
        place.answered = True
        place.waits_since = time.monotonic() if place.session is not None and place.session.in_flight else None
        if result is not None:
            change_s = result.round_trip_ms / 1000 - place.latency_s
            place.latency_s += change_s * (SLOWER_WEIGHT if change_s > 0 or alone else FASTER_WEIGHT)

    def doubt(self, renderer: ModelAtScale) -> None:
        """A request was not made, for its answer would be late."""
        if (place := self._places.get(renderer)) is not None:
            place.latency_s *= NETWORK_DOUBT if self.over_network(renderer) else DOUBT


async def _close(session: Session) -> None:
    try:
        await session.close()
    except DrbaError as error:
        log.info("closing a session: %s", error)

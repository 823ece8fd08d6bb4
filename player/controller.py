"""Which level is played, decided from what rendering costs, how far mpv's buffer reaches, and what came too late. Pure.

Down at once: when the buffer shrinks while rendering takes more time than there is, or after a few late frames, to the best
level whose predicted use of the time fits. Up on prediction: when measured costs have left room for a better level for two
seconds. A level whose renderer is not in use is measured for that by probes, renderings of single triplets that nobody sees: so
a busy device keeps the level down, however cheap the renderer in use is, and its end brings it back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .costs import Costs
from .lead import Lead
from .levels import Level, Mode, ModelAtScale, level_for

LATE_FRAMES, LATE_WITHIN_S = 3, 1.0  # so many within this time are too many
GRACE_S = 1.0  # after the start of a stream: the first frames wait for the decoder, and mpv for them
WARM_UP_S = 3.0  # after the start of the film, when a server, its threads and fresh memory cost more than they will
TOO_MUCH = 2.5  # use of the time that no warming up explains
STEADY_S = 2.0  # how long there must be room for a better level
ROOM = 0.7  # predicted use of the time at which a level is entered, until it has worked with more
FITS = 0.8  # predicted use of a level to fall back to
CLEAN_S = 5.0  # a level that held so long without a late frame works with the use that it had
TRIAL_S = 15.0  # a level left sooner after a step up was a mistake: it is tried again later and later
FIRST_RETRY_S, LAST_RETRY_S = 3.0, 300.0
PROBE_S = 0.4
PROBE_SHARE = 0.25  # of a worker's time at most
SPARE_FOR_PROBES = 0.6  # use of the time above which there is none to spare for them
HOPELESS, HOPELESS_S = 8.0, 300.0  # a renderer with such a use is not probed again for so long
NETWORK_PROBE_S = 4.0  # ... but after so long where the network made it so
HALF_SCALE = 0.5  # first guess of the cost of a network's flow scale in units of twice that scale's
FAILED_PROBE_S = 0.5  # between probes of a renderer that fails: they tell that it works again
BY_HAND = "chosen by hand"
BUSY = 1.4  # times its calm cost: something else is using the machine


@dataclass
class _Record:
    """Experience with one level. Uses are shares of the time."""

    worked: float = 0.0  # highest use that it kept up with
    predicted: float = 0.0  # use predicted at the last step up
    retry_at: float = 0.0
    backoff_s: float = 0.0
    held_s: float = 0.0


@dataclass(frozen=True)
class Change:
    """`at` is a time of the controller's clock."""

    at: float
    level: Level
    why: str


class Controller:
    """Chooses among `levels`, best first, the last being source frames only. Times in seconds, costs in milliseconds of an
    in-between."""

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        mode: Mode = Mode.AUTO,
        clock: Callable[[], float] = time.monotonic,
        start: int = 0,
        calm_ms: Mapping[ModelAtScale, float] | None = None,
        worked: Mapping[str, float] | None = None,
    ) -> None:
        """`start` (a place in `levels`), `calm_ms` and `worked` are what is remembered of this machine."""
        self.levels = tuple(levels)
        self.mode = mode
        self.costs = Costs(clock, calm_ms or {})
        self.lead = Lead()
        self.index = start if mode is Mode.AUTO else level_for(mode, levels)
        self.first = self.level  # that the film began with
        self.why = "" if mode is Mode.AUTO else BY_HAND  # this level, in a few words
        self.changes: list[Change] = []
        self._clock = clock
        self._speed = 1.0
        self._records = [_Record((worked or {}).get(level.name, 0.0)) for level in levels]
        self._late: deque[float] = deque(maxlen=LATE_FRAMES)
        self._began_at = self._entered_at = self._clean_since = self._decided_at = self._stream_at = clock()
        self._by_network = False  # whether that was what the last in-between cost
        self._climbed = False  # whether the level was entered by a step up
        self._probed: ModelAtScale | None = None
        self._probe_at = 0.0
        self._not_before: dict[ModelAtScale, float] = {}
        self._failing: set[ModelAtScale] = set()  # could not render what they were asked for last,
        self._mended: set[ModelAtScale] = set()  # and can again

    @property
    def level(self) -> Level:
        return self.levels[self.index]

    @property
    def failing(self) -> bool:
        """Whether there are no in-betweens because rendering fails."""
        renderer = self.level.renderer
        return renderer in self._failing if renderer else bool(self._failing) and self.mode is Mode.AUTO

    @property
    def use(self) -> float | None:
        """Share of the time that rendering takes now; None where nothing was rendered lately."""
        renderer = self.level.renderer
        cost_ms = self.costs.present_ms(renderer) if renderer else None
        return None if cost_ms is None else self.level.use(cost_ms, self._speed)

    @property
    def steadiest(self) -> int:
        """The level that draws which was played longest; the better of two."""
        drawing = range(max(1, len(self.levels) - 1))
        return max(drawing, key=lambda index: (self._records[index].held_s, -index))

    @property
    def worked(self) -> dict[str, float]:
        """Highest use of the time that each level kept up with, by its name."""
        return {
            level.name: record.worked for level, record in zip(self.levels, self._records, strict=True) if record.worked
        }

    @property
    def held_s(self) -> float:
        """How long it has decided."""
        return sum(record.held_s for record in self._records)

    def wanted(self) -> list[ModelAtScale]:
        """Renderers to have at hand: those of this level and the better ones, and the flow-only ones, which cost nothing."""
        return list(
            dict.fromkeys(
                level.renderer
                for index, level in enumerate(self.levels)
                if level.renderer and (index <= self.index or level.renderer.model == "flow")
            )
        )

    # --- what happens -------------------------------------------------------------------------------------------------

    def set_mode(self, mode: Mode) -> None:
        """The viewer chooses. Back in auto the controller goes on from the level that is played."""
        self.mode = mode
        if mode is not Mode.AUTO:
            self._enter(level_for(mode, self.levels), BY_HAND)
            self.why = BY_HAND
        self._climbed = False

    def follow(self, before: Controller, why: str) -> None:
        """Go on where the controller of other levels has to stop."""
        self.lead, self._speed, self.first = before.lead, before._speed, before.first
        self.changes = [*before.changes, Change(self._clock(), self.level, why)]
        self.why = self.why or why

    def stream_started(self) -> None:
        """mpv reads from another place: what was ahead is gone."""
        self.lead = Lead()
        self._late.clear()
        self._stream_at = self._clean_since = self._clock()

    def rendered(self, renderer: ModelAtScale, cost_ms: float, *, by_network: bool = False) -> None:
        """An in-between was rendered, for the viewer or as a probe; `by_network`: the way to the server and back is what it
        cost."""
        self.costs.add(renderer, cost_ms)
        if renderer in self._failing:
            self._failing.discard(renderer)
            self._mended.add(renderer)
            self.lead = Lead()  # little was read ahead meanwhile: nothing that the level could help
        self._by_network = by_network
        if renderer is self._probed:
            cheapest = min(level.use(cost_ms) for level in self.levels if level.renderer == renderer)
            wait_s = HOPELESS_S if cheapest > HOPELESS else cost_ms / 1000 / PROBE_SHARE
            if by_network:  # which may be fast again any moment
                wait_s = min(wait_s, NETWORK_PROBE_S)
            self._not_before[renderer] = self._clock() + wait_s

    def failed(self, renderer: ModelAtScale) -> None:
        """The server is there and could not render: another renderer may be able to. A probe tells when this one is again."""
        self._failing.add(renderer)
        self._mended.discard(renderer)
        self._not_before[renderer] = max(self._clock() + FAILED_PROBE_S, self._not_before.get(renderer, 0.0))

    def handed_over(self, level: Level, *, late: bool, lead_s: float, over_network: bool = False) -> None:
        """An output frame that `level` planned went to mpv, with `lead_s` of film before it is shown; `over_network`: another
        machine renders."""
        self.lead.observe(lead_s)
        now = self._clock()
        if late and level == self.level and now - self._stream_at > GRACE_S:
            self._late.append(now)
            self._clean_since = now
            latest_ms = self.costs.latest_ms(level.renderer) if level.renderer else None
            if over_network and level.use(latest_ms or 0.0, self._speed) < ROOM:  # rendering was not what took so long
                self._by_network = True

    # --- decisions ----------------------------------------------------------------------------------------------------

    def decide(self, speed: float, can: Callable[[ModelAtScale], bool]) -> bool:
        """To be called at every triplet; True where the level changed. `can`: whether a renderer is at hand."""
        now = self._clock()
        self._records[self.index].held_s += min(now - self._decided_at, 1.0)
        if speed != self._speed:
            self._clean_since = now
        self._decided_at, self._speed = now, speed
        if self.mode is not Mode.AUTO:
            return False
        if self._overloaded(now):
            return self._step_down(now, can)
        self._learn(now)
        return self._step_up(now, can)

    def _too_late(self, now: float) -> bool:
        return len(self._late) == LATE_FRAMES and now - self._late[0] < LATE_WITHIN_S

    def _overloaded(self, now: float) -> bool:
        if self.level.renderer is None:
            return False
        if self.failing:
            return self._too_late(now)
        use = self.use
        keeps_up = max(1.0, self._records[self.index].worked)
        if now - self._began_at < WARM_UP_S:
            return self._too_late(now) and use is not None and use > TOO_MUCH
        return self._too_late(now) or (self.lead.falling and use is not None and use > keeps_up)

    def _step_down(self, now: float, can: Callable[[ModelAtScale], bool]) -> bool:
        current = self.level.renderer
        assert current is not None
        record = self._records[self.index]
        if self._climbed and now - self._entered_at < TRIAL_S:
            record.backoff_s = min(LAST_RETRY_S, max(FIRST_RETRY_S, 2 * record.backoff_s))
            record.retry_at = now + record.backoff_s
            if self.failing:  # it worked for a moment only
                self._not_before[current] = record.retry_at
        inflation = self.costs.inflation(current)
        target = next(
            index
            for index in range(self.index + 1, len(self.levels))
            if self._fits(self.levels[index], current, inflation, can)
        )
        self._enter(target, self._why_too_much(current))
        return True

    def _why_too_much(self, current: ModelAtScale) -> str:
        if self.failing:
            return "rendering fails, see drba logs"
        if self._by_network:
            return "the network is too slow for more"
        latest_ms, calm_ms = self.costs.latest_ms(current), self.costs.calm_ms(current)
        if latest_ms and calm_ms and latest_ms > BUSY * calm_ms:
            return "the machine is busy"
        return (
            f"the film plays at {self._speed:g} times its speed"
            if self._speed > 1
            else "this machine is too slow for more"
        )

    def _fits(self, level: Level, current: ModelAtScale, inflation: float, can: Callable[[ModelAtScale], bool]) -> bool:
        """Whether a level below can be fallen back to; what has never been measured can."""
        if level.renderer is None:
            return True
        if level.renderer in self._failing or not can(level.renderer):
            return False
        if self._by_network:  # which takes as long for frames of any renderer: only fewer of them help
            frame_ms = self.costs.latest_ms(current) or 0.0
            return level.per_s < self.level.per_s and level.use(frame_ms, self._speed) < FITS
        cost_ms = self.costs.present_ms(level.renderer)
        if cost_ms is None and (calm_ms := self.costs.calm_ms(level.renderer)) is not None:
            cost_ms = calm_ms * inflation
        if cost_ms is None and level.renderer.model == current.model:
            latest_ms = self.costs.latest_ms(current)
            halved = HALF_SCALE if level.renderer != current else 1.0
            cost_ms = None if latest_ms is None else latest_ms * halved
        return cost_ms is None or level.use(cost_ms, self._speed) < FITS

    def _step_up(self, now: float, can: Callable[[ModelAtScale], bool]) -> bool:
        for index in range(self.index):  # what was left because it failed, not because it was slow, is not waited for
            renderer = self.levels[index].renderer
            latest_ms = self.costs.latest_ms(renderer) if renderer in self._mended and can(renderer) else None
            use = None if latest_ms is None else self.levels[index].use(latest_ms, self._speed)
            if use is not None and use < self._room(index, now):
                self._mended.discard(renderer)
                self._enter(index, "rendering works again")
                self._climbed, self._records[index].predicted = True, use
                return True
        since = max(self._entered_at, self._late[-1] if self._late else 0.0)
        if now - since < STEADY_S or self.lead.falling:
            return False
        for index in range(self.index):
            renderer = self.levels[index].renderer
            assert renderer is not None
            cost_ms = self.costs.steady_ms(renderer, STEADY_S) if can(renderer) else None
            use = None if cost_ms is None else self.levels[index].use(cost_ms, self._speed)
            if use is not None and use < self._room(index, now):
                self._enter(index, "there is time for it")
                self._climbed, self._records[index].predicted = True, use
                return True
        return False

    def _room(self, index: int, now: float) -> float:
        """Predicted use below which a level is entered; after a prediction that was wrong, a much lower one for a while."""
        record = self._records[index]
        room = max(ROOM, 1.1 * record.worked)
        return min(room, ROOM * record.predicted) if now < record.retry_at else room

    def _learn(self, now: float) -> None:
        """From a level that holds."""
        record = self._records[self.index]
        if not self.lead.full:
            self._clean_since = now
        since = max(self._clean_since, self._entered_at)
        renderer = self.level.renderer
        if renderer is None or now - since < CLEAN_S:
            return
        samples = self.costs.within(renderer, CLEAN_S)
        self._clean_since = now
        if samples and now - self._entered_at > TRIAL_S:
            record.backoff_s = 0.0
        if len(samples) > CLEAN_S:
            median_ms = sorted(cost for _, cost in samples)[len(samples) // 2]
            record.worked = max(record.worked, self.level.use(median_ms, self._speed))

    def _enter(self, index: int, why: str) -> None:
        if index == self.index:
            return
        self.index, self.why = index, why
        self.changes.append(Change(self._clock(), self.level, why))
        self._began_at = self._entered_at = self._clean_since = self._clock()
        self._climbed = False
        self._late.clear()

    # --- probes -------------------------------------------------------------------------------------------------------

    def probe(self, can: Callable[[ModelAtScale], bool]) -> ModelAtScale | None:
        """The renderer to measure with the next triplet, if any: one of the better levels', in turn, as long as the last one
        did not fit; or one to fall back to whose cost nobody knows."""
        now = self._clock()
        if self.mode is not Mode.AUTO or now < self._probe_at:
            return None
        due = self._unknown(can) or self._better(can, now)
        if not due:
            return None
        self._probe_at = now + PROBE_S
        if self._probed not in due:
            self._probed = due[0]
        elif not self._fitted(self._probed, now):
            self._probed = due[(due.index(self._probed) + 1) % len(due)]
        return self._probed

    def _unknown(self, can: Callable[[ModelAtScale], bool]) -> list[ModelAtScale]:
        below = dict.fromkeys(level.renderer for level in self.levels[self.index + 1 :] if level.renderer)
        return [
            renderer
            for renderer in below
            if renderer != self.level.renderer and can(renderer) and self.costs.calm_ms(renderer) is None
        ]

    def _better(self, can: Callable[[ModelAtScale], bool], now: float) -> list[ModelAtScale]:
        use = self.use
        if use is not None and use > SPARE_FOR_PROBES:
            return []
        better = dict.fromkeys(level.renderer for level in self.levels[: self.index])
        return [
            renderer
            for renderer in better
            if renderer and renderer != self.level.renderer and can(renderer) and now >= self._not_before.get(renderer, 0)
        ]  # fmt: skip

    def _fitted(self, renderer: ModelAtScale | None, now: float) -> bool:
        """Whether the last measured cost of a renderer has room for one of its better levels."""
        cost_ms = self.costs.latest_ms(renderer) if renderer else None
        return cost_ms is not None and any(
            level.renderer == renderer and level.use(cost_ms, self._speed) < self._room(index, now)
            for index, level in enumerate(self.levels[: self.index])
        )

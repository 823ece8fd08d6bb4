"""Levels of quality and who chooses them: the ladder as data, the controller against a simulated machine."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from drba.pixels import PIXEL_FORMATS, FrameLayout
from player.controller import Controller
from player.lead import DELIVERY_S, Lead
from player.level_memory import KINDS, LevelMemory, Remembered, film_kind
from player.levels import Level, Mode, ModelAtScale, ladder, level_for
from player.plan import Drawn

I420 = next(fmt for fmt in PIXEL_FORMATS if fmt.name == "yuv420p")
SMALL, HD, FULL_HD = (FrameLayout(w, h, I420) for w, h in ((640, 360), (1280, 720), (1920, 1080)))
FLOW, COARSE, RIFE, RIFE_COARSE = (
    ModelAtScale("flow", 1.0), ModelAtScale("flow", 0.5), ModelAtScale("rife-4.26", 1.0), ModelAtScale("rife-4.26", 0.5),
)  # fmt: skip


def levels(model: str, output: int | Fraction, layout: FrameLayout = FULL_HD) -> tuple[Level, ...]:
    return ladder(model, 1.0, Fraction(24), Fraction(output), layout, workers=2)


@pytest.mark.parametrize(
    ("model", "output", "layout", "names"),
    [
        ("flow", 48, FULL_HD, ["flow", "source"]),
        ("flow", 60, FULL_HD, ["flow", "flow at 2x", "source"]),
        ("flow", 48, HD, ["flow", "flow, coarse", "source"]),
        ("flow", 144, SMALL, ["flow", "flow, coarse", "flow at 2x", "source"]),
        ("flow", 36, FULL_HD, ["flow", "source"]),
        (
            "rife-4.26", 60, HD,
            ["rife-4.26", "rife-4.26 at 2x", "rife-4.26, coarse flow", "flow", "flow, coarse", "flow at 2x", "source"],
        ),
        ("rife-4.26", 48, FULL_HD, ["rife-4.26", "rife-4.26, coarse flow", "flow", "source"]),
    ],
)  # fmt: skip
def test_the_ladder_has_the_levels_that_are_worth_having(
    model: str, output: int, layout: FrameLayout, names: list[str]
) -> None:
    assert [level.name for level in levels(model, output, layout)] == names


@pytest.mark.parametrize(
    ("output", "every", "doubled"), [(60, 48, 24), (48, 24, None), (144, 120, 24), (Fraction(60000, 1001), 60, 24)]
)
def test_a_level_knows_how_many_in_betweens_it_draws(output: int | Fraction, every: float, doubled: float) -> None:
    by_drawn = {level.drawn: level.per_s for level in levels("flow", output)}
    assert by_drawn[Drawn.ALL] == pytest.approx(every, rel=1e-2)
    assert by_drawn.get(Drawn.DOUBLED) == doubled
    assert by_drawn[Drawn.NONE] == 0


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        (Mode.AUTO, "rife-4.26"), (Mode.QUALITY, "rife-4.26"), (Mode.BALANCED, "rife-4.26 at 2x"), (Mode.FAST, "flow at 2x"),
        (Mode.SOURCE, "source"),
    ],
)  # fmt: skip
def test_a_mode_names_a_level(mode: Mode, name: str) -> None:
    found = levels("rife-4.26", 60)
    assert found[level_for(mode, found)].name == name


KIND = film_kind(RIFE, Fraction(24), Fraction(60), HD)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LevelMemory:
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path / "cache"))
    return LevelMemory()


def test_what_worked_is_remembered_by_kind_of_film(memory: LevelMemory) -> None:
    worked = Remembered("flow", {FLOW: 20.0, RIFE: 900.0}, {"flow": 0.48})
    memory.keep(KIND, worked)
    assert LevelMemory().recall(KIND) == worked
    for other in (
        film_kind(FLOW, Fraction(24), Fraction(60), HD),
        film_kind(RIFE, Fraction(24), Fraction(48), HD),
        film_kind(RIFE, Fraction(24), Fraction(60), FULL_HD),
    ):
        assert LevelMemory().recall(other) == Remembered()


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", '{"KIND": 3}', '{"KIND": {"level": "flow"}}', '{"KIND": {"level": "flow", "calm_ms": [[1]]}}']
)  # fmt: skip
def test_a_damaged_memory_is_forgotten_and_written_anew(text: str, memory: LevelMemory) -> None:
    memory.facts.path.parent.mkdir()
    memory.facts.path.write_text(text.replace("KIND", KIND))
    assert memory.recall(KIND) == Remembered()
    memory.keep(KIND, Remembered("flow"))
    assert memory.recall(KIND) == Remembered("flow")
    assert [path.name for path in memory.facts.path.parent.iterdir()] == ["levels.json"]


def test_a_memory_that_cannot_be_written_costs_nothing(memory: LevelMemory) -> None:
    memory.facts.path.parent.write_text("a file where the folder should be")
    memory.keep(KIND, Remembered("flow"))
    assert memory.recall(KIND) == Remembered()


def test_the_memory_does_not_grow_for_ever(memory: LevelMemory) -> None:
    for number in range(KINDS + 5):
        memory.keep(str(number), Remembered("flow"))
    assert memory.recall("4") == Remembered() and memory.recall("5").level == "flow"


def test_the_reserve_follows_the_fullest_buffer() -> None:
    lead = Lead()
    lead.observe(math.inf)  # there is no player
    assert lead.reserve_s == DELIVERY_S and not lead.falling
    lead.observe(0.8)
    assert lead.reserve_s == pytest.approx(0.4) and lead.full
    lead.observe(0.6)
    assert not lead.full and not lead.falling
    lead.observe(0.5)
    assert lead.falling


class Player:
    """A film that plays on a simulated machine: `cost_ms` of an in-between by renderer, times `load` of the time.

    mpv keeps `buffer_s` of film; what comes less than the reserve before it is due is a source frame instead.
    """

    def __init__(
        self,
        ladder_: tuple[Level, ...],
        cost_ms: dict[ModelAtScale, float],
        load: Callable[[float, Level], float] = lambda now_s, level: 1.0,
        *,
        buffer_s: float = 0.8,
        mode: Mode = Mode.AUTO,
        start: int = 0,
        noise: float = 0.1,
        intervals: tuple[float, ...] = (1 / 24,),
        link_ms: Callable[[float], float] = lambda now_s: 0.0,
    ) -> None:
        self.now_s = 1000.0
        self.controller = Controller(ladder_, mode=mode, clock=lambda: self.now_s, start=start)
        self.cost_ms, self.load, self.buffer_s = cost_ms, load, buffer_s
        self.link_ms = link_ms  # that a network is busy with one in-between, at a time since the start
        self.speed, self.paused = 1.0, False
        self.film_s = self.position_s = 0.0
        self.late = self.starved = 0
        self.missing: set[ModelAtScale] = set()
        self.broken: set[ModelAtScale] = set()  # fail at every request
        self.shares: dict[str, float] = {}
        self._began_s = self.now_s
        self._rng = random.Random(1)
        self._noise, self._intervals, self._triplets = noise, intervals, 0

    @property
    def elapsed_s(self) -> float:
        return self.now_s - self._began_s

    @property
    def level(self) -> str:
        return self.controller.level.name

    def can(self, renderer: ModelAtScale) -> bool:
        return renderer in self.cost_ms and renderer not in self.missing

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.shares[self.level] = self.shares.get(self.level, 0) + seconds
        if not self.paused:
            self.position_s += seconds * self.speed

    def seek(self, to_s: float) -> None:
        self.film_s = self.position_s = to_s
        self.controller.stream_started()

    def play(self, seconds: float) -> str:
        """The level afterwards."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            if self.film_s - self.position_s >= self.buffer_s:
                self.wait(1.0 if self.paused else 0.005)
            else:
                self._triplet()
        return self.level

    def _cost(self, level: Level) -> float:
        assert level.renderer is not None
        noise = self._rng.uniform(1 - self._noise, 1 + self._noise)
        rendering_ms = self.cost_ms[level.renderer] * self.load(self.elapsed_s, level) * noise
        return max(rendering_ms, self._link_ms(level))

    def _link_ms(self, level: Level) -> float:
        return self.link_ms(self.elapsed_s) * level.workers

    def _rendered(self, level: Level, cost_ms: float) -> None:
        assert level.renderer is not None
        self.controller.rendered(level.renderer, cost_ms, by_network=cost_ms == self._link_ms(level))

    def _triplet(self) -> None:
        controller = self.controller
        controller.decide(self.speed, self.can)
        level = controller.level
        interval_s = self._intervals[self._triplets % len(self._intervals)]
        self._triplets += 1
        renderer = controller.probe(self.can)
        if renderer in self.broken:
            controller.failed(renderer)
        elif renderer is not None:
            cheapest = next(level for level in reversed(controller.levels) if level.renderer == renderer)
            self._rendered(cheapest, self._cost(cheapest))
        late = False
        self.wait(0.002)
        if controller.failing:  # nothing is read ahead that would stay without in-betweens
            self.wait(max(0.0, (self.film_s - self.position_s - 0.5) / self.speed))
        if level.renderer in self.broken:
            controller.failed(level.renderer)
            late = True
        elif level.renderer is not None:
            cost_ms = self._cost(level)
            slack_s = (self.film_s - self.position_s - controller.lead.reserve_s) / self.speed
            late = not self.paused and slack_s < cost_ms / 1000
            if not late:
                self.wait(level.per_s / 24 * cost_ms / 1000 / level.workers)
                self._rendered(level, cost_ms)
        self.film_s += interval_s
        lead_s = self.film_s - self.position_s
        self.late += late
        self.starved += lead_s < 0
        controller.handed_over(level, late=late, lead_s=lead_s)


def hog(from_s: float, until_s: float, times: float) -> Callable[[float, Level], float]:
    """Something that makes everything `times` as slow for a while."""
    return lambda now_s, level: times if from_s <= now_s < until_s else 1.0


@pytest.mark.parametrize("failing_s", [0.5, 5.0, 60.0])
@pytest.mark.parametrize("broken", [{RIFE}, {RIFE, RIFE_COARSE}, {RIFE, RIFE_COARSE, FLOW, COARSE}], ids=len)
def test_rendering_that_fails_is_no_slowness_and_is_over_when_it_is_over(
    broken: set[ModelAtScale], failing_s: float
) -> None:
    player = Player(levels("rife-4.26", 60, HD), {RIFE: 9.0, RIFE_COARSE: 4.0, FLOW: 20.0, COARSE: 15.0}, buffer_s=1.9)
    assert player.play(20) == "rife-4.26"
    player.broken = broken
    player.play(failing_s)
    if failing_s > 2:
        renderer = player.controller.level.renderer
        assert renderer not in broken, "what still works draws"
        assert "fails" in player.controller.changes[-1].why
    player.broken = set()
    player.play(1.5)
    assert player.level == "rife-4.26" and player.starved == 0
    late = player.late
    assert player.play(30) == "rife-4.26" and player.late == late


def test_a_renderer_that_works_only_for_moments_is_left_alone_longer_and_longer() -> None:
    player = Player(levels("rife-4.26", 60, HD), GPU, buffer_s=1.9)
    player.play(20)
    for _ in range(60):
        player.broken = {RIFE, RIFE_COARSE}
        player.play(1.0)
        player.broken = set()
        player.play(1.0)
    changes = [change for change in player.controller.changes if change.at > player.now_s - 60]
    assert len(changes) <= 8 and player.starved == 0


GPU = {RIFE: 9.0, RIFE_COARSE: 4.0, FLOW: 20.0, COARSE: 15.0}
MACHINES = {
    "1080p on two cores": (levels("flow", 48), {FLOW: 37.0}, 0.8),
    "720p at 60 on two cores": (levels("flow", 60, HD), {FLOW: 19.0, COARSE: 14.0}, 1.9),
    "nearly all of two cores": (levels("flow", 60), {FLOW: 38.0}, 0.8),
    "a network on a card": (levels("rife-4.26", 60, HD), GPU, 1.9),
    "a card that is nearly used up": (levels("rife-4.26", 60, FULL_HD), {**GPU, RIFE: 19.0, RIFE_COARSE: 9.0, FLOW: 37.0}, 0.8),
}  # fmt: skip


@pytest.mark.parametrize("times", [3, 4, 10])
@pytest.mark.parametrize("name", MACHINES)
def test_ten_busy_seconds_cost_quality_and_no_smoothness(name: str, times: float) -> None:
    steps, costs, buffer_s = MACHINES[name]
    player = Player(steps, costs, hog(20, 30, times), buffer_s=buffer_s)
    assert player.play(19.9) == steps[0].name
    at_first, late = len(player.controller.changes), player.late
    player.play(10)
    during = player.controller.changes[at_first:]
    assert during and during[0].why == "the machine is busy"
    assert player.late - late < 30 and player.starved == 0
    assert player.play(10) == steps[0].name, "ten seconds after it the former level is not back"
    assert player.controller.why == "there is time for it"
    settled = len(player.controller.changes)
    assert player.play(60) == steps[0].name and len(player.controller.changes) == settled


def test_the_buffer_is_not_eaten_up_before_the_level_changes() -> None:
    steps, costs, buffer_s = MACHINES["1080p on two cores"]
    player = Player(steps, costs, hog(20, 30, 4), buffer_s=buffer_s)
    player.play(20)
    late = player.late
    while player.controller.index == 0:
        player.play(0.01)
    assert player.elapsed_s < 20.6 and player.late == late


@pytest.mark.parametrize(
    ("steps", "costs", "best"),
    [
        (levels("flow", 60), {FLOW: 60.0}, "flow at 2x"),
        (levels("flow", 60), {FLOW: 200.0}, "source"),
        (levels("rife-4.26", 60, HD), {**GPU, RIFE: 900.0, RIFE_COARSE: 400.0}, "flow"),
        (levels("rife-4.26", 60, HD), {RIFE: 60.0, RIFE_COARSE: 45.0, FLOW: 90.0, COARSE: 70.0}, "source"),
        (levels("rife-4.26", 60, HD), {**GPU, RIFE: 25.0, RIFE_COARSE: 22.0}, "rife-4.26 at 2x"),
    ],
)
def test_a_machine_that_is_too_slow_finds_its_level_and_stays(
    steps: tuple[Level, ...], costs: dict[ModelAtScale, float], best: str
) -> None:
    player = Player(steps, costs)
    player.play(10)
    assert player.level == best
    player.play(600)
    assert player.shares[best] > 0.97 * 610
    assert len(player.controller.changes) <= 2 + len(steps)
    assert player.starved == 0


def test_a_slow_network_takes_a_level_with_fewer_frames_not_a_cheaper_renderer() -> None:
    steps, costs, buffer_s = MACHINES["720p at 60 on two cores"]
    player = Player(steps, costs, buffer_s=buffer_s, link_ms=lambda now_s: 30.0 if 20 < now_s < 30 else 3.0)
    assert player.play(19.9) == "flow"
    player.play(9)
    assert [change.level.name for change in player.controller.changes] == ["flow at 2x"]
    assert player.controller.why == "the network is too slow for more"
    assert player.play(11) == "flow" and player.starved == 0


@pytest.mark.parametrize(("over_network", "then"), [(True, "flow at 2x"), (False, "flow, coarse")])
def test_late_frames_that_were_rendered_in_time_are_the_networks_fault(over_network: bool, then: str) -> None:
    now_s = 1000.0
    controller = Controller(levels("flow", 60, HD), clock=lambda: now_s)
    for _ in range(10):
        now_s += 1.0
        controller.rendered(FLOW, 5.0)
        controller.handed_over(controller.level, late=False, lead_s=1.0)
        assert not controller.decide(1.0, lambda renderer: True)
    for _ in range(3):
        now_s += 0.1
        controller.handed_over(controller.level, late=True, lead_s=0.5, over_network=over_network)
    assert controller.decide(1.0, lambda renderer: True)
    assert controller.level.name == then


def test_load_that_only_the_better_level_feels_is_tried_again_less_and_less() -> None:
    """One of two cores is taken: a single rendering is as fast as ever, and so is the lower level; two at once are not."""
    player = Player(
        levels("flow", 60),
        {FLOW: 24.0},
        lambda now_s, level: 2.6 if now_s < 300 and level.drawn is Drawn.ALL else 1.0,
    )
    player.play(60)
    first = len(player.controller.changes)
    player.play(240)
    assert 0 < len(player.controller.changes) - first <= 12
    assert player.play(120) == "flow"


def test_a_card_that_others_use_comes_back_when_they_have_finished() -> None:
    """Only the card is busy: the flow-only renderer, on the processor, is as fast as ever and says nothing about it."""
    steps, costs, buffer_s = MACHINES["a network on a card"]
    busy = hog(20, 50, 6)
    player = Player(
        steps,
        costs,
        lambda now_s, level: busy(now_s, level) if level.name.startswith("rife") else 1.0,
        buffer_s=buffer_s,
    )
    player.play(30)
    assert player.level == "flow"
    changes = len(player.controller.changes)
    assert player.play(19) == "flow" and len(player.controller.changes) == changes
    assert player.play(11) == "rife-4.26"


def test_an_hours_pause_changes_nothing() -> None:
    for name, (steps, costs, buffer_s) in MACHINES.items():
        player = Player(steps, costs, buffer_s=buffer_s)
        player.play(20)
        player.paused = True
        player.play(3600)
        player.paused = False
        assert player.play(20) == steps[0].name and not player.controller.changes, name
        assert player.late < 10 and player.starved == 0


def test_a_pause_while_the_machine_is_busy_keeps_the_level() -> None:
    steps, costs, buffer_s = MACHINES["1080p on two cores"]
    player = Player(steps, costs, hog(10, 2000, 4), buffer_s=buffer_s)
    player.play(15)
    player.paused = True
    assert player.play(3600) == "source"
    player.paused = False
    assert player.play(5) == "flow"


def test_a_hundred_seeks_in_a_minute_change_nothing() -> None:
    steps, costs, buffer_s = MACHINES["720p at 60 on two cores"]
    player = Player(steps, costs, buffer_s=buffer_s)
    for number in range(100):
        player.play(0.6)
        player.seek(number * 7 % 50)
    assert not player.controller.changes


def test_twice_the_speed_takes_a_lower_level_and_gives_it_back() -> None:
    player = Player(levels("flow", 60), {FLOW: 30.0})
    assert player.play(10) == "flow"
    player.speed = 2.0
    assert player.play(10) == "flow at 2x"
    assert player.controller.why == "the film plays at 2 times its speed"
    player.speed = 1.0
    assert player.play(5) == "flow"
    player.speed = 0.5
    assert player.play(10) == "flow"
    assert len(player.controller.changes) == 2 and player.starved == 0


def test_variable_frame_rate_is_no_load() -> None:
    steps, costs, buffer_s = MACHINES["720p at 60 on two cores"]
    player = Player(steps, costs, buffer_s=buffer_s, intervals=(1 / 24, 1 / 12, 1 / 30))
    assert player.play(120) == "flow" and not player.controller.changes


@pytest.mark.parametrize("noise", [0.3, 0.6])
def test_uneven_costs_do_not_make_it_flap(noise: float) -> None:
    player = Player(levels("flow", 60), {FLOW: 30.0}, noise=noise)
    player.play(300)
    assert player.level == "flow" and len(player.controller.changes) <= 2


def test_a_renderer_that_cannot_be_had_is_passed_over() -> None:
    steps, costs, buffer_s = MACHINES["a network on a card"]
    player = Player(steps, costs, hog(20, 30, 4), buffer_s=buffer_s)
    player.missing = {RIFE_COARSE, FLOW, COARSE}
    player.play(60)
    names = {change.level.name for change in player.controller.changes}
    assert names <= {"rife-4.26", "rife-4.26 at 2x", "source"} and player.level == "rife-4.26"


@pytest.mark.parametrize("mode", [Mode.QUALITY, Mode.BALANCED, Mode.FAST, Mode.SOURCE])
def test_a_level_chosen_by_hand_stays(mode: Mode) -> None:
    steps, costs, buffer_s = MACHINES["nearly all of two cores"]
    player = Player(steps, costs, hog(5, 15, 10), buffer_s=buffer_s, mode=mode)
    chosen = steps[level_for(mode, steps)].name
    assert player.play(30) == chosen
    assert player.starved == 0 and not player.controller.changes
    assert player.controller.why == "chosen by hand"


def test_back_in_auto_it_finds_the_best_level_again() -> None:
    steps, costs, buffer_s = MACHINES["a network on a card"]
    player = Player(steps, costs, buffer_s=buffer_s)
    player.play(5)
    player.controller.set_mode(Mode.SOURCE)
    assert player.play(5) == "source"
    player.controller.set_mode(Mode.AUTO)
    assert player.play(8) == "rife-4.26"


def test_it_begins_at_the_level_that_worked_last_time() -> None:
    steps = levels("rife-4.26", 60, HD)
    costs = {**GPU, RIFE: 900.0, RIFE_COARSE: 400.0}
    player = Player(steps, costs)
    player.play(60)
    remembered = player.controller.steadiest
    assert steps[remembered].name == "flow"
    again = Player(steps, costs, start=remembered)
    assert again.play(60) == "flow" and not again.controller.changes and again.late <= player.late


def test_nothing_is_opened_that_is_not_needed() -> None:
    steps, costs, buffer_s = MACHINES["a network on a card"]
    player = Player(steps, costs, hog(10, 20, 6), buffer_s=buffer_s)
    assert player.controller.wanted() == [RIFE, FLOW, COARSE]
    player.play(15)
    assert set(player.controller.wanted()) == {RIFE, RIFE_COARSE, FLOW, COARSE}

"""A hundred random lives of a machine: the mood never dithers, and the schedule that follows it always comes back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from support.moods import BEAT_S, TTL_S, WELL, Life, vitals

from kloros.affect.appraisal import appraise, signal_of
from kloros.affect.settings import AffectSettings, Turn
from kloros.affect.state import AffectState, Dimension, Felt, Hold, Reading, Vitals
from kloros.chembus.facts import AffectFacts
from kloros.orchestration.adaptation import Adaptation
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_config import load_schedule

S = 1_000_000
SCHEDULE = Path(__file__).parents[2] / "config/scheduler_config.toml"
SIGN_VALUES = {
    "cpu_some": st.floats(0, 100), "load": st.floats(0, 30), "memory_used": st.floats(0, 100),
    "memory_some": st.floats(0, 100), "memory_full": st.floats(0, 100), "io_full": st.floats(0, 100),
    "disk_used": st.floats(0, 100), "heat": st.floats(-5, 60), "failed": st.floats(0, 100),
    "repeated_error": st.integers(0, 9), "restarts": st.integers(0, 9), "over_budget": st.floats(0, 100),
    "backlog": st.integers(0, 5000), "delay_ms": st.floats(0, 1e5), "lost_per_min": st.integers(0, 10_000),
    "tick_silent_s": st.floats(0, 1e4), "cycles": st.integers(0, 100),
}  # fmt: skip
SIGNS = st.fixed_dictionaries({}, optional=SIGN_VALUES)
STRETCHES = st.lists(
    st.tuples(st.integers(1, 30), SIGNS, SIGNS, st.integers(1, 5)), min_size=1, max_size=8
)  # so many beats that swing between two conditions, every so many beats


def histories(stretches: list[tuple[int, dict[str, float], dict[str, float], int]]) -> list[Vitals]:
    return [
        vitals(**(one if beat // every % 2 else other))
        for beats, one, other, every in stretches
        for beat in range(beats)
    ]


class Follower:
    """The default schedule under its own rules, following a life."""

    def __init__(self, life: Life) -> None:
        self.config = load_schedule(SCHEDULE)
        self.life = life
        self.schedule = Schedule(self.config.entries, self.now_us, settle_us=self.config.settle_us)
        self.adaptation = Adaptation(self.schedule, self.config)
        self.changes: dict[str, int] = {}
        self.begun = 0
        self._paces = self.paces()

    @property
    def now_us(self) -> int:
        return 1_700_000_000 * S + round(self.life.now_s * S)

    def paces(self) -> dict[str, float]:
        return {
            view.entry.name: 0.0 if view.state.is_held else view.entry.interval_us / view.state.timeline.interval_us
            for view in self.schedule.views()
        }

    def look(self, seen: Vitals | None) -> None:
        """One beat; None: affect says nothing."""
        before = self.life.holding()
        if seen is None:
            self.life.now_s += BEAT_S
        else:
            for felt in self.life.look(seen):
                self._feel(felt)
        self.begun += len(self.life.holding() - before)
        self.schedule.advance(self.now_us)
        paces = self.paces()
        for name, pace in paces.items():
            if pace != self._paces[name]:
                self.changes[name] = self.changes.get(name, 0) + 1
        self._paces = paces

    def _feel(self, felt: Felt) -> None:
        facts = AffectFacts(state=felt.mood, cause=felt.cause, evidence=dict(felt.evidence), ttl_s=felt.ttl_s)
        self.adaptation.on_affect(felt.signal, facts, self.now_us)


@settings(max_examples=100, deadline=None)
@given(STRETCHES)
def test_whatever_happens_the_schedule_stays_in_bounds_follows_moods_only_and_comes_back(
    stretches: list[tuple[int, dict[str, float], dict[str, float], int]],
) -> None:
    follower = Follower(Life())
    slowest = min(rule.pace for rule in follower.config.affect if rule.pace > 0)
    fastest = max(rule.pace for rule in follower.config.affect)
    fixed = {entry.name for entry in follower.config.entries if not entry.adaptive}
    for seen in histories(stretches):
        follower.look(seen)
        for name, pace in follower.paces().items():
            assert pace == 0.0 or slowest <= pace <= fastest, name
            assert pace == 1.0 or name not in fixed, name
        assert all(
            view.entry.min_interval_us <= view.state.timeline.interval_us <= view.entry.max_interval_us
            for view in follower.schedule.views()
        )
    # A feeling moves an entry when it begins and when it ends, and once more when what has settled may be quick again.
    assert all(count <= 3 * follower.begun for count in follower.changes.values())
    for _ in range(150):
        follower.look(vitals())
    assert min(follower.paces().values()) == 1.0
    assert follower.life.state.mood == "content"
    for _ in range(15):
        follower.look(None)
    assert set(follower.paces().values()) == {1.0}


@settings(max_examples=200, deadline=None)
@given(STRETCHES)
def test_a_feeling_lasts_its_least_time_and_moods_turn_no_oftener_than_feelings(
    stretches: list[tuple[int, dict[str, float], dict[str, float], int]],
) -> None:
    life = Life()
    turns: dict[str, list[float]] = {}
    before: dict[str, Hold] = {}
    for seen in histories(stretches):
        life.look(seen)
        for name, hold in life.state.holds.items():
            if hold.holds != before.get(name, Hold()).holds:
                turns.setdefault(name, []).append(life.now_s)
        before = life.state.holds
    for name, moments in turns.items():
        turn: Turn = getattr(life.settings.feelings, name)
        assert all(b - a >= turn.hold_s for a, b in pairwise(moments)), name
    assert len(life.moods()) <= sum(len(moments) for moments in turns.values())


@settings(max_examples=200, deadline=None)
@given(STRETCHES)
def test_what_is_said_can_always_be_understood(
    stretches: list[tuple[int, dict[str, float], dict[str, float], int]],
) -> None:
    life = Life()
    for seen in histories(stretches):
        said = life.look(seen)
        assert all(0.0 <= dimension.value <= 1.0 for dimension in life.state.dimensions.values())
        assert {felt.signal for felt in said} - {"AFFECT_STATE", "AFFECT_STATE_CHANGE"} == {
            signal_of(name) for name in life.holding()
        }
        for felt in said:
            assert felt.cause
            assert felt.ttl_s == TTL_S
            assert all(isinstance(number, (int, float)) for number in felt.evidence.values())
    again = msgspec.json.decode(msgspec.json.encode(life.state), type=AffectState)
    assert again == life.state


SPANS = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


@given(SPANS, SIGNS)
def test_however_unevenly_it_looks_levels_stay_between_none_and_all(
    spans: list[float], signs: dict[str, float]
) -> None:
    state, now_s = AffectState(), 0.0
    for span_s in spans:
        now_s += span_s
        state, _ = appraise(state, now_s, vitals(**signs), AffectSettings(), TTL_S)
        assert all(0.0 <= level <= 1.0 for level in [*state.levels.values(), *state.perils.values(), state.fatigue])


@given(st.floats(0.1, 44), st.floats(0.1, 44))
def test_smoothing_does_not_depend_on_how_often_it_looks(first_s: float, second_s: float) -> None:
    seen = vitals(cpu_some=95.0)
    begin, _ = appraise(AffectState(), 0.0, vitals(), AffectSettings(), TTL_S)
    if first_s + second_s > TTL_S:
        return
    once, _ = appraise(begin, first_s + second_s, seen, AffectSettings(), TTL_S)
    half, _ = appraise(begin, first_s, seen, AffectSettings(), TTL_S)
    twice, _ = appraise(half, first_s + second_s, seen, AffectSettings(), TTL_S)
    assert abs(once.levels["cpu_some"] - twice.levels["cpu_some"]) < 1e-9


@given(st.sets(st.sampled_from(sorted(WELL))))
def test_whatever_is_missing_it_goes_on(missing: set[str]) -> None:
    seen = Vitals({name: Reading(value) for name, value in WELL.items() if name not in missing})
    state = AffectState()
    for beat in range(5):
        state, said = appraise(state, beat * BEAT_S, seen, AffectSettings(), TTL_S)
        assert said[0].signal == "AFFECT_STATE"
    assert all(isinstance(each, Dimension) for each in state.dimensions.values())

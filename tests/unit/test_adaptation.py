"""How moods, backlogs and chains move the schedule: rules 6 to 10 of scheduling, in virtual time."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.facts import AffectFacts, CycleReportFacts
from kloros.orchestration.adaptation import Adaptation
from kloros.orchestration.proof import Dues, Window, judge_schedule
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_config import ScheduleConfig, load_schedule
from kloros.orchestration.schedule_entry import Beat, Entry
from kloros.orchestration.schedule_facts import tick_entry, trigger_facts
from kloros.orchestration.wishes import HOLD, OPERATOR, Wish, held_until_us, is_held, wanted_pace, without_expired

S = 1_000_000
START_US = 1_700_000_000 * S
DEFAULT = Path(__file__).parents[2] / "config" / "scheduler_config.toml"
MOODS = ("EMERGENCY_BRAKE", "CRITICAL_FATIGUE", "RESOURCE_STRAIN", "MEMORY_PRESSURE", "WELLBEING_LOW", "WELLBEING_HIGH")


class World:
    """The default schedule under its own rules, and a clock."""

    def __init__(self, config: ScheduleConfig | None = None) -> None:
        self.config = config or load_schedule(DEFAULT)
        self.now_us = START_US
        self.schedule = Schedule(self.config.entries, self.now_us, settle_us=self.config.settle_us)
        self.adaptation = Adaptation(self.schedule, self.config)
        self.beats: list[Beat] = []
        self.changes = 0

    def feel(self, mood: str, ttl_s: float | None = None, cause: str = "hot") -> list[str]:
        changed = self.adaptation.on_affect(f"AFFECT_{mood}", AffectFacts(cause=cause, ttl_s=ttl_s), self.now_us)
        self.changes += len(changed)
        return changed

    def report(
        self, entry: str, backlog: int = 0, due_us: int | None = None, overlapped_us: int | None = None
    ) -> list[Beat]:
        facts = CycleReportFacts(
            daemon="x", schedule=entry, source="trigger", outcome="ok", started_ts=1.0, duration_s=0.1, backlog=backlog,
            due_ts=None if due_us is None else due_us / S,
            overlapped_ts=[] if overlapped_us is None else [overlapped_us / S],
        )  # fmt: skip
        changed, beats = self.adaptation.on_report(facts, self.now_us)
        self.changes += len(changed)
        self.beats += beats
        return beats

    def run(self, seconds: float, *, reports: bool = True) -> list[Beat]:
        """Time passes; every cycle ends at once, unless told otherwise."""
        end_us, before = self.now_us + round(seconds * S), len(self.beats)
        while (due_us := self.schedule.next_due_us(self.now_us)) is not None and due_us <= end_us:
            self.now_us = max(self.now_us, due_us)
            beats = self.schedule.advance(self.now_us)
            self.beats += beats
            for beat in beats:
                if reports and beat.due_us is not None:
                    beats += self.report(beat.entry.name, due_us=beat.due_us)
        self.now_us = end_us
        return self.beats[before:]

    def interval_s(self, name: str) -> float:
        return tick_entry(self.schedule.view(name)).interval_s

    def why(self, name: str) -> str | None:
        return tick_entry(self.schedule.view(name)).why


# Wishes


@pytest.mark.parametrize(
    ("wishes", "pace"),
    [
        ({}, 1.0),
        ({"a": 0.5}, 0.5),
        ({"a": 0.5, "b": 0.5}, 0.5),
        ({"a": 0.5, "b": 0.25}, 0.25),
        ({"a": 0.5, "b": 2.0}, 0.5),
        ({"a": 1.5, "b": 2.0}, 2.0),
        ({"a": 1.0, "b": 2.0}, 1.0),
        ({"a": 0.5, OPERATOR: 3.0}, 3.0),
        ({"a": 0.0}, 1.0),
        ({"a": 0.0, "b": 2.0}, 1.0),
    ],
)
def test_the_slowest_wins_and_nothing_compounds(wishes: dict[str, float], pace: float) -> None:
    assert wanted_pace({source: Wish(each) for source, each in wishes.items()}) == pace


def test_a_hold_is_stronger_than_an_operators_pace() -> None:
    assert is_held({"brake": Wish(0.0), OPERATOR: Wish(2.0)})
    assert not is_held({OPERATOR: Wish(2.0)})


WISHES = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(Wish, st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 3.0]), st.one_of(st.none(), st.integers(1, 100))),
)


@given(WISHES, st.integers(0, 120))
def test_what_is_wished_is_somebodys_wish_and_ends(wishes: dict[str, Wish], at_us: int) -> None:
    left = without_expired(wishes, at_us)
    assert wanted_pace(left) in {1.0, *(wish.pace for wish in left.values())}
    assert all(wish.until_us is None or wish.until_us > at_us for wish in left.values())


# Moods


def test_fatigue_slows_what_is_adaptive_and_passes_by_itself() -> None:
    world = World()
    assert "curiosity_generation" in world.feel("CRITICAL_FATIGUE")
    assert (world.interval_s("curiosity_generation"), world.interval_s("introspection_scan")) == (120.0, 5.0)
    assert world.why("curiosity_generation") == "base 60 s, AFFECT_CRITICAL_FATIGUE (hot) × 0.5: 120 s"
    world.run(61)
    assert world.interval_s("curiosity_generation") == 60.0
    assert world.why("curiosity_generation") is None


def test_a_mood_that_goes_on_changes_the_schedule_once() -> None:
    world = World()
    for _ in range(20):
        world.feel("CRITICAL_FATIGUE", ttl_s=30.0)
        world.run(10)
    assert world.changes == 5  # once for each entry of the rule
    assert world.interval_s("curiosity_generation") == 120.0


def test_a_signals_own_ttl_can_only_shorten_the_rules() -> None:
    world = World()
    world.feel("CRITICAL_FATIGUE", ttl_s=5.0)
    world.run(6)
    assert world.interval_s("curiosity_generation") == 60.0
    world.feel("CRITICAL_FATIGUE", ttl_s=100_000.0)
    world.run(61)
    assert world.interval_s("curiosity_generation") == 60.0


def test_holds_end_with_the_last_of_them_unless_one_has_no_end() -> None:
    holds = {"brake": Wish(0.0, 20), "other": Wish(0.0, 30), "tired": Wish(0.5, 40)}
    assert held_until_us(holds) == 30
    assert held_until_us({**holds, "third": Wish(0.0)}) is None
    assert held_until_us({"tired": Wish(0.5, 40)}) is None


def test_the_tick_says_when_a_hold_ends_but_not_of_an_entry_that_is_paused_as_well() -> None:
    world = World()
    world.feel("EMERGENCY_BRAKE", ttl_s=20.0)
    world.schedule.set_pace("semantic_dedup", 0.5, world.now_us, 10 * S)
    shown = tick_entry(world.schedule.view("semantic_dedup"))
    assert shown.held_until_ts == (world.now_us + 20 * S) / S, "not the first of all that runs out"
    world.schedule.pause("semantic_dedup")
    assert tick_entry(world.schedule.view("semantic_dedup")).held_until_ts is None


def test_the_brake_holds_what_is_adaptive_and_lets_go_by_itself() -> None:
    world = World()
    world.feel("EMERGENCY_BRAKE")
    ran = {beat.entry.name for beat in world.run(29)}
    assert "introspection_scan" in ran
    assert not ran & {entry.name for entry in world.config.entries if entry.adaptive}
    shown = tick_entry(world.schedule.view("semantic_dedup"))
    assert (shown.paused, shown.held, shown.why) == (True, True, "held by AFFECT_EMERGENCY_BRAKE (hot)")
    ran_after = world.run(8)
    assert "semantic_dedup" in {beat.entry.name for beat in ran_after}
    first = next(beat for beat in ran_after if beat.entry.name == "semantic_dedup")
    assert (first.reason, first.missed > 0) == ("misfire", True)


def test_after_a_slow_down_a_speed_up_waits_so_that_a_flapping_mood_does_not_flap_the_schedule() -> None:
    world = World()
    intervals = set()
    for _ in range(60):
        world.feel("CRITICAL_FATIGUE", ttl_s=5.0)
        world.run(10)
        world.feel("WELLBEING_HIGH", ttl_s=30.0)
        world.run(10)
        intervals.add(world.interval_s("curiosity_generation"))
    assert intervals <= {60.0, 120.0}
    for _ in range(13):
        world.feel("WELLBEING_HIGH", ttl_s=30.0)
        world.run(10)
    assert world.interval_s("curiosity_generation") == 40.0


@pytest.mark.parametrize("seed", range(100))
def test_any_history_of_moods_stays_within_bounds_starves_nothing_and_ends_nominal(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    told = 0
    watch = Watch(world)
    for _ in range(chance.randint(5, 40)):
        world.feel(chance.choice(MOODS), ttl_s=chance.choice([None, 1.0, 20.0, 1e6]))
        told += 1
        for _ in range(chance.randint(1, 90)):
            world.run(1)
            watch.look()
        for view in world.schedule.views():
            interval_us = view.state.timeline.interval_us
            assert view.entry.min_interval_us <= interval_us <= view.entry.max_interval_us
            assert 0.5 <= view.state.pace <= 1.5, "nothing compounds"
            assert view.entry.adaptive or interval_us == view.entry.interval_us
    assert world.changes <= told * len(world.config.entries), "no more changes than moods"
    assert watch.hasty == [], "nothing turns from slow to quick without having been nominal for a while"
    assert watch.starved == [], "what is not held by the brake runs at least half as often as it should"
    world.run(60 + 60 + 1)
    assert all(view.state.timeline.interval_us == view.entry.interval_us for view in world.schedule.views())
    ran = {beat.entry.name for beat in world.run(3600)}
    assert ran == {entry.name for entry in world.config.entries}, "nothing starves"
    assert all(view.state.missed == 0 for view in world.schedule.views() if not view.entry.adaptive)


class Watch:
    """Second by second, what must never be seen: an entry that dithers, and one that starves."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hasty: list[tuple[str, int]] = []
        self.starved: list[tuple[str, int]] = []
        self._slow_us: dict[str, int] = {}
        self._waits_s: dict[str, int] = {}
        self._seen = 0

    def look(self) -> None:
        ran = {beat.entry.name for beat in self.world.beats[self._seen :]}
        self._seen = len(self.world.beats)
        for view in self.world.schedule.views():
            name, interval_us, nominal_us = view.entry.name, view.state.timeline.interval_us, view.entry.interval_us
            if interval_us > nominal_us:
                self._slow_us[name] = self.world.now_us
            elif interval_us < nominal_us and self.world.now_us - self._slow_us.get(name, 0) < 59 * S:
                self.hasty.append((name, self.world.now_us))
            self._waits_s[name] = 0 if name in ran else self._waits_s.get(name, 0) + (not view.state.is_held)
            longest_s = min(2 * nominal_us, view.entry.max_interval_us) / S + view.entry.deadline_us / S
            if self._waits_s[name] > longest_s + 1:
                self.starved.append((name, self.world.now_us))


# Backlogs


def test_a_full_queue_slows_those_upstream_and_speeds_up_its_own_consumer_until_it_is_drained() -> None:
    world = World()
    world.report("investigation_processing", backlog=49)
    assert world.interval_s("curiosity_generation") == 60.0
    world.report("investigation_processing", backlog=50)
    assert (world.interval_s("curiosity_generation"), world.interval_s("investigation_processing")) == (120.0, 150.0)
    assert "50 wait for investigation_processing" in (world.why("curiosity_generation") or "")
    world.report("investigation_processing", backlog=21)
    assert world.interval_s("curiosity_generation") == 120.0
    world.report("investigation_processing", backlog=20)
    assert (world.interval_s("curiosity_generation"), world.interval_s("investigation_processing")) == (60.0, 300.0)


def test_a_consumer_under_strain_is_not_speeded_up_by_its_backlog() -> None:
    world = World()
    world.feel("CRITICAL_FATIGUE")
    world.report("action_processing", backlog=100)
    assert world.interval_s("action_processing") == 600.0


def test_a_queue_that_is_not_heard_of_any_more_keeps_nobody_slow() -> None:
    world = World()
    world.report("investigation_processing", backlog=60)
    world.run(3 * 300 + 1, reports=False)
    assert world.interval_s("curiosity_generation") == 60.0


def test_a_week_of_a_queue_around_its_mark_does_not_oscillate() -> None:
    """Curiosity puts more into the queue than an investigation beat takes out, until it is slowed."""
    world, waiting = World(), 0.0
    end_us = world.now_us + 7 * 86_400 * S
    changes: list[int] = []
    deepest = 0.0
    while world.now_us < end_us:
        before = world.interval_s("curiosity_generation")
        for beat in world.run(60, reports=False):
            if beat.entry.name == "curiosity_generation":
                waiting += 3
            elif beat.entry.name == "investigation_processing":
                waiting = max(0, waiting - 12)
                world.report("investigation_processing", backlog=int(waiting))
        deepest = max(deepest, waiting)
        if world.interval_s("curiosity_generation") != before:
            changes.append(world.now_us)
    gaps_s = [(after - before) / S for before, after in itertools.pairwise(changes)]
    assert deepest < 100
    assert min(gaps_s) >= 300, "a change holds for at least one beat of the queue"
    assert len(changes) < 7 * 24 * 4


# Chains


def entry(name: str, interval_s: float, offset_s: float = 0, **more: object) -> Entry:
    return Entry(
        name=name, signal=f"Q_TRIGGER_{name.upper()}", ecosystem="test",
        interval_us=round(interval_s * S), offset_us=round(offset_s * S), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def chained(**policy: object) -> World:
    world = World(
        ScheduleConfig(
            entries=(entry("scan", 10), entry("think", 20, after="scan", deadline_us=5 * S, **policy)),
            tick_interval_us=S,
            misfire_grace_us=S,
        )
    )
    world.run(20 - world.now_us // S % 20 - 1, reports=True)
    world.now_us += 0
    return world


def test_a_beat_waits_for_the_cycle_before_it_in_the_chain() -> None:
    world = chained()
    due_us = (world.now_us // S + 1) * S
    beats = world.run(3, reports=False)
    assert [beat.entry.name for beat in beats] == ["scan"]
    beats = world.report("scan", due_us=due_us)
    assert [(beat.entry.name, beat.due_us, beat.reason) for beat in beats] == [("think", due_us, "chain")]
    assert "for scan to end" in (trigger_facts(beats[0], "s", 1, beats[0].late_us).why or "")


def test_a_chain_goes_on_at_its_deadline_when_the_cycle_before_does_not_end() -> None:
    world = chained()
    beats = world.run(7, reports=False)
    assert [(beat.entry.name, beat.reason) for beat in beats] == [("scan", "due"), ("think", "deadline")]
    assert beats[1].late_us == 5 * S
    assert world.report("scan", due_us=beats[0].due_us) == []


def test_a_report_of_an_earlier_beat_releases_nothing() -> None:
    world = chained()
    due_us = (world.now_us // S + 1) * S
    world.run(2, reports=False)
    assert world.report("scan", due_us=due_us - 10 * S) == []


def test_a_chain_does_not_wait_for_an_entry_that_is_paused() -> None:
    world = chained()
    world.schedule.pause("scan")
    beats = world.run(3, reports=False)
    assert [(beat.entry.name, beat.reason) for beat in beats] == [("think", "due")]


def test_a_waiting_beat_is_remembered_across_a_restart() -> None:
    world = chained()
    world.run(2, reports=False)
    remembered = world.schedule.states()
    world.schedule = Schedule(world.config.entries, world.now_us, remembered)
    world.adaptation = Adaptation(world.schedule, world.config)
    beats = world.run(5, reports=False)
    assert [(beat.entry.name, beat.reason) for beat in beats] == [("think", "deadline")]


@pytest.mark.parametrize("how", ["paused", "held", "maintenance"])
def test_a_waiting_beat_that_is_kept_from_running_leaves_when_it_may(how: str) -> None:
    world = chained()
    due_us = (world.now_us // S + 1) * S
    world.run(2, reports=False)
    keep_from_running(world, how)
    assert world.report("scan", due_us=due_us) == []
    assert world.run(1, reports=False) == []
    let_run(world, how)
    beats = [beat for beat in world.run(1, reports=False) if beat.entry.name == "think"]
    assert [(beat.due_us, beat.reason) for beat in beats] == [(due_us, "misfire")]


@pytest.mark.parametrize("how", ["paused", "held", "maintenance"])
@pytest.mark.parametrize("is_reported", [True, False])
def test_a_waiting_beat_that_is_kept_from_running_for_long_is_given_up_by_the_misfire_policy(
    how: str, is_reported: bool
) -> None:
    world = chained(misfire="skip")
    due_us = (world.now_us // S + 1) * S
    world.run(2, reports=False)
    keep_from_running(world, how)
    if is_reported:
        assert world.report("scan", due_us=due_us) == []
    world.now_us += 9 * S
    let_run(world, how)
    assert "think" not in {beat.entry.name for beat in world.run(1, reports=False)}
    skips = world.schedule.view("think").state.skips
    assert [(skip.first_us, skip.last_us, skip.count, skip.reason) for skip in skips] == [(due_us, due_us, 1, how)]
    beats = [beat for beat in world.run(20) if beat.entry.name == "think"]
    assert [(beat.due_us, beat.missed) for beat in beats] == [(due_us + 20 * S, 1)]


def keep_from_running(world: World, how: str) -> None:
    if how == "paused":
        world.schedule.pause("think")
    elif how == "held":
        world.schedule.wish("think", "brake", Wish(HOLD), world.now_us)
    else:
        world.schedule.suspend()


def let_run(world: World, how: str) -> None:
    if how == "paused":
        world.schedule.resume("think")
    elif how == "held":
        world.schedule.wish("think", "brake", None, world.now_us)
    else:
        world.schedule.unsuspend()


def test_a_pause_shorter_than_the_wait_costs_nothing() -> None:
    world = chained(misfire="skip")
    due_us = (world.now_us // S + 1) * S
    world.run(2, reports=False)
    world.schedule.pause("think")
    world.run(2, reports=False)
    world.schedule.resume("think")
    assert [(beat.due_us, beat.reason) for beat in world.report("scan", due_us=due_us)] == [(due_us, "chain")]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"misfire": "coalesce"}, [(200, "misfire", 10)]),
        ({"misfire": "skip"}, []),
        ({"misfire": "all", "misfire_limit": 100}, [(20 * number, "misfire", 0) for number in range(11)]),
    ],
    ids=["coalesce: one run", "skip: none", "all: each"],
)
def test_the_misfire_policy_decides_about_a_beat_that_waited_when_maintenance_came(
    policy: dict[str, object], expected: list[tuple[int, str, int]]
) -> None:
    world = chained(**policy)
    due_us = (world.now_us // S + 1) * S
    world.run(2, reports=False)
    world.schedule.suspend()
    world.now_us = due_us + 205 * S
    world.schedule.unsuspend()
    beats = [beat for beat in world.run(1, reports=False) if beat.entry.name == "think"]
    assert [(((beat.due_us or 0) - due_us) // S, beat.reason, beat.missed) for beat in beats] == expected


def test_a_beat_never_waits_so_long_that_the_next_one_finds_it_waiting() -> None:
    entries = (entry("scan", 300), entry("think", 300, after="scan", deadline_us=120 * S))
    world = World(ScheduleConfig(entries=entries, tick_interval_us=S, misfire_grace_us=S))
    world.schedule.set_pace("think", 5.0, world.now_us)
    beats = [beat for beat in world.run(7200, reports=False) if beat.entry.name == "think"]
    assert len(beats) == 121
    assert {beat.late_us for beat in beats} == {0, 30 * S}, "half the present interval at most"
    state = world.schedule.view("think").state
    window, dues = Window(0, state.cursor_us), [beat.due_us or 0 for beat in beats]
    assert judge_schedule("think", Dues(state.changes), dues, state.skips, window, state.unsettled)[1] == []


def test_a_waiting_beat_of_an_entry_that_is_taken_out_is_given_up() -> None:
    world = chained()
    due_us = (world.now_us // S + 1) * S
    world.run(2, reports=False)
    world.schedule.reload(world.config.entries[:1], world.now_us)
    (skip,) = world.schedule.states()["think"].skips
    assert (skip.first_us, skip.last_us, skip.count, skip.reason) == (due_us, due_us, 1, "removed")
    world.schedule.reload(world.config.entries, world.now_us)
    assert [beat.due_us for beat in world.run(20) if beat.entry.name == "think"] == [due_us + 20 * S]


def test_a_beat_that_got_no_cycle_of_its_own_has_ended_with_the_one_that_ran() -> None:
    world = chained()
    due_us = (world.now_us // S + 1) * S
    world.run(3, reports=False)
    beats = world.report("scan", due_us=due_us - 10 * S, overlapped_us=due_us)
    assert [(beat.entry.name, beat.reason) for beat in beats] == [("think", "chain")]


def rarely_chained() -> World:
    """Many beats of one entry come after each of the other's."""
    entries = (entry("scan", 60), entry("think", 5, offset_s=3, after="scan", deadline_us=2 * S))
    world = World(ScheduleConfig(entries=entries, tick_interval_us=S, misfire_grace_us=S))
    world.run(60 - world.now_us // S % 60 - 1, reports=True)
    return world


def test_a_report_that_is_lost_is_waited_for_once() -> None:
    beats = rarely_chained().run(30, reports=False)
    assert [beat.reason for beat in beats if beat.entry.name == "think"] == ["deadline", *["due"] * 5]


def test_nobody_waits_for_what_was_emitted_before_a_restart() -> None:
    world = rarely_chained()
    world.run(2, reports=False)
    world.schedule = Schedule(world.config.entries, world.now_us, world.schedule.states())
    world.adaptation = Adaptation(world.schedule, world.config)
    assert [beat.reason for beat in world.run(20, reports=False)] == ["due"] * 4


# Jitter


def jittered(tmp_path: Path, host: str, draw: int, kind: str = "host") -> int:
    path = tmp_path / "scheduler_config.toml"
    path.write_text(
        "[entries.scan]\ninterval_s = 60\nsignal = 'Q_TRIGGER_SCAN'\noffset_s = 10\njitter_s = 50\n"
        f"jitter = '{kind}'\n",
        encoding="utf-8",
    )
    return load_schedule(path, host, draw).entries[0].offset_us


def test_jitter_is_the_same_on_a_machine_across_restarts_and_differs_between_machines(tmp_path: Path) -> None:
    offsets = [jittered(tmp_path, host, draw) for host in ("a", "b", "c") for draw in (1, 2)]
    assert offsets[0::2] == offsets[1::2]
    assert len(set(offsets)) == 3
    assert all(10 * S <= offset < 60 * S for offset in offsets), "a beat stays within its interval"


def test_random_jitter_is_drawn_anew_at_each_start(tmp_path: Path) -> None:
    assert len({jittered(tmp_path, "a", draw, "random") for draw in range(20)}) == 20

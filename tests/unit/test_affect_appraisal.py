"""What affect makes of vital signs: tables, and whole courses of a machine's life in virtual time."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from support.moods import BEAT_S, TTL_S, Life, vitals

from kloros.affect.appraisal import MOODS, signal_of
from kloros.affect.settings import AffectSettings, FeelingSettings, Ramp, SignSettings
from kloros.affect.signs import PERILS, SIGNS
from kloros.affect.state import AffectState, Reading, Vitals, shifted
from kloros.chembus.facts import AffectFacts
from kloros.chembus.vocabulary import VOCABULARY

STRAINS = {
    "a processor hog": ({"cpu_some": 98.0, "load": 4.0}, "resource_strain", "strained", "waited for a processor 98 %"),
    "queues of tasks": ({"load": 9.0}, "resource_strain", "strained", "9.0 tasks for each processor"),
    "a memory hog": ({"memory_used": 94.0}, "memory_pressure", "short of memory", "94 % of the memory is taken"),
    "thrashing": ({"memory_some": 35.0}, "memory_pressure", "short of memory", "waited for memory 35 %"),
    "a copying process": ({"io_some": 99.0, "io_full": 95.0}, "resource_strain", "strained", "nothing got done 95 %"),
    "a full disk": ({"disk_used": 98.0}, "resource_strain", "strained", "a file system is 98 % full"),
    "no inodes": ({"inodes_used": 99.0}, "resource_strain", "strained", "99 % of its inodes"),
    "heat": ({"heat": 4.0}, "resource_strain", "strained", "4 K below its critical temperature"),
    "one error again and again": ({"repeated_error": 3.0}, "repetitive_error", "frustrated", "same error 3 times"),
    "cycles that fail": ({"failed": 40.0}, "task_failure_pattern", "frustrated", "40 % of the latest cycles failed"),
    "a daemon that dies": ({"restarts": 3.0}, "stuck_loop", "stuck", "started anew 3 times"),
    "a silent scheduler": ({"tick_silent_s": 60.0}, "wellbeing_low", "low", "silent for 60 s"),
    "a lame bus": ({"delay_ms": 3000.0}, "wellbeing_low", "low", "3000 ms late"),
    "losses": ({"lost_per_min": 500.0}, "wellbeing_low", "low", "500 messages a minute"),
}


@pytest.mark.parametrize(("signs", "feeling", "mood", "cause"), STRAINS.values(), ids=STRAINS)
def test_a_trouble_is_a_feeling_with_its_cause_and_passes(
    signs: dict[str, float], feeling: str, mood: str, cause: str
) -> None:
    life = Life()
    life.live(2, **signs)
    assert feeling in life.holding()
    assert life.state.mood == mood
    told = next(felt for felt in life.said[-1][1] if felt.signal == signal_of(feeling))
    assert cause in told.cause
    assert told.evidence.items() & signs.items()
    assert told.evidence["level"] > 0
    assert told.ttl_s == TTL_S
    life.live(4)
    assert life.holding() == set()
    assert life.state.mood == "calm"


def test_a_machine_that_is_well_feels_nothing_and_after_a_while_is_content() -> None:
    life = Life()
    life.live(4.9)
    assert life.holding() == set()
    life.live(0.3)
    assert life.holding() == {"wellbeing_high"}
    assert life.moods() == ["content"]
    assert "cycles went well" in life.state.holds["wellbeing_high"].cause


@pytest.mark.parametrize("lacking", [("cycles",), ("memory_used",), ("cpu_some", "load")])
def test_who_does_not_see_enough_never_claims_to_be_well(lacking: tuple[str, ...]) -> None:
    life = Life()
    seen = vitals()
    part = Vitals({name: reading for name, reading in seen.readings.items() if name not in lacking})
    for _ in range(60):
        life.look(part)
    assert life.holding() == set()
    assert life.state.mood == "calm"


def test_without_pressure_information_load_and_memory_still_speak() -> None:
    life = Life()
    seen = Vitals({"load": Reading(9.0), "memory_used": Reading(96.0), "cycles": Reading(3)}, {"cpu pressure": "none"})
    for _ in range(12):
        life.look(seen)
    assert {"resource_strain", "memory_pressure"} <= life.holding()


def test_one_bad_moment_is_not_a_mood() -> None:
    life = Life()
    life.live(2)
    life.look(vitals(cpu_some=100.0, memory_used=99.0, io_full=100.0))
    life.live(2)
    assert life.moods() == []


def test_strain_shows_after_about_twenty_seconds() -> None:
    life = Life()
    life.live(1)
    began_s = life.now_s
    life.live(1, cpu_some=100.0)
    assert life.moments("AFFECT_RESOURCE_STRAIN")[0] - began_s <= 30.0


def test_fatigue_takes_a_quarter_of_an_hour_and_wears_off() -> None:
    life = Life()
    life.live(10, cpu_some=100.0, load=8.0)
    assert "critical_fatigue" not in life.holding()
    life.live(8, cpu_some=100.0, load=8.0)
    assert "critical_fatigue" in life.holding()
    assert life.state.mood == "exhausted"
    assert "for long" in life.state.holds["critical_fatigue"].cause
    life.live(6)
    assert "critical_fatigue" not in life.holding()
    life.live(60)
    assert life.state.fatigue < 0.01


def test_overwork_tires_too() -> None:
    life = Life()
    life.live(20, over_budget=90.0)
    assert "critical_fatigue" in life.holding()
    assert "overran their budget" in life.state.holds["critical_fatigue"].cause


# The brake

EXTREMES = {
    "processors": {"cpu_some": 99.5, "load": 14.0},
    "thrashing": {"memory_full": 70.0},
    "memory": {"memory_used": 99.0, "memory_some": 80.0},
    "disks": {"io_full": 99.0, "load": 12.0},
    "heat": {"heat": 0.5},
}


@pytest.mark.parametrize("signs", EXTREMES.values(), ids=EXTREMES)
def test_the_brake_is_pulled_when_the_extreme_lasts_and_let_go_by_itself(signs: dict[str, float]) -> None:
    life = Life()
    life.live(1)
    began_s = life.now_s
    life.live(3, **signs)
    assert life.state.mood == "overwhelmed"
    pulled = life.moments("AFFECT_EMERGENCY_BRAKE")
    assert 40.0 <= pulled[0] - began_s <= 90.0
    ended_s = life.now_s
    life.live(5)
    assert life.moments("AFFECT_EMERGENCY_BRAKE")[-1] - ended_s <= 60.0
    assert life.moods()[-1] != "overwhelmed"


@pytest.mark.parametrize(
    "signs",
    [
        {"cpu_some": 100.0, "load": 3.0},
        {"load": 20.0, "cpu_some": 60.0},
        {"io_full": 100.0, "io_some": 100.0, "load": 2.0},
        {"memory_used": 99.0, "memory_some": 0.0},
        {"disk_used": 100.0, "failed": 100.0, "repeated_error": 50.0, "restarts": 10.0, "tick_silent_s": 600.0},
    ],
    ids=["make -j", "a queue that moves", "a backup", "a well used memory", "all else at once"],
)
def test_the_brake_is_not_for_everyday_trouble(signs: dict[str, float]) -> None:
    life = Life()
    life.live(30, **signs)
    assert "emergency_brake" not in life.holding()


def test_an_extreme_of_half_a_minute_pulls_no_brake() -> None:
    life = Life()
    life.live(1)
    life.live(0.5, memory_full=90.0)
    life.live(3)
    assert life.moments("AFFECT_EMERGENCY_BRAKE") == []


# Saying it


def test_what_holds_is_said_on_every_beat_and_the_state_always() -> None:
    life = Life()
    life.live(3, memory_used=95.0)
    life.live(3)
    said = life.moments("AFFECT_MEMORY_PRESSURE")
    assert {round(b - a) for a, b in pairwise(said)} == {round(BEAT_S)}
    assert len(life.moments("AFFECT_STATE")) == len(life.said)
    assert life.moods() == ["short of memory", "calm"]


def test_a_value_that_wavers_around_its_threshold_is_one_mood() -> None:
    life = Life()
    for beat in range(180):
        life.look(vitals(memory_used=89.0 + (4.0 if beat % 4 < 2 else 0.0)))
    assert len(life.moods()) <= 1


def test_what_is_passing_says_so() -> None:
    life = Life()
    life.live(3, cpu_some=100.0)
    life.live(0.2)
    assert life.state.dimensions["strain"].cause.startswith("easing: ")


def test_a_sign_that_is_not_seen_any_more_fades() -> None:
    life = Life()
    life.live(3, heat=1.0)
    life.look(vitals())
    assert life.state.dimensions["strain"].cause == "easing: not to be seen any more"
    life.live(3)
    assert "heat" not in life.state.levels


def test_the_gravest_feeling_gives_the_mood_its_name() -> None:
    life = Life()
    life.live(3, memory_used=96.0, cpu_some=100.0, failed=80.0, restarts=5.0)
    assert {"memory_pressure", "resource_strain", "task_failure_pattern", "stuck_loop"} <= life.holding()
    assert life.state.mood == "short of memory"


def test_time_that_nobody_watched_counts_for_nothing() -> None:
    life = Life()
    life.live(1)
    life.live(0.5, cpu_some=100.0)
    tired = life.state.fatigue
    life.now_s += 7200
    life.look(vitals(cpu_some=100.0))
    assert life.state.fatigue < tired + 0.1
    well = Life()
    well.live(1)
    well.now_s += 7200
    well.look(vitals())
    assert "wellbeing_high" not in well.holding()


def test_a_clock_that_counts_from_another_start_changes_nothing() -> None:
    life, other = Life(), Life()
    life.live(2, cpu_some=100.0)
    other.live(2, cpu_some=100.0)
    other.state = msgspec.json.decode(msgspec.json.encode(shifted(other.state, -900.0)), type=AffectState)
    other.now_s -= 900.0
    life.live(6)
    other.live(6)
    assert shifted(other.state, 900.0) == life.state
    assert other.moods() == life.moods()


# The tables


def test_every_feeling_is_a_signal_with_a_mood_of_its_own_and_settings() -> None:
    feelings = [feeling for feeling, _ in MOODS]
    assert sorted(feelings) == sorted(FeelingSettings.__struct_fields__)
    assert {VOCABULARY.lookup(signal_of(feeling)).facts for feeling in feelings} == {AffectFacts}


def test_every_sign_has_its_ramp_and_its_words() -> None:
    assert sorted(SIGNS) == sorted(SignSettings.__struct_fields__)
    assert {name for signs in PERILS.values() for name in signs} <= set(SIGNS)
    peril_settings = set(AffectSettings().peril.__struct_fields__)
    assert {name for signs in PERILS.values() for name in signs} == peril_settings


def test_signals_without_a_cause_here_are_never_said() -> None:
    declared = {signal.name for signal in VOCABULARY if signal.facts is AffectFacts}
    ours = {signal_of(feeling) for feeling, _ in MOODS} | {"AFFECT_STATE", "AFFECT_STATE_CHANGE"}
    assert declared - ours == {"AFFECT_HIGH_RAGE", "AFFECT_MODULE_INTEGRATION_NEEDED", "AFFECT_CONTEXT_OVERFLOW"}


@pytest.mark.parametrize(("value", "level"), [(39, 0), (40, 0), (67.5, 0.5), (95, 1), (200, 1)])
def test_a_ramp_rises(value: float, level: float) -> None:
    assert Ramp(calm=40, full=95).level(value) == level


@pytest.mark.parametrize(("value", "level"), [(30, 0), (20, 0), (12.5, 0.5), (5, 1), (-3, 1)])
def test_a_ramp_may_fall(value: float, level: float) -> None:
    assert Ramp(calm=20, full=5).level(value) == level


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"signs": {"heat": {"calm": 5, "full": 5}}}, "must differ"),
        ({"feelings": {"stuck_loop": {"enter": 1, "leave": 2, "after_s": 0, "hold_s": 1}}}, "less than enter"),
        ({"feelings": {"high_rage": {"enter": 1, "leave": 0, "after_s": 0, "hold_s": 1}}}, "unknown field"),
        ({"time": {"smooth_s": 0}}, "> 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tables: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(tables, AffectSettings)

"""The affect daemon on an in-memory bus, in virtual time, feeling what the test says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.bench import Bench, bench

from kloros.affect.affect_daemon import AffectDaemon
from kloros.affect.settings import AffectSettings
from kloros.affect.state import Reading, Vitals
from kloros.affect.vitals import Senses
from kloros.chembus.envelope import Message
from kloros.chembus.memory import MemoryBus
from kloros.clock import VirtualClock
from kloros.config import load

CONFIG = Path(__file__).parents[2] / "config/affect_config.toml"
WELL = {"cpu_some": 1.0, "load": 0.1, "memory_used": 30.0, "memory_some": 0.0}
BEAT_US = 10_000_000


class Body(Senses):
    """Vital signs as the test says."""

    def __init__(self) -> None:
        self.signs = dict(WELL)
        self.blind: dict[str, str] = {}

    def take(self, now_s: float) -> Vitals:
        return Vitals({name: Reading(value) for name, value in self.signs.items()}, dict(self.blind))


class Felt(AffectDaemon):
    """Affect with a body of the test's."""

    body: Body

    def make_senses(self) -> Senses:
        self.body = Body()
        return self.body


Table = Bench[Felt]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with bench(Felt, tmp_path) as table:
        yield table


def sense(table: Table, beats: int = 1) -> None:
    """Let so many beats of the scheduler come, ten seconds apart, with its ticks and a cycle of some other daemon."""
    for _ in range(beats):
        table.advance(10.0)
        now_ts = table.clock.wall_us() / 1e6
        table.say("Q_SCHEDULE_TICK", {"tick": 1, "uptime_s": 1.0, "epoch": 1})
        report = {"daemon": "x_daemon", "schedule": "x", "source": "trigger", "outcome": "ok", "started_ts": now_ts}
        table.say("Q_CYCLE_REPORT", {**report, "duration_s": 0.1})
        due_us = table.clock.wall_us() // BEAT_US * BEAT_US
        facts = {"schedule": "affect_sensing", "beat": due_us // BEAT_US, "due_ts": due_us / 1e6, "epoch": 1}
        table.say("Q_TRIGGER_AFFECT", {**facts, "interval_s": 10.0})


def state_of(table: Table) -> dict[str, Any]:
    state = table.heard("AFFECT_STATE")[-1].facts.state
    assert isinstance(state, dict)
    return state


def said(table: Table, signal: str) -> list[Message]:
    return table.heard(f"AFFECT_{signal}")


def test_every_beat_tells_the_mood_and_its_sides_with_causes(table: Table) -> None:
    sense(table, 3)
    assert len(said(table, "STATE")) == 3
    facts = said(table, "STATE")[-1].facts
    assert (facts.state["mood"], facts.ttl_s) == ("calm", 45.0)
    assert facts.evidence["memory_used"] == 30.0
    assert set(facts.state["dimensions"]) >= {"strain", "fatigue", "wellbeing", "memory", "frustration", "friction"}
    assert "cycles went well" in facts.state["dimensions"]["wellbeing"]["cause"]
    assert said(table, "RESOURCE_STRAIN") == []


def test_strain_is_told_with_cause_numbers_and_ttl_again_and_again_and_ends(table: Table) -> None:
    sense(table, 2)
    table.daemon.body.signs["cpu_some"] = 97.0
    with capture_logs() as lines:
        sense(table, 6)
        told = said(table, "RESOURCE_STRAIN")
        assert len(told) >= 4
        facts = told[-1].facts
        assert "waited for a processor 97 %" in facts.cause
        assert facts.evidence["cpu_some"] == 97.0
        assert facts.ttl_s == 45.0
        assert max(b.ts - a.ts for a, b in pairwise(told)) < facts.ttl_s
        assert told[-1].intensity > 1.5
        assert state_of(table)["mood"] == "strained"
        until_ts = state_of(table)["holds"]["AFFECT_RESOURCE_STRAIN"]["until_ts"]
        assert until_ts == pytest.approx(table.clock.wall_us() / 1e6 + 45.0, abs=0.1)

        table.daemon.body.signs["cpu_some"] = 1.0
        sense(table, 12)
    assert state_of(table)["mood"] == "calm"
    assert len(said(table, "RESOURCE_STRAIN")) < 12
    assert [message.facts.state for message in said(table, "STATE_CHANGE")] == ["strained", "calm"]
    assert [line["event"] for line in lines if line["event"].startswith("feeling")] == [
        "feeling_began",
        "feeling_ended",
    ]


def test_a_slower_beat_makes_feelings_last_longer(table: Table) -> None:
    for beat in (1, 2):
        due_ts = table.clock.wall_us() // 60_000_000 * 60.0
        facts = {"schedule": "affect_sensing", "beat": beat, "due_ts": due_ts, "interval_s": 60.0, "epoch": 1}
        table.say("Q_TRIGGER_AFFECT", facts)
        table.advance(60.0)
    assert said(table, "STATE")[-1].facts.ttl_s == 210.0


def test_the_mood_survives_a_restart_and_a_reboot(tmp_path: Path) -> None:
    clock = VirtualClock()
    with bench(Felt, tmp_path, clock) as table:
        table.daemon.body.signs["cpu_some"] = 100.0
        sense(table, 60)
        before = state_of(table)["dimensions"]["fatigue"]["value"]
        assert before > 0.4
    later = VirtualClock(wall_us=clock.wall_us() + 30_000_000)  # its monotonic clock begins anew
    with bench(Felt, tmp_path, later) as table:
        table.daemon.body.signs["cpu_some"] = 100.0
        sense(table)
        after = state_of(table)
        assert after["mood"] == "strained"
        assert after["dimensions"]["fatigue"]["value"] == pytest.approx(before, abs=0.1)
        assert after["holds"]["AFFECT_RESOURCE_STRAIN"]["since_ts"] < clock.wall_us() / 1e6
    much_later = VirtualClock(wall_us=clock.wall_us() + 7_200_000_000)
    with bench(Felt, tmp_path, much_later) as table:
        sense(table)
        assert state_of(table)["dimensions"]["fatigue"]["value"] < 0.05


def test_who_asks_how_it_is_is_told_at_once(table: Table) -> None:
    table.say("STATUS_REQUEST", {})
    assert said(table, "STATE") == []  # nothing was felt yet
    sense(table)
    table.say("STATUS_REQUEST", {})
    table.say("STATUS_REQUEST", {"zooid": "somebody_else"})
    first, again = said(table, "STATE")
    assert again.facts.state == first.facts.state


def test_a_feeling_injected_by_hand_is_shown_and_felt_by_nobody(table: Table) -> None:
    table.say("AFFECT_EMERGENCY_BRAKE", {"cause": "a test", "ttl_s": 25.0, "requester": "me"})
    sense(table)
    state = state_of(table)
    assert state["by_hand"]["AFFECT_EMERGENCY_BRAKE"]["requester"] == "me"
    assert (state["mood"], state["holds"]) == ("calm", {})
    sense(table, 2)
    assert state_of(table)["by_hand"] == {}


def test_without_triggers_it_feels_by_its_own_clock(table: Table) -> None:
    table.advance(60.0)
    assert len(said(table, "STATE")) >= 3
    assert table.heard("FALLBACK_ENGAGED")


def test_in_maintenance_it_feels_nothing_and_takes_no_harm(table: Table) -> None:
    sense(table, 2)
    table.say("MAINTENANCE_SUSPEND", {"reason": "a test"})
    table.advance(300.0)
    assert len(said(table, "STATE")) == 2
    table.say("MAINTENANCE_RESUME", {})
    sense(table)
    assert state_of(table)["mood"] == "calm"
    assert state_of(table)["dimensions"]["friction"]["value"] < 0.05


def test_what_it_is_blind_to_is_said_once(table: Table) -> None:
    table.daemon.body.blind = {"cpu pressure": "not measured", "heat": "no sensor"}
    with capture_logs() as lines:
        sense(table, 3)
    assert [line["senses"] for line in lines if line["event"] == "blind_to"] == [["cpu pressure", "heat"]]
    assert state_of(table)["blind"] == {"cpu pressure": "not measured", "heat": "no sensor"}
    assert "blind: cpu pressure, heat" in table.daemon.status()
    assert table.daemon.heartbeat_facts().detail == "blind: cpu pressure"


def test_a_silent_scheduler_is_friction(table: Table) -> None:
    sense(table)
    table.advance(120.0)
    assert state_of(table)["dimensions"]["friction"]["value"] > 0.9
    assert "tick has been silent" in state_of(table)["dimensions"]["friction"]["cause"]


def test_the_same_error_in_cycle_after_cycle_is_felt_and_a_good_cycle_ends_it(table: Table) -> None:
    report = {"daemon": "x_daemon", "schedule": "x", "source": "trigger", "started_ts": 1.0, "duration_s": 0.1}
    for attempt in range(3):
        table.say("Q_CYCLE_REPORT", {**report, "outcome": "failed", "error": f"OSError: no room, attempt {attempt}"})
    table.say("Q_TRIGGER_AFFECT", {})
    (told,) = said(table, "REPETITIVE_ERROR")
    assert told.facts.cause == "the same error 3 times in a row (x_daemon: OSError: no room, attempt 2)"
    assert told.facts.evidence["repeated_error"] == 3
    assert said(table, "TASK_FAILURE_PATTERN")
    sense(table, 12)
    assert state_of(table)["holds"] == {}


def test_a_daemon_that_is_killed_again_and_again_is_a_stuck_loop(table: Table) -> None:
    heart = {"zooid": "x_daemon", "niche": "x", "uptime_s": 0.1, "processed_count": 0}
    with ExitStack() as lives:  # they end after the test: those who are killed bid no farewell
        for _ in range(4):
            life = lives.enter_context(closing(MemoryBus(table.hub, name="x_daemon", clock=table.clock)))
            life.join(1.0)
            life.emit("HEARTBEAT", heart)
            table.advance(1.0)
        table.say("Q_TRIGGER_AFFECT", {})
        (told,) = said(table, "STUCK_LOOP")
        assert told.facts.cause == "started anew 3 times, never told to stop (x_daemon)"
        assert state_of(table)["mood"] == "stuck"


def test_settings_are_taken_on_reload_and_a_bad_file_changes_nothing(table: Table) -> None:
    file = table.daemon.place.config / "affect_config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[time]\nttl_s = 0\n")
    with capture_logs() as lines:
        table.daemon.reload()
        sense(table)
    assert "time.ttl_s" in next(line["reason"] for line in lines if line["event"] == "settings_refused")
    file.write_text("[time]\nttl_s = 100.0\n")
    table.daemon.reload()
    sense(table)
    assert said(table, "STATE")[-1].facts.ttl_s == 100.0


def test_the_shipped_settings_are_the_defaults() -> None:
    assert load(CONFIG, AffectSettings) == AffectSettings()

"""What every consumer does with triggers, ticks, time and trouble, on an in-memory bus in virtual time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.bench import Bench, bench

from kloros.chembus.memory import MemoryBus, MemoryHub
from kloros.clock import VirtualClock
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.suite_settings import CycleSettings, SuiteSettings
from kloros.errors import Oversize
from kloros.units import us_to_seconds

S = 1_000_000
START_US = 1_700_000_000 * S


class Counting(Consumer):
    schedule = "counting"
    signal = "Q_TRIGGER_COUNTING"
    interval_s = 5.0

    fail: str | None = None
    block: threading.Event | None = None

    def cycle(self, cycle: Cycle) -> None:
        if self.block:
            self.block.wait()
        if self.fail:
            raise ValueError(self.fail)
        count = (cycle.load("count", int) or 0) + 1
        cycle.save("count", count)
        cycle.processed = 1
        cycle.emit("OBSERVATION", {"ts": 1.0, "zooid": "counting", "ok": True})


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Bench[Counting]]:
    with bench(Counting, tmp_path) as ready:
        yield ready


def trigger_facts(clock: VirtualClock, epoch: int = 1, **more: object) -> dict[str, object]:
    due_us = clock.wall_us() // (5 * S) * 5 * S
    return {
        "schedule": "counting", "beat": due_us // (5 * S), "due_ts": due_us / S, "interval_s": 5.0, "epoch": epoch,
        **more,
    }  # fmt: skip


def reports(table: Bench[Counting]) -> list[tuple[str, str]]:
    return [(report.facts.source, report.facts.outcome) for report in table.heard("Q_CYCLE_REPORT")]


def test_a_trigger_becomes_one_cycle_and_one_report(table: Bench[Counting]) -> None:
    table.say("Q_TRIGGER_COUNTING", trigger_facts(table.clock))
    report = table.heard("Q_CYCLE_REPORT")[-1].facts
    assert (report.source, report.outcome, report.processed) == ("trigger", "ok", 1)
    assert report.beat == START_US // (5 * S)
    assert len(table.heard("OBSERVATION")) == 1


def test_the_same_beat_twice_is_one_cycle_and_the_refusal_is_counted(table: Bench[Counting]) -> None:
    for _ in range(2):
        table.say("Q_TRIGGER_COUNTING", trigger_facts(table.clock))
    assert reports(table) == [("trigger", "ok")]
    assert table.daemon.counters["duplicate_beat"] == 1


def test_a_trigger_injected_by_hand_runs_at_once(table: Bench[Counting]) -> None:
    table.say("Q_TRIGGER_COUNTING")
    assert reports(table) == [("injected", "ok")]


def test_two_intervals_of_silence_engage_the_fallback_and_a_trigger_releases_it(table: Bench[Counting]) -> None:
    table.advance(9.9)
    assert not table.heard("FALLBACK_ENGAGED")
    table.advance(0.1)
    engaged = table.heard("FALLBACK_ENGAGED")
    assert len(engaged) == 1
    assert engaged[0].facts.silent_s == pytest.approx(10.0, abs=0.5)
    table.advance(20.0)
    beats = [report.facts.beat for report in table.heard("Q_CYCLE_REPORT")]
    assert beats == list(range(beats[0], beats[0] + 5))
    table.say("Q_TRIGGER_COUNTING", trigger_facts(table.clock))
    assert len(table.heard("FALLBACK_RELEASED")) == 1
    assert len(table.heard("Q_CYCLE_REPORT")) == 5, "the beat the fallback ran is not run again"
    assert table.daemon.mode() == "normal"


def test_in_fallback_under_a_clock_set_back_it_works_every_interval_while_ticks_go_on(table: Bench[Counting]) -> None:
    """The scheduler lives, and has no such entry any more."""
    table.advance(20.0)
    assert table.daemon.mode() == "fallback"
    table.clock.step_wall(-3600)
    table.settle()
    before = len(reports(table))
    for tick in range(60):
        table.advance(1.0)
        table.say("Q_SCHEDULE_TICK", {"tick": tick, "uptime_s": 1.0, "epoch": 1})
    assert reports(table)[before:] == [("fallback", "ok")] * 12


def test_the_last_beat_is_remembered_across_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock(wall_us=START_US)
    with bench(Counting, tmp_path, clock) as table:
        table.say("Q_TRIGGER_COUNTING", trigger_facts(clock))
    with bench(Counting, tmp_path, clock) as table:
        table.say("Q_TRIGGER_COUNTING", trigger_facts(clock, epoch=2))
        assert reports(table) == []
        table.say("Q_TRIGGER_COUNTING")
        assert table.daemon.store.get("count", int) == 2


def test_triggers_during_a_cycle_coalesce_into_one_run_after_it(table: Bench[Counting]) -> None:
    table.daemon.block = threading.Event()
    table.outsider.emit("Q_TRIGGER_COUNTING")
    table.daemon.loop.turn(0.0)
    for _ in range(5):
        table.outsider.emit("Q_TRIGGER_COUNTING")
    table.daemon.loop.turn(0.0)
    assert table.daemon.is_busy
    table.daemon.block.set()
    table.settle()
    assert reports(table) == [("injected", "ok")] * 2
    assert table.heard("Q_CYCLE_REPORT")[-1].facts.coalesced == 4


@pytest.mark.parametrize(("overlap", "cycles"), [("skip", 1), ("queue_one", 2)])
def test_what_becomes_of_a_beat_while_the_cycle_before_it_runs(
    table: Bench[Counting], overlap: str, cycles: int
) -> None:
    table.daemon.block = threading.Event()
    dues_ts = []
    for _ in range(4):
        facts = {**trigger_facts(table.clock), "overlap": overlap}
        dues_ts.append(facts["due_ts"])
        table.outsider.emit("Q_TRIGGER_COUNTING", facts)
        table.daemon.loop.turn(0.0)
        table.clock.advance(5.0)
    table.daemon.block.set()
    table.settle()
    told = [message.facts for message in table.heard("Q_CYCLE_REPORT")]
    assert len(told) == cycles
    ended = [report.due_ts for report in told] + [due_ts for report in told for due_ts in report.overlapped_ts]
    assert sorted(ended) == dues_ts, "each beat has one end: a cycle of its own, or told as overlapped"
    assert all(report.missed == 0 for report in told)


def test_a_loss_that_is_noticed_while_a_cycle_runs_is_told_by_the_next_cycle(table: Bench[Counting]) -> None:
    table.daemon.block = threading.Event()
    for serial, wait_s in ((1, 10.0), (3, 5.0)):  # the second is lost, and the third is skipped
        table.outsider.emit("Q_TRIGGER_COUNTING", trigger_facts(table.clock, serial=serial, overlap="skip"))
        table.daemon.loop.turn(0.0)
        table.clock.advance(wait_s)
    table.daemon.block.set()
    table.settle()
    table.say("Q_TRIGGER_COUNTING")
    for serial in (4, 5):
        table.say("Q_TRIGGER_COUNTING", trigger_facts(table.clock, serial=serial, overlap="skip"))
        table.clock.advance(5.0)
    told = [(message.facts.source, message.facts.missed) for message in table.heard("Q_CYCLE_REPORT")]
    assert told == [("trigger", 0), ("injected", 0), ("trigger", 1), ("trigger", 0)]


def test_a_cycle_that_raises_leaves_nothing_but_its_report(table: Bench[Counting]) -> None:
    table.daemon.fail = "the planted reason"
    table.say("Q_TRIGGER_COUNTING", trigger_facts(table.clock))
    report = table.heard("Q_CYCLE_REPORT")[-1].facts
    assert report.outcome == "failed"
    assert "the planted reason" in report.error
    assert table.daemon.store.get("count", int) is None
    assert not table.heard("OBSERVATION")
    table.daemon.fail = None
    table.say("Q_TRIGGER_COUNTING", trigger_facts(table.clock))
    assert len(reports(table)) == 1, "a beat that failed was executed; it is not run again"


def test_a_cycle_over_its_budget_is_told_and_asked_to_end(table: Bench[Counting]) -> None:
    table.daemon.block = threading.Event()
    table.outsider.emit("Q_TRIGGER_COUNTING")
    table.daemon.loop.turn(0.0)
    table.clock.advance(4.1)
    table.daemon.loop.turn(0.0)
    assert table.daemon.counters["over_budget"] == 1
    table.daemon.block.set()
    table.settle()
    assert reports(table) == [("injected", "over_budget")]


def test_a_hung_cycle_ends_the_daemon_with_an_error_and_the_loop_served_meanwhile(tmp_path: Path) -> None:
    suite = SuiteSettings(cycles=CycleSettings(hang_at_least_s=10.0, hang_factor=2.0))
    with bench(Counting, tmp_path, suite=suite) as table:
        table.daemon.block = threading.Event()
        table.outsider.emit("Q_TRIGGER_COUNTING")
        table.daemon.loop.turn(0.0)
        table.outsider.emit("STATUS_REQUEST")
        before = len(table.heard("HEARTBEAT"))
        table.daemon.loop.turn(0.0)
        assert len(table.heard("HEARTBEAT")) == before + 1
        table.clock.advance(10.1)
        table.daemon.loop.turn(0.0)
        table.daemon.loop.turn(0.0)  # the report goes through the journal
        assert reports(table) == [("injected", "hung")]
        assert table.daemon.exit_code == 1
        table.daemon.block.set()


def test_a_hung_cycle_that_ends_after_all_is_not_told_twice_and_has_no_effect(tmp_path: Path) -> None:
    suite = SuiteSettings(cycles=CycleSettings(hang_at_least_s=10.0, hang_factor=2.0))
    clock, hub = VirtualClock(wall_us=START_US), MemoryHub()
    outsider = MemoryBus(hub, name="listener", clock=clock)
    outsider.subscribe("*")
    outsider.join(1.0)
    with bench(Counting, tmp_path, clock, suite, hub) as table:
        table.daemon.block = threading.Event()
        table.outsider.emit("Q_TRIGGER_COUNTING", trigger_facts(clock))
        table.daemon.loop.turn(0.0)
        table.clock.advance(10.1)
        table.daemon.loop.turn(0.0)
        assert table.daemon.exit_code == 1
        table.daemon.block.set()  # it ends while the daemon winds down
    heard = outsider.receive(1000)
    assert [each.facts.outcome for each in heard if each.signal == "Q_CYCLE_REPORT"] == ["hung"]
    assert not [each for each in heard if each.signal == "OBSERVATION"]
    with bench(Counting, tmp_path, clock, suite, hub) as table:
        assert table.daemon.store.get("count", int) is None


def test_in_maintenance_nobody_works_and_nobody_falls_back(table: Bench[Counting]) -> None:
    table.say("MAINTENANCE_SUSPEND", {"reason": "upgrade"})
    table.advance(60.0)
    table.say("Q_TRIGGER_COUNTING")
    assert reports(table) == []
    assert not table.heard("FALLBACK_ENGAGED")
    assert table.daemon.mode() == "maintenance"
    table.clock.advance(1.0)
    table.say("MAINTENANCE_RESUME")
    table.say("Q_TRIGGER_COUNTING")
    assert reports(table) == [("injected", "ok")]


def test_maintenance_ends_by_itself_and_outlives_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock(wall_us=START_US)
    with bench(Counting, tmp_path, clock) as table:
        table.say("MAINTENANCE_SUSPEND", {"until_ts": START_US / S + 30})
    with bench(Counting, tmp_path, clock) as table:
        assert table.daemon.mode() == "maintenance"
        table.advance(31.0)
        assert table.daemon.mode() == "normal"


@pytest.mark.parametrize("is_seen", [True, False])
def test_maintenance_is_left_and_entered_after_the_clock_went_back(table: Bench[Counting], is_seen: bool) -> None:
    for signal, is_on in (("MAINTENANCE_SUSPEND", True), ("MAINTENANCE_RESUME", False)) * 2:
        table.say(signal)
        assert table.daemon.in_maintenance is is_on
        table.advance(10.0)
        table.clock.step_wall(-3600)
        if is_seen:
            table.settle()
            table.advance(1.0)


def test_a_tick_from_before_the_clock_went_back_does_not_undo_what_was_asked_after_it(table: Bench[Counting]) -> None:
    table.say("MAINTENANCE_SUSPEND")
    before = {"tick": 1, "uptime_s": 1.0, "maintenance": True, "maintenance_changed_ts": START_US / S}
    table.advance(10.0)
    table.clock.step_wall(-3600)
    table.settle()
    rewound = {**before, "maintenance_changed_ts": us_to_seconds(table.daemon.maintenance.changed_us)}
    table.advance(10.0)
    table.say("Q_SCHEDULE_TICK", rewound)
    table.say("MAINTENANCE_RESUME")
    table.say("Q_SCHEDULE_TICK", rewound)
    assert not table.daemon.in_maintenance


def test_maintenance_is_left_after_a_restart_under_a_clock_that_went_back(tmp_path: Path) -> None:
    clock = VirtualClock(wall_us=START_US)
    with bench(Counting, tmp_path, clock) as table:
        table.say("MAINTENANCE_SUSPEND")
    clock.step_wall(-3600)
    with bench(Counting, tmp_path, clock) as table:
        assert table.daemon.in_maintenance
        table.advance(10.0)
        table.say("MAINTENANCE_RESUME")
        assert not table.daemon.in_maintenance


def test_who_was_away_when_maintenance_was_left_under_a_clock_set_back_hears_it_from_the_tick(tmp_path: Path) -> None:
    clock = VirtualClock(wall_us=START_US)
    with bench(Counting, tmp_path, clock) as table:
        table.say("MAINTENANCE_SUSPEND")
    clock.step_wall(-3600)
    left_ts = us_to_seconds(clock.wall_us())
    clock.advance(60.0)
    with bench(Counting, tmp_path, clock) as table:
        tick = {"tick": 1, "uptime_s": 1.0, "maintenance": False, "maintenance_changed_ts": left_ts}
        table.say("Q_SCHEDULE_TICK", tick)
        assert not table.daemon.in_maintenance


def test_governance_kill_stops_the_named_zooid_only(table: Bench[Counting]) -> None:
    table.say("governance.kill", {"zooid": "another_daemon"})
    table.say("Q_TRIGGER_COUNTING")
    assert len(reports(table)) == 1
    table.say("governance.kill", {"zooid": "counting", "reason": "misbehaved"})
    table.say("Q_TRIGGER_COUNTING")
    table.advance(60.0)
    assert len(reports(table)) == 1
    assert not table.heard("FALLBACK_ENGAGED")
    assert table.heard("HEARTBEAT")[-1].facts.mode == "killed"


def test_it_beats_its_heart_every_ten_seconds_and_when_asked(table: Bench[Counting]) -> None:
    table.advance(30.0)
    assert len(table.heard("HEARTBEAT")) == 1 + 3
    table.say("STATUS_REQUEST")
    facts = table.heard("HEARTBEAT")[-1].facts
    assert (facts.zooid, facts.niche, facts.schedule) == ("counting", "counting", "counting")


def test_facts_that_do_not_fit_their_signal_fail_the_cycle_not_the_daemon(tmp_path: Path) -> None:
    class Sloppy(Counting):
        def cycle(self, cycle: Cycle) -> None:
            cycle.emit("OBSERVATION", {"zooid": 3})

    with bench(Sloppy, tmp_path) as table:
        table.say("Q_TRIGGER_COUNTING")
        report = table.heard("Q_CYCLE_REPORT")[-1].facts
        assert report.outcome == "failed"
        assert "OBSERVATION" in report.error


def heartbeat_of_a_stranger(sent: dict[str, int], seq: int) -> bytes:
    facts = {"zooid": "z", "niche": "n", "uptime_s": 0, "processed_count": 0, "sent": sent}
    told = {"signal": "HEARTBEAT", "ecosystem": "c", "facts": facts, "ts": START_US / S, "pub": "p@x", "seq": seq}
    return msgspec.json.encode(told)


def test_a_loss_that_cannot_be_told_of_is_counted_and_the_daemon_works_on(
    table: Bench[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    emit = table.daemon.bus.emit

    def refusing(signal: str, *given: Any, **more: Any) -> str | None:
        if signal == "BUS_GAP":
            raise Oversize(signal=signal, size_bytes=2 << 20, limit_bytes=1 << 20)
        return emit(signal, *given, **more)

    monkeypatch.setattr(table.daemon.bus, "emit", refusing)
    for seq, sent in ((1, 1), (2, 5)):
        table.hub.publish(b"HEARTBEAT", heartbeat_of_a_stranger({"Q_TRIGGER_COUNTING": sent}, seq))
    table.advance(2.0)
    assert table.daemon.heartbeat_facts().counters["unannounced"] == 1
    table.say("Q_TRIGGER_COUNTING")
    assert reports(table) == [("injected", "ok")]


def test_poison_on_the_trigger_topic_is_counted_and_the_next_trigger_works(table: Bench[Counting]) -> None:
    for body in (b"\xff\x00", b"{", b'{"signal": 3}', msgspec.json.encode({"signal": "Q_TRIGGER_OTHER", "facts": {}})):
        table.hub.publish(b"Q_TRIGGER_COUNTING", body)
    table.say("Q_TRIGGER_COUNTING")
    assert reports(table) == [("injected", "ok")]
    refused = {k: n for k, n in table.daemon.heartbeat_facts().counters.items() if k.startswith("refused_")}
    assert sum(refused.values()) == 4


class InSteps(Consumer):
    """Keeps a first step, and fails before the second when it is told to."""

    schedule = "in_steps"
    signal = "Q_TRIGGER_IN_STEPS"
    interval_s = 5.0
    tables = {"steps": ("CREATE TABLE steps (name TEXT PRIMARY KEY)",)}

    def cycle(self, cycle: Cycle) -> None:
        cycle.execute("INSERT INTO steps VALUES ('first')")
        cycle.emit("OBSERVATION", {"ts": 1.0, "zooid": "first", "ok": True})
        cycle.emit("AFFECT_STATE", {"state": "first"})
        cycle.save("step", "first")
        cycle.commit()
        assert cycle.query("SELECT name FROM steps") == [("first",)]
        cycle.execute("INSERT INTO steps VALUES ('second')")
        cycle.emit("OBSERVATION", {"ts": 1.0, "zooid": "second", "ok": True})
        raise ValueError("before the second is kept")


def test_what_a_cycle_committed_stays_when_it_fails_later(tmp_path: Path) -> None:
    with bench(InSteps, tmp_path) as table:
        table.say("Q_TRIGGER_IN_STEPS", None)
        table.settle()
        assert reports(table) == [("injected", "failed")]  # type: ignore[arg-type]
        assert [message.facts.zooid for message in table.heard("OBSERVATION")] == ["first"]
        assert [message.facts.state for message in table.heard("AFFECT_STATE")] == ["first"]
        assert table.daemon.store.database.query("SELECT name FROM steps") == [("first",)]
        assert table.daemon.store.get("step", str) == "first"


class Refused(InSteps):
    schedule = "refused"
    signal = "Q_TRIGGER_REFUSED"

    def cycle(self, cycle: Cycle) -> None:
        cycle.execute("INSERT INTO steps VALUES ('first')")
        cycle.emit("OBSERVATION", {"zooid": "not an observation"})
        cycle.commit()


def test_a_commit_that_is_refused_keeps_nothing(tmp_path: Path) -> None:
    with bench(Refused, tmp_path) as table:
        table.say("Q_TRIGGER_REFUSED", None)
        table.settle()
        assert reports(table) == [("injected", "failed")]  # type: ignore[arg-type]
        assert table.daemon.store.database.query("SELECT name FROM steps") == []
        assert table.heard("OBSERVATION") == []


# A budget that is granted for a while


def granted(table: Bench[Counting]) -> float | None:
    return table.heard("HEARTBEAT")[-1].facts.budget_s


def grant(table: Bench[Counting], budget_s: float | None, for_s: float = 60.0, daemon: str | None = None) -> None:
    until_ts = us_to_seconds(table.clock.wall_us()) + for_s
    facts = {"daemon": daemon or table.daemon.zooid, "budget_s": budget_s, "until_ts": until_ts}
    table.say("CYCLE_BUDGET", {name: value for name, value in facts.items() if value is not None})


def test_a_granted_budget_holds_until_it_lapses_and_the_heartbeat_says_so(table: Bench[Counting]) -> None:
    own_s = table.daemon.own_budget_s
    grant(table, 2 * own_s)
    assert (table.daemon.budget_s, granted(table)) == (2 * own_s, 2 * own_s)
    table.advance(59)
    assert table.daemon.budget_s == 2 * own_s
    table.advance(2)
    assert table.daemon.budget_s == own_s


def test_a_grant_is_taken_back_is_for_one_daemon_and_has_bounds(table: Bench[Counting]) -> None:
    own_s = table.daemon.own_budget_s
    grant(table, 2 * own_s, daemon="somebody_else")
    assert table.daemon.budget_s == own_s
    grant(table, 1000 * own_s)
    assert table.daemon.budget_s == 10 * own_s
    grant(table, own_s / 1000)
    assert table.daemon.budget_s == own_s / 10
    grant(table, None)
    assert table.daemon.budget_s == own_s
    grant(table, 2 * own_s, for_s=-1.0)
    assert table.daemon.budget_s == own_s

"""The scheduler daemon on an in-memory bus in virtual time, its memory on a real disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.bench import Bench, bench

from kloros.chembus.facts import ChangedFacts, TickFacts, TriggerFacts
from kloros.clock import VirtualClock
from kloros.daemon.maintenance import Maintenance
from kloros.errors import ConfigError
from kloros.orchestration.scheduler_daemon import SchedulerDaemon
from kloros.orchestration.wishes import HOLD, Wish

SCAN = '[entries.scan]\ninterval_s = 5\nsignal = "Q_TRIGGER_INTROSPECTION"\nadaptive = false\n'
THINK = '[entries.think]\ninterval_s = 60\noffset_s = 3\nsignal = "Q_TRIGGER_CURIOSITY"\n'
START_S = 1_700_000_040  # a whole minute

Table = Bench[SchedulerDaemon]


def configure(folder: Path, text: str) -> None:
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "scheduler_config.toml").write_text(text, encoding="utf-8")


@contextmanager
def scheduler(folder: Path, clock: VirtualClock | None = None) -> Iterator[Table]:
    with bench(SchedulerDaemon, folder, clock or VirtualClock(wall_us=START_S * 1_000_000)) as ready:
        yield ready


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    configure(tmp_path, SCAN + THINK)
    with scheduler(tmp_path) as ready:
        yield ready


def triggers(table: Table, signal: str = "Q_TRIGGER_INTROSPECTION") -> list[TriggerFacts]:
    return [message.facts for message in table.heard(signal)]


def dues_s(table: Table, signal: str = "Q_TRIGGER_INTROSPECTION") -> list[float | None]:
    return [None if facts.due_ts is None else facts.due_ts - START_S for facts in triggers(table, signal)]


def last_tick(table: Table) -> TickFacts:
    facts = table.heard("Q_SCHEDULE_TICK")[-1].facts
    assert isinstance(facts, TickFacts)
    return facts


def answer(table: Table) -> ChangedFacts:
    facts = table.heard("Q_SCHEDULE_CHANGED")[-1].facts
    assert isinstance(facts, ChangedFacts)
    return facts


class TestBeats:
    def test_every_entry_is_triggered_on_its_grid(self, table: Table) -> None:
        table.advance(65.0)
        assert dues_s(table) == [5.0 * beat for beat in range(1, 14)]
        assert dues_s(table, "Q_TRIGGER_CURIOSITY") == [3.0, 63.0]

    def test_a_trigger_says_everything_about_itself(self, table: Table) -> None:
        table.advance(5.0)
        (message,) = table.heard("Q_TRIGGER_INTROSPECTION")
        facts: TriggerFacts = message.facts
        assert message.ecosystem == "introspection"
        assert (facts.schedule, facts.beat, facts.due_ts) == ("scan", (START_S + 5) // 5, START_S + 5.0)
        assert (facts.interval_s, facts.pace, facts.reason, facts.missed) == (5.0, 1.0, "due", 0)
        assert (facts.late_s, facts.scheduler, facts.epoch) == (0.0, "scheduler_daemon", table.daemon.epoch)
        assert facts.why is None

    def test_one_canonical_line_per_beat(self, table: Table) -> None:
        with capture_logs() as logs:
            table.advance(5.0)
        beats = [line for line in logs if line["event"] == "beat" and line["schedule"] == "scan"]
        assert [(line["signal"], line["beat"], line["late_ms"]) for line in beats] == [
            ("Q_TRIGGER_INTROSPECTION", (START_S + 5) // 5, 0.0)
        ]

    def test_a_flood_of_beats_is_counted_and_not_logged_line_by_line(self, tmp_path: Path) -> None:
        configure(tmp_path, "[entries.fast]\ninterval_s = 0.01\nsignal = 'Q_TRIGGER_FAST'")
        with scheduler(tmp_path) as table, capture_logs() as logs:
            table.advance(20.0)
            assert len(table.heard("Q_TRIGGER_FAST")) == 2000
        lines = sum(line["event"] == "beat" for line in logs)
        assert lines < 1600
        assert lines + sum(line["count"] for line in logs if line["event"] == "more_beats") >= 1950

    def test_a_late_wake_up_is_coalesced_and_explained(self, table: Table) -> None:
        table.clock.advance(12.0)
        table.settle()
        (facts,) = triggers(table)
        assert (facts.reason, facts.missed, facts.late_s) == ("misfire", 1, 2.0)
        assert facts.why == "could not be emitted in time, 1 before it were missed"

    def test_beats_while_the_bus_is_away_are_logged_as_lost(self, table: Table) -> None:
        table.hub.up = False
        with capture_logs() as logs:
            table.advance(5.0)
        assert [line["lost"] for line in logs if line["event"] == "beat"]
        assert table.daemon.bus.counters.lost_unjoined > 0


class TestClockSteps:
    def test_an_hour_back_runs_no_beat_again_and_stays_at_work(self, table: Table) -> None:
        table.advance(10.0)
        table.clock.step_wall(-3600)
        table.settle()
        table.advance(20.0)
        facts = triggers(table)
        assert dues_s(table)[:2] == [5.0, 10.0]
        assert [(trigger.beat, trigger.reason) for trigger in facts[2:]] == [(None, "clock")] * 4
        assert facts[2].why == "the wall clock was set back and repeats time that was already worked"

    def test_an_hour_forwards_is_one_beat(self, table: Table) -> None:
        table.advance(10.0)
        assert [facts.missed for facts in triggers(table)] == [0, 0]
        table.clock.step_wall(3600)
        table.settle()
        assert [facts.missed for facts in triggers(table)] == [0, 0, 719]

    def test_a_step_is_announced_and_the_tick_goes_on(self, table: Table) -> None:
        table.clock.step_wall(-3600)
        table.settle()
        changed = answer(table)
        assert (changed.op, changed.value, changed.detail) == (
            "clock_step", -3600.0, "the wall clock was stepped by -3600 s",
        )  # fmt: skip
        before = len(table.heard("Q_SCHEDULE_TICK"))
        table.advance(3.0)
        assert len(table.heard("Q_SCHEDULE_TICK")) == before + 3
        clock = last_tick(table).clock
        assert clock is not None
        assert (clock.synchronised, clock.steps, clock.last_step_s) == (True, 1, -3600.0)


class TestTick:
    def test_every_second_with_the_whole_schedule(self, table: Table) -> None:
        for _ in range(10):
            table.advance(1.0)
            table.heard("Q_SCHEDULE_TICK")
        ticks = [message.facts.tick for message in table.heard("Q_SCHEDULE_TICK")]
        assert ticks == list(range(START_S, START_S + 11))
        tick = last_tick(table)
        assert (tick.page, tick.pages, tick.epoch) == (0, 1, table.daemon.epoch)
        assert tick.entries.keys() == {"scan", "think"}
        scan, think = tick.entries["scan"], tick.entries["think"]
        assert (scan.signal, scan.interval_s, scan.pace, scan.paused) == ("Q_TRIGGER_INTROSPECTION", 5.0, 1.0, False)
        assert (scan.emitted, scan.missed) == (2, 0)
        assert (think.next_due_ts, think.offset_s, think.last_due_ts) == (START_S + 63.0, 3.0, START_S + 3.0)
        assert tick.lateness_p50_ms == tick.lateness_p99_ms == 0.0

    def test_a_long_schedule_comes_in_pages_spread_over_the_second(self, tmp_path: Path) -> None:
        configure(
            tmp_path,
            "\n".join(f"[entries.e{n}]\ninterval_s = 60\nsignal = 'Q_TRIGGER_E{n}'" for n in range(250)),
        )
        with scheduler(tmp_path) as table:
            start = len(table.heard("Q_SCHEDULE_TICK"))
            table.advance(1.0)
            ticks = [message.facts for message in table.heard("Q_SCHEDULE_TICK")[start:]]
        assert sorted(tick.page for tick in ticks) == [0, 1, 2]
        assert {tick.pages for tick in ticks} == {3}
        assert len({name for tick in ticks for name in tick.entries}) == 250


class TestControl:
    def ask(self, table: Table, **wish: object) -> ChangedFacts:
        table.say("Q_SCHEDULE_CONTROL", {"requester": "a test", **wish})
        changed = answer(table)
        assert (changed.op, changed.requester) == (wish["op"], "a test")
        return changed

    def test_pause_and_resume(self, table: Table) -> None:
        assert self.ask(table, op="pause", schedule="scan").ok
        table.advance(12.0)
        assert triggers(table) == []
        assert last_tick(table).entries["scan"].paused
        assert self.ask(table, op="resume", schedule="scan").detail == "resumed"
        assert [(facts.reason, facts.missed) for facts in triggers(table)] == [("misfire", 1)]

    def test_trigger_at_once(self, table: Table) -> None:
        assert self.ask(table, op="trigger", schedule="think").detail == "triggered"
        (facts,) = triggers(table, "Q_TRIGGER_CURIOSITY")
        assert (facts.beat, facts.due_ts, facts.reason, facts.why) == (None, None, "control", "triggered by hand")

    def test_set_interval_with_an_end(self, table: Table) -> None:
        table.advance(5.0)
        assert self.ask(table, op="set_interval", schedule="scan", value=7.0, ttl_s=20.0).detail == "every 7 s for 20 s"
        table.advance(1.0)
        entry = last_tick(table).entries["scan"]
        assert (entry.interval_s, entry.nominal_s, entry.why) == (7.0, 5.0, "base 5 s, as set: 7 s")
        assert entry.override_until_ts == START_S + 25.0
        table.advance(44.0)
        dues = dues_s(table)
        assert dues[:4] == [5.0, 12.0, 19.0, 25.0]
        assert dues[-1] == 50.0
        assert last_tick(table).entries["scan"].interval_s == 5.0

    def test_set_pace_and_back(self, table: Table) -> None:
        assert self.ask(table, op="set_pace", schedule="think", value=0.5).detail == "pace 0.5 until further notice"
        table.advance(1.0)
        assert last_tick(table).entries["think"].why == "base 60 s, operator × 0.5: 120 s"
        assert self.ask(table, op="set_pace", schedule="think").detail == "back to pace 1"

    @pytest.mark.parametrize(
        ("wish", "reason"),
        [
            ({"op": "pause"}, "pause needs the name of an entry in `schedule`"),
            ({"op": "pause", "schedule": "scam"}, "there is no such entry; did you mean scan?"),
            ({"op": "set_interval", "schedule": "scan", "value": -1.0}, "an interval of -1 s is not within"),
            ({"op": "set_interval", "schedule": "scan", "value": 1e300}, "an interval of 1e+300 s is not within"),
            ({"op": "set_interval", "schedule": "scan", "value": 9.0, "ttl_s": 1e300}, "ttl_s of 1e+300 s is not"),
            ({"op": "set_pace", "schedule": "think", "value": 0.0}, "a pace of 0 is not within 0.01 to 100"),
            ({"op": "set_pace", "schedule": "scan", "value": 2.0}, "its pace is fixed (adaptive = false)"),
        ],
    )
    def test_a_wish_that_cannot_be_granted(self, table: Table, wish: dict[str, object], reason: str) -> None:
        changed = self.ask(table, **wish)
        assert not changed.ok
        assert reason in (changed.detail or "")
        table.advance(10.0)
        assert dues_s(table) == [5.0, 10.0]

    def test_texts_of_any_length_do_not_silence_it(self, table: Table) -> None:
        for source in ("x" * 500_000, "y"):
            wish = {"op": "set_pace", "schedule": "think", "value": 0.5, "source": source, "requester": source}
            table.say("Q_SCHEDULE_CONTROL", wish)
            assert (answer(table).ok, answer(table).requester) == (True, source[:200])
        table.say("Q_SCHEDULE_CONTROL", {"op": "pause", "schedule": "z" * 1_000_000})
        assert "no such entry" in (answer(table).detail or "")
        table.advance(5.0)
        assert "xxx" in (last_tick(table).entries["think"].why or "")
        assert table.daemon.counters.get("handler_failed") is None

    def test_the_answer_names_the_request(self, table: Table) -> None:
        request = table.outsider.emit("Q_SCHEDULE_CONTROL", {"op": "pause", "schedule": "scan"})
        table.settle()
        assert answer(table).request_id == request

    def test_an_unknown_operation_is_refused_by_the_bus_and_counted(self, table: Table) -> None:
        body = (
            b'{"signal":"Q_SCHEDULE_CONTROL","ecosystem":"x","facts":{"op":"explode"},'
            b'"ts":1700000040.0,"schema_version":1}'
        )
        table.hub.publish(b"Q_SCHEDULE_CONTROL", body)
        table.settle()
        assert table.daemon.bus.counters.as_dict()["refused_bad_facts"] == 1
        table.advance(5.0)
        assert dues_s(table) == [5.0]


class TestReload:
    def test_a_good_file_takes_effect(self, table: Table, tmp_path: Path) -> None:
        configure(tmp_path, SCAN.replace("5", "3") + "[entries.tea]\ninterval_s = 10\nsignal = 'Q_TRIGGER_TEA'")
        table.daemon.reload()
        changed = answer(table)
        assert (changed.op, changed.ok) == ("reload", True)
        assert changed.detail == "added tea; removed think; changed scan"
        assert (last_tick(table).entries.keys()) == {"scan", "tea"}
        table.advance(20.0)
        assert dues_s(table, "Q_TRIGGER_TEA") == [10.0, 20.0]

    @pytest.mark.parametrize("text", ["[entries", SCAN.replace("5", "-5"), SCAN + "colour = 3", ""])
    def test_a_bad_file_leaves_the_old_schedule_running_and_says_why(
        self, table: Table, tmp_path: Path, text: str
    ) -> None:
        configure(tmp_path, text)
        with capture_logs() as logs:
            table.say("Q_SCHEDULE_CONTROL", {"op": "reload"})
        changed = answer(table)
        assert not changed.ok
        assert "scheduler_config.toml" in (changed.detail or "")
        assert any(line["event"] == "reload_refused" and line["reason"] == changed.detail for line in logs)
        table.advance(10.0)
        assert dues_s(table) == [5.0, 10.0]

    def test_a_bad_file_at_the_start_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        configure(tmp_path, SCAN.replace("interval_s", "interval_ms"))
        with pytest.raises(ConfigError, match=r"scheduler_config\.toml: entries\.scan\.interval_ms.*`interval_s`"):
            bench(SchedulerDaemon, tmp_path).__enter__()


class TestMaintenance:
    def test_no_triggers_but_ticks_and_one_beat_each_afterwards(self, table: Table) -> None:
        table.say("MAINTENANCE_SUSPEND", {"reason": "disk swap"})
        assert (answer(table).op, answer(table).detail) == ("maintenance", "maintenance on: disk swap")
        table.advance(12.0)
        assert triggers(table) == []
        tick = last_tick(table)
        assert (tick.maintenance, tick.maintenance_reason) == (True, "disk swap")
        table.say("MAINTENANCE_RESUME", {"reason": "done"})
        assert [(facts.reason, facts.missed) for facts in triggers(table)] == [("misfire", 1)]
        assert not last_tick(table).maintenance

    def test_an_agreed_end_ends_it(self, table: Table) -> None:
        table.say("MAINTENANCE_SUSPEND", {"until_ts": START_S + 8.0})
        table.advance(7.9)
        assert triggers(table) == []
        table.advance(0.2)
        assert dues_s(table) == [5.0]
        assert answer(table).detail == "maintenance off"

    def test_it_survives_a_restart(self, table: Table, tmp_path: Path) -> None:
        table.say("MAINTENANCE_SUSPEND", {"reason": "disk swap"})
        table.daemon.store.flush()
        with scheduler(tmp_path, table.clock) as after:
            after.advance(10.0)
            assert triggers(after) == []
            assert last_tick(after).maintenance


class TestRestarts:
    """The first daemon is left as kill -9 leaves it: nothing more is written, nothing is said."""

    def test_no_beat_comes_again_and_none_is_passed_over(self, table: Table, tmp_path: Path) -> None:
        table.advance(10.0)
        with scheduler(tmp_path, table.clock) as after:
            after.advance(10.0)
            assert dues_s(after) == [15.0, 20.0]
            assert [facts.missed for facts in triggers(after)] == [0, 0]

    def test_what_fell_due_in_between_is_coalesced_and_counted(self, table: Table, tmp_path: Path) -> None:
        table.advance(10.0)
        table.clock.advance(23.0)
        with scheduler(tmp_path, table.clock) as after:
            assert [(due, facts.missed) for due, facts in zip(dues_s(after), triggers(after), strict=True)] == [
                (30.0, 3)
            ]

    def test_what_an_earlier_life_remembers_may_be_of_any_length(self, table: Table, tmp_path: Path) -> None:
        now_us = table.clock.wall_us()
        table.daemon.schedule.wish("think", "x" * 600_000, Wish(HOLD, cause="y" * 600_000), now_us)
        table.daemon.store.put("maintenance", Maintenance(True, now_us, now_us + 3_000_000, "z" * 1_100_000))
        table.advance(1.0)
        with scheduler(tmp_path, table.clock) as after:
            tick = last_tick(after)
            assert (tick.entries["think"].held, tick.maintenance_reason) == (True, "z" * 200)
            after.advance(5.0)
            assert not last_tick(after).maintenance

    def test_pauses_paces_and_counters_are_remembered(self, table: Table, tmp_path: Path) -> None:
        table.advance(5.0)
        table.say("Q_SCHEDULE_CONTROL", {"op": "pause", "schedule": "scan"})
        table.say("Q_SCHEDULE_CONTROL", {"op": "set_pace", "schedule": "think", "value": 2.0})
        with scheduler(tmp_path, table.clock) as after:
            entries = last_tick(after).entries
            assert (entries["scan"].paused, entries["scan"].emitted) == (True, 1)
            assert (entries["think"].pace, entries["think"].interval_s) == (2.0, 30.0)

    def test_every_life_has_a_higher_epoch_even_if_the_clock_went_back(self, table: Table, tmp_path: Path) -> None:
        epoch = table.daemon.epoch
        assert epoch == START_S * 1000
        with scheduler(tmp_path, VirtualClock(wall_us=1_000_000_000_000_000)) as after:
            assert after.daemon.epoch == epoch + 1

    def test_a_second_scheduler_is_noticed(self, table: Table) -> None:
        with capture_logs() as logs:
            table.say("Q_SCHEDULE_TICK", {"tick": 1, "uptime_s": 1.0, "epoch": 7})
        assert [line["its_epoch"] for line in logs if line["event"] == "another_scheduler"] == [7]
        assert table.daemon.counters["foreign_tick"] == 1


def test_a_scheduler_killed_by_governance_emits_nothing_more(table: Table) -> None:
    table.say("governance.kill", {"zooid": "scheduler_daemon"})
    ticks = len(table.heard("Q_SCHEDULE_TICK"))
    table.advance(10.0)
    assert triggers(table) == []
    assert len(table.heard("Q_SCHEDULE_TICK")) == ticks


def test_a_disk_that_fills_up_stops_no_beat(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.daemon.store._disconnect()
    table.daemon.store.path = Path("/proc/no/such/place/state.db")
    with capture_logs() as logs:
        table.advance(20.0)
    assert dues_s(table) == [5.0, 10.0, 15.0, 20.0]
    assert [line["event"] for line in logs].count("state_not_saved") == 1


def test_the_status_line_reads_well(table: Table) -> None:
    table.advance(5.0)
    beat = (START_S + 5) // 5
    assert table.daemon.status() == f"normal, 2 entries, last scan {beat}, lateness p99 0.00 ms"

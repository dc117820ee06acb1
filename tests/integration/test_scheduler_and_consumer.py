"""The scheduler and a consumer on one bus in virtual time: what becomes of the work when the one of them dies."""

from __future__ import annotations

from pathlib import Path

from support.bench import Bench, bench
from support.counting import Counting

from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.orchestration.scheduler_daemon import SchedulerDaemon

S = 1_000_000
START_US = 1_700_000_040 * S
SCHEDULE = """
[entries.counting]
interval_s = 5
signal = "Q_TRIGGER_COUNTING"

[[affect]]
signal = "AFFECT_EMERGENCY_BRAKE"
entries = ["*"]
pace = 0.0
ttl_s = 30.0
"""


def write(folder: Path, schedule: str = SCHEDULE) -> None:
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / "config" / "scheduler_config.toml").write_text(schedule)


def pass_both(scheduler: Bench[SchedulerDaemon], consumer: Bench[Counting], seconds: int) -> None:
    for _ in range(seconds):
        scheduler.advance(1.0)
        consumer.settle()


def test_when_the_scheduler_dies_during_a_hold_consumers_fall_back_after_it(tmp_path: Path) -> None:
    write(tmp_path / "scheduler")
    clock, hub = VirtualClock(wall_us=START_US), MemoryHub()
    with bench(Counting, tmp_path / "consumer", clock, hub=hub) as consumer:
        with bench(SchedulerDaemon, tmp_path / "scheduler", clock, hub=hub) as scheduler:
            pass_both(scheduler, consumer, 20)
            scheduler.say("AFFECT_EMERGENCY_BRAKE", {"cause": "hot"})
            pass_both(scheduler, consumer, 3)
        before = len(consumer.heard("Q_CYCLE_REPORT"))
        consumer.advance(26.0)
        assert consumer.daemon.mode() == "paused"
        consumer.advance(12.0)
        assert consumer.daemon.mode() == "fallback"
        consumer.advance(3600.0)
        assert len(consumer.heard("FALLBACK_ENGAGED")) == 1
        assert len(consumer.heard("Q_CYCLE_REPORT")) - before >= 720


def test_a_consumer_that_was_stopped_during_a_hold_falls_back_in_its_next_life(tmp_path: Path) -> None:
    write(tmp_path / "scheduler")
    clock, hub = VirtualClock(wall_us=START_US), MemoryHub()
    with (
        bench(Counting, tmp_path / "consumer", clock, hub=hub) as consumer,
        bench(SchedulerDaemon, tmp_path / "scheduler", clock, hub=hub) as scheduler,
    ):
        scheduler.say("AFFECT_EMERGENCY_BRAKE", {"cause": "hot"})
        pass_both(scheduler, consumer, 3)
        assert consumer.daemon.beats.pacing.paused
    clock.advance(86_400.0)
    with bench(Counting, tmp_path / "consumer", clock) as consumer:
        consumer.advance(11.0)
        assert consumer.daemon.mode() == "fallback"


def test_a_hold_that_ends_during_maintenance_is_over_when_that_is(tmp_path: Path) -> None:
    write(tmp_path / "scheduler")
    clock, hub = VirtualClock(wall_us=START_US), MemoryHub()
    with bench(Counting, tmp_path / "consumer", clock, hub=hub) as consumer:
        with bench(SchedulerDaemon, tmp_path / "scheduler", clock, hub=hub) as scheduler:
            scheduler.say("AFFECT_EMERGENCY_BRAKE", {"cause": "hot"})
            pass_both(scheduler, consumer, 3)
        consumer.say("MAINTENANCE_SUSPEND")
        consumer.advance(600.0)
        assert not consumer.heard("FALLBACK_ENGAGED")
        consumer.say("MAINTENANCE_RESUME")
        consumer.advance(9.0)
        assert not consumer.heard("FALLBACK_ENGAGED"), "silence counts from the end of the maintenance"
        consumer.advance(2.0)
        assert consumer.daemon.mode() == "fallback"


def test_a_scheduler_that_returns_after_the_clock_was_wrong_is_heard_at_once(tmp_path: Path) -> None:
    write(tmp_path / "scheduler")
    clock, hub = VirtualClock(wall_us=START_US), MemoryHub()
    with bench(Counting, tmp_path / "consumer", clock, hub=hub) as consumer:
        with bench(SchedulerDaemon, tmp_path / "scheduler", clock, hub=hub) as scheduler:
            pass_both(scheduler, consumer, 20)
        consumer.advance(30.0)
        for step_s in (3600, -3600):
            clock.step_wall(step_s)
            consumer.settle()
            consumer.advance(20.0)
        assert consumer.daemon.mode() == "fallback"
        before = len(consumer.heard("Q_CYCLE_REPORT"))
        with bench(SchedulerDaemon, tmp_path / "scheduler", clock, hub=hub) as scheduler:
            pass_both(scheduler, consumer, 3700)
            triggers = scheduler.heard("Q_TRIGGER_COUNTING")
        reports = [message.facts for message in consumer.heard("Q_CYCLE_REPORT")]
        assert len(reports) - before >= len(triggers) - 2
        assert {report.source for report in reports[before:]} == {"trigger"}
        dues_ts = [report.due_ts for report in reports if report.due_ts]
        assert len(dues_ts) == len(set(dues_ts))
        told_ts = {*dues_ts, *(due_ts for report in reports for due_ts in report.overlapped_ts)}
        assert {trigger.facts.due_ts for trigger in triggers} <= told_ts, "each beat has its end"

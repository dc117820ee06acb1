"""The scheduler killed, hung or gone: beats go on, none runs twice, none is lost beyond the policy."""

from __future__ import annotations

from tests.systemd.suite import INTROSPECTION, SCHEDULER, Suite, never_ran, ran_twice
from tests.systemd.system import wait_for

INTERVAL_S = 1.0
# The wider, so that a tenth of an interval says something about the suite and not about a busy machine.
FALLBACK_INTERVAL_S = 2.0


def test_a_killed_scheduler_comes_back_and_no_beat_runs_twice_or_is_lost(suite: Suite) -> None:
    suite.schedule(introspection_scan=INTERVAL_S)
    suite.start()
    suite.wait_for_cycles(2)
    first = suite.machine.show(SCHEDULER, "MainPID")
    mark = suite.machine.journal_mark()
    suite.machine.kill("kloros-scheduler", "KILL")
    wait_for(lambda: suite.machine.show(SCHEDULER, "NRestarts") == "1", 10, "the restart")
    suite.wait_for_cycles(3, since=mark)
    assert suite.machine.show(SCHEDULER, "MainPID") != first
    cycles = suite.cycles()
    assert ran_twice(cycles) == []
    assert never_ran(cycles, INTERVAL_S) == []


def test_a_scheduler_gone_for_good_is_replaced_by_the_fallback_until_it_returns(suite: Suite) -> None:
    suite.schedule(introspection_scan=FALLBACK_INTERVAL_S)
    suite.start()
    suite.wait_for_cycles(2)
    suite.machine.systemctl("stop", "kloros-scheduler")
    last_trigger = suite.triggers()[-1]

    engaged = wait_for(lambda: suite.events(INTROSPECTION, "fallback_engaged"), 10, "the fallback")[0]
    silent_s = int(engaged["__REALTIME_TIMESTAMP"]) / 1e6 - last_trigger.logged_ts
    assert 2.0 <= silent_s / FALLBACK_INTERVAL_S <= 2.1

    suite.wait_for_cycles(2, source="fallback")
    assert "fallback" in suite.machine.show(INTROSPECTION, "StatusText")

    back = suite.machine.journal_mark()
    suite.start("kloros-scheduler")
    wait_for(lambda: suite.events(INTROSPECTION, "fallback_released", since=back), 10, "the hand-over")
    suite.wait_for_cycles(2, since=back, source="trigger")
    cycles = suite.cycles()
    assert ran_twice(cycles) == []
    assert never_ran(cycles, FALLBACK_INTERVAL_S) == []


def test_a_frozen_scheduler_is_restarted_by_the_watchdog(suite: Suite) -> None:
    suite.quicken_watchdog()
    suite.schedule(introspection_scan=INTERVAL_S)
    suite.start()
    suite.wait_for_cycles(1)
    suite.machine.kill("kloros-scheduler", "STOP")
    wait_for(lambda: suite.machine.show(SCHEDULER, "NRestarts") == "1", 15, "the watchdog")
    wait_for(lambda: suite.machine.is_ready(SCHEDULER), 10)
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in suite.machine.journal(SCHEDULER))
    assert suite.machine.show(INTROSPECTION, "NRestarts") == "0"

"""What an operator may do to a running suite: pause it, silence a daemon, inject a trigger, kill the bus."""

from __future__ import annotations

from tests.systemd.suite import INTROSPECTION, PROXY, SCHEDULER, Suite, ran_twice
from tests.systemd.system import wait_for

INTERVAL_S = 1.0


def test_an_injected_trigger_runs_a_cycle_at_once(suite: Suite) -> None:
    suite.schedule(introspection_scan=3600.0)
    suite.start()
    suite.emit("Q_TRIGGER_INTROSPECTION", "introspection")
    assert suite.wait_for_cycles(1, limit_s=5)[0].source == "injected"


def test_a_killed_zooid_stops_working_and_its_process_lives_on(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start()
    suite.wait_for_cycles(1)
    suite.emit("governance.kill", "governance", zooid="introspection_daemon", reason="a test", requester="operator")
    wait_for(lambda: suite.events(INTROSPECTION, "killed_by_governance"), 5, "the kill to be heard")
    mark = suite.machine.journal_mark()
    wait_for(lambda: suite.triggers(since=mark)[3:], 10, "more triggers")
    assert suite.cycles(since=mark) == []
    assert suite.machine.is_ready(INTROSPECTION)
    suite.machine.systemctl("restart", "kloros-introspection")
    suite.wait_for_cycles(1, since=mark)


def test_maintenance_stills_everything_and_nobody_falls_back(suite: Suite) -> None:
    suite.schedule(introspection_scan=INTERVAL_S)
    suite.start()
    suite.wait_for_cycles(1)
    suite.kloros("maintenance", "on", "--reason", "a test")
    with suite.listening("Q_SCHEDULE_TICK") as heard:
        wait_for(lambda: [tick for tick in heard() if tick["facts"].get("maintenance")], 5, "a tick that says so")
        mark = suite.machine.journal_mark()
        ticks = len(heard())
        wait_for(lambda: len(heard()) >= ticks + 4, 10, "ticks going on")
        assert suite.cycles(since=mark) == []
        assert suite.triggers(since=mark) == []
        assert suite.events(INTROSPECTION, "fallback_engaged") == []
    suite.kloros("maintenance", "off")
    suite.wait_for_cycles(2, since=mark)
    assert ran_twice(suite.cycles()) == []


def test_a_killed_bus_comes_back_and_everyone_rejoins_without_a_restart(suite: Suite) -> None:
    suite.schedule(introspection_scan=INTERVAL_S)
    suite.start()
    suite.wait_for_cycles(2)
    suite.machine.kill("kloros-chem-proxy", "KILL")
    wait_for(lambda: suite.machine.show(PROXY, "NRestarts") == "1", 10, "the restart of the bus")
    wait_for(lambda: suite.machine.is_ready(PROXY), 10)
    mark = suite.machine.journal_mark()
    suite.wait_for_cycles(2, since=mark, source="trigger")
    assert ran_twice(suite.cycles()) == []
    assert [suite.machine.show(unit, "NRestarts") for unit in (SCHEDULER, INTROSPECTION)] == ["0", "0"]

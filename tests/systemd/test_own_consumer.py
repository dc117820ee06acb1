"""A daemon of the user's own, outside this repository, under kloros-consumer@.service."""

from __future__ import annotations

from tests.systemd.suite import Suite
from tests.systemd.system import wait_for

UNIT = "kloros-consumer@disk_report:DiskReport.service"

DISK_REPORT = """
import shutil

from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle


class DiskReport(Consumer):
    schedule = "disk_report"
    signal = "Q_TRIGGER_DISK_REPORT"
    interval_s = 1.0

    def cycle(self, cycle: Cycle) -> None:
        cycle.log.info("disk", free_bytes=shutil.disk_usage("/home").free)
        cycle.processed = 1
"""

HUNG = """
import time

from kloros.daemon.consumer import Consumer


class Hung(Consumer):
    schedule = "hung"
    signal = "Q_TRIGGER_HUNG"
    interval_s = 3600.0
    hears = ("Q_TRIGGER_LEDGER_FLUSH",)

    def cycle(self, cycle):
        pass

    def on_signal(self, message):
        time.sleep(3600)
"""


def test_a_consumer_in_etc_runs_under_the_template_unit(suite: Suite) -> None:
    suite.machine.write_file("/etc/kloros/consumers/disk_report.py", DISK_REPORT)
    suite.schedule(disk_report=1.0)
    suite.start("kloros-scheduler", UNIT)
    cycles = suite.wait_for_cycles(2, unit=UNIT)
    assert {cycle.source for cycle in cycles} == {"trigger"}
    assert suite.events(UNIT, "disk")
    assert suite.machine.run("test", "-e", "/var/lib/kloros/consumers/disk_report/state.db").returncode == 0


def test_it_is_part_of_the_target(suite: Suite) -> None:
    suite.machine.write_file("/etc/kloros/consumers/disk_report.py", DISK_REPORT)
    suite.machine.systemctl("enable", UNIT)
    suite.start()
    wait_for(lambda: suite.machine.is_ready(UNIT), 10)
    suite.machine.systemctl("stop", "kloros.target")
    wait_for(lambda: suite.machine.show(UNIT, "ActiveState") == "inactive", 5)


def test_a_consumer_that_does_not_exist_fails_once_and_says_so(suite: Suite) -> None:
    assert suite.machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    assert suite.machine.show(UNIT, "NRestarts") == "0"
    assert any("disk_report" in str(entry["MESSAGE"]) for entry in suite.machine.journal(UNIT, _TRANSPORT="stdout"))


def test_a_hung_main_loop_is_restarted_by_the_watchdog(suite: Suite) -> None:
    unit = "kloros-consumer@hung:Hung.service"
    suite.quicken_watchdog()
    suite.machine.write_file("/etc/kloros/consumers/hung.py", HUNG)
    suite.start("kloros-scheduler", unit)
    suite.emit("Q_TRIGGER_LEDGER_FLUSH", "ledger")
    wait_for(lambda: suite.machine.show(unit, "NRestarts") == "1", 15, "the watchdog")
    wait_for(lambda: suite.machine.is_ready(unit), 10)
    assert any("Watchdog timeout" in str(entry["MESSAGE"]) for entry in suite.machine.journal(unit))

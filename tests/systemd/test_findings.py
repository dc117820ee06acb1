"""Introspection in a real machine: what breaks is reported once, what is mended is reported once."""

from __future__ import annotations

from typing import Any

from tests.systemd.suite import Suite
from tests.systemd.system import wait_for

UNIT = "/etc/systemd/system/backup-of-photos.service"
BROKEN = "[Service]\nType=oneshot\nExecStart=/opt/no/such/program\n"
MENDED = "[Service]\nType=oneshot\nExecStart=/bin/true\n"


def about_the_unit(messages: list[dict[str, Any]], signal: str) -> list[dict[str, Any]]:
    meant = [message for message in messages if message["signal"] == signal]
    return [message for message in meant if "backup-of-photos" in str(message["facts"])]


def test_a_broken_unit_is_one_gap_and_once_mended_one_restoration(suite: Suite) -> None:
    machine = suite.machine
    suite.schedule(introspection_scan=0.5)
    suite.start()
    with suite.listening("CAPABILITY_GAP", "CAPABILITY_RESTORED") as heard:
        machine.write_file(UNIT, BROKEN)
        machine.systemctl("daemon-reload")
        machine.systemctl("start", "backup-of-photos", check=False)
        assert machine.show("backup-of-photos", "ExecMainStatus") == "203"
        wait_for(lambda: about_the_unit(heard(), "CAPABILITY_GAP"), 10, "the gap")
        mark = machine.journal_mark()
        suite.wait_for_cycles(4, since=mark)
        assert len(about_the_unit(heard(), "CAPABILITY_GAP")) == 1

        machine.write_file(UNIT, MENDED)
        machine.systemctl("daemon-reload")
        machine.systemctl("start", "backup-of-photos")
        wait_for(lambda: about_the_unit(heard(), "CAPABILITY_RESTORED"), 10, "the restoration")
        mark = machine.journal_mark()
        suite.wait_for_cycles(4, since=mark)
        assert len(about_the_unit(heard(), "CAPABILITY_RESTORED")) == 1
        assert len(about_the_unit(heard(), "CAPABILITY_GAP")) == 1


def test_a_finding_outlives_a_restart_of_introspection_without_being_told_again(suite: Suite) -> None:
    machine = suite.machine
    suite.schedule(introspection_scan=0.5)
    suite.start()
    with suite.listening("CAPABILITY_GAP") as heard:
        machine.write_file(UNIT, BROKEN)
        machine.systemctl("start", "backup-of-photos", check=False)
        wait_for(lambda: about_the_unit(heard(), "CAPABILITY_GAP"), 10, "the gap")
        machine.kill("kloros-introspection", "KILL")
        wait_for(lambda: machine.show("kloros-introspection", "NRestarts") == "1", 10, "the restart")
        mark = machine.journal_mark()
        suite.wait_for_cycles(4, since=mark)
        assert len(about_the_unit(heard(), "CAPABILITY_GAP")) == 1


def test_every_scanner_works_inside_the_sandbox(suite: Suite) -> None:
    """Hardening hides nothing that introspection looks at: no scanner names a lack, homes and PSI are seen."""
    suite.schedule(introspection_scan=0.5)
    suite.start()
    suite.wait_for_cycles(3)
    warnings = suite.machine.journal("kloros-introspection", PRIORITY="4")
    # What the host really suffers from while this runs is a finding, and no lack.
    assert [entry["MESSAGE"] for entry in warnings if entry["KLOROS_EVENT"] != "gap_opened"] == []

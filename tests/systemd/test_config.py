"""Config under systemd: a bad one is refused once and clearly, a reload takes a good one and refuses a bad one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.systemd.machine import Machine
from tests.systemd.suite import SCHEDULE_FILE, SCHEDULER, Suite
from tests.systemd.system import wait_for

BAD = {
    "a wrong key": ("interval_s = 2.0", "intervall_s = 2.0", "intervall_s"),
    "a wrong type": ("interval_s = 2.0", 'interval_s = "often"', "interval_s"),
    "a negative interval": ("interval_s = 2.0", "interval_s = -2.0", "interval_s"),
    "an unknown signal": ("Q_TRIGGER_INTROSPECTION", "Q_TRIGGER_INTROSPECTIONS", "signal"),
    "not TOML": ("[entries", "entries = [", "scheduler_config.toml"),
}


def messages(machine: Machine, since: int = 0) -> str:
    return "\n".join(str(entry["MESSAGE"]) for entry in machine.journal(SCHEDULER, since))


def spoil(suite: Suite, good: str, bad: str) -> None:
    text = suite.machine.read_file(SCHEDULE_FILE)
    assert good in text
    suite.machine.write_file(SCHEDULE_FILE, text.replace(good, bad))


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_config_fails_once_with_a_clear_message(suite: Suite, fault: str) -> None:
    good, bad, named = BAD[fault]
    suite.schedule(introspection_scan=2.0)
    spoil(suite, good, bad)
    assert suite.machine.run("systemctl", "start", "kloros-scheduler", check=False).returncode != 0
    assert suite.machine.show(SCHEDULER, "ActiveState") == "failed"
    assert suite.machine.show(SCHEDULER, "ExecMainStatus") == "2"
    assert suite.machine.show(SCHEDULER, "NRestarts") == "0"
    line = next(line for line in messages(suite.machine).splitlines() if SCHEDULE_FILE in line)
    assert named in line
    assert "found" in line
    assert "expected" in line


def interval_s(trigger: dict[str, Any]) -> float:
    return float(trigger["facts"]["interval_s"])


def test_reload_takes_a_good_file(suite: Suite) -> None:
    suite.schedule(introspection_scan=2.0)
    suite.start("kloros-scheduler")
    wait_for(suite.triggers, 10)
    pid = suite.machine.show(SCHEDULER, "MainPID")
    with suite.listening("Q_TRIGGER_INTROSPECTION") as heard:
        suite.schedule(introspection_scan=0.5)
        suite.machine.systemctl("reload", "kloros-scheduler")
        wait_for(lambda: heard() and interval_s(heard()[-1]) == 0.5, 10, "the new interval")
    assert suite.machine.show(SCHEDULER, "MainPID") == pid


def test_reload_refuses_a_bad_file_and_keeps_the_old_schedule(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start("kloros-scheduler")
    wait_for(suite.triggers, 10)
    pid = suite.machine.show(SCHEDULER, "MainPID")
    spoil(suite, "interval_s = 0.5", "intervall_s = 0.5")
    mark = suite.machine.journal_mark()
    with suite.listening("Q_TRIGGER_INTROSPECTION", "Q_SCHEDULE_CHANGED") as heard:
        assert suite.machine.run("systemctl", "reload", "kloros-scheduler", check=False).returncode != 0
        wait_for(lambda: "intervall_s" in messages(suite.machine, mark), 10, "the reason in the journal")
        wait_for(lambda: suite.triggers(since=mark)[2:], 10, "the old schedule going on")
        changed = [message["facts"] for message in heard() if message["signal"] == "Q_SCHEDULE_CHANGED"]
        assert {interval_s(message) for message in heard() if message["signal"] != "Q_SCHEDULE_CHANGED"} == {0.5}
    assert [fact["ok"] for fact in changed] == [False]
    assert "intervall_s" in changed[0]["detail"]
    assert suite.machine.show(SCHEDULER, "MainPID") == pid

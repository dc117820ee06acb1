"""Starting, watching and stopping the suite with systemctl and journalctl."""

from __future__ import annotations

import time

import pytest

from tests.systemd.machine import Machine
from tests.systemd.suite import (
    DAEMONS,
    HISTORIAN,
    INTROSPECTION,
    LEDGER_WRITER,
    OPTIMISER,
    PROXY,
    PYTHON,
    SCHEDULER,
    Suite,
)
from tests.systemd.system import wait_for

HIGHEST_EXPOSURE = 1.5
METRICS_PORTS = {PROXY: 9640, SCHEDULER: 9641, INTROSPECTION: 9642, LEDGER_WRITER: 9643, HISTORIAN: 9644} | {
    unit: port for port, unit in enumerate(DAEMONS[5:-1], 9645)
}
METRICS_PORTS[OPTIMISER] = 9653


def test_starting_the_scheduler_brings_up_bus_and_scheduler(machine: Machine) -> None:
    machine.systemctl("start", "kloros-scheduler")
    assert machine.is_ready(PROXY)
    assert machine.is_ready(SCHEDULER)
    assert not machine.is_ready(INTROSPECTION)


def test_starting_the_target_brings_up_everything(machine: Machine) -> None:
    machine.systemctl("start", "kloros.target")
    assert all(machine.is_ready(unit) for unit in DAEMONS)


def test_the_journal_finds_beats_by_their_signal(suite: Suite) -> None:
    suite.start("kloros-scheduler")
    assert wait_for(suite.triggers, 10, "a beat in the journal")[0].number is not None


def test_status_says_mode_last_beat_and_backlog(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start()
    suite.wait_for_cycles(1)
    status = wait_for(lambda: suite.machine.show(INTROSPECTION, "StatusText"), 5)
    assert "normal" in status
    assert "last beat" in status
    assert "backlog" in status


def test_introspection_answers_the_schedulers_triggers(suite: Suite) -> None:
    suite.start()
    assert suite.wait_for_cycles(1)[0].source == "trigger"


def test_each_daemon_serves_its_metrics_on_loopback(suite: Suite) -> None:
    suite.start()
    script = (
        "import sys, urllib.request as r; print(r.urlopen(f'http://127.0.0.1:{sys.argv[1]}/metrics').read().decode())"
    )
    for unit, port in METRICS_PORTS.items():
        assert "kloros_" in suite.machine.run(PYTHON, "-c", script, str(port)).stdout, unit


@pytest.mark.parametrize("unit", [*DAEMONS, "kloros-consumer@module:Class.service"])
def test_exposure_is_low(machine: Machine, unit: str) -> None:
    said = machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
    overall = next(line for line in said.splitlines() if "Overall exposure level" in line)
    assert float(overall.split(": ")[1].split()[0]) <= HIGHEST_EXPOSURE


def test_everything_stops_within_two_seconds(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start()
    suite.wait_for_cycles(1)
    started = time.monotonic()
    suite.machine.systemctl("stop", "kloros.target")
    wait_for(lambda: not any(suite.machine.is_ready(unit) for unit in DAEMONS), 5)
    wait_for(lambda: all(suite.machine.show(unit, "ActiveState") == "inactive" for unit in DAEMONS), 5)
    assert time.monotonic() - started < 2.0
    assert {suite.machine.show(unit, "Result") for unit in DAEMONS} == {"success"}


def test_a_daemon_that_was_stopped_is_not_started_again(suite: Suite) -> None:
    suite.start()
    suite.machine.systemctl("stop", SCHEDULER)
    assert suite.machine.show(SCHEDULER, "ActiveState") == "inactive"
    assert suite.machine.is_ready(PROXY)


def test_a_second_scheduler_refuses_and_names_the_first(suite: Suite) -> None:
    suite.start("kloros-scheduler")
    first = suite.machine.show(SCHEDULER, "MainPID")
    places = ["KLOROS_CONFIG_DIR=/etc/kloros", "KLOROS_RUNTIME_DIR=/run/kloros", "KLOROS_STATE_DIR=/tmp/second"]
    module = "kloros.orchestration.scheduler_daemon"
    second = suite.machine.run("runuser", "-u", "kloros", "--", "env", *places, PYTHON, "-m", module, check=False)
    assert second.returncode == 2
    assert f"process {first}" in second.stderr
    assert suite.machine.show(SCHEDULER, "MainPID") == first


def test_the_bus_is_open_to_the_group_and_closed_to_others(suite: Suite) -> None:
    suite.start("kloros-scheduler")
    suite.machine.sh("useradd --no-create-home member; useradd --no-create-home stranger; usermod -aG kloros member")
    script = (
        "import socket\n"
        "for name in ('bus.pub', 'bus.sub'):\n"
        "    socket.socket(socket.AF_UNIX).connect(f'/run/kloros/{name}')\n"
    )
    assert suite.machine.run("runuser", "-u", "member", "--", PYTHON, "-c", script, check=False).returncode == 0
    refused = suite.machine.run("runuser", "-u", "stranger", "--", PYTHON, "-c", script, check=False)
    assert "PermissionError" in refused.stderr

"""The units' limits hold: the kernel ends what outgrows its memory, and the suite goes on."""

from __future__ import annotations

import pytest

from tests.systemd.suite import Suite
from tests.systemd.system import wait_for

UNIT = "kloros-consumer@greedy:Greedy.service"
GREEDY = """
import time

from kloros.daemon.consumer import Consumer


class Greedy(Consumer):
    schedule = "greedy"
    signal = "Q_TRIGGER_GREEDY"
    interval_s = 3600.0

    def cycle(self, cycle):
        hoard = []
        while True:
            hoard.append(bytes(range(256)) * 4096)
            time.sleep(0.001)
"""


def test_a_daemon_that_outgrows_its_memory_is_ended_and_started_anew(suite: Suite) -> None:
    """256 MB for a daemon of one's own, as for each of the suite's."""
    machine = suite.machine
    machine.write_file("/etc/kloros/consumers/greedy.py", GREEDY)
    suite.schedule(greedy=3600.0)
    suite.start("kloros-scheduler", UNIT)
    if machine.show(UNIT, "MemoryCurrent") == "[not set]":
        pytest.skip("the machine has no memory controller to give to its units")
    assert machine.show(UNIT, "MemoryMax") == str(256 * 1024 * 1024)
    suite.kloros("schedule", "trigger", "greedy")
    wait_for(lambda: machine.show(UNIT, "NRestarts") == "1", 20, "the kernel to end it")
    said = " ".join(str(entry["MESSAGE"]) for entry in machine.journal(UNIT))
    assert "code=killed, status=9/KILL" in said  # never a stop that was asked for: nobody did
    wait_for(lambda: machine.is_ready(UNIT), 10)
    assert machine.is_ready("kloros-scheduler")
    assert machine.show("kloros-scheduler", "NRestarts") == "0"

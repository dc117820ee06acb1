"""A machine that has nothing is left in peace: the whole suite looks at it and asks nothing."""

from __future__ import annotations

from pathlib import Path

from kloros.machine.pressure import RESOURCES, read_pressure
from tests.systemd.breakages.course import ASKED
from tests.systemd.breakages.proving import INTERVALS_S
from tests.systemd.suite import Suite

PRESSURE = Path("/proc/pressure")
# Each scan looks at everything, so they stand for five minutes of the default schedule.
SCANS = 60


def test_a_healthy_machine_is_asked_nothing(suite: Suite) -> None:
    suite.schedule(**{**INTERVALS_S, "introspection_scan": 0.5})
    suite.start("kloros-chem-proxy")
    with suite.listening("CAPABILITY_GAP", *ASKED, "FLAG_FOR_REVIEW", "Q_ACTION_SPAWNED") as heard:
        suite.start()
        suite.wait_for_cycles(SCANS, limit_s=100)
        about = [message["facts"] for message in heard()]
    assert [facts for facts in about if facts.get("gap_type") not in hard_pressed()] == []


def hard_pressed() -> list[str]:
    """What the host itself suffers from while others use it: a finding about that is about something real."""
    return [f"pressure_{name}" for name in RESOURCES if read_pressure(PRESSURE / name)["some"].avg60 >= 50]

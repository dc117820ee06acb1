"""A machine that has nothing is left in peace: the whole suite looks at it and asks nothing."""

from __future__ import annotations

from pathlib import Path

from kloros.machine.pressure import RESOURCES, read_pressure
from tests.systemd.breakages.course import ASKED
from tests.systemd.suite import Suite

PRESSURE = Path("/proc/pressure")
BEATS, EVERY_S = 60, 0.5
# The shipped schedule goes on; so many beats more stand for five minutes of it.
MORE_BEATS = """
import sys, time
from kloros.chembus.pub import ChemPub
beats, every_s = int(sys.argv[1]), float(sys.argv[2])
with ChemPub() as bus:
    for _ in range(beats):
        for name in ("INTROSPECTION", "CURIOSITY", "SEMANTIC_DEDUP", "INVESTIGATION", "ACTION_PROCESSING"):
            bus.emit(f"Q_TRIGGER_{name}")
        time.sleep(every_s)
"""


def test_a_healthy_machine_is_asked_nothing(suite: Suite) -> None:
    suite.start("kloros-chem-proxy")
    with suite.listening("CAPABILITY_GAP", *ASKED, "FLAG_FOR_REVIEW", "Q_ACTION_SPAWNED") as heard:
        suite.start()
        suite.python(MORE_BEATS, str(BEATS), str(EVERY_S), limit_s=120)
        suite.wait_for_cycles(BEATS * 3 // 4, limit_s=60)  # beats that come while a scan is under way are one
        about = [message["facts"] for message in heard()]
    assert [facts for facts in about if facts.get("gap_type") not in hard_pressed()] == []


def hard_pressed() -> list[str]:
    """What the host itself suffers from while others use it: a finding about that is about something real."""
    return [f"pressure_{name}" for name in RESOURCES if read_pressure(PRESSURE / name)["some"].avg60 >= 50]

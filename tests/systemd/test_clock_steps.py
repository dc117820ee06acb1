"""What only a computer of its own can show: its clock is stepped by an hour, forwards and back, and no beat is run
twice or lost. A container shares the clock of the whole computer.

scripts/test -m own_kernel     # some two minutes; not among what scripts/test runs by itself
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from tests.systemd.own_kernel import OwnKernel
from tests.systemd.suite import HISTORIAN, INTROSPECTION, PROXY, SCHEDULE_FILE, SCHEDULER
from tests.systemd.system import wait_for

pytestmark = [pytest.mark.own_kernel, pytest.mark.timeout(1800)]

UNITS = (PROXY, HISTORIAN, INTROSPECTION, SCHEDULER)
SCAN, INTERVAL_S, CYCLES, HOUR_S = "introspection_scan", 5.0, 3, 3600
SCHEDULE = f"""
[entries.{SCAN}]
interval_s = {INTERVAL_S}
signal = "Q_TRIGGER_INTROSPECTION"
adaptive = false
"""
SLOW_S = 120.0
POLL_S = 2.0
Entry = dict[str, Any]


@dataclass
class Lived:
    """What happened in it: cycles before the clock was stepped, after it went forwards, and after it went back."""

    machine: OwnKernel
    since_ts: float = 0.0
    latest_ts: float = 0.0
    before: list[Entry] = field(default_factory=list)
    forwards: list[Entry] = field(default_factory=list)
    back: list[Entry] = field(default_factory=list)

    def kloros(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and what was printed."""
        result = self.machine.run("kloros", *arguments, check=False, limit_s=SLOW_S)
        return result.returncode, result.stdout + result.stderr

    def prove(self, *arguments: str) -> tuple[int, str]:
        """Of all of it: `--until` lies in a future that was there already."""
        return self.kloros("prove", "--since", f"{self.since_ts}", "--until", f"{self.latest_ts + 10}", *arguments)

    def cycles(self, since: int, count: int = 0) -> list[Entry]:
        """Those that ended since a mark, once there are so many."""

        def ended() -> list[Entry]:
            return self.machine.journal(INTROSPECTION, since, KLOROS_EVENT="cycle")

        return wait_for(lambda: each if len(each := ended()) >= count else [], SLOW_S, f"{count} cycles", POLL_S)

    def step(self, by: str) -> list[Entry]:
        """Set the clock and see some cycles."""
        mark = self.machine.journal_mark()
        self.machine.run("date", "--set", by)
        return self.cycles(mark, CYCLES)


@pytest.fixture(scope="module")
def lived(own_kernel: OwnKernel) -> Lived:
    own_kernel.write_file(SCHEDULE_FILE, SCHEDULE)
    for unit in UNITS:
        own_kernel.systemctl("start", unit, limit_s=SLOW_S)
    lived = Lived(own_kernel)
    lived.before = lived.cycles(0, CYCLES)
    lived.since_ts = dues(lived.before)[0] - 1
    lived.forwards = lived.step("+1 hour")
    lived.latest_ts = dues(lived.forwards)[-1]
    lived.back = lived.step("-1 hour")
    return lived


def dues(cycles: list[Entry]) -> list[float]:
    """When they were due; a beat without a number is due at no moment."""
    return [float(cycle["KLOROS_DUE_TS"]) for cycle in cycles if "KLOROS_DUE_TS" in cycle]


def test_every_daemon_notices_both_steps(lived: Lived) -> None:
    for unit in UNITS:
        steps_s = [float(each["KLOROS_STEP_S"]) for each in lived.machine.journal(unit, KLOROS_EVENT="clock_stepped")]
        assert [round(step_s) for step_s in steps_s] == [HOUR_S, -HOUR_S], unit


def test_the_hour_that_was_skipped_is_one_beat(lived: Lived) -> None:
    stepped_over = (dues(lived.forwards)[0] - dues(lived.before)[-1]) / INTERVAL_S
    assert HOUR_S / INTERVAL_S <= stepped_over <= HOUR_S / INTERVAL_S + 3
    assert int(lived.forwards[0]["KLOROS_MISSED"]) == round(stepped_over) - 1
    later = dues(lived.forwards)
    assert [b - a for a, b in pairwise(later)] == [INTERVAL_S] * (len(later) - 1)


def test_the_hour_that_is_repeated_goes_on_without_numbers(lived: Lived) -> None:
    """No number is used twice, and nothing falls silent."""
    assert dues(lived.back) == []
    assert {cycle["KLOROS_SOURCE"] for cycle in lived.before + lived.forwards + lived.back} == {"trigger"}


def test_it_is_proven(lived: Lived) -> None:
    code, shown = lived.prove()
    print(shown)
    assert code == 0, shown
    assert "green: " in shown
    proof = json.loads(lived.prove("--json")[1])
    (scheduled,), (ran,) = proof["schedule"], proof["consumers"]
    assert scheduled["due"] == scheduled["emitted"] + scheduled["skipped"]["late"]
    assert scheduled["emitted"] == ran["run"] + ran["open"] >= 2 * CYCLES
    assert (ran["fallback"], ran["lost"], proof["counterexamples"]) == (0, 0, [])


def test_why_tells_what_became_of_a_moment_that_was_stepped_over(lived: Lived) -> None:
    half_an_hour_on = dues(lived.before)[-1] + HOUR_S / 2
    told = lived.kloros("why", f"{SCAN}@{half_an_hour_on}")[1]
    assert "the scheduler came too late for it" in told

"""What the scanner of units reads of one that failed."""

from __future__ import annotations

from typing import Any

import pytest

from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.units import UnitsScanner, UnitsSettings
from kloros.machine.systemd_bus import SystemdBus, UnitRow


class Failed(SystemdBus):
    """systemd with one service that failed and whose properties are these."""

    def __init__(self, **properties: Any) -> None:
        super().__init__()
        self.properties = properties

    def units(self, states: list[str], patterns: list[str]) -> list[UnitRow]:
        return [UnitRow("x.service", "loaded", "failed", "failed", "/x")] if "failed" in states else []

    def read(self, path: str, interface: str, name: str) -> Any:
        return self.properties.get(name)


@pytest.mark.parametrize(
    ("left_us", "ended_us", "problem"),
    [
        (2_000_500, 2_000_000, "start_limited"),  # it waited for its restart after its end
        (2_000_000, 0, "start_limited"),  # so did one that never came to its main process
        (1_000_000, 2_000_000, "failed"),
        (None, None, "failed"),
    ],
)
def test_a_unit_was_given_up_when_it_failed_while_it_waited_for_its_restart(
    left_us: int | None, ended_us: int | None, problem: str
) -> None:
    times = {"InactiveExitTimestampMonotonic": left_us, "ExecMainExitTimestampMonotonic": ended_us}
    bus = Failed(Result="exit-code", NRestarts=5, StartLimitBurst=5, **times)
    (symptom,) = UnitsScanner(UnitsSettings(), bus).scan(Now(1, 100.0))
    assert symptom.evidence["problem"] == problem

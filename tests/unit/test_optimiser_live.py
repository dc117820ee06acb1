"""Which daemon is meant when a module is named."""

from __future__ import annotations

import pytest

from kloros.chembus.facts import HeartbeatFacts
from kloros.optimisation.live import Live


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ((), "report_daemon"),
        (("report_daemon",), "report_daemon"),
        (("report",), "report"),
        (("report", "report_daemon"), "report_daemon"),
    ],
)
def test_a_daemon_of_somebodys_own_may_be_called_as_its_module(heard: tuple[str, ...], expected: str) -> None:
    live = Live(0.0)
    for zooid in heard:
        live.hear_heart(HeartbeatFacts(zooid=zooid, niche="own", uptime_s=1.0, processed_count=0, mode="normal"), 1.0)
    assert live.zooid_of("report") == expected

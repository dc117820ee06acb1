"""The checks of `kloros doctor`, in the order in which one thing rests on another. None of them changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kloros.cli.diagnosis import machine, suite
from kloros.cli.diagnosis.finding import Finding
from kloros.place import Place

CHECKS: tuple[Callable[[Place], Iterator[Finding]], ...] = (
    machine.python,
    suite.config,
    suite.directories,
    suite.membership,
    suite.privileged_helper,
    suite.locks,
    suite.bus,
    suite.metrics_ports,
    machine.systemd,
    machine.dbus,
    machine.journal,
    machine.pressure,
    machine.clock,
)


def examine(place: Place) -> list[Finding]:
    """Every check; one that fails itself is a finding too, so that the others are still heard."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check(place)
        except Exception as error:  # noqa: BLE001 - a doctor who faints helps nobody
            findings.append(Finding(check.__name__, "bad", f"could not look: {type(error).__name__}: {error}"))
    return findings

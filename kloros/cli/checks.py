"""The checks of `kloros doctor`, in the order in which one thing rests on another. None of them changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kloros.cli import checks_machine, checks_suite
from kloros.cli.finding import Finding
from kloros.place import Place

CHECKS: tuple[Callable[[Place], Iterator[Finding]], ...] = (
    checks_machine.python,
    checks_suite.config,
    checks_suite.directories,
    checks_suite.membership,
    checks_suite.locks,
    checks_suite.bus,
    checks_suite.metrics_ports,
    checks_machine.systemd,
    checks_machine.dbus,
    checks_machine.journal,
    checks_machine.pressure,
    checks_machine.clock,
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

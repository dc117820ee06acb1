"""CPU, memory and I/O pressure as the kernel measures it (PSI): the share of time in which work had to wait."""

from __future__ import annotations

from pathlib import Path

from kloros.consumers.introspection.findings import Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.thresholds import Levels, ScannerSettings
from kloros.machine.pressure import RESOURCES, read_pressure


class PressureSettings(ScannerSettings, frozen=True):
    """`some`: at least one task waited. `full`: all of them did, nothing got done."""

    cpu_some: Levels = Levels(medium_percent=80, high_percent=95, critical_percent=100, leave_percent=60)
    memory_some: Levels = Levels(medium_percent=20, high_percent=40, critical_percent=70, leave_percent=10)
    memory_full: Levels = Levels(medium_percent=10, high_percent=25, critical_percent=50, leave_percent=5)
    io_some: Levels = Levels(medium_percent=70, high_percent=90, critical_percent=100, leave_percent=50)
    io_full: Levels = Levels(medium_percent=50, high_percent=75, critical_percent=95, leave_percent=30)


class PressureScanner:
    """A finding opens while the last 10 s and the last 60 s are both above a level: lasting, and not over yet."""

    name = "pressure"

    def __init__(self, settings: PressureSettings, proc: Path = Path("/proc")) -> None:
        self.timeout_s = settings.timeout_s
        self._levels = {
            "cpu": {"some": settings.cpu_some},
            "memory": {"some": settings.memory_some, "full": settings.memory_full},
            "io": {"some": settings.io_some, "full": settings.io_full},
        }
        self._directory = proc / "pressure"

    def scan(self, now: Now) -> list[Symptom]:
        symptoms: list[Symptom] = []
        for resource in RESOURCES:
            shares = read_pressure(self._directory / resource)
            for kind, levels in self._levels[resource].items():
                if kind in shares:
                    symptoms += self._judge(resource, kind, levels, shares[kind].avg10, shares[kind].avg60)
        return symptoms

    def _judge(self, resource: str, kind: str, levels: Levels, avg10: float, avg60: float) -> list[Symptom]:
        severity = levels.severity(min(avg10, avg60))
        if severity is None and not levels.sustains(avg60):
            return []
        who = "some task" if kind == "some" else "every task"
        return [
            Symptom(
                gap_type=f"pressure_{resource}",
                gap_name=resource,
                scanner=self.name,
                severity=severity or Severity.LOW,
                summary=f"{resource} pressure: {who} waited {avg10:.0f} % of the last 10 s, {avg60:.0f} % of a minute",
                evidence={"kind": kind, "avg10_percent": avg10, "avg60_percent": avg60},
                sustains=severity is None,
            )
        ]

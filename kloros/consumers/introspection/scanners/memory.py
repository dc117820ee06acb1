"""Memory and swap that run out."""

from __future__ import annotations

from pathlib import Path

from kloros.consumers.introspection.findings import Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.thresholds import Levels, Percent, ScannerSettings
from kloros.machine.meminfo import read_meminfo

_KIB_PER_MIB = 1024


class MemorySettings(ScannerSettings, frozen=True):
    """`used`: what programs cannot have any more, in percent of all memory. Full swap is trouble only while memory is
    short too: `swap_matters_above_percent` used."""

    used: Levels = Levels(medium_percent=92, high_percent=95, critical_percent=98, leave_percent=88)
    swap_used: Levels = Levels(medium_percent=90, high_percent=95, critical_percent=99, leave_percent=80)
    swap_matters_above_percent: Percent = 80.0


class MemoryScanner:
    """Reads /proc/meminfo."""

    name = "memory"

    def __init__(self, settings: MemorySettings, proc: Path = Path("/proc")) -> None:
        self.timeout_s = settings.timeout_s
        self._settings = settings
        self._path = proc / "meminfo"

    def scan(self, now: Now) -> list[Symptom]:
        sizes_kib = read_meminfo(self._path)
        total_kib, available_kib = sizes_kib["MemTotal"], sizes_kib["MemAvailable"]
        used_percent = 100 * (1 - available_kib / total_kib)
        symptoms = self._judge("memory_low", "memory", self._settings.used, total_kib, available_kib)
        if sizes_kib.get("SwapTotal") and used_percent >= self._settings.swap_matters_above_percent:
            swap = sizes_kib["SwapTotal"], sizes_kib.get("SwapFree", 0)
            symptoms += self._judge("swap_exhausted", "swap", self._settings.swap_used, *swap)
        return symptoms

    def _judge(self, gap_type: str, what: str, levels: Levels, total_kib: int, free_kib: int) -> list[Symptom]:
        used_percent = 100 * (1 - free_kib / total_kib)
        severity = levels.severity(used_percent)
        if severity is None and not levels.sustains(used_percent):
            return []
        free_mib, total_mib = free_kib // _KIB_PER_MIB, total_kib // _KIB_PER_MIB
        return [
            Symptom(
                gap_type=gap_type,
                gap_name=what,
                scanner=self.name,
                severity=severity or Severity.LOW,
                summary=f"{what} is {used_percent:.1f} % used: {free_mib} of {total_mib} MiB to be had",
                evidence={"used_percent": round(used_percent, 1), "available_mib": free_mib, "total_mib": total_mib},
                sustains=severity is None,
            )
        ]

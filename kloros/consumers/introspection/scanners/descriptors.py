"""File descriptors: the machine's, and those of processes close to their own limit."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kloros.consumers.introspection.findings import Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.thresholds import Levels, Positive, ScannerSettings
from kloros.errors import CannotObserve

_NOFILE = re.compile(r"^Max open files\s+(\d+)", re.MULTILINE)
# Below so many descriptors nothing is close to anything; the limit need not be read.
_FEW = 64


class DescriptorsSettings(ScannerSettings, frozen=True):
    """`every_s`: how often processes are counted; that costs a look into each one's directory."""

    machine: Levels = Levels(medium_percent=80, high_percent=90, critical_percent=97, leave_percent=70)
    process: Levels = Levels(medium_percent=85, high_percent=93, critical_percent=98, leave_percent=75)
    every_s: Positive = 60.0


class DescriptorsScanner:
    """Sees the processes this user may look into: its own, or all of them as root."""

    name = "descriptors"

    def __init__(self, settings: DescriptorsSettings, proc: Path = Path("/proc")) -> None:
        self.timeout_s = settings.timeout_s
        self._settings = settings
        self._proc = proc
        self._counted_at_s: float | None = None
        self._processes: list[Symptom] = []

    def scan(self, now: Now) -> list[Symptom]:
        if self._counted_at_s is None or now.monotonic_s - self._counted_at_s >= self._settings.every_s:
            self._processes = self._scan_processes()
            self._counted_at_s = now.monotonic_s
        return self._scan_machine() + self._processes

    def _scan_machine(self) -> list[Symptom]:
        path = self._proc / "sys/fs/file-nr"
        try:
            allocated, _, limit = (int(field) for field in path.read_text(encoding="ascii").split())
        except (OSError, ValueError) as error:
            raise CannotObserve(f"cannot read {path} ({error})") from error
        return self._judge("files_exhausted", "the machine", self._settings.machine, allocated, limit)

    def _scan_processes(self) -> list[Symptom]:
        symptoms: list[Symptom] = []
        for entry in os.scandir(self._proc):
            if not entry.name.isdigit():
                continue
            try:
                used = len(os.listdir(f"{entry.path}/fd"))  # noqa: PTH208 - the count is wanted, cheaply
                if used >= _FEW:
                    symptoms += self._judge_process(Path(entry.path), used)
            except OSError:  # another user's, or gone
                continue
        return symptoms

    def _judge_process(self, process: Path, used: int) -> list[Symptom]:
        limit = _NOFILE.search((process / "limits").read_text(encoding="utf-8", errors="replace"))
        if limit is None:
            return []
        command = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
        name = f"{command}[{process.name}]"
        return self._judge("process_files_exhausted", name, self._settings.process, used, int(limit[1]))

    def _judge(self, gap_type: str, name: str, levels: Levels, used: int, limit: int) -> list[Symptom]:
        percent = 100 * used / limit if limit else 0.0
        severity = levels.severity(percent)
        if severity is None and not levels.sustains(percent):
            return []
        return [
            Symptom(
                gap_type=gap_type,
                gap_name=name,
                scanner=self.name,
                severity=severity or Severity.LOW,
                summary=f"{name} has {used} files open of at most {limit} ({percent:.0f} %)",
                evidence={"open_files": used, "limit": limit, "used_percent": round(percent, 1)},
                sustains=severity is None,
            )
        ]

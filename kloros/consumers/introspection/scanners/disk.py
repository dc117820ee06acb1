"""Fill and inodes of the local file systems that hold data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec

from kloros.consumers.introspection.findings import Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.thresholds import Levels, ScannerSettings
from kloros.errors import CannotObserve
from kloros.machine.mounts import Mount, real_mounts
from kloros.machine.names import readable

MIB = 1024 * 1024


class DiskSettings(ScannerSettings, frozen=True):
    """Full means a percentage and little room: 91 % of a huge disk is no trouble. With at
    least `roomy_free_mib` free there is room, whatever the percentage."""

    fill: Levels = Levels(medium_percent=90, high_percent=95, critical_percent=99, leave_percent=87)
    inodes: Levels = Levels(medium_percent=90, high_percent=95, critical_percent=99, leave_percent=87)
    roomy_free_mib: Annotated[float, msgspec.Meta(ge=0)] = 20_480


class DiskScanner:
    """statvfs of each real local file system; one that hangs makes this scanner hang, never the others."""

    name = "disk"

    def __init__(self, settings: DiskSettings, proc: Path = Path("/proc")) -> None:
        self.timeout_s = settings.timeout_s
        self._settings = settings
        self._proc = proc

    def scan(self, now: Now) -> list[Symptom]:
        try:
            mountinfo = (self._proc / "self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
            known = (self._proc / "filesystems").read_text(encoding="ascii")
        except OSError as error:
            raise CannotObserve(f"cannot read the mount table ({error})") from error
        symptoms: list[Symptom] = []
        for mount in real_mounts(mountinfo, known):
            try:
                state = os.statvfs(mount.point)
            except OSError:  # not ours to look into, or unmounted since
                continue
            told = mount._replace(point=readable(mount.point), source=readable(mount.source))
            symptoms += self._judge_fill(told, state) + self._judge_inodes(told, state)
        return symptoms

    def _judge_fill(self, mount: Mount, state: os.statvfs_result) -> list[Symptom]:
        used, free = state.f_blocks - state.f_bfree, state.f_bavail
        if used + free == 0:
            return []
        percent = 100 * used / (used + free)  # as df counts: what is reserved for root is not to be had
        free_mib = free * state.f_frsize / MIB
        roomy = free_mib >= self._settings.roomy_free_mib
        severity = None if roomy else self._settings.fill.severity(percent)
        if severity is None and (roomy or not self._settings.fill.sustains(percent)):
            return []
        return [
            Symptom(
                gap_type="disk_full",
                gap_name=mount.point,
                scanner=self.name,
                severity=severity or Severity.LOW,
                summary=f"{mount.point} ({mount.fstype}) is {percent:.1f} % full, {free_mib:.0f} MiB are free",
                evidence={
                    "mount": mount.point,
                    "source": mount.source,
                    "fstype": mount.fstype,
                    "used_percent": round(percent, 1),
                    "free_mib": round(free_mib),
                },
                sustains=severity is None,
            )
        ]

    def _judge_inodes(self, mount: Mount, state: os.statvfs_result) -> list[Symptom]:
        if state.f_files == 0:  # btrfs and others have no table of inodes
            return []
        percent = 100 * (state.f_files - state.f_ffree) / state.f_files
        severity = self._settings.inodes.severity(percent)
        if severity is None and not self._settings.inodes.sustains(percent):
            return []
        return [
            Symptom(
                gap_type="inodes_exhausted",
                gap_name=mount.point,
                scanner=self.name,
                severity=severity or Severity.LOW,
                summary=f"{mount.point} ({mount.fstype}) has {percent:.1f} % of its inodes used, {state.f_favail} left",
                evidence={
                    "mount": mount.point,
                    "fstype": mount.fstype,
                    "used_percent": round(percent, 1),
                    "free_inodes": state.f_favail,
                },
                sustains=severity is None,
            )
        ]

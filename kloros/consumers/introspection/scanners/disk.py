"""Fill and inodes of the local file systems that hold data."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from kloros.consumers.introspection.findings import Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.thresholds import Levels, ScannerSettings
from kloros.errors import CannotObserve
from kloros.machine.names import readable

MIB = 1024 * 1024
# Images that are full by nature. Read-only mounts cannot be told by their options: a hardened service sees all of them
# read-only; what counts is the file system's own state.
_IMAGES = {"squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"}
# Not backed by a device of their own, yet they hold data and can be full.
_ALSO_REAL = {"zfs", "overlay", "virtiofs", "9p"}


class DiskSettings(ScannerSettings, frozen=True):
    """Full means a percentage and little room: 91 % of a huge disk is no trouble. With at
    least `roomy_free_mib` free there is room, whatever the percentage."""

    fill: Levels = Levels(medium_percent=90, high_percent=95, critical_percent=99, leave_percent=87)
    inodes: Levels = Levels(medium_percent=90, high_percent=95, critical_percent=99, leave_percent=87)
    roomy_free_mib: Annotated[float, msgspec.Meta(ge=0)] = 20_480


class Mount(NamedTuple):
    """One mounted file system."""

    device: str
    point: str
    fstype: str
    source: str


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
            told = Mount(*map(readable, mount))
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


def real_mounts(mountinfo: str, filesystems: str) -> list[Mount]:
    """The file systems worth watching, once each, under their shortest path.

    mountinfo, filesystems: the text of /proc/self/mountinfo and /proc/filesystems.
    """
    pseudo = {line.split()[1] for line in filesystems.splitlines() if line.startswith("nodev")} - _ALSO_REAL
    shortest: dict[str, Mount] = {}
    for mount, writable in _parse(mountinfo.split("\n")):
        if mount.fstype in pseudo or mount.fstype in _IMAGES or mount.fstype.startswith("fuse.") or not writable:
            continue
        known = shortest.get(mount.device)
        if known is None or len(mount.point) < len(known.point):
            shortest[mount.device] = mount
    return sorted(shortest.values(), key=lambda mount: mount.point)


def _parse(lines: Iterable[str]) -> Iterable[tuple[Mount, bool]]:
    """(mount, whether the file system itself is writable) per line; see proc_pid_mountinfo(5)."""
    for line in lines:
        before, _, after = line.partition(" - ")
        place, rest = before.split(" "), after.split(" ")  # the kernel escapes that space, and no other
        if len(place) < 6 or len(rest) < 3:
            continue
        yield Mount(place[2], _unescape(place[4]), rest[0], _unescape(rest[1])), "ro" not in rest[2].split(",")


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text

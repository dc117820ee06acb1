"""File systems, and what room is left on them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# What has no room of its own to speak of.
_HOLD_NO_DATA = {
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "securityfs", "debugfs", "tracefs", "bpf", "pstore",
    "configfs", "fusectl", "hugetlbfs", "autofs", "ramfs", "squashfs", "iso9660", "binfmt_misc", "efivarfs", "nsfs",
}  # fmt: skip


class Room(NamedTuple):
    """One mounted file system; free_inodes is None where it has no table of them."""

    point: str
    fstype: str
    total_bytes: int
    free_bytes: int
    free_inodes: int | None


def mounts(proc: Path, path: str | None = None) -> list[Room]:
    """Those that hold data, once each; only the one that `path` lies on, when one is given."""
    try:
        lines = (proc / "self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    rooms: dict[str, Room] = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) > 4 and rest and rest[0] not in _HOLD_NO_DATA and fields[2] not in rooms:
            with suppress(OSError):
                rooms[fields[2]] = _room(fields[4].replace("\\040", " "), rest[0])
    if path is None:
        return list(rooms.values())
    holding = [room for room in rooms.values() if path.startswith(room.point.rstrip("/") + "/")]
    return [max(holding, key=lambda room: len(room.point))] if holding else []


def _room(point: str, fstype: str) -> Room:
    state = os.statvfs(point)
    inodes = state.f_favail if state.f_files else None
    return Room(point, fstype, state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize, inodes)

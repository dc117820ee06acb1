"""File systems, and what room is left on them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# Images that are full by nature. Read-only mounts cannot be told by their options: a hardened service sees all of them
# read-only; what counts is the file system's own state.
_IMAGES = {"squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"}
# Not backed by a device of their own, yet they hold data and can be full.
_ALSO_REAL = {"zfs", "overlay", "virtiofs", "9p"}


class Mount(NamedTuple):
    """One mounted file system; `options` are its own, not those of the mount."""

    device: str
    point: str
    fstype: str
    source: str
    options: tuple[str, ...] = ()


class Room(NamedTuple):
    """What is left on one file system; free_inodes is None where it has no table of them."""

    point: str
    fstype: str
    total_bytes: int
    free_bytes: int
    free_inodes: int | None


def mounts(proc: Path, path: str | None = None) -> list[Room]:
    """Those that can be full, memory among them; only the one that `path` lies on, when one is given.

    No other is asked for its room: a network mount whose server is away would keep us waiting.
    """
    try:
        mountinfo = (proc / "self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        if path is None:
            known = (proc / "filesystems").read_text(encoding="ascii")
            wanted = real_mounts(mountinfo, known, also={"tmpfs"})
        else:
            wanted = _wanted_for(path, parse_mounts(mountinfo))
    except (OSError, ValueError):
        return []
    rooms: list[Room] = []
    for mount in wanted:
        with suppress(OSError):
            rooms.append(_room(mount))
    return [room for room in rooms if room.total_bytes]


def _wanted_for(path: str, known: Iterable[Mount]) -> list[Mount]:
    """The one that the path lies on, but none that would be mounted by our asking."""
    holding = mount_of(os.path.realpath(path), known)
    return [holding] if holding is not None and holding.fstype != "autofs" else []


def _room(mount: Mount) -> Room:
    state = os.statvfs(mount.point)
    inodes = state.f_favail if state.f_files else None
    return Room(mount.point, mount.fstype, state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize, inodes)


def mount_of(path: str, known: Iterable[Mount]) -> Mount | None:
    """The mount that the path lies on: the one with the longest point, the later of two that cover each other."""
    found: Mount | None = None
    for mount in known:
        holds = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if holds and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def real_mounts(mountinfo: str, filesystems: str, also: Iterable[str] = ()) -> list[Mount]:
    """The file systems that can fill, once each, under their shortest path.

    mountinfo, filesystems: the text of /proc/self/mountinfo and /proc/filesystems. also: further types that count.
    """
    pseudo = {line.split()[1] for line in filesystems.splitlines() if line.startswith("nodev")}
    pseudo -= {*_ALSO_REAL, *also}
    known = parse_mounts(mountinfo)
    shortest: dict[str, Mount] = {}
    for mount in known:
        if mount.fstype in pseudo or mount.fstype in _IMAGES or mount.fstype.startswith("fuse."):
            continue
        if "ro" in mount.options:
            continue
        before = shortest.get(mount.device)
        if before is None or len(mount.point) < len(before.point):
            shortest[mount.device] = mount
    found = [mount for mount in shortest.values() if not _is_layer(mount, known, shortest)]
    return sorted(found, key=lambda mount: mount.point)


def _is_layer(mount: Mount, known: Iterable[Mount], watched: Iterable[str]) -> bool:
    """Whether it is an overlay, as of a container, that fills only with the file system it writes to."""
    if mount.fstype != "overlay" or mount.point == "/":
        return False
    upper = next((option for option in mount.options if option.startswith("upperdir=")), "")
    below = mount_of(_unescape(upper.removeprefix("upperdir=")), known)
    return below is not None and below.device in watched


def parse_mounts(mountinfo: str) -> list[Mount]:
    """One per line, in the order of the table; see proc_pid_mountinfo(5)."""
    found: list[Mount] = []
    for line in mountinfo.split("\n"):
        before, _, after = line.partition(" - ")
        place, rest = before.split(" "), after.split(" ")  # the kernel escapes that space, and no other
        if len(place) >= 6 and len(rest) >= 3:
            options = tuple(rest[2].split(","))
            found.append(Mount(place[2], _unescape(place[4]), rest[0], _unescape(rest[1]), options))
    return found


def _unescape(text: str) -> str:
    """What the kernel writes as \\040 and the like: white space, backslashes, and what separates options."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)

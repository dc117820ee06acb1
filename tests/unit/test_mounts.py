"""Which file system a path lies on, and which of them are full."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.playbooks.unit_details import look_at_trouble
from kloros.machine import mounts as module
from kloros.machine.mounts import mount_of, mounts, parse_mounts
from kloros.machine.unit_state import UnitState

MIB = 1 << 20
FILESYSTEMS = (
    "nodev\tsysfs\nnodev\ttmpfs\nnodev\tselinuxfs\nnodev\tfuse\nnodev\tnfs4\nnodev\tautofs\n\text4\n\tsquashfs\n"
)
MOUNTINFO = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 8:2 / /data rw - ext4 /dev/sdb1 rw
24 22 8:2 /pg /var/lib/pg rw - ext4 /dev/sdb1 rw
25 22 0:41 / /run rw - tmpfs tmpfs rw,size=102400k
26 25 0:42 / /run/credentials/x ro - tmpfs tmpfs rw,size=1024k
30 22 0:21 / /sys/fs/selinux rw - selinuxfs selinuxfs rw
31 22 0:50 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
32 22 7:0 / /snap/core ro - squashfs /dev/loop0 ro
33 22 8:3 / /media/a\\040stick rw - ext4 /dev/sdc1 ro
40 22 0:60 / /mnt/nas rw - nfs4 nas:/x rw,hard
41 22 0:61 / /home rw - autofs systemd-1 rw
42 41 8:4 / /home rw - ext4 /dev/sdd1 rw
43 22 0:62 / /net rw - autofs systemd-1 rw
"""
NO_SIZE = ("/sys/fs/selinux", "/var/lib/lxcfs")


class Disks:
    """statvfs of a machine: bytes in all and free by mount point, and who was asked."""

    def __init__(self) -> None:
        self.free: dict[str, tuple[int, int]] = {"/run/credentials/x": (MIB, MIB - 4096)}
        self.asked: list[str] = []

    def statvfs(self, point: str) -> os.statvfs_result:
        self.asked.append(point)
        total, free = (0, 0) if point in NO_SIZE else self.free.get(point, (100 * MIB, 50 * MIB))
        return os.statvfs_result((4096, 4096, total // 4096, free // 4096, free // 4096, 100, 60, 60, 0, 255))


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    disks = Disks()
    monkeypatch.setattr(module.os, "statvfs", disks.statvfs)
    return disks


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(MOUNTINFO)
    (tmp_path / "filesystems").write_text(FILESYSTEMS)
    return tmp_path


def look(proc: Path, line: str) -> Evidence:
    """What is seen when a program complains of want of room in that line."""
    evidence = Evidence(playbook="unit", subject="db.service")
    evidence.saw(trouble="no_space", trouble_line=line)
    look_at_trouble(evidence, UnitState("db.service", {}, {}), cast(Any, SimpleNamespace(proc=proc)))
    return evidence


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/etc/x", "/"),
        ("/data/x", "/data"),
        ("/data", "/data"),
        ("/database/x", "/"),
        ("/var/lib/pg/wal", "/var/lib/pg"),
        ("/media/a stick/x", "/media/a stick"),
    ],
)
def test_a_path_lies_on_the_mount_with_the_longest_point(path: str, point: str) -> None:
    found = mount_of(path, parse_mounts(MOUNTINFO))
    assert found is not None
    assert found.point == point


def test_of_two_mounts_on_one_point_the_later_one_counts() -> None:
    found = mount_of("/home/ann", parse_mounts(MOUNTINFO))
    assert found is not None
    assert found.fstype == "ext4"


def test_a_table_without_a_root_holds_nothing() -> None:
    assert mount_of("/etc", parse_mounts("garbage\n23 22 8:2 / /data rw - ext4 /dev/sdb1 rw\n")) is None


def test_names_are_parted_by_blanks_and_lines_only() -> None:
    strange = "23 22 8:2 / /a\u00a0b\u2028c\\011d\\134e rw - ext4 /dev/sdb1 rw\n"
    assert [mount.point for mount in parse_mounts(strange)] == ["/a\u00a0b\u2028c\td\\e"]


def test_only_the_mount_of_the_path_is_asked_for_its_room(proc: Path, disks: Disks) -> None:
    assert [room.point for room in mounts(proc, "/var/lib/db/x")] == ["/"]
    assert disks.asked == ["/"]


def test_a_path_is_followed_to_where_it_points(proc: Path, disks: Disks, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/data/pg")
    assert [room.point for room in mounts(proc, str(tmp_path / "link/wal"))] == ["/data"]


def test_what_would_be_mounted_by_asking_is_not_asked(proc: Path, disks: Disks) -> None:
    assert mounts(proc, "/net/server/x") == []
    assert disks.asked == []


def test_without_a_path_those_that_can_be_full_are_asked_and_no_network(proc: Path, disks: Disks) -> None:
    assert [room.point for room in mounts(proc)] == ["/", "/data", "/home", "/run", "/run/credentials/x"]
    assert not {*disks.asked} & {"/mnt/nas", "/net", *NO_SIZE}


def test_a_path_that_cannot_be_one_lies_nowhere(proc: Path, disks: Disks) -> None:
    assert mounts(proc, "/data/\0") == []


def test_a_full_disk_is_full_through_a_bind_mount_too(proc: Path, disks: Disks) -> None:
    disks.free["/var/lib/pg"] = disks.free["/data"] = (100 * MIB, 0)
    seen = look(proc, "could not write /var/lib/pg/wal/0001: No space left on device").seen
    assert (seen.get("full_mount"), seen.get("has_room_now")) == ("/var/lib/pg", None)


def test_there_is_room_again_where_the_path_lies(proc: Path, disks: Disks) -> None:
    disks.free["/"] = (100 * MIB, 0)
    seen = look(proc, "could not write /var/lib/pg/wal/0001: No space left on device").seen
    assert (seen.get("full_mount"), seen.get("has_room_now")) == (None, True)


def test_what_has_no_size_has_no_room_again(proc: Path, disks: Disks) -> None:
    seen = look(proc, "could not write /sys/fs/selinux/load: No space left on device").seen
    assert (seen.get("full_mount"), seen.get("has_room_now")) == (None, None)


def test_nothing_is_called_full_because_it_is_small_or_an_image(proc: Path, disks: Disks) -> None:
    disks.free |= {"/snap/core": (MIB, 0), "/media/a stick": (MIB, 0)}
    assert look(proc, "No space left on device").lines == []


@pytest.mark.parametrize(
    ("total", "free", "is_full"), [(2, 0, True), (200, 1, False), (200, 0.9, True), (20, 0.9, False)]
)
def test_memory_can_be_full_too(proc: Path, disks: Disks, total: int, free: float, is_full: bool) -> None:
    disks.free["/run"] = (total * MIB, round(free * MIB))
    seen = look(proc, "No space left on device").seen
    assert seen.get("full_mount") == ("/run" if is_full else None)

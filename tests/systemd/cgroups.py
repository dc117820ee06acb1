"""Control groups for a machine alone; two machines that shared one would kill each other's services."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

BOOTED_WITH_SYSTEMD = Path("/run/systemd/system")
CGROUPS = Path("/sys/fs/cgroup")
# Of an older kernel's separate hierarchies those whose limits and figures the units are to have. The others stay
# read-only inside.
OLD_CONTROLLERS = ("memory", "pids")


def make(name: str) -> list[Path]:
    """Groups of that name. A systemd on the host gives each machine its scope; without one, they are made here."""
    if BOOTED_WITH_SYSTEMD.is_dir():
        return []
    made = []
    for parent in (CGROUPS, CGROUPS / "systemd", CGROUPS / "unified", *_old_ones().values()):
        if os.access(parent / "cgroup.procs", os.W_OK):
            made.append(parent / name)
            made[-1].mkdir()
    return made


def hand_over(groups: list[Path]) -> list[str]:
    """Options for nspawn, which by itself gives a machine no old controller to write to: no MemoryMax= would hold."""
    own = {group.relative_to(CGROUPS).parts[0]: group for group in groups}
    old = [f"--bind={own[name]}:{CGROUPS / name}" for name in OLD_CONTROLLERS if name in own]
    return [f"--tmpfs={CGROUPS}:mode=755", *old] if old else []


def enter(groups: list[Path]) -> None:
    """Put this process into them."""
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def remove(groups: list[Path]) -> None:
    """Remove them and all below; nothing may run there any more."""
    for group in groups:
        for directory in (*sorted(group.rglob("*/"), reverse=True), group):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _old_ones() -> dict[str, Path]:
    """Controller -> the group this very process is in, where the controllers have hierarchies of their own (version 1).

    Whatever limits this process has bounds the machines too: their groups are made below.
    """
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, controller, path = line.split(":", 2)
        if controller in OLD_CONTROLLERS:
            groups[controller] = CGROUPS / controller / path.lstrip("/")
    return groups

"""Control groups for a machine alone; two machines that shared one would kill each other's services."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tests.systemd.system import wait_for

BOOTED_WITH_SYSTEMD = Path("/run/systemd/system")
CGROUPS = Path("/sys/fs/cgroup")
# Of an older kernel's separate hierarchies those whose limits and figures the units are to have. The others stay
# read-only inside.
OLD_CONTROLLERS = ("memory", "pids")


def make(name: str) -> list[Path]:
    """Groups of that name. A systemd on the host gives each machine its scope; without one, they are made here."""
    if BOOTED_WITH_SYSTEMD.is_dir():
        return []
    made = [parent / name for parent in _parents() if os.access(parent / "cgroup.procs", os.W_OK)]
    for group in made:
        group.mkdir()
    return made


def left_over(name: str) -> list[Path]:
    """Groups of that name that are there. Their machine outlives a test run that is killed."""
    return [parent / name for parent in _parents() if (parent / name).is_dir()]


def end(groups: list[Path]) -> None:
    """Kill all that runs in them, and remove them."""

    def is_empty() -> bool:
        pids = {int(line) for group in groups for procs in group.rglob("cgroup.procs") for line in _lines(procs)}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    wait_for(is_empty, 10, "everybody in them to end")
    remove(groups)


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


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError):  # the group went meanwhile
        return path.read_text().split()
    return []


def _parents() -> list[Path]:
    return [CGROUPS, CGROUPS / "systemd", CGROUPS / "unified", *_old_ones().values()]


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

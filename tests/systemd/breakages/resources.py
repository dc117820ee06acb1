"""What a machine has only so much of (room, inodes, CPU, memory, a reader's patience); and the suite itself, killed."""

from __future__ import annotations

from collections.abc import Mapping

from tests.systemd.breakages.base import Breakage, service, unit_file

SMALL_DISK = "/srv/try-small-disk"
FEW_INODES = "/srv/try-few-inodes"
HOG_CPU, HOG_MEMORY, FLOOD, KILLER = (f"try-{name}.service" for name in ("hog-cpu", "hog-memory", "flood", "killer"))
# Of all memory, more than there was in use before; the settings of the test call less than that low already.
HOG_SHARE = 0.15
HOG_MAY_LEAVE_KIB = "/etc/try-hog-memory"
HOG = f"""#!/usr/bin/python3
import time
hoard, wanted_kib = [], int(open("{HOG_MAY_LEAVE_KIB}").read())
while True:
    available_kib = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
    if available_kib > wanted_kib and len(hoard) < 200:
        hoard.append(b"x" * (64 << 20))
    else:
        time.sleep(0.5)
"""
VICTIM = "kloros-shadow.service"


def _while_it_runs(
    unit: str,
    text: str,
    *,
    kind: str,
    broken: str,
    gap: tuple[str, str],
    concluded: str,
    evidence: tuple[str, ...],
    files: Mapping[str, str] | None = None,
) -> Breakage:
    """A trouble that lasts for as long as a unit runs."""
    return Breakage(
        kind=kind,
        broken=broken,
        gap_type=gap[0],
        gap_name=gap[1],
        files={unit_file(unit): service(text), **(files or {})},
        commands=f"systemctl start {unit}",
        mending=f"systemctl stop {unit}",
        concluded=concluded,
        evidence=evidence,
    )


RESOURCES = (
    Breakage(
        kind="full disk",
        broken="a program's log fills a file system of 16 MiB",
        gap_type="disk_full",
        gap_name=SMALL_DISK,
        commands=f"dd if=/dev/zero of={SMALL_DISK}/app.log bs=64K status=none || true",
        mending=f"rm {SMALL_DISK}/app.log",
        concluded=SMALL_DISK,
        evidence=(r"app\.log",),
    ),
    Breakage(
        kind="inodes gone",
        broken="as many empty files as a file system can hold",
        gap_type="inodes_exhausted",
        gap_name=FEW_INODES,
        commands=f"mkdir {FEW_INODES}/sessions; cd {FEW_INODES}/sessions; seq 500 | xargs touch 2>/dev/null || true",
        mending=f"rm -r {FEW_INODES}/sessions",
        concluded=FEW_INODES,
        evidence=(r"sessions",),
    ),
    _while_it_runs(
        HOG_CPU,
        "Nice=10\nExecStart=/bin/sh -c 'for each in $(seq $(($(nproc) + 2))); do while :; do :; done & done; wait'",
        kind="CPU hog",
        broken="two more busy loops than there are processors",
        gap=("pressure_cpu", "cpu"),
        concluded=HOG_CPU,
        evidence=(HOG_CPU,),
    ),
    _while_it_runs(
        HOG_MEMORY,
        "ExecStart=/srv/try-hog",
        files={"/srv/try-hog": HOG},
        kind="memory hog",
        broken=f"a program that takes {HOG_SHARE:.0%} of the machine's memory (the test's settings call that low)",
        gap=("memory_low", "memory"),
        concluded=HOG_MEMORY,
        evidence=(HOG_MEMORY,),
    ),
    _while_it_runs(
        FLOOD,
        "ExecStart=/bin/sh -c 'while :; do for each in $(seq 100);"
        ' do echo "<3>connection $each from 10.0.0.$each refused by the upstream"; done; sleep 0.5; done\'',
        kind="error flood",
        broken="a program that logs 200 errors a second",
        gap=("journal_errors", f"{FLOOD}: connection"),
        concluded=FLOOD,
        evidence=(r"refused by the upstream", r"\d{2,}"),
    ),
    _while_it_runs(
        KILLER,
        f"ExecStart=/bin/sh -c 'while :; do systemctl kill --signal=KILL {VICTIM}; sleep 2.5; done'",
        kind="KLoROS daemon killed",
        broken="SIGKILL for a daemon of the suite, again and again",
        gap=("unit_unhealthy", VICTIM),
        concluded=r"KILL",
        evidence=(r"KILL",),
    ),
)

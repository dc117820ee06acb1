"""Who uses the machine, over a short while: CPU, memory and disk traffic by unit, and the processes that use most."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import NamedTuple

from kloros.machine.deadline import Deadline
from kloros.machine.processes import Process
from kloros.machine.whole import Machine
from kloros.units import US_PER_S

_LEAST_SAMPLE_S = 0.05


class Use(NamedTuple):
    """What one unit (or one process without a unit, as `name[pid]`) uses.

    cores: CPU time per time. io_bytes_per_s: None where it may not be seen. pid, command: its busiest process.
    """

    name: str
    unit: str
    cores: float
    memory_bytes: int
    io_bytes_per_s: float | None
    waited: float
    pid: int
    command: str
    processes: int


class Load(NamedTuple):
    """Everybody, and how long was looked. cores: how many the machine has. busy_cores: those in use, all in all."""

    uses: list[Use]
    sample_s: float
    cores: int
    busy_cores: float

    def by_cpu(self) -> list[Use]:
        """The busiest first."""
        return sorted(self.uses, key=lambda use: -use.cores)

    def by_memory(self) -> list[Use]:
        """The largest first."""
        return sorted(self.uses, key=lambda use: -use.memory_bytes)

    def by_io(self) -> list[Use]:
        """Those who read and write most first; where that cannot be seen, those who wait most for the disk."""
        return sorted(self.uses, key=lambda use: (-(use.io_bytes_per_s or 0.0), -use.waited))


def measure(machine: Machine, deadline: Deadline, sample_s: float) -> Load:
    """Look twice, `sample_s` apart (less when there is less time left)."""
    before, groups = machine.processes.all(), machine.cgroups.units()
    counted = _count(machine, groups)
    started_s = machine.clock.monotonic_s()
    deadline.wait(max(_LEAST_SAMPLE_S, min(sample_s, deadline.remaining_s / 3)))
    after, later = machine.processes.all(), _count(machine, groups)
    took_s = max(_LEAST_SAMPLE_S, machine.clock.monotonic_s() - started_s)
    uses = _uses(machine, {process.pid: process for process in before}, after, took_s)
    for path, (cpu_us, io_bytes, waited_us) in later.items():
        cpu_before, io_before, waited_before = counted.get(path, (None, None, None))
        name = path.rpartition("/")[2]
        if name in uses:
            grown_us, read, waited = (
                _grown(cpu_before, cpu_us),
                _grown(io_before, io_bytes),
                _grown(waited_before, waited_us),
            )
            use = uses[name]
            uses[name] = use._replace(
                cores=max(use.cores, (grown_us or 0) / US_PER_S / took_s),
                io_bytes_per_s=use.io_bytes_per_s if read is None else read / took_s,
                waited=(waited or 0) / US_PER_S / took_s,
            )
    busy = sum(use.cores for use in uses.values())
    return Load(list(uses.values()), took_s, len(os.sched_getaffinity(0)), busy)


def _count(machine: Machine, groups: list[str]) -> dict[str, tuple[int | None, int | None, int | None]]:
    cgroups = machine.cgroups
    return {path: (cgroups.cpu_us(path), cgroups.io_bytes(path), cgroups.waited_us(path, "io")) for path in groups}


def _uses(machine: Machine, before: dict[int, Process], after: list[Process], took_s: float) -> dict[str, Use]:
    members: dict[str, list[tuple[float, Process, float | None]]] = defaultdict(list)
    for process in after:
        known = before.get(process.pid)
        if known is None or known.started_ticks != process.started_ticks:
            known = process._replace(cpu_s=0.0, io_bytes=process.io_bytes and 0)
        read = _grown(known.io_bytes, process.io_bytes)
        cores = max(0.0, process.cpu_s - known.cpu_s) / took_s
        name = process.unit or f"{process.name}[{process.pid}]"
        members[name].append((cores, process, None if read is None else read / took_s))
    return {name: _use(machine, name, each) for name, each in members.items()}


def _use(machine: Machine, name: str, members: list[tuple[float, Process, float | None]]) -> Use:
    busiest = max(members, key=lambda member: (member[0], member[1].memory_bytes))[1]
    traffic = [read for _, _, read in members if read is not None]
    return Use(
        name=name,
        unit=busiest.unit,
        cores=sum(cores for cores, _, _ in members),
        memory_bytes=sum(process.memory_bytes for _, process, _ in members),
        io_bytes_per_s=sum(traffic) if traffic else None,
        waited=0.0,
        pid=busiest.pid,
        command=machine.processes.command(busiest.pid) or busiest.name,
        processes=len(members),
    )


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)

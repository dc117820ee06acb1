"""Pressure, and memory that runs out: who uses the CPUs, the memory, the disks just now."""

from __future__ import annotations

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.cycle_book import CycleBook
from kloros.consumers.investigation.entries import entry_of
from kloros.consumers.investigation.evidence import Evidence, counted, size
from kloros.errors import CannotObserve
from kloros.machine.deadline import Deadline
from kloros.machine.load import Load, Use, measure
from kloros.machine.pressure import read_pressure
from kloros.machine.whole import Machine

_TOP = 4
_RESOURCES = {
    "pressure_cpu": "cpu", "pressure_memory": "memory", "pressure_io": "io", "memory_low": "memory",
    "swap_exhausted": "memory",
}  # fmt: skip


class LoadInvestigator:
    """Answers for pressure of CPU, memory and I/O, and for memory and swap that run out."""

    name = "load"

    def __init__(self, book: CycleBook, sample_s: float) -> None:
        self._book, self._sample_s = book, sample_s

    def handles(self, question: QuestionFacts) -> float:
        return 1.0 if question.gap_type in _RESOURCES else 0.0

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        resource = _RESOURCES[question.gap_type or ""]
        evidence = Evidence(playbook=self.name, subject=resource)
        evidence.saw(resource=resource, is_swap=question.gap_type == "swap_exhausted" or None)
        look_at_load(evidence, resource, machine, deadline, self._sample_s, self._book.entries())
        return evidence


def look_at_load(
    evidence: Evidence, resource: str, machine: Machine, deadline: Deadline, sample_s: float, entries: dict[str, str]
) -> None:
    """Who uses most of the resource, and how much the machine suffers."""
    _tell_pressure(evidence, resource, machine)
    if resource == "memory":
        _tell_memory(evidence, machine)
    load = measure(machine, deadline, sample_s)
    ranked = {"cpu": load.by_cpu, "memory": load.by_memory, "io": load.by_io}[resource]()[:_TOP]
    evidence.saw(cores=load.cores, busy_cores=round(load.busy_cores, 2))
    if resource == "io" and all(use.io_bytes_per_s is None for use in load.uses):
        evidence.lack("who reads and writes how much (the kernel tells it only root, or by unit with io accounting)")
    for use in ranked:
        evidence.note(_line(use, resource))
    if ranked:
        _tell_top(evidence, resource, ranked, load, entries)


def _tell_top(evidence: Evidence, resource: str, ranked: list[Use], load: Load, entries: dict[str, str]) -> None:
    total = {
        "cpu": load.busy_cores,
        "memory": evidence.number("total_bytes") - evidence.number("available_bytes"),
        "io": sum(_amount(use, "io") for use in load.uses),
    }[resource]
    shares = [_amount(use, resource) / total if total > 0 else 0.0 for use in ranked[:2]]
    top = ranked[0]
    evidence.saw(
        top_name=top.name, top_unit=top.unit or None, top_pid=top.pid, top_command=top.command,
        top_cores=round(top.cores, 2), top_bytes=top.memory_bytes, top_io=top.io_bytes_per_s,
        top_share=round(shares[0], 3), next_share=round(shares[-1], 3) if len(shares) > 1 else 0.0,
        top_entry=entry_of(top.unit, entries) or None,
    )  # fmt: skip


def _amount(use: Use, resource: str) -> float:
    return {"cpu": use.cores, "memory": float(use.memory_bytes), "io": use.io_bytes_per_s or use.waited}[resource]


def _line(use: Use, resource: str) -> str:
    who = f"{use.name} ({counted(use.processes, 'process', 'processes')}, busiest: pid {use.pid}, {use.command})"
    if resource == "cpu":
        return f"{who} uses {use.cores:.2f} CPUs"
    if resource == "memory":
        return f"{who} has {size(use.memory_bytes)} of memory"
    if use.io_bytes_per_s is None:
        return f"{who} waited {use.waited:.0%} of the time for disks"
    return f"{who} reads and writes {size(use.io_bytes_per_s)}/s"


def _tell_pressure(evidence: Evidence, resource: str, machine: Machine) -> None:
    try:
        shares = read_pressure(machine.proc / "pressure" / resource)
    except CannotObserve as error:
        evidence.lack(error.reason)
        return
    for kind, share in shares.items():
        evidence.saw(**{f"{kind}_avg10": share.avg10, f"{kind}_avg60": share.avg60})
        who = "some task" if kind == "some" else "every task"
        evidence.note(f"{who} waited for {resource} {share.avg10:.0f} % of the last 10 s, {share.avg60:.0f} % of 60 s")


def _tell_memory(evidence: Evidence, machine: Machine) -> None:
    try:
        lines = (machine.proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError as error:
        evidence.lack(f"how much memory there is ({error.strerror})")
        return
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest.split()}
    total, available = kib.get("MemTotal", 0) << 10, kib.get("MemAvailable", 0) << 10
    swap, swap_free = kib.get("SwapTotal", 0) << 10, kib.get("SwapFree", 0) << 10
    evidence.saw(total_bytes=total, available_bytes=available, swap_bytes=swap, swap_used_bytes=swap - swap_free)
    evidence.note(f"{size(available)} of {size(total)} of memory can be had")
    if swap:
        evidence.note(f"{size(swap - swap_free)} of {size(swap)} of swap are used")
    shared = kib.get("Shmem", 0) << 10
    if total and shared > total // 4:
        evidence.saw(shared_bytes=shared)
        evidence.note(f"{size(shared)} are in shared memory and files in memory (tmpfs)")

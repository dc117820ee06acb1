"""File descriptors that run out: of one process, or of the whole machine."""

from __future__ import annotations

import re
from collections import Counter

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.evidence import Evidence
from kloros.machine.deadline import Deadline
from kloros.machine.whole import Machine

_TYPES = ("files_exhausted", "process_files_exhausted")
_PROCESS = re.compile(r"^(?P<name>.*)\[(?P<pid>\d+)\]$")
_MOST_TARGETS = 100_000
_SHOWN = 3


class DescriptorsInvestigator:
    """Answers for `process_files_exhausted` and `files_exhausted`."""

    name = "descriptors"

    def handles(self, question: QuestionFacts) -> float:
        return 1.0 if question.gap_type in _TYPES else 0.0

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        evidence = Evidence(playbook=self.name, subject=question.gap_name or "")
        evidence.saw(is_about_files=True)
        match = _PROCESS.match(question.gap_name or "")
        if match is not None:
            _tell_process(evidence, int(match["pid"]), match["name"], machine)
        else:
            _tell_machine(evidence, machine, deadline)
        return evidence


def _tell_process(evidence: Evidence, pid: int, name: str, machine: Machine) -> None:
    process = machine.processes.one(pid)
    evidence.saw(top_name=f"{name}[{pid}]", is_one_process=True)
    if process is None or process.name != name:
        evidence.saw(is_gone=True)
        evidence.note(f"the process {name}[{pid}] is gone")
        return
    evidence.saw(unit=process.unit or None, top_unit=process.unit or None)
    evidence.note(
        f"{name}[{pid}] is {machine.processes.command(pid)}" + (f", of {process.unit}" if process.unit else "")
    )
    _tell_limit(evidence, pid, machine)
    targets = machine.processes.targets(pid, _MOST_TARGETS)
    if not targets:
        evidence.lack(f"what {name}[{pid}] has open (permission denied)")
        return
    kinds = Counter(map(_kind, targets))
    kind, count = kinds.most_common(1)[0]
    evidence.saw(open_files=len(targets), top_kind=kind, top_kind_count=count)
    shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_SHOWN))
    evidence.note(f"{name}[{pid}] has {len(targets)} open: {shown}")


def _tell_limit(evidence: Evidence, pid: int, machine: Machine) -> None:
    try:
        text = (machine.proc / str(pid) / "limits").read_text(encoding="ascii", errors="replace")
    except OSError:
        return
    if match := re.search(r"^Max open files\s+(\d+)", text, re.MULTILINE):
        evidence.saw(files_limit=int(match[1]))
        evidence.note(f"it may have {match[1]} files open (LimitNOFILE=)")


def _tell_machine(evidence: Evidence, machine: Machine, deadline: Deadline) -> None:
    counted: list[tuple[int, str, str]] = []
    unseen = 0
    for process in machine.processes.all():
        if deadline.is_over:
            break
        open_files = machine.processes.open_files(process.pid)
        if open_files is None:
            unseen += 1
        else:
            counted.append((open_files, f"{process.name}[{process.pid}]", process.unit))
    if unseen:
        evidence.lack(f"the open files of {unseen} processes (permission denied)")
    for count, name, unit in sorted(counted, reverse=True)[:_SHOWN]:
        evidence.note(f"{name} has {count} files open" + (f" ({unit})" if unit else ""))
    if counted:
        count, name, unit = max(counted)
        evidence.saw(top_name=name, top_unit=unit or None, open_files=count)


def _kind(target: str) -> str:
    """socket, pipe, deleted file, or the directory of a file."""
    if target.startswith("/"):
        return "deleted files" if target.endswith(" (deleted)") else f"files in {target.rpartition('/')[0] or '/'}"
    return target.partition(":")[0] + "s"

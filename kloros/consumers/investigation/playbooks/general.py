"""What no other investigator knows: what was told with the question, and how the machine is all in all."""

from __future__ import annotations

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.playbooks.unit import look_at_unit
from kloros.errors import CannotObserve
from kloros.machine.deadline import Deadline
from kloros.machine.pressure import RESOURCES, read_pressure
from kloros.machine.whole import Machine

_LEAST = 0.01
_DBUS = "dbus.service"
_JOURNAL = "systemd-journald.service"
_NEEDS = {"units": _DBUS, "journal": _JOURNAL}


class GeneralInvestigator:
    """Answers for everything that nobody else answers for, badly."""

    name = "general"

    def handles(self, question: QuestionFacts) -> float:
        return _LEAST

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        name = question.gap_name or question.question
        evidence = Evidence(playbook=self.name, subject=name)
        told = dict(each.split("=", 1) for each in question.evidence if "=" in each)
        evidence.saw(ailment=question.gap_type, name=name, reason=told.get("reason"))
        for each in question.evidence:
            evidence.note(f"told with the question: {each}")
        if question.gap_type == "scanner_blind":
            self._tell_what_it_needs(evidence, name, machine, deadline)
        for resource in RESOURCES:
            try:
                some = read_pressure(machine.proc / "pressure" / resource).get("some")
            except CannotObserve:
                continue
            if some is not None and some.avg60 >= 10:
                evidence.note(f"{resource} pressure: some task waited {some.avg60:.0f} % of the last 60 s")
        return evidence

    def _tell_what_it_needs(self, evidence: Evidence, scanner: str, machine: Machine, deadline: Deadline) -> None:
        needed = _NEEDS.get(scanner)
        if needed is None:
            return
        inner = Evidence(playbook=self.name, subject=needed)
        look_at_unit(inner, needed, machine, deadline)
        evidence.saw(needed=needed, needed_state=inner.seen.get("active_state"))
        for line in inner.lines[:3]:
            evidence.note(f"{needed}: {line}")
        for lack in inner.lacks:
            evidence.lack(lack)

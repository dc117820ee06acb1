"""Losses on the bus, and a bus that is silent: who lost what, how that daemon fares, and whether the proxy runs."""

from __future__ import annotations

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.cycle_book import CycleBook
from kloros.consumers.investigation.entries import unit_of_zooid
from kloros.consumers.investigation.evidence import Evidence, lasting
from kloros.consumers.investigation.playbooks.unit import look_at_unit
from kloros.machine.deadline import Deadline
from kloros.machine.whole import Machine

_TYPES = ("bus_gap", "bus_drop", "bus_silent")
_PROXY = "kloros-chem-proxy.service"


class BusInvestigator:
    """Answers for `bus_gap`, `bus_drop` and `bus_silent`."""

    name = "bus"

    def __init__(self, book: CycleBook) -> None:
        self._book = book

    def handles(self, question: QuestionFacts) -> float:
        return 1.0 if question.gap_type in _TYPES else 0.0

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        evidence = Evidence(playbook=self.name, subject=question.gap_name or "the bus")
        observer, _, signal = (question.gap_name or "").partition(": ")
        told = dict(each.split("=", 1) for each in question.evidence if "=" in each)
        evidence.saw(ailment=question.gap_type, observer=observer, signal_name=signal or None, lost=told.get("count"))
        evidence.note(f"{question.gap_name}: {', '.join(question.evidence) or 'no details were told'}")
        _tell_unit(evidence, "proxy", _PROXY, machine, deadline)
        if question.gap_type != "bus_silent":
            _tell_unit(evidence, "observer", unit_of_zooid(observer), machine, deadline)
            heard = self._book.of(observer)
            if heard is not None and heard.cycles:
                longest_s = max(cycle.duration_s for cycle in heard.cycles)
                evidence.saw(longest_s=longest_s)
                evidence.note(f"{observer}'s longest cycle lately took {lasting(longest_s)}")
        return evidence


def _tell_unit(evidence: Evidence, role: str, unit: str, machine: Machine, deadline: Deadline) -> None:
    """State and last end of a unit, by the role that it has here."""
    inner = Evidence(playbook="bus", subject=unit)
    look_at_unit(inner, unit, machine, deadline)
    evidence.saw(**{f"{role}_unit": unit, f"{role}_state": inner.seen.get("active_state")})
    evidence.saw(**{f"{role}_result": inner.seen.get("result"), f"{role}_since_s": inner.seen.get("in_state_s")})
    for line in inner.lines[:4]:
        evidence.note(f"{unit}: {line}")
    for lack in inner.lacks:
        evidence.lack(lack)

"""A unit that is unwell: what systemd, its journal, its files, its control group and those it depends on tell."""

from __future__ import annotations

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.evidence import Evidence, counted, lasting, size
from kloros.consumers.investigation.playbooks.unit_details import (
    look_at_dependencies,
    look_at_files,
    look_at_program,
    look_at_trouble,
)
from kloros.consumers.investigation.playbooks.unit_memory import look_at_memory
from kloros.consumers.investigation.rule import conclude
from kloros.consumers.investigation.rules import RULES
from kloros.consumers.investigation.unit_facts import tell_life, tell_state
from kloros.errors import CannotObserve
from kloros.machine.deadline import Deadline
from kloros.machine.journal_query import JournalLine, no_journal
from kloros.machine.unit_state import UnitState, read_unit
from kloros.machine.whole import Machine
from kloros.units import us_to_seconds

JOURNAL_LINES = 200
_UNWELL_STATES = ("failed", "activating", "deactivating")


class UnitInvestigator:
    """Answers for `unit_unhealthy`."""

    name = "unit"

    def handles(self, question: QuestionFacts) -> float:
        return 1.0 if question.gap_type == "unit_unhealthy" else 0.0

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        unit = question.gap_name or ""
        evidence = Evidence(playbook=self.name, subject=unit)
        look_at_unit(evidence, unit, machine, deadline)
        problem = next((each.partition("=")[2] for each in question.evidence if each.startswith("problem=")), None)
        evidence.saw(problem=problem, is_unwell=True)
        _look_behind(evidence, machine, deadline)
        return evidence


def _look_behind(evidence: Evidence, machine: Machine, deadline: Deadline) -> None:
    """Why the first of those failed that it needs."""
    failed = evidence.names("failed_dependencies")
    if not failed or deadline.is_over:
        return
    inner = Evidence(playbook=evidence.playbook, subject=failed[0])
    look_at_unit(inner, failed[0], machine, deadline)
    conclusion = conclude(inner, RULES)
    evidence.saw(dependency_reason=conclusion.text if conclusion.is_conclusive else None)
    for line in inner.lines[:4]:
        evidence.note(f"{failed[0]}: {line}")


def look_at_unit(evidence: Evidence, unit: str, machine: Machine, deadline: Deadline) -> None:
    """Put everything about one unit into the evidence."""
    evidence.saw(unit=unit)
    state = _state(evidence, unit, machine)
    lines = _lines(evidence, unit, machine, deadline)
    tell_life(evidence, lines)
    if state is None:
        evidence.saw(is_unwell=evidence.holds("result"))
        return
    evidence.saw(is_unwell=state.text("ActiveState") in _UNWELL_STATES or evidence.text("load_state") != "loaded")
    look_at_program(evidence, state)
    look_at_trouble(evidence, state, machine)
    look_at_memory(evidence, state, machine, deadline)
    if state.text("ActiveState") != "active" and not deadline.is_over:
        look_at_dependencies(evidence, state, machine, deadline)
    look_at_files(evidence, state)
    _tell_use(evidence, state, machine)


def _state(evidence: Evidence, unit: str, machine: Machine) -> UnitState | None:
    try:
        state = read_unit(machine.systemd, unit)
    except CannotObserve as error:
        evidence.lack(f"systemd ({error.reason})")
        return None
    if state is None:
        evidence.lack(f"{unit} (not the name of a unit)")
        return None
    tell_state(evidence, state, machine.clock.wall_us())
    return state


def _lines(evidence: Evidence, unit: str, machine: Machine, deadline: Deadline) -> list[JournalLine]:
    try:
        return machine.journal.of_unit(unit, JOURNAL_LINES, deadline)
    except CannotObserve as error:
        evidence.lack(no_journal(error))
        return []


def _tell_use(evidence: Evidence, state: UnitState, machine: Machine) -> None:
    """What it uses now, and its time-outs: what a person would look up next."""
    cpu_us = machine.cgroups.cpu_us(state.group)
    cpu_s = us_to_seconds(cpu_us) if cpu_us is not None else None
    pids = machine.cgroups.pids(state.group)
    if pids:
        processes = list(machine.processes.some(pids))
        resident = sum(process.memory_bytes for process in processes)
        evidence.saw(processes=len(pids), resident_bytes=resident, cpu_s=cpu_s)
        used = f", {lasting(cpu_s)} of CPU time used" if cpu_s else ""
        evidence.note(f"it has {counted(len(pids), 'process', 'processes')} with {size(resident)} of memory{used}")
    held = machine.cgroups.throttled(state.group)
    if held is not None:
        evidence.saw(throttled_s=held[1])
        evidence.note(f"its CPU quota held it back {held[0]} times, for {lasting(held[1])} in all")
    tasks, tasks_max = state.number("TasksCurrent"), state.number("TasksMax")
    if tasks is not None and tasks_max:
        evidence.saw(tasks=tasks)
        if tasks >= 0.9 * tasks_max:
            evidence.note(f"it has {tasks} of at most {tasks_max} tasks")

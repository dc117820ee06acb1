"""Errors in the journal: who logs them, how often, what they say, and how the unit fares that they come from."""

from __future__ import annotations

import re
from collections import Counter

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.evidence import Evidence, counted, lasting
from kloros.consumers.investigation.playbooks.unit import look_at_unit
from kloros.consumers.investigation.troubles import last_trouble, path_in, trouble_in
from kloros.errors import CannotObserve
from kloros.machine import programs
from kloros.machine.deadline import Deadline
from kloros.machine.journal_query import JournalLine, no_journal
from kloros.machine.whole import Machine
from kloros.units import US_PER_S, us_to_seconds

_TYPES = ("journal_errors", "journal_overrun")
_LINES = 2_000
_WINDOW_S = 900
_ERRORS = 3
_SAMPLES = 3
_SAMPLE_CHARS = 200
_NUMBER = re.compile(r"\d+")
_UNITS = (".service", ".socket", ".mount", ".timer", ".swap", ".path", ".automount")


class JournalInvestigator:
    """Answers for `journal_errors` and `journal_overrun`."""

    name = "journal"

    def handles(self, question: QuestionFacts) -> float:
        return 1.0 if question.gap_type in _TYPES else 0.0

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        source, _, template = (question.gap_name or "").partition(": ")
        evidence = Evidence(playbook=self.name, subject=source)
        evidence.saw(is_about_errors=True, template=template or None)
        told = dict(each.split("=", 1) for each in question.evidence if "=" in each)
        lines = self._lines(evidence, "" if question.gap_type == "journal_overrun" else source, machine, deadline)
        if question.gap_type == "journal_overrun":
            source = _loudest(lines)
        evidence.saw(source=source or None, told_count=_number(told.get("count")))
        _tell_rate(evidence, lines, source)
        _tell_trouble(evidence, template or told.get("message", ""), lines)
        if source.endswith(_UNITS):
            self._look_at_unit(evidence, source, machine, deadline)
        return evidence

    def _lines(self, evidence: Evidence, source: str, machine: Machine, deadline: Deadline) -> list[JournalLine]:
        since_us = machine.clock.wall_us() - _WINDOW_S * US_PER_S
        try:
            if not source:
                return machine.journal.latest(_LINES, deadline, since_us, priority=_ERRORS)
            if source == "kernel":
                return machine.journal.of_kernel(_LINES, deadline, since_us)
            if source.endswith(_UNITS):
                return machine.journal.of_unit(source, _LINES, deadline, since_us)
            return machine.journal.of_identifier(source, _LINES, deadline, since_us)
        except CannotObserve as error:
            evidence.lack(no_journal(error))
            return []

    def _look_at_unit(self, evidence: Evidence, unit: str, machine: Machine, deadline: Deadline) -> None:
        """How its unit fares; the trouble that its errors name stays the one that is asked about."""
        inner = Evidence(playbook=self.name, subject=unit)
        look_at_unit(inner, unit, machine, deadline)
        evidence.seen = inner.seen | evidence.seen
        if inner.text("load_state") != "loaded":
            evidence.saw(is_unwell=False)  # it has been removed since, which explains no error
        for line in inner.lines:
            evidence.note(line)
        for lack in inner.lacks:
            evidence.lack(lack)


def _tell_rate(evidence: Evidence, lines: list[JournalLine], source: str) -> None:
    errors = [line for line in lines if line.priority <= _ERRORS]
    if not errors:
        evidence.note(f"no error of {source or 'anybody'} in the last {lasting(_WINDOW_S)}")
        evidence.saw(error_count=0)
        return
    span_s = max(1.0, us_to_seconds(errors[-1].ts_us - errors[0].ts_us))
    rate = len(errors) / span_s
    cut = "at least " if len(lines) >= _LINES else ""
    pids = len({line.pid for line in errors})
    evidence.saw(error_count=len(errors), error_span_s=span_s, error_rate=round(rate, 2), error_pids=pids)
    evidence.note(
        f"{source} logged {cut}{counted(len(errors), 'error')} in {lasting(span_s)} ({rate:.1f}/s), "
        f"from {counted(pids, 'process', 'processes')}"
    )
    shapes = Counter(_shape(line.message) for line in errors)
    evidence.saw(error_kinds=len(shapes))
    for _, count in shapes.most_common(_SAMPLES):
        sample = next(line.message for line in reversed(errors) if shapes[_shape(line.message)] == count)
        evidence.note(f"journal: {sample[:_SAMPLE_CHARS]}" + (f" ({count} times)" if count > 1 else ""))
        evidence.saw(sample=evidence.seen.get("sample") or " ".join(sample.split())[:_SAMPLE_CHARS])


def _tell_trouble(evidence: Evidence, template: str, lines: list[JournalLine]) -> None:
    """The trouble that the message names which is asked about, in its own words; else the last that was named."""
    messages = [line.message for line in lines if line.priority <= _ERRORS]
    asked = trouble_in(template)
    same = [message for message in messages if asked and (named := trouble_in(message)) and named.kind == asked.kind]
    trouble = last_trouble(same or ([template] if asked else messages))
    if trouble is None:
        return
    line = " ".join(trouble.line.split())[:_SAMPLE_CHARS]
    path = path_in(line) if trouble.kind in ("permission_denied", "missing_file", "read_only") else None
    evidence.saw(trouble=trouble.kind, trouble_line=line, trouble_passes=trouble.passes, path=path)
    if path is not None and (access := programs.describe_access(path)):
        evidence.saw(path_is_there=True)
        evidence.note(f"{path}: {access}")


def _loudest(lines: list[JournalLine]) -> str:
    counted = Counter(line.unit or line.identifier for line in lines)
    return counted.most_common(1)[0][0] if counted else ""


def _shape(message: str) -> str:
    """The message without its numbers, so that alike ones count as one."""
    return _NUMBER.sub("0", message[:_SAMPLE_CHARS])


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None

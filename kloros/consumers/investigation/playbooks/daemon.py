"""One of the suite's own daemons that is silent, fails, is slow, or hears no triggers: its cycles and its unit."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kloros.chembus.facts import CycleReportFacts
from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.cycle_book import CycleBook
from kloros.consumers.investigation.entries import entry_of, unit_of_zooid
from kloros.consumers.investigation.evidence import Evidence, lasting
from kloros.consumers.investigation.playbooks.load import look_at_load
from kloros.consumers.investigation.playbooks.unit import look_at_unit
from kloros.consumers.investigation.troubles import trouble_in
from kloros.errors import StoreUnusable
from kloros.machine.deadline import Deadline
from kloros.machine.whole import Machine
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Record, Wanted
from kloros.units import us_to_seconds

_TYPES = ("daemon_silent", "cycles_failing", "cycles_slow", "fallback_engaged")
_SCHEDULER = "kloros-scheduler.service"
_CYCLES = 20
_BAD = ("failed", "hung")
_RECENT_DEATH_S = 900.0


class DaemonInvestigator:
    """Answers for what the bus tells of the suite's own health."""

    name = "daemon"

    def __init__(self, book: CycleBook, history: Path, sample_s: float) -> None:
        self._book, self._history, self._sample_s = book, history, sample_s

    def handles(self, question: QuestionFacts) -> float:
        return 1.0 if question.gap_type in _TYPES else 0.0

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        zooid, kind = question.gap_name or "", question.gap_type
        evidence = Evidence(playbook=self.name, subject=zooid)
        evidence.saw(daemon=zooid, ailment=kind)
        self._tell_cycles(evidence, zooid, machine)
        look_at_unit(evidence, unit_of_zooid(zooid), machine, deadline)
        _tell_deaths(evidence, machine)
        if kind == "fallback_engaged":
            self._tell_scheduler(evidence, machine, deadline)
        if kind == "cycles_slow" and not deadline.is_over:
            load = Evidence(playbook=self.name, subject="cpu")
            look_at_load(load, "cpu", machine, deadline, self._sample_s, self._book.entries())
            evidence.saw(cpu_avg60=load.seen.get("some_avg60"), busiest=load.seen.get("top_name"))
            for line in load.lines[:3]:
                evidence.note(line)
        entry = entry_of(unit_of_zooid(zooid), self._book.entries())
        evidence.saw(top_entry=entry or None)
        return evidence

    def _tell_cycles(self, evidence: Evidence, zooid: str, machine: Machine) -> None:
        heard = self._book.of(zooid)
        cycles = list(heard.cycles) if heard else []
        if len(cycles) < 3:
            cycles = self._from_history(evidence, zooid) or cycles
        if heard is not None:
            silent_s = us_to_seconds(machine.clock.wall_us() - heard.heard_us)
            evidence.saw(mode=heard.mode or None, heard_ago_s=round(silent_s, 1), pid=heard.pid or None)
            doing = f" (mode {heard.mode})" if heard.mode else ""
            evidence.note(f"{zooid} was heard {lasting(silent_s)} ago{doing}")
        if cycles:
            _tell_cycles(evidence, cycles)

    def _from_history(self, evidence: Evidence, zooid: str) -> list[CycleReportFacts]:
        """From the historian's database, when too little was heard by ourselves."""
        try:
            with HistoryReader(self._history) as reader:
                wanted = Wanted(signals=("Q_CYCLE_REPORT",), zooids=(zooid,))
                records = [each for each in reader.newest(wanted, _CYCLES) if isinstance(each, Record)]
        except StoreUnusable as error:
            evidence.lack(f"its history ({error.reason})")
            return []
        return [facts for record in records if (facts := _report_in(record.body)) is not None]

    def _tell_scheduler(self, evidence: Evidence, machine: Machine, deadline: Deadline) -> None:
        inner = Evidence(playbook=self.name, subject=_SCHEDULER)
        look_at_unit(inner, _SCHEDULER, machine, deadline)
        evidence.saw(
            scheduler_state=inner.seen.get("active_state"), scheduler_result=inner.seen.get("result"),
            scheduler_since_s=inner.seen.get("in_state_s"), scheduler_kills=inner.seen.get("kills") or None,
        )  # fmt: skip
        heard = self._book.of("scheduler_daemon")
        if heard is not None:
            silent_s = us_to_seconds(machine.clock.wall_us() - heard.heard_us)
            evidence.saw(scheduler_silent_s=silent_s)
            evidence.note(f"the scheduler was heard {lasting(silent_s)} ago")
        for line in inner.lines[:4]:
            evidence.note(f"{_SCHEDULER}: {line}")


def _tell_cycles(evidence: Evidence, cycles: list[CycleReportFacts]) -> None:
    last = cycles[-1]
    bad = [cycle for cycle in cycles if cycle.outcome in _BAD]
    durations = sorted(cycle.duration_s for cycle in cycles)
    overdrawn = sum(cycle.outcome == "over_budget" for cycle in cycles)
    evidence.saw(
        schedule=last.schedule, cycles=len(cycles), cycles_bad=len(bad), cycles_over=overdrawn,
        last_outcome=last.outcome, last_duration_s=round(last.duration_s, 3), backlog=last.backlog,
        median_s=round(durations[len(durations) // 2], 3), longest_s=round(durations[-1], 3),
        last_error=next((cycle.error for cycle in reversed(cycles) if cycle.error), None),
    )  # fmt: skip
    evidence.note(
        f"its last {len(cycles)} cycles: {len(bad)} failed, {overdrawn} over their budget; half of them took less than "
        f"{lasting(durations[len(durations) // 2])}, the longest {lasting(durations[-1])}; backlog {last.backlog}"
    )
    error = evidence.text("last_error")
    if error:
        evidence.note(f"its last error: {error}")
        trouble = trouble_in(error)
        if trouble is not None:
            evidence.saw(cycle_trouble=trouble.kind)


def _tell_deaths(evidence: Evidence, machine: Machine) -> None:
    """Whether it died lately, though it runs again now: then the rules for units have something to say."""
    ago_s = us_to_seconds(machine.clock.wall_us()) - evidence.number("last_failed_s")
    if evidence.holds("last_failed_s") and ago_s <= _RECENT_DEATH_S:
        evidence.saw(is_unwell=True)


def _report_in(body: bytes) -> CycleReportFacts | None:
    try:
        return msgspec.convert(msgspec.json.decode(body)["facts"], CycleReportFacts)
    except (msgspec.MsgspecError, KeyError, TypeError):
        return None

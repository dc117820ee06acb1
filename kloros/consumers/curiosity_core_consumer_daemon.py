"""curiosity_core_consumer: turns open findings into questions worth asking."""

from __future__ import annotations

import sys
from contextlib import suppress

from kloros.chembus.facts_work import FoldedFacts, GapFoundFacts, InvestigationFacts, QuestionFacts
from kloros.consumers.candidates.current import TunedSettings
from kloros.consumers.curiosity.desk import Desk
from kloros.consumers.curiosity.question import Question, Status, Tally
from kloros.consumers.curiosity.settings import CuriositySettings
from kloros.consumers.curiosity.store import CURIOSITY_TABLES, CuriosityStore, Tables
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import StoreUnusable
from kloros.units import us_to_seconds

TALLY = "tally"


class CuriosityCoreConsumerDaemon(Consumer):
    """Keeps what was found as candidates; on its beat asks about the most valuable."""

    zooid = "curiosity_core_consumer_daemon"
    niche = "curiosity"
    ecosystem = "curiosity"
    schedule = "curiosity_generation"
    signal = "Q_TRIGGER_CURIOSITY"
    interval_s = 60.0
    consumes = ("CAPABILITY_GAP", "CAPABILITY_RESTORED", "Q_INVESTIGATION_COMPLETE", "Q_QUESTION_FOLDED")
    tables = CURIOSITY_TABLES

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        path = settings_file(self.place, stem_of(type(self)))
        self._own = TunedSettings(path, CuriositySettings, self.log, self.place.state, "curiosity")
        self._waiting = self._open = 0
        with suppress(StoreUnusable):  # known with the first batch that the disk takes
            self._look(CuriosityStore(self.store.database))
        waiting = self.metrics.gauge("kloros_curiosity_candidates", "Findings that wait to be asked about.")
        waiting.set_function(lambda: float(self._waiting))
        unanswered = self.metrics.gauge("kloros_questions_open", "Questions that were asked and not answered yet.")
        unanswered.set_function(lambda: float(self._open))
        self.metrics.counters_from("kloros_questions", "What became of findings and questions.", self._figures)

    # What is heard

    def work(self, batch: Batch) -> None:
        self._own.take()
        desk = self._desk(batch.database, batch.load(TALLY, Tally))
        for message in batch.messages:
            self._hear(desk, message.signal, message.facts)
        desk.keep_within_limits()
        batch.save(TALLY, desk.tally)
        batch.processed = len(batch.messages)
        self._look(CuriosityStore(batch.database))
        self._tell_archived(desk)

    def _hear(self, desk: Desk, signal: str, facts: object) -> None:
        if isinstance(facts, GapFoundFacts):
            if signal == "CAPABILITY_RESTORED":
                desk.restore(facts)
            else:
                desk.hear(facts)
        elif isinstance(facts, FoldedFacts):
            if not desk.fold(facts):
                self.count("folded_unknown")
        elif isinstance(facts, InvestigationFacts) and not desk.take_answer(facts):
            self.count("answered_unknown")

    # What is asked

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()
        desk = self._desk(cycle, cycle.load(TALLY, Tally))
        asked = desk.ask()
        desk.tidy()
        for question in asked:
            facts = _facts(question)
            cycle.emit(f"Q_CURIOSITY_{question.level}", facts, incident_id=question.gap_id)
            cycle.log.info("question_asked", question_id=question.question_id, level=question.level,
                           question=question.question, gap_id=question.gap_id)  # fmt: skip
        cycle.save(TALLY, desk.tally)
        self._waiting = max(0, desk.tally.heard - desk.tally.accounted)
        self._open += len(asked)
        cycle.processed, cycle.backlog = len(asked), self._waiting
        self._tell_archived(desk)

    def _desk(self, tables: Tables, tally: Tally | None) -> Desk:
        return Desk(CuriosityStore(tables), self._own.current, tally or Tally(), self.clock.wall_us())

    # Telling

    def _look(self, store: CuriosityStore) -> None:
        self._waiting, self._open = store.waiting_count(), store.count(Status.OPEN)

    def _tell_archived(self, desk: Desk) -> None:
        if desk.archived:
            self.log.info("questions_archived", **{str(reason): count for reason, count in desk.archived.items()})

    def _figures(self) -> dict[str, int]:
        tally = self.store.get(TALLY, Tally) or Tally()
        figures = {"heard": tally.heard, "renewed": tally.renewed, "forgotten": tally.forgotten}
        figures |= {f"asked_{level.lower()}": count for level, count in tally.asked.items()}
        figures |= {f"archived_{reason}": count for reason, count in tally.archived.items()}
        return figures | {f"closed_{reason}": count for reason, count in tally.closed.items()}

    def status(self) -> str:
        return f"{super().status()}, {self._open} questions open, {self._waiting} findings wait"

    def on_reload(self) -> None:
        self._own.reload()


def _facts(question: Question) -> QuestionFacts:
    return QuestionFacts(
        question_id=question.question_id,
        question=question.question,
        hypothesis=question.hypothesis,
        capability_key=question.capability_key,
        evidence=question.evidence,
        evidence_hash=question.evidence_hash,
        value_estimate=question.value,
        cost_estimate=question.cost,
        priority=question.level.lower(),
        gap_id=question.gap_id,
        gap_type=question.gap_type,
        gap_name=question.gap_name,
        severity=question.severity,
        category=question.category,
        asked_ts=None if question.asked_us is None else us_to_seconds(question.asked_us),
    )


if __name__ == "__main__":
    sys.exit(main(CuriosityCoreConsumerDaemon))

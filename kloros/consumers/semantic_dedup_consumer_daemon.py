"""semantic_dedup_consumer: folds questions that are nearly the same into one."""

from __future__ import annotations

import sys
from functools import partial

from kloros.chembus.envelope import Message
from kloros.chembus.facts import HeartbeatFacts
from kloros.chembus.facts_work import GapFoundFacts, InvestigationFacts, QuestionFacts
from kloros.consumers.candidates.current import TunedSettings
from kloros.consumers.dedup.comparison import Comparison
from kloros.consumers.dedup.desk import Desk, Tally
from kloros.consumers.dedup.embedder import Embedding
from kloros.consumers.dedup.folding import fold, is_due
from kloros.consumers.dedup.question import question_of
from kloros.consumers.dedup.settings import DedupSettings
from kloros.consumers.dedup.store import DEDUP_TABLES, DedupStore
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.fallback import Source
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.units import us_to_seconds

TALLY = "tally"
# Questions folded in one cycle; further ones wait for the next beat.
MOST_PER_CYCLE = 1_000
# Embedding stops when less than this share of a cycle's budget is left, and goes on in the next cycle.
_TIME_TO_FOLD = 0.4


class SemanticDedupConsumerDaemon(Consumer):
    """Takes questions as they are asked; on its beat folds what waits, and sends those that stand for the others."""

    zooid = "semantic_dedup_consumer_daemon"
    niche = "curiosity"
    ecosystem = "curiosity"
    schedule = "semantic_dedup"
    signal = "Q_TRIGGER_SEMANTIC_DEDUP"
    interval_s = 5.0
    consumes = (
        "Q_CURIOSITY_CRITICAL",
        "Q_CURIOSITY_HIGH",
        "Q_CURIOSITY_MEDIUM",
        "Q_CURIOSITY_LOW",
        "Q_INVESTIGATION_COMPLETE",
        "CAPABILITY_RESTORED",
    )
    tables = DEDUP_TABLES

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        path = settings_file(self.place, stem_of(type(self)))
        self._own = TunedSettings(path, DedupSettings, self.log, self.place.state, "semantic_dedup")
        self._comparison: Comparison | None = None
        self._counts = DedupStore(self.store.database).counts()
        questions = self.metrics.gauge("kloros_dedup_questions", "Questions by where they are.", ("state",))
        for state in self._counts:
            questions.labels(state).set_function(partial(self._count_of, state))
        size = self.metrics.gauge("kloros_dedup_vectors_bytes", "What the open questions' vectors take in memory.")
        size.set_function(lambda: float(self._comparison.size_bytes if self._comparison else 0))
        self.metrics.counters_from("kloros_dedup", "What became of questions.", self._figures)

    # What is heard

    def work(self, batch: Batch) -> None:
        desk = self._desk(DedupStore(batch.database), batch.load(TALLY, Tally))
        for message in batch.messages:
            self._hear(desk, message)
        desk.keep_waiting_within_limits()
        for told in desk.told:
            batch.emit(told.signal, told.facts, incident_id=told.incident_id)
        batch.save(TALLY, desk.tally)
        batch.processed = len(batch.messages)
        self._counts = DedupStore(batch.database).counts()
        self._warn(desk)

    def _hear(self, desk: Desk, message: Message) -> None:
        facts = message.facts
        if isinstance(facts, QuestionFacts):
            desk.take(question_of(message.signal, facts, message.incident_id, self.clock.wall_us()))
        elif isinstance(facts, InvestigationFacts):
            desk.answer(facts)
        elif isinstance(facts, GapFoundFacts):
            desk.restore(facts)

    # What is folded

    def cycle(self, cycle: Cycle) -> None:
        comparison = self._comparison_now()
        store = DedupStore(cycle)
        desk = self._desk(store, cycle.load(TALLY, Tally))
        self._counts = store.counts()
        # Statements of a cycle are run when it is done: what is given up now must not be folded into any more.
        is_tidy = not desk.give_up_unanswered() and not desk.keep_folded_within_limits()
        if is_tidy and self._is_due(cycle, store):
            self._fold(cycle, store, desk, comparison)
        for told in desk.told:
            cycle.emit(told.signal, told.facts, incident_id=told.incident_id)
        if desk.told:
            limits = self._own.current.limits
            store.forget(ended=limits.ended, vectors=limits.vectors)
            cycle.save(TALLY, desk.tally)
        cycle.backlog = self._counts["waiting"] - cycle.processed
        self._warn(desk)

    def _is_due(self, cycle: Cycle, store: DedupStore) -> bool:
        waiting, batch = store.waiting(), self._own.current.batch
        if cycle.source is Source.INJECTED:
            return waiting.count > 0
        waited_s = us_to_seconds(self.clock.wall_us() - waiting.oldest_us)
        return is_due(waiting.count, waited_s, waiting.has_critical, batch.questions, batch.wait_s)

    def _fold(self, cycle: Cycle, store: DedupStore, desk: Desk, comparison: Comparison) -> None:
        settings, now_us = self._own.current, self.clock.wall_us()
        batch = store.most_valuable_waiting(MOST_PER_CYCLE)

        def has_time() -> bool:
            return cycle.remaining_s > _TIME_TO_FOLD * cycle.budget_s and not cycle.cancelled.is_set()

        alikes = comparison.of(batch, store, now_us, has_time, settings.threshold, settings.names_must_agree)
        if alikes is None:
            cycle.log.info("still_embedding", questions=len(batch), embedded=comparison.embedded)
            return
        outcome = fold(batch, *alikes)
        desk.settle(outcome)
        cycle.processed = len(batch)
        cycle.log.info("questions_folded", opened=len(outcome.opened), folded=len(outcome.joined))

    def _comparison_now(self) -> Comparison:
        """Made, and made anew with new settings, in the worker thread: loading a model may take its time."""
        is_new = self._own.take()
        if self._comparison is None or is_new:
            self._comparison = Comparison(Embedding(self._own.current.embedder, self.log))
        return self._comparison

    def _desk(self, store: DedupStore, tally: Tally | None) -> Desk:
        return Desk(store, self._own.current, tally or Tally(), self.clock.wall_us())

    # Telling

    def _warn(self, desk: Desk) -> None:
        for reason, count in desk.refused.items():
            self.count("questions_refused", count)
            self.log.warning("questions_refused", count=count, reason=reason)

    def _count_of(self, state: str) -> float:
        return float(self._counts[state])

    def _figures(self) -> dict[str, int]:
        tally = self.store.get(TALLY, Tally) or Tally()
        plain = ("taken", "duplicates", "opened", "folded", "promoted", "told_again")
        figures = {name: getattr(tally, name) for name in plain}
        if self._comparison:
            figures["embedded"] = self._comparison.embedded
            figures["embedder_refused"] = self._comparison.embedding.refusals
        return figures | {f"ended_{how}": count for how, count in tally.ended.items()}

    def status(self) -> str:
        return f"{super().status()}, {self._counts['open']} questions open, {self._counts['folded']} folded into them"

    def heartbeat_facts(self) -> HeartbeatFacts:
        facts = super().heartbeat_facts()
        lack = self._comparison.embedding.lack if self._comparison else None
        if lack and not facts.detail:
            facts.detail = lack
        return facts

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(SemanticDedupConsumerDaemon))

"""Takes questions in, refuses what is too much, withdraws what is over, and says when too many wait."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from kloros.chembus.facts_work import FlagClosedFacts, InvestigationFacts, QuestionFacts, ReviewFacts
from kloros.clock import Clock
from kloros.consumers.investigation.backlog import Bottleneck, judge, least_valuable
from kloros.consumers.investigation.outcome import ID_CHARS, REFUSED, SUPPRESSED, WITHDRAWN, bounded, ended
from kloros.consumers.investigation.settings import FailureSettings, QueueSettings
from kloros.consumers.investigation.store import InvestigationStore, capability_of
from kloros.daemon.batch import Batch
from kloros.daemon.cycle import Cycle
from kloros.units import seconds_to_us

BOTTLENECK = "bottleneck"
_FINGERPRINT = hashlib.sha256(b"investigation_queue|investigation_consumer|bottleneck").hexdigest()[:16]


class Desk:
    """Where questions are handed in."""

    def __init__(
        self, clock: Clock, log: FilteringBoundLogger, count: Callable[[str], None], bottleneck: Bottleneck | None
    ) -> None:
        self._clock, self._log, self._count = clock, log, count
        self.is_bottleneck = bottleneck is not None and bottleneck.is_on

    def take(
        self, store: InvestigationStore, question: QuestionFacts, queue: QueueSettings, failures: FailureSettings
    ) -> list[InvestigationFacts]:
        """Let it wait; returns what ended at once because of it: itself, or the least valuable that waits."""
        question = bounded(question)
        if store.has_ended(question.question_id):
            self._count("question_ended_before")
            return []
        if store.renew(question):
            self._count("question_renewed")
            return []
        now_us = self._clock.wall_us()
        store.add(question, now_us)
        suppressed = self.suppressed(store, question, failures)
        if suppressed is not None:
            store.end(suppressed, now_us, now_us)
            return [suppressed]
        over: list[InvestigationFacts] = []
        while store.depth() > queue.limit:
            over += self._finish(store, least_valuable(store.waiting()).question_id, "refused", REFUSED, queue.limit)
        return over

    def withdraw(self, store: InvestigationStore, gap_id: str) -> list[InvestigationFacts]:
        """The finding ended: nobody needs to know any more, and what failed may work the next time."""
        gap_id = gap_id[:ID_CHARS]
        store.forgive_gap(gap_id)
        return [
            facts
            for question_id in store.of_gap(gap_id)
            for facts in self._finish(store, question_id, "withdrawn", WITHDRAWN, 0)
        ]

    def suppressed(
        self, store: InvestigationStore, question: QuestionFacts, failures: FailureSettings
    ) -> InvestigationFacts | None:
        """What to tell of a question that is not looked into because that failed too often; None when it is."""
        count, last_us, reason = store.failures(capability_of(question))
        waited_us = self._clock.wall_us() - last_us
        if count < failures.suppress_after or waited_us >= seconds_to_us(failures.try_again_after_s):
            return None
        return ended(question, "suppressed", SUPPRESSED.format(count=count, reason=reason))

    def _finish(
        self, store: InvestigationStore, question_id: str, status: str, why: str, limit: int
    ) -> list[InvestigationFacts]:
        known = store.question(question_id)
        if known is None:
            return []
        question, arrived_us = known
        facts = ended(question, status, why.format(limit=limit))
        store.end(facts, arrived_us, self._clock.wall_us())
        self._count(f"question_{status}")
        return [facts]

    def look(self, work: Batch | Cycle, depth: int, queue: QueueSettings) -> None:
        """Say once when too many wait, and once when that is over."""
        before = work.load(BOTTLENECK, Bottleneck) or Bottleneck()
        now = judge(before, depth, queue.bottleneck_above, queue.bottleneck_over_at)
        self.is_bottleneck = now.is_on
        if now == before:
            return
        work.save(BOTTLENECK, now)
        flag_id = "f-" + hashlib.sha256(f"{_FINGERPRINT}|{now.times}".encode()).hexdigest()[:8]
        if not now.is_on:
            self._log.info("investigation_bottleneck_over", depth=depth)
            reason = f"no more than {queue.bottleneck_over_at} questions wait"
            work.emit("FLAG_CLOSED", FlagClosedFacts(flag_id=flag_id, reason=reason, fingerprint=_FINGERPRINT))
            return
        self._count("bottleneck")
        self._log.warning("investigation_bottleneck", depth=depth, above=queue.bottleneck_above, limit=queue.limit)
        why = f"{depth} questions wait to be looked into; beyond {queue.limit} the least valuable are refused"
        facts = ReviewFacts(
            flag_id=flag_id, rationale=why, fingerprint=_FINGERPRINT, severity="medium",
            evidence=[f"depth={depth}", f"bottleneck_above={queue.bottleneck_above}", f"limit={queue.limit}"],
            module_name="investigation_consumer",
            cure="kloros investigations --open shows them; trigger investigation_processing, or shorten its interval",
        )  # fmt: skip
        work.emit("FLAG_FOR_REVIEW", facts)

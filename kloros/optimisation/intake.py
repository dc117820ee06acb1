"""What comes in: cycle reports, actions, verdicts, flags and people's words. One transaction for each batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts
from kloros.chembus.facts_work import (
    EnactmentFacts,
    FlagClosedFacts,
    ImprovementFacts,
    ReviewDecidedFacts,
    ReviewDecisionFacts,
    ReviewFacts,
    ShadowFacts,
)
from kloros.daemon.pen import Pen
from kloros.optimisation import store
from kloros.optimisation.flags import Flag, Trouble, Word
from kloros.optimisation.levers import module_of
from kloros.optimisation.parsing import cut
from kloros.optimisation.register import Register, flag, live_flag_of
from kloros.optimisation.settings import OptimiserSettings
from kloros.optimisation.store import Stage, Taken
from kloros.units import seconds_to_us, us_to_seconds

_MOST_NAME = 128


class Intake:
    """Takes one batch's signals, at the moment `now_us`. Nothing is enacted here: what came in waits for a cycle."""

    def __init__(self, pen: Pen, settings: OptimiserSettings, log: FilteringBoundLogger, now_us: int, own: str) -> None:
        """`own` is this daemon's zooid."""
        self._pen, self._settings, self._log, self._now_us, self._own = pen, settings, log, now_us, own
        self.register = Register(pen, log, now_us, settings.flags.at_most)
        self.counts: Counter[str] = Counter()
        self.is_wanted = False

    def hear(self, message: Message) -> None:
        """One durable signal."""
        facts = message.facts
        if isinstance(facts, CycleReportFacts):
            self._report(facts)
        elif isinstance(facts, ImprovementFacts):
            self.propose(facts)
        elif isinstance(facts, ShadowFacts):
            self._verdict(facts)
        elif isinstance(facts, ReviewDecisionFacts):
            self._decision(facts, message.id)
        elif isinstance(facts, ReviewFacts):
            self.register.hear(facts)
        elif isinstance(facts, FlagClosedFacts):
            self.register.hear_closed(facts)

    def _report(self, facts: CycleReportFacts) -> None:
        """How a cycle went. Our own are not looked at: who changes others does not judge itself."""
        if facts.daemon == self._own:
            return
        ended_us = min(seconds_to_us(facts.started_ts + facts.duration_s), self._now_us)
        store.put_sample(self._pen, module_of(facts.daemon)[:_MOST_NAME], ended_us, facts.duration_s, facts.outcome)
        if facts.outcome in ("failed", "hung"):
            self.is_wanted = True  # it may be on probation

    # Actions

    def propose(self, facts: ImprovementFacts) -> None:
        """An action, once: the same id again is the same action, however often it comes."""
        raw = _raw(facts)
        known = store.action(self._pen, facts.action_id)
        if known is not None:
            self._again(known, raw)
            return
        source = raw["parameters"].get("source") if isinstance(raw["parameters"], dict) else None
        taken = Taken(
            action_id=facts.action_id, seq=store.next_seq(self._pen), stage=Stage.QUEUED,
            module=cut(facts.module_name)[:_MOST_NAME], kind=cut(facts.action_kind)[:_MOST_NAME], raw=raw,
            source=str(source or "")[:_MOST_NAME], taken_us=self._now_us,
        )  # fmt: skip
        if len(store.actions(self._pen, Stage.QUEUED)) >= self._settings.queue.at_most:
            self._turn_away(taken)
            return
        store.put_action(self._pen, taken)
        self.counts["actions_taken"] += 1
        self.is_wanted = True
        self._log.info("action_taken", action_id=taken.action_id, kind=taken.kind, module=taken.module)

    def _again(self, known: Taken, raw: dict[str, Any]) -> None:
        known.heard += 1
        store.put_action(self._pen, known)
        self.counts["actions_heard_again"] += 1
        if known.raw == raw:
            return
        self.counts["actions_contradicted"] += 1
        told = f"another action calls itself {known.action_id}: it is passed over, and that one stands"
        trouble = Trouble(
            known.module, known.kind, "same_id", told, "high", known.action_id, sameness=_digest(known.action_id)
        )
        self.register.raise_flag(trouble)

    def _turn_away(self, taken: Taken) -> None:
        """There is no room: that is its end."""
        self.counts["actions_turned_away"] += 1
        taken.stage, taken.status, taken.reason_code, taken.ended_us = Stage.ENDED, "SKIPPED", "no_room", self._now_us
        taken.detail = f"{self._settings.queue.at_most} actions wait already"
        store.put_action(self._pen, taken)
        facts = EnactmentFacts(
            action_id=taken.action_id, module_name=taken.module, action_kind=taken.kind, status=taken.status,
            detail=taken.detail, reason_code=taken.reason_code, attempted_ts=us_to_seconds(self._now_us),
        )  # fmt: skip
        self._pen.emit("Q_ENACTMENT", facts, incident_id=taken.action_id)

    def _verdict(self, facts: ShadowFacts) -> None:
        if facts.candidate_id and facts.verdict:
            values = (facts.candidate_id, facts.verdict, facts.artifact, facts.sha256, self._now_us)
            store.put_verdict(self._pen, *values)

    # People

    def _decision(self, facts: ReviewDecisionFacts, request_id: str | None) -> None:
        """On a flag, or on an action that waits: each stands for the other."""
        found = flag(self._pen, facts.flag_id) if facts.flag_id else None
        if found is None and facts.action_id:
            found = live_flag_of(self._pen, facts.action_id)
        action_id = facts.action_id or (found.action_id if found else None)
        waiting = store.action(self._pen, action_id) if action_id else None
        if waiting is not None and (waiting.stage is not Stage.WAITING or (found and waiting.flag_id != found.flag_id)):
            waiting = None
        accepted, detail = self._apply(facts, found, waiting)
        told = ReviewDecidedFacts(
            decision=facts.decision, accepted=accepted, flag_id=found.flag_id if found else facts.flag_id,
            action_id=action_id, detail=detail, requester=facts.requester, request_id=request_id,
        )  # fmt: skip
        self._pen.emit("Q_REVIEW_DECIDED", told, incident_id=action_id)
        self._log.info(
            "review_decided", flag_id=told.flag_id, decision=facts.decision, accepted=accepted, detail=detail
        )

    def _apply(self, facts: ReviewDecisionFacts, found: Flag | None, waiting: Taken | None) -> tuple[bool, str]:
        if found is None and waiting is None:
            return False, f"nothing waits under {facts.flag_id or facts.action_id or 'no id at all'}"
        word: Word = facts.decision
        if waiting is not None and word != "acknowledge":
            if waiting.expires_us is not None and waiting.expires_us <= self._now_us:
                return False, f"{waiting.action_id} has expired"
            waiting.decided_by, waiting.decided_us = facts.requester, self._now_us
            waiting.decided_reason = facts.reason
            waiting.waits_for = "approved" if word == "approve" else "rejected"
            store.put_action(self._pen, waiting)
            self.is_wanted = True
        if found is None:
            return True, f"{waiting.action_id if waiting else ''} is {'approved' if word == 'approve' else 'rejected'}"
        accepted, detail = self.register.decide(found, word, facts.requester, facts.reason)
        return accepted or waiting is not None, detail


def _raw(facts: ImprovementFacts) -> dict[str, Any]:
    """As it was heard, for the parser to judge."""
    raw: dict[str, Any] = msgspec.to_builtins(facts)
    raw.setdefault("parameters", {})
    return raw


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""What comes in: recommendations become actions, decisions are answered, what ended is withdrawn. One transaction."""

from __future__ import annotations

from collections import Counter

from structlog.typing import FilteringBoundLogger

from kloros.chembus.facts_work import DecidedFacts, DecisionFacts, GapFoundFacts, InvestigationFacts
from kloros.consumers.action import store
from kloros.consumers.action.action import Action, Stage, action_id, rank, recommended
from kloros.consumers.action.gate import answer_decision, why_not_taken_up
from kloros.consumers.action.outcomes import Outcomes, of_investigation
from kloros.consumers.action.settings import ActionSettings
from kloros.consumers.action.wording import cure_of
from kloros.daemon.pen import Pen
from kloros.units import US_PER_S


class Desk:
    """Takes one batch's signals, at the moment `now_us`."""

    def __init__(self, pen: Pen, settings: ActionSettings, log: FilteringBoundLogger, now_us: int) -> None:
        self._pen, self._settings, self._log, self._now_us = pen, settings, log, now_us
        self.outcomes = Outcomes(pen, log, now_us, settings.queue.flags_at_most)

    @property
    def counts(self) -> Counter[str]:
        """Countable events, by name."""
        return self.outcomes.counts

    # Investigations

    def investigated(self, facts: InvestigationFacts) -> None:
        """An investigation ended: take up what it recommends, or flag it."""
        if facts.status == "withdrawn":
            return
        if facts.gap_id and store.has_ended(self._pen, facts.gap_id):
            self.counts["recommendations_moot"] += 1
            self._log.info("recommendation_moot", question_id=facts.question_id, gap_id=facts.gap_id)
            return
        if facts.recommended_action is None:
            self._conclude(facts)
        else:
            self._recommend(facts)

    def _conclude(self, facts: InvestigationFacts) -> None:
        if rank(facts.severity) >= rank(self._settings.flags.least_severity):
            self.outcomes.flag(of_investigation(facts))
            return
        self.counts["conclusions_not_flagged"] += 1
        self._log.info(
            "conclusion_not_flagged", question_id=facts.question_id, severity=facts.severity, gap_id=facts.gap_id,
            conclusion=facts.conclusion,
        )  # fmt: skip

    def _recommend(self, facts: InvestigationFacts) -> None:
        wish = facts.recommended_action
        assert wish is not None
        identity = action_id(facts.question_id, wish.action_type, wish.target)
        if store.action(self._pen, identity) is not None:
            self.counts["recommendations_repeated"] += 1
            return
        kind = self._settings.kinds.of(wish.action_type)
        why_not = why_not_taken_up(wish.action_type, wish.target, facts.confidence, kind)
        action = recommended(facts, wish, "off" if kind is None else kind.mode, self._now_us)
        if why_not is not None:
            self._refuse(action, why_not)
        elif (same := store.open_on(self._pen, action.kind, action.target)) is not None:
            self._fold(action, same)
        elif self._has_room(action):
            self._take_up(action)

    def _fold(self, action: Action, same: Action) -> None:
        """It is asked for already: once more, perhaps for another finding, and perhaps for a worse one."""
        same.asked += 1
        if rank(action.severity) > rank(same.severity):
            same.severity = action.severity
        store.put(self._pen, same)
        if action.gap_id:
            store.put_gap(self._pen, action.gap_id, same.action_id)
        self.counts["recommendations_folded"] += 1
        self._log.info("recommendation_folded", action_id=same.action_id, times=same.asked, gap_id=action.gap_id)

    def _take_up(self, action: Action) -> None:
        if action.stage is Stage.WAITING:
            action.expires_us = self._now_us + round(self._settings.approvals.valid_s * US_PER_S)
        store.put(self._pen, action)
        if action.gap_id:
            store.put_gap(self._pen, action.gap_id, action.action_id)
        self._pen.emit("Q_ACTION_SPAWNED", action.facts(), incident_id=action.gap_id)
        self.counts["actions_taken_up"] += 1
        self._log.info(
            "action_taken_up", action_id=action.action_id, kind=action.kind, target=action.target, mode=action.mode,
            gap_id=action.gap_id, why=action.rationale,
        )  # fmt: skip

    def _has_room(self, action: Action) -> bool:
        """Whether one more may wait; the least valuable of all gives way."""
        if store.open_count(self._pen) < self._settings.queue.at_most:
            return True
        self.counts["queue_refusals"] += 1
        least = min([action, *store.actions(self._pen, (Stage.WAITING, Stage.QUEUED))], key=lambda each: each.worth)
        self._refuse(least, f"more than {self._settings.queue.at_most} actions wait, and it is the least valuable")
        return least is not action

    def _refuse(self, action: Action, why: str) -> None:
        self.outcomes.end(action, "refused", why, cure=cure_of(action))

    # Findings

    def found(self, facts: GapFoundFacts) -> None:
        """A finding opened or worsened: what is said about it counts again."""
        store.reopen_gap(self._pen, facts.gap_id)

    def restored(self, facts: GapFoundFacts) -> None:
        """A finding ended: what was done for it is confirmed, what waits is withdrawn, its flags are closed."""
        gap_id = facts.gap_id
        for action in store.actions_for_gap(self._pen, gap_id):
            store.forget_gap_of(self._pen, gap_id, action.action_id)
            if action.stage in (Stage.WAITING, Stage.QUEUED):
                if not store.gaps_of(self._pen, action.action_id):
                    self.outcomes.end(action, "withdrawn", "what it was for ended by itself")
            elif action.confirmed_us is None and action.outcome in (None, "helped"):
                action.confirmed_us = self._now_us
                store.put(self._pen, action)
                self.counts["actions_confirmed"] += 1
                self._log.info("action_confirmed", action_id=action.action_id, gap_id=gap_id)
        for flag in store.open_flags(self._pen, gap_id):
            self.outcomes.close(flag, "what it was raised for ended")
        store.drop_gap(self._pen, gap_id, self._now_us)

    # Decisions

    def decided(self, facts: DecisionFacts, request_id: str | None) -> None:
        """A person approves or rejects an action; the answer is a signal of its own."""
        action = store.action(self._pen, facts.action_id)
        accepted, detail = answer_decision(action, facts.decision, self._now_us)
        if action is not None and action.stage is Stage.WAITING:
            self._decide(action, facts, accepted)
        if not accepted:
            self.counts["decisions_refused"] += 1
        answer = DecidedFacts(
            action_id=facts.action_id[:255], decision=facts.decision, accepted=accepted, detail=detail,
            requester=facts.requester, request_id=request_id,
        )  # fmt: skip
        self._pen.emit("Q_ACTION_DECIDED", answer, incident_id=action.gap_id if action else None)
        self._log.info(
            "action_decided", action_id=facts.action_id[:255], decision=facts.decision, accepted=accepted,
            requester=facts.requester, detail=detail,
        )  # fmt: skip

    def _decide(self, action: Action, facts: DecisionFacts, accepted: bool) -> None:
        if not accepted:
            self.outcomes.end(action, "expired", "nobody approved it in time", cure=cure_of(action))
            return
        action.decided_by, action.decided_us = facts.requester or "somebody", self._now_us
        action.decided_reason = facts.reason
        if facts.decision == "reject":
            why = f": {facts.reason}" if facts.reason else ""
            self.outcomes.end(action, "rejected", f"{action.decided_by} rejected it{why}")
            return
        action.stage, action.queued_us, action.expires_us = Stage.QUEUED, self._now_us, None
        store.put(self._pen, action)

"""How actions end and flags are raised: each action has one end, and whatever a person must see becomes a flag."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from kloros.chembus.facts_work import FlagClosedFacts, InvestigationFacts
from kloros.consumers.action import store
from kloros.consumers.action.action import Action, Stage, cut, fingerprint_of, flag_id, rank, shortened
from kloros.consumers.action.flagging import Flag, must_be_told
from kloros.daemon.pen import Pen

# What nobody but a person can take further.
FLAGGED = frozenset({"observed", "refused", "failed", "timed_out", "no_help", "expired"})


class Trouble(NamedTuple):
    """Something for a person. `reason` is one word, `cause` the action or question for which it is raised."""

    rule: str
    reason: str
    cause: str
    rationale: str
    gap_id: str | None
    gap_type: str | None
    gap_name: str | None
    severity: str | None
    evidence: list[str]
    cure: str | None
    action_id: str | None = None


class Outcomes:
    """Writes ends and flags with one pen, and counts them."""

    def __init__(self, pen: Pen, log: FilteringBoundLogger, now_us: int, flags_at_most: int) -> None:
        self._pen, self._log, self._now_us, self._flags_at_most = pen, log, now_us, flags_at_most
        self.ended: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()

    def end(
        self, action: Action, outcome: str, detail: str, *, verified: bool | None = None, cure: str | None = None
    ) -> None:
        """The one end of an action."""
        if action.stage is Stage.ENDED:
            raise ValueError(f"{action.action_id} has ended already")
        action.stage, action.outcome, action.verified = Stage.ENDED, outcome, verified
        action.detail, action.ended_us, action.waits_for = cut(detail), self._now_us, None
        store.put(self._pen, action)
        self._pen.emit("Q_ACTION_COMPLETE", action.facts(), incident_id=action.gap_id)
        self.ended.append((action.kind, outcome))
        log = self._log.info if outcome in ("helped", "withdrawn", "rejected") else self._log.warning
        log(
            "action_ended", action_id=action.action_id, kind=action.kind, target=action.target, outcome=outcome,
            detail=action.detail, gap_id=action.gap_id,
        )  # fmt: skip
        if outcome in FLAGGED:
            self.flag(_trouble(action, cure))

    def flag(self, trouble: Trouble) -> None:
        """Raise a flag, or the count of the one that is there."""
        fingerprint = fingerprint_of(trouble.gap_type, trouble.gap_name, trouble.rule)
        flag = store.open_flag(self._pen, fingerprint)
        if flag is None:
            if not self._has_room(trouble):
                return
            flag = Flag(
                flag_id=flag_id(fingerprint, trouble.cause), fingerprint=fingerprint, opened_us=self._now_us,
                last_us=self._now_us, rationale="", reason="", count=0, gap_id=trouble.gap_id,
                name=trouble.gap_name,
            )  # fmt: skip
        flag.count += 1
        flag.last_us, flag.reason, flag.rationale = self._now_us, trouble.reason, cut(trouble.rationale)
        flag.evidence, flag.cure, flag.action_id = shortened(trouble.evidence), trouble.cure, trouble.action_id
        flag.severity = max(flag.severity or "info", trouble.severity or "medium", key=rank)
        if must_be_told(flag):
            flag.told_reason, flag.told_severity = flag.reason, flag.severity
            self._pen.emit("FLAG_FOR_REVIEW", flag.facts(), incident_id=flag.gap_id)
            self._log.warning(
                "flag_raised", flag_id=flag.flag_id, severity=flag.severity, times=flag.count, gap_id=flag.gap_id,
                rationale=flag.rationale,
            )  # fmt: skip
        self.counts["flags_raised"] += 1
        store.put_flag(self._pen, flag)

    def close(self, flag: Flag, because: str) -> None:
        """What the flag was raised for is over."""
        flag.closed_us, flag.closed_because = self._now_us, because
        store.put_flag(self._pen, flag)
        facts = FlagClosedFacts(flag_id=flag.flag_id, reason=because, fingerprint=flag.fingerprint, gap_id=flag.gap_id)
        self._pen.emit("FLAG_CLOSED", facts, incident_id=flag.gap_id)
        self._log.info("flag_closed", flag_id=flag.flag_id, reason=because, gap_id=flag.gap_id)

    def _has_room(self, trouble: Trouble) -> bool:
        """Whether one more flag may be open; the least severe gives way to a worse one."""
        flags = store.open_flags(self._pen)
        if len(flags) < self._flags_at_most:
            return True
        least = min(flags, key=lambda flag: (rank(flag.severity), flag.last_us))
        if rank(least.severity) < rank(trouble.severity):
            self.close(least, "more severe ones need its room")
            self.counts["flags_displaced"] += 1
            return True
        self.counts["flags_refused"] += 1
        self._log.error("flag_refused", reason="too many are open", rationale=trouble.rationale, gap_id=trouble.gap_id)
        return False


def of_investigation(facts: InvestigationFacts) -> Trouble:
    """An investigation that recommends nothing that could be done here."""
    told = facts.conclusion or facts.question or "an investigation found no cause"
    about = f"{facts.gap_type} {facts.gap_name}: " if facts.gap_name and facts.gap_name not in told else ""
    end = "" if facts.status == "concluded" else f" (the investigation is {facts.status.replace('_', ' ')})"
    return Trouble(
        rule=facts.rule or facts.status, reason=facts.status, cause=facts.question_id, gap_id=facts.gap_id,
        rationale=f"{about}{told}{end}", gap_type=facts.gap_type, gap_name=facts.gap_name or facts.capability_key,
        severity=facts.severity, evidence=facts.evidence, cure=facts.cure or "look at it: nothing here can mend it",
    )  # fmt: skip


def _trouble(action: Action, cure: str | None) -> Trouble:
    why = f": {action.rationale}" if action.rationale else ""
    outcome = (action.outcome or "").replace("_", " ")
    return Trouble(
        rule=action.rule or action.kind, reason=action.outcome or "", cause=action.action_id, gap_id=action.gap_id,
        rationale=f"{action.kind} {action.target}: {outcome}, {action.detail}{why}", gap_type=action.gap_type,
        gap_name=action.gap_name or action.target, severity=action.severity, evidence=action.evidence,
        cure=cure or action.cure, action_id=action.action_id,
    )  # fmt: skip

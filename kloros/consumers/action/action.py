"""An action from its recommendation to its end, as it is kept. Pure."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from kloros.chembus.facts_work import ActionFacts, InvestigationFacts, RecommendedAction
from kloros.consumers.action.settings import Mode
from kloros.units import US_PER_S

Plain = str | int | float | bool
State = dict[str, Plain]
"""What is remembered of a target, before or after something was done to it."""

MOST_EVIDENCE = 50
MOST_TEXT = 1_000
SEVERITIES = ("info", "low", "medium", "high", "critical")


class Stage(StrEnum):
    """Where an action is in its life."""

    WAITING = "waiting"
    """For approval."""
    QUEUED = "queued"
    """For a beat at which it may be done."""
    ACTING = "acting"
    """It is being done, or was when the process died."""
    SETTLING = "settling"
    """It was done; whether it helped is not known yet."""
    ENDED = "ended"


OPEN = (Stage.WAITING, Stage.QUEUED, Stage.ACTING, Stage.SETTLING)
UNVERIFIED = (Stage.ACTING, Stage.SETTLING)


class Action(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One action. Moments are wall microseconds; `asked` counts the recommendations that it stands for."""

    action_id: str
    kind: str
    target: str
    mode: Mode
    stage: Stage
    taken_us: int
    queued_us: int
    parameters: dict[str, str] = {}
    question_id: str | None = None
    gap_id: str | None = None
    gap_type: str | None = None
    gap_name: str | None = None
    severity: str | None = None
    rule: str | None = None
    confidence: float | None = None
    value: float | None = None
    rationale: str | None = None
    evidence: list[str] = []
    cure: str | None = None
    asked: int = 1
    expires_us: int | None = None
    decided_by: str | None = None
    decided_us: int | None = None
    decided_reason: str | None = None
    waits_for: str | None = None
    started_us: int | None = None
    before: State | None = None
    acted_us: int | None = None
    after: State | None = None
    ended_us: int | None = None
    outcome: str | None = None
    verified: bool | None = None
    detail: str | None = None
    confirmed_us: int | None = None
    lapses_us: int | None = None

    @property
    def is_approved(self) -> bool:
        """Whether somebody approved it."""
        return self.decided_us is not None and self.outcome != "rejected"

    @property
    def worth(self) -> tuple[int, float, int]:
        """Larger is worth more: how bad the finding is, how valuable the question, how long it has been waiting."""
        return rank(self.severity), self.value or 0.0, -self.taken_us

    def facts(self) -> ActionFacts:
        """As the bus is told of it."""
        duration_s = None
        if self.started_us is not None and self.ended_us is not None:
            duration_s = max(0, self.ended_us - self.started_us) / US_PER_S
        return ActionFacts(
            action_id=self.action_id, action_type=self.kind, question_id=self.question_id, mode=self.mode,
            outcome=self.outcome, verified=self.verified, target=self.target, parameters=self.parameters,
            gap_id=self.gap_id, rationale=self.rationale, evidence=self.evidence, confidence=self.confidence,
            detail=self.detail, requester=self.decided_by, duration_s=duration_s,
            expires_ts=None if self.expires_us is None else self.expires_us / US_PER_S,
        )  # fmt: skip


def rank(severity: str | None) -> int:
    """How bad; what is not told counts as medium."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else SEVERITIES.index("medium")


def action_id(question_id: str, kind: str, target: str) -> str:
    """The same recommendation always has the same id."""
    return f"a-{_digest(question_id, kind, target)[:8]}"


def flag_id(fingerprint: str, cause: str) -> str:
    """`cause` is the action or question for which the flag was raised first."""
    return f"f-{_digest(fingerprint, cause)[:8]}"


def fingerprint_of(gap_type: str | None, gap_name: str | None, rule: str) -> str:
    """What is the same trouble, told again."""
    return _digest(gap_type or "", gap_name or "", rule)[:16]


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def recommended(facts: InvestigationFacts, wish: RecommendedAction, mode: Mode, now_us: int) -> Action:
    """The action that an investigation recommends, to be queued."""
    return Action(
        action_id=action_id(facts.question_id, wish.action_type, wish.target), kind=wish.action_type,
        target=wish.target, mode=mode, stage=Stage.WAITING if mode == "approve" else Stage.QUEUED, taken_us=now_us,
        queued_us=now_us, parameters=dict(list(wish.parameters.items())[:MOST_EVIDENCE]),
        question_id=facts.question_id, gap_id=facts.gap_id, gap_type=facts.gap_type, gap_name=facts.gap_name,
        severity=facts.severity, rule=facts.rule, confidence=facts.confidence, value=facts.value_estimate,
        rationale=cut(wish.why or facts.conclusion or ""), evidence=shortened(facts.evidence), cure=facts.cure,
    )  # fmt: skip


def shortened(evidence: list[str]) -> list[str]:
    """Evidence of a size that can be kept and sent on."""
    kept = [cut(line) for line in evidence[:MOST_EVIDENCE]]
    more = len(evidence) - len(kept)
    return [*kept, f"and {more} more"] if more else kept


def cut(text: str) -> str:
    """A text of a size that can be kept."""
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}..."

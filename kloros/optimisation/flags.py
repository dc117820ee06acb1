"""What needs a person, in one register: folded by fingerprint, with a state and a count. Pure."""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Literal

import msgspec

from kloros.chembus.facts_work import ReviewFacts, Severity

Word = Literal["approve", "reject", "acknowledge"]
_STEPS = (1, 2, 5)
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high", "critical")
_FIGURES = re.compile(r"[0-9a-f]{16,}|[0-9]+(\.[0-9]+)?")
MOST_EVIDENCE = 50
MOST_TEXT = 1_000
OURS = "optimiser"
WEAK = "weak"
NEEDS_APPROVAL = "needs_approval"
"""The reason of a flag about a weakness that the optimiser itself has found; it ends with the weakness."""
ELSEWHERE = "bus"


class State(StrEnum):
    """Where a flag is."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    """Somebody has seen it, and nothing more."""
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    """Nobody said anything in time."""
    CLOSED = "closed"
    """What it was raised for is over."""
    REOPENED = "reopened"
    """It had ended, and the same happened again."""


LIVE = (State.OPEN, State.ACKNOWLEDGED, State.REOPENED)
_BY_WORD = {"approve": State.APPROVED, "reject": State.REJECTED, "acknowledge": State.ACKNOWLEDGED}


class Flag(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One flag. `source`: raised by the optimiser, or heard on the bus. `told_count`: when the bus heard of it last."""

    flag_id: str
    fingerprint: str
    source: str
    state: State
    opened_us: int
    last_us: int
    rationale: str
    count: int = 1
    reason: str = ""
    severity: Severity | None = None
    module: str | None = None
    action_id: str | None = None
    gap_id: str | None = None
    evidence: list[str] = []
    cure: str | None = None
    told_reason: str = ""
    decided_by: str | None = None
    decided_us: int | None = None
    decided_reason: str | None = None
    ended_us: int | None = None

    @property
    def asks_for_approval(self) -> bool:
        """Whether an action of ours waits by it."""
        return self.source == OURS and self.reason == NEEDS_APPROVAL

    @property
    def is_live(self) -> bool:
        """Whether somebody should still look at it."""
        return self.state in LIVE

    def facts(self) -> ReviewFacts:
        """As the bus is told of it."""
        return ReviewFacts(
            flag_id=self.flag_id, rationale=self.rationale, module_name=self.module, evidence=self.evidence,
            fingerprint=self.fingerprint, count=self.count, severity=self.severity, gap_id=self.gap_id,
            action_id=self.action_id, cure=self.cure,
        )  # fmt: skip


class Trouble(msgspec.Struct, frozen=True):
    """Something for a person. `reason` is one word; what is the same trouble has the same module, kind and reason.

    sameness: what else tells it from others; by default nothing.
    """

    module: str
    kind: str
    reason: str
    rationale: str
    severity: Severity = "medium"
    action_id: str | None = None
    evidence: tuple[str, ...] = ()
    cure: str | None = None
    sameness: str = ""

    @property
    def fingerprint(self) -> str:
        """What is the same trouble, told again."""
        return _digest(OURS, self.module, self.kind, self.reason, self.sameness)[:16]


def without_figures(text: str) -> str:
    """A text by which two messages about the same thing are the same."""
    return _FIGURES.sub("#", text)


def severity_of(priority: float) -> Severity:
    """How bad, by an action's priority."""
    return "critical" if priority >= 0.9 else "high" if priority >= 0.7 else "medium" if priority >= 0.3 else "low"


def raised(flag: Flag | None, trouble: Trouble, now_us: int) -> Flag:
    """The flag once more: a new one, one more of it, or one that had ended and is open again."""
    if flag is None:
        flag = Flag(
            flag_id=f"f-{_digest(trouble.fingerprint, str(now_us))[:8]}", fingerprint=trouble.fingerprint, source=OURS,
            state=State.OPEN, opened_us=now_us, last_us=now_us, rationale="", count=0,
        )  # fmt: skip
    elif not flag.is_live:
        flag.state, flag.ended_us, flag.told_reason = State.REOPENED, None, ""
    flag.count += 1
    flag.last_us, flag.reason, flag.module = now_us, trouble.reason, trouble.module
    flag.rationale, flag.action_id, flag.cure = _cut(trouble.rationale), trouble.action_id, trouble.cure
    flag.evidence = [_cut(line) for line in trouble.evidence[:MOST_EVIDENCE]]
    flag.severity = _worse(flag.severity, trouble.severity)
    return flag


def heard(flag: Flag | None, facts: ReviewFacts, now_us: int) -> Flag:
    """A flag as somebody raised it; what was heard before is not counted twice."""
    if flag is None:
        flag = Flag(
            flag_id=facts.flag_id, fingerprint=(facts.fingerprint or facts.flag_id)[:64], source=ELSEWHERE,
            state=State.OPEN, opened_us=now_us, last_us=now_us, rationale="", count=0,
        )  # fmt: skip
    elif not flag.is_live and facts.count > flag.count:
        flag.state, flag.ended_us = State.REOPENED, None
    flag.count, flag.last_us, flag.rationale = max(flag.count, facts.count), now_us, _cut(facts.rationale)
    flag.severity, flag.module, flag.action_id = facts.severity, facts.module_name, facts.action_id
    flag.gap_id, flag.cure = facts.gap_id, facts.cure
    flag.evidence = [_cut(line) for line in facts.evidence[:MOST_EVIDENCE]]
    return flag


def answer(flag: Flag, word: Word) -> tuple[bool, str]:
    """Whether a person's word holds, and what to tell them."""
    if not flag.is_live:
        return False, f"{flag.flag_id} is {flag.state} already"
    return True, f"{flag.flag_id} is {_BY_WORD[word]}"


def decided(flag: Flag, word: Word, requester: str | None, reason: str | None, now_us: int) -> Flag:
    """A person said so."""
    flag.state, flag.decided_by, flag.decided_reason, flag.decided_us = _BY_WORD[word], requester, reason, now_us
    flag.ended_us = None if flag.is_live else now_us
    return flag


def ended(flag: Flag, state: State, reason: str, now_us: int) -> Flag:
    """It is over without anybody's word."""
    flag.state, flag.decided_reason, flag.ended_us = state, reason, now_us
    return flag


def must_be_told(flag: Flag) -> bool:
    """Whether the bus should hear of the flag as it is now: its count reached a step, or the reason is another."""
    count = flag.count
    while count >= 10 and count % 10 == 0:
        count //= 10
    return count in _STEPS or flag.reason != flag.told_reason


def rank(flag: Flag) -> int:
    """How bad."""
    return SEVERITIES.index(flag.severity or "medium")


def _worse(one: Severity | None, other: Severity) -> Severity:
    return max(one or "info", other, key=SEVERITIES.index)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}..."


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()

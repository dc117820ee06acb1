"""What curiosity keeps: candidates that wait to be asked about, questions, and how many became of what."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable

import msgspec

from kloros.chembus.facts_work import Severity

ID_HEX = 8


class Status(enum.StrEnum):
    """What has become of a question."""

    OPEN = "open"
    FOLDED = "folded"
    ANSWERED = "answered"
    ARCHIVED = "archived"


class Reason(enum.StrEnum):
    """Why a question is archived. Those of an investigation that gave no answer (`failed`, ...) come beside these."""

    ABOUT_QUESTIONS = "about_questions"
    ASKED_BEFORE = "asked_before"
    MALFORMED = "malformed"
    QUEUE_FULL = "queue_full"
    RESTORED = "restored"
    UNANSWERED = "unanswered"
    WORTH_TOO_LITTLE = "worth_too_little"


class Candidate(msgspec.Struct, kw_only=True):
    """A finding that waits to be asked about.

    evidence: what stays the same while the finding does; measures: what wavers. times: how often it was announced
    while it waited. returns: how often the same had been over and came back.
    """

    gap_id: str
    gap_type: str
    gap_name: str
    severity: Severity
    topic: str
    evidence: list[str]
    measures: list[str]
    evidence_hash: str
    detail: str
    first_seen_us: int
    heard_us: int
    times: int = 1
    returns: int = 0


class Question(msgspec.Struct, kw_only=True):
    """A question that was asked, or would have been but for `reason`."""

    question_id: str
    gap_id: str
    gap_type: str
    gap_name: str
    severity: Severity
    question: str
    hypothesis: str
    capability_key: str
    category: str
    evidence: list[str]
    evidence_hash: str
    value: float
    cost: float
    ratio: float
    level: str
    status: Status
    changed_us: int
    first_seen_us: int
    asked_us: int | None = None
    reason: str | None = None
    times: int = 1
    folded_into: str | None = None
    outcome: str | None = None
    conclusion: str | None = None
    confidence: float | None = None


class Tally(msgspec.Struct, kw_only=True):
    """Since the beginning. What was heard adds up: heard = renewed + asked + archived + candidates that wait."""

    heard: int = 0
    renewed: int = 0
    asked: dict[str, int] = {}
    archived: dict[str, int] = {}
    closed: dict[str, int] = {}
    forgotten: int = 0

    @property
    def accounted(self) -> int:
        """What was heard and does not wait any more."""
        return self.renewed + sum(self.asked.values()) + sum(self.archived.values())


def evidence_hash(evidence: Iterable[str]) -> str:
    """16 hex digits that stand for the evidence, in whatever order."""
    return hashlib.sha256("|".join(sorted(evidence)).encode()).hexdigest()[:16]


def question_id(gap_id: str, hashed: str, nth: int) -> str:
    """The same for the n-th asking about the same finding with the same evidence, on every machine."""
    return "q-" + hashlib.sha256(f"{gap_id}|{hashed}|{nth}".encode()).hexdigest()[:ID_HEX]

"""A question as it is folded, and what is told of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.dedup.names import names_of

LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
CRITICAL = LEVELS.index("CRITICAL")
SIGNAL_PREFIX = "Q_CURIOSITY_"
_SEVERITIES = ("info", "low", "medium", "high", "critical")
_LEAST_COST = 0.01
_TEXT_ID_HEX = 32


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question that was asked.

    text: what is compared. level: its place in LEVELS. value: what answering it is worth for its cost. taken_us: when
    it was heard first. facts: as they were heard.
    """

    question_id: str
    gap_id: str | None
    incident_id: str | None
    text: str
    level: int
    value: float
    taken_us: int
    facts: QuestionFacts

    @property
    def worth(self) -> tuple[int, float, int, str]:
        """Sorts the most valuable first; the older first where two are worth the same. No two are equal."""
        return -self.level, -self.value, self.taken_us, self.question_id

    @property
    def text_id(self) -> str:
        """The same for the same text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:_TEXT_ID_HEX]


def question_of(signal: str, facts: QuestionFacts, incident_id: str | None, now_us: int) -> Question:
    """A question as it was heard."""
    cost = 1.0 if facts.cost_estimate is None else max(facts.cost_estimate, _LEAST_COST)
    return Question(
        question_id=facts.question_id,
        gap_id=facts.gap_id,
        incident_id=facts.gap_id or incident_id,
        text=text_of(facts.question, facts.gap_name),
        level=LEVELS.index(signal.removeprefix(SIGNAL_PREFIX)),
        value=(facts.value_estimate or 0.0) / cost,
        taken_us=now_us,
        facts=facts,
    )


def text_of(question: str, gap_name: str | None) -> str:
    """What is compared: the question, and what it is about where it does not say so itself."""
    asked = " ".join(question.split())
    if not gap_name:
        return asked
    about = names_of(gap_name).certain
    said = names_of(asked)
    is_said = not about or not set(about).isdisjoint((*said.certain, *said.guessed))
    return asked if is_said else f"{asked} {' '.join(gap_name.split())}"


def told(question: QuestionFacts, level: int, likes: Iterable[QuestionFacts], folded: int) -> QuestionFacts:
    """What is told of a question that stands for its `likes`, too: as urgent and as valuable as any of them."""
    every = (question, *likes)
    values = [facts.value_estimate for facts in every if facts.value_estimate is not None]
    severities = [facts.severity for facts in every if facts.severity is not None]
    return msgspec.structs.replace(
        question,
        folded=folded,
        priority=LEVELS[level].lower(),
        value_estimate=max(values, default=None),
        severity=max(severities, key=_SEVERITIES.index, default=None),
    )

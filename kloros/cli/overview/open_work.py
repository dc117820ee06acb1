"""What is open: findings, questions, actions and flags, by the signals that opened and closed them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from kloros.chembus.envelope import Message
from kloros.chembus.facts import Facts
from kloros.chembus.facts_work import (
    ActionFacts,
    FlagClosedFacts,
    FoldedFacts,
    GapFoundFacts,
    InvestigationFacts,
    QuestionFacts,
    ReviewFacts,
)

Kind = Literal["flag", "finding", "action", "question"]
KINDS: tuple[Kind, ...] = ("flag", "finding", "action", "question")
"""In the order in which a person must look at them."""
MOST_OF_A_KIND = 1000
_SEVERITIES = ("critical", "high", "medium", "low", "info")


class Item(NamedTuple):
    """One thing that is open. `note`: what it waits for, or what would help."""

    kind: Kind
    id: str
    text: str
    severity: str = ""
    since_ts: float = 0.0
    gap_id: str | None = None
    note: str = ""


class OpenWork:
    """Takes messages in; says what is open. Of each kind the latest MOST_OF_A_KIND are known, the rest only counted."""

    def __init__(self) -> None:
        self._items: dict[Kind, dict[str, Item]] = {kind: {} for kind in KINDS}
        self.forgotten = 0

    def add(self, message: Message) -> Item | None:
        """Take a message in; returns what it opened anew."""
        facts = message.facts
        if isinstance(facts, GapFoundFacts):
            if message.signal == "CAPABILITY_RESTORED":
                self._mended(facts.gap_id)
                return None
            return self._put(_finding(facts, message.ts))
        if isinstance(facts, QuestionFacts):
            return self._put(_question(facts, message))
        if isinstance(facts, ReviewFacts):
            return self._put(_flag(facts, message.ts))
        if isinstance(facts, ActionFacts) and message.signal != "Q_ACTION_COMPLETE":
            return self._put(_action(facts, message.ts))
        self._close(facts)
        return None

    def know_findings(self, findings: Iterable[Item]) -> None:
        """Introspection's own book says which findings are open: that is all there are."""
        self._items["finding"] = {item.id: item for item in findings}

    def items(self, kind: Kind) -> Sequence[Item]:
        """The open ones of a kind, worst first, then the oldest."""
        return sorted(self._items[kind].values(), key=lambda item: (_rank(item.severity), item.since_ts))

    @property
    def all(self) -> Sequence[Item]:
        """Everything that is open."""
        return [item for kind in KINDS for item in self.items(kind)]

    def count(self, kind: Kind) -> int:
        """How many of a kind are open."""
        return len(self._items[kind])

    def _put(self, item: Item) -> Item | None:
        """Keep it, open since it was first told; None when it was open already and says the same."""
        known = self._items[item.kind]
        before = known.pop(item.id, None)
        known[item.id] = item if before is None else item._replace(since_ts=min(before.since_ts, item.since_ts))
        if len(known) > MOST_OF_A_KIND:
            del known[next(iter(known))]
            self.forgotten += 1
        return None if before is not None and before.text == item.text else item

    def _close(self, facts: Facts) -> None:
        if isinstance(facts, FoldedFacts | InvestigationFacts):
            self._items["question"].pop(facts.question_id, None)
        elif isinstance(facts, ActionFacts):
            self._items["action"].pop(facts.action_id, None)
        elif isinstance(facts, FlagClosedFacts):
            self._items["flag"].pop(facts.flag_id, None)

    def _mended(self, gap_id: str) -> None:
        """A finding ended: nobody asks about it any more. Actions and flags say themselves when they end."""
        self._items["finding"].pop(gap_id, None)
        questions = self._items["question"]
        for question_id in [item.id for item in questions.values() if item.gap_id == gap_id]:
            del questions[question_id]


def _rank(severity: str) -> int:
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)


def _finding(facts: GapFoundFacts, ts: float) -> Item:
    text = facts.detail or f"{facts.gap_type} {facts.gap_name}"
    return Item("finding", facts.gap_id, text, facts.severity, facts.first_seen_ts or ts, facts.gap_id)


def _question(facts: QuestionFacts, message: Message) -> Item:
    note = "to be investigated" if message.signal == "Q_CURIOSITY_INVESTIGATE" else ""
    severity = facts.severity or ""
    return Item("question", facts.question_id, facts.question, severity, message.ts, facts.gap_id, note)


def _action(facts: ActionFacts, ts: float) -> Item:
    text = f"{facts.action_type} {facts.target or ''}".rstrip()
    note = "waits for approval" if facts.mode == "approve" else facts.mode or ""
    return Item("action", facts.action_id, text, "", ts, facts.gap_id, note)


def _flag(facts: ReviewFacts, ts: float) -> Item:
    times = f" ({facts.count} times)" if facts.count > 1 else ""
    return Item("flag", facts.flag_id, f"{facts.rationale}{times}", facts.severity or "", ts, facts.gap_id,
                facts.cure or "")  # fmt: skip

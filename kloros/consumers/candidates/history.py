"""The recorded history: questions, what was folded, and how investigations ended; bounded, in a daemon's own tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.facts_work import FoldedFacts, GapFoundFacts, InvestigationFacts, QuestionFacts
from kloros.consumers.candidates.subject import Asked

RECORDED = (
    "Q_CURIOSITY_CRITICAL",
    "Q_CURIOSITY_HIGH",
    "Q_CURIOSITY_MEDIUM",
    "Q_CURIOSITY_LOW",
    "Q_CURIOSITY_INVESTIGATE",
    "Q_QUESTION_FOLDED",
    "Q_INVESTIGATION_COMPLETE",
    "CAPABILITY_RESTORED",
)
HISTORY_TABLES = {
    "recorded_history": (
        """
        CREATE TABLE recorded (
            question_id TEXT PRIMARY KEY, gap_id TEXT, asked INTEGER NOT NULL, asked_us INTEGER NOT NULL,
            closed INTEGER, folded_into TEXT, level TEXT NOT NULL, question BLOB NOT NULL, answer BLOB
        ) WITHOUT ROWID;
        CREATE INDEX recorded_closed ON recorded (closed) WHERE closed IS NOT NULL;
        CREATE INDEX recorded_open ON recorded (asked) WHERE closed IS NULL;
        CREATE INDEX recorded_open_of_gap ON recorded (gap_id) WHERE closed IS NULL;
        CREATE INDEX recorded_folded ON recorded (folded_into) WHERE folded_into IS NOT NULL;
        CREATE TABLE recorded_count (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL)
        """,
    )
}
_UNKNOWN_LEVEL = "UNKNOWN"
_MAX_TEXT_CHARS = 2_000
_MAX_EVIDENCE = 32
_COLUMNS = "question, level, asked, closed, folded_into, answer"
_CLOSE = "UPDATE recorded SET closed = ? WHERE question_id = ? AND closed IS NULL"


class Tables(Protocol):
    """What runs statements: a batch's database, or a cycle, whose writes are seen only once it is over."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> object: ...

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


class Limits(NamedTuple):
    """How much is kept. An open question is given up after `patience_s`; nobody will say any more what was right."""

    closed: int = 5_000
    open: int = 1_000
    patience_s: float = 21_600.0


class History:
    """Reads and writes the tables; each thing that happens gets the next number."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        rows = tables.query("SELECT number FROM recorded_count")
        self._number: int = rows[0][0] if rows else 0

    @property
    def number(self) -> int:
        """That of the last thing that happened."""
        return self._number

    def record(self, message: Message, now_us: int) -> bool:
        """Take in one signal of RECORDED; False when it tells of a question that is not known (any more)."""
        facts = message.facts
        if isinstance(facts, QuestionFacts):
            self._asked(facts, message.signal, now_us)
        elif isinstance(facts, FoldedFacts):
            return self._folded(facts)
        elif isinstance(facts, InvestigationFacts):
            return self._answered(facts)
        elif isinstance(facts, GapFoundFacts):
            found = self._tables.query(
                "SELECT question_id FROM recorded WHERE gap_id = ? AND closed IS NULL", (facts.gap_id,)
            )
            self._close([question_id for (question_id,) in found])
        return True

    def give_up(self, before_us: int, most: int) -> int:
        """Close the open ones that were asked before that moment, at most so many; returns how many."""
        found = self._tables.query(
            "SELECT question_id FROM recorded WHERE closed IS NULL AND asked_us < ? ORDER BY asked LIMIT ?",
            (before_us, most),
        )
        self._close([question_id for (question_id,) in found])
        return len(found)

    def trim(self, limits: Limits) -> None:
        """Give up the oldest open ones, and forget the oldest closed ones, beyond the limits."""
        open_count, closed_count = self.counts()
        if open_count > limits.open:
            oldest = "SELECT question_id FROM recorded WHERE closed IS NULL ORDER BY asked LIMIT ?"
            self._close([each for (each,) in self._tables.query(oldest, (open_count - limits.open,))])
        if closed_count > limits.closed:
            newest = "SELECT closed FROM recorded WHERE closed IS NOT NULL ORDER BY closed DESC LIMIT 1 OFFSET ?"
            self._tables.execute(f"DELETE FROM recorded WHERE closed <= ({newest})", (limits.closed,))

    def counts(self) -> tuple[int, int]:
        """How many questions are open, and how many closed ones are kept."""
        open_count = self._tables.query("SELECT count(*) FROM recorded WHERE closed IS NULL")[0][0]
        return open_count, self.closed_after(0)

    def closed_after(self, number: int) -> int:
        """How many questions closed after that."""
        return int(self._tables.query("SELECT count(*) FROM recorded WHERE closed > ?", (number,))[0][0])

    def last_closed(self) -> int:
        """The number at which a question closed last; 0 when none has."""
        return int(self._tables.query("SELECT max(closed) FROM recorded")[0][0] or 0)

    def read(self, up_to: int, most: int) -> list[Asked]:
        """The newest `most` questions that had closed by then, as they were asked, oldest first."""
        rows = self._tables.query(
            f"SELECT {_COLUMNS} FROM recorded WHERE closed <= ? ORDER BY closed DESC LIMIT ?", (up_to, most)
        )
        return sorted((_asked(row) for row in rows), key=lambda each: each.asked)

    def _asked(self, facts: QuestionFacts, signal: str, now_us: int) -> None:
        level = signal.removeprefix("Q_CURIOSITY_")
        level = _UNKNOWN_LEVEL if level == "INVESTIGATE" else level
        trimmed = msgspec.structs.replace(facts, **_short(facts), evidence=_some(facts.evidence))
        added = self._tables.execute(
            "INSERT OR IGNORE INTO recorded VALUES (?, ?, ?, ?, NULL, NULL, ?, ?, NULL)",
            (facts.question_id, facts.gap_id, self._number + 1, now_us, level, msgspec.json.encode(trimmed)),
        )
        if added:
            self._count()

    def _folded(self, facts: FoldedFacts) -> bool:
        into = facts.folded_into
        known = self._tables.execute(
            "UPDATE recorded SET folded_into = ? WHERE question_id = ? AND folded_into IS NULL AND question_id <> ?",
            (into, facts.question_id, into),
        )
        if known and self._tables.query("SELECT 1 FROM recorded WHERE question_id = ? AND closed IS NOT NULL", (into,)):
            self._close([facts.question_id])
        return bool(known)

    def _answered(self, facts: InvestigationFacts) -> bool:
        trimmed = msgspec.structs.replace(facts, **_short(facts), evidence=[])
        known = self._tables.execute(
            "UPDATE recorded SET answer = ? WHERE question_id = ? AND closed IS NULL",
            (msgspec.json.encode(trimmed), facts.question_id),
        )
        if known:
            likes = "SELECT question_id FROM recorded WHERE folded_into = ? AND closed IS NULL ORDER BY asked"
            self._close([facts.question_id, *(each for (each,) in self._tables.query(likes, (facts.question_id,)))])
        return bool(known)

    def _close(self, question_ids: Sequence[str]) -> None:
        for question_id in question_ids:
            self._tables.execute(_CLOSE, (self._count(), question_id))

    def _count(self) -> int:
        self._number += 1
        self._tables.execute("INSERT OR REPLACE INTO recorded_count VALUES (1, ?)", (self._number,))
        return self._number


def _asked(row: tuple[Any, ...]) -> Asked:
    question, level, asked, closed, folded_into, answer = row
    told = None if answer is None else msgspec.json.decode(answer, type=InvestigationFacts)
    return Asked(
        question=msgspec.json.decode(question, type=QuestionFacts), level=level, asked=asked, closed=closed,
        folded_into=folded_into, answer=told,
    )  # fmt: skip


def _short(facts: QuestionFacts | InvestigationFacts) -> dict[str, str]:
    """Fields that are longer than is kept, cut."""
    texts = ((name, getattr(facts, name)) for name in facts.__struct_fields__)
    return {
        name: text[:_MAX_TEXT_CHARS] for name, text in texts if isinstance(text, str) and len(text) > _MAX_TEXT_CHARS
    }


def _some(evidence: Sequence[str]) -> list[str]:
    return [each[:_MAX_TEXT_CHARS] for each in evidence[:_MAX_EVIDENCE]]

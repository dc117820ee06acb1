"""What the investigation consumer keeps: questions that wait, investigations that ended, failures by capability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from kloros.chembus.facts_work import InvestigationFacts, QuestionFacts
from kloros.consumers.investigation.backlog import Waiting, is_urgent, worth_of

TABLES = """
CREATE TABLE questions (
    question_id TEXT PRIMARY KEY, gap_id TEXT, capability_key TEXT NOT NULL, worth REAL NOT NULL,
    is_urgent INTEGER NOT NULL, arrived_us INTEGER NOT NULL, spent_s REAL NOT NULL DEFAULT 0, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX questions_by_gap ON questions (gap_id);
CREATE TABLE investigations (
    number INTEGER PRIMARY KEY, question_id TEXT NOT NULL UNIQUE, gap_id TEXT, status TEXT NOT NULL,
    arrived_us INTEGER NOT NULL, ended_us INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX investigations_by_gap ON investigations (gap_id);
CREATE TABLE failures (
    capability_key TEXT PRIMARY KEY, gap_id TEXT, count INTEGER NOT NULL, last_us INTEGER NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID
"""

# Who came later has the later moment, also when the clock stood still or was set back meanwhile.
_ADD = """
INSERT INTO questions (question_id, gap_id, capability_key, worth, is_urgent, arrived_us, body)
VALUES (?, ?, ?, ?, ?, max(?, coalesce((SELECT max(arrived_us) + 1 FROM questions), 0)), ?)
"""
_HAS_ENDED = "SELECT 1 FROM investigations WHERE question_id = ?"
_RENEW = "UPDATE questions SET worth = max(worth, ?), is_urgent = max(is_urgent, ?), body = ? WHERE question_id = ?"
_WAITING = "SELECT question_id, worth, is_urgent, arrived_us, spent_s FROM questions"
_BODY = "SELECT body, arrived_us FROM questions WHERE question_id = ?"
_OF_GAP = "SELECT question_id FROM questions WHERE gap_id = ? ORDER BY arrived_us, question_id"
_DEPTH = "SELECT count(*) FROM questions"
_REMOVE = "DELETE FROM questions WHERE question_id = ?"
_SPEND = "UPDATE questions SET spent_s = ? WHERE question_id = ?"
_END = "INSERT INTO investigations (question_id, gap_id, status, arrived_us, ended_us, body) VALUES (?, ?, ?, ?, ?, ?)"
_FAIL = """
INSERT INTO failures VALUES (?, ?, 1, ?, ?) ON CONFLICT (capability_key)
DO UPDATE SET count = count + 1, gap_id = excluded.gap_id, last_us = excluded.last_us, reason = excluded.reason
"""
_FAILURES = "SELECT count, last_us, reason FROM failures WHERE capability_key = ?"
_FORGIVE = "DELETE FROM failures WHERE capability_key = ?"
_FORGIVE_GAP = "DELETE FROM failures WHERE gap_id = ?"
_FORGIVE_ALL = "DELETE FROM failures"
_TRIM = "DELETE FROM investigations WHERE number <= (SELECT max(number) FROM investigations) - ?"
_FORGET = "DELETE FROM failures WHERE last_us < ?"

_encoder = msgspec.json.Encoder()


class Rows(Protocol):
    """A database, or a cycle: whatever runs statements and answers queries."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any: ...
    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


class InvestigationStore:
    """The tables above, in the middle of a batch or of a cycle."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def has_ended(self, question_id: str) -> bool:
        """Whether that question has ended."""
        return bool(self._rows.query(_HAS_ENDED, (question_id,)))

    def renew(self, question: QuestionFacts) -> bool:
        """A question that waits is told again, perhaps more urgently; returns whether it waits."""
        values = (worth_of(question), is_urgent(question), _encoder.encode(question), question.question_id)
        return bool(self._rows.execute(_RENEW, values))

    def add(self, question: QuestionFacts, arrived_us: int) -> None:
        """A question comes to wait."""
        key = capability_of(question)
        values = (
            question.question_id, question.gap_id, key, worth_of(question), is_urgent(question), arrived_us,
            _encoder.encode(question),
        )  # fmt: skip
        self._rows.execute(_ADD, values)

    def depth(self) -> int:
        """How many wait."""
        return int(self._rows.query(_DEPTH)[0][0])

    def waiting(self) -> list[Waiting]:
        """All that wait, in no order."""
        return [Waiting(row[0], row[1], bool(row[2]), row[3], row[4]) for row in self._rows.query(_WAITING)]

    def question(self, question_id: str) -> tuple[QuestionFacts, int] | None:
        """A question that waits, and since when."""
        rows = self._rows.query(_BODY, (question_id,))
        return (msgspec.json.decode(rows[0][0], type=QuestionFacts), rows[0][1]) if rows else None

    def of_gap(self, gap_id: str) -> list[str]:
        """The questions that wait and are about that finding."""
        return [str(row[0]) for row in self._rows.query(_OF_GAP, (gap_id,))]

    def spend(self, question_id: str, spent_s: float) -> None:
        """It was looked into for so long, all in all, and waits on."""
        self._rows.execute(_SPEND, (spent_s, question_id))

    def end(self, facts: InvestigationFacts, arrived_us: int, ended_us: int) -> None:
        """It waits no more; this came of it."""
        self._rows.execute(_REMOVE, (facts.question_id,))
        values = (facts.question_id, facts.gap_id, facts.status, arrived_us, ended_us, _encoder.encode(facts))
        self._rows.execute(_END, values)

    def trim(self, keep: int) -> None:
        """Let go of all but the newest that ended."""
        self._rows.execute(_TRIM, (keep,))

    def failures(self, capability_key: str) -> tuple[int, int, str]:
        """(failures in a row, when the last one was, why)."""
        rows = self._rows.query(_FAILURES, (capability_key,))
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else (0, 0, "")

    def failed(self, capability_key: str, gap_id: str | None, now_us: int, reason: str) -> None:
        """One more failure."""
        self._rows.execute(_FAIL, (capability_key, gap_id, now_us, reason[:300]))

    def forgive(self, capability_key: str) -> None:
        """It works (again)."""
        self._rows.execute(_FORGIVE, (capability_key,))

    def forgive_gap(self, gap_id: str) -> None:
        """What was asked about is over."""
        self._rows.execute(_FORGIVE_GAP, (gap_id,))

    def forgive_all(self) -> None:
        """Something was changed that may have been the reason."""
        self._rows.execute(_FORGIVE_ALL)

    def forget_failures(self, before_us: int) -> None:
        """Those that nobody asked about for long."""
        self._rows.execute(_FORGET, (before_us,))


def capability_of(question: QuestionFacts) -> str:
    """What failures are counted by."""
    return question.capability_key or f"{question.gap_type or 'question'}:{question.gap_name or question.question_id}"

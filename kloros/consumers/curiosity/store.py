"""Curiosity's tables: candidates, questions, what was asked when, and what answers took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from kloros.consumers.curiosity.question import Candidate, Question, Status

CURIOSITY_TABLES = {
    "curiosity": (
        """
        CREATE TABLE candidates (gap_id TEXT PRIMARY KEY, topic TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE questions (
            question_id TEXT PRIMARY KEY, gap_id TEXT NOT NULL, status TEXT NOT NULL, changed_us INTEGER NOT NULL,
            folded_into TEXT, body BLOB NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX questions_of_gap ON questions (gap_id, status);
        CREATE INDEX questions_by_age ON questions (status, changed_us);
        CREATE INDEX questions_folded ON questions (folded_into) WHERE folded_into IS NOT NULL;
        CREATE TABLE topics (
            topic TEXT PRIMARY KEY, is_open INTEGER NOT NULL, returns INTEGER NOT NULL, asks INTEGER NOT NULL,
            asked_us INTEGER, heard_us INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX topics_by_age ON topics (heard_us);
        CREATE TABLE asked (evidence_hash TEXT PRIMARY KEY, seen_us INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX asked_by_age ON asked (seen_us);
        CREATE TABLE costs (gap_type TEXT PRIMARY KEY, expected_s REAL NOT NULL, learnt_us INTEGER NOT NULL)
        WITHOUT ROWID
        """,
    )
}
MOST_COSTS = 1_000
_CLOSED = f"status NOT IN ('{Status.OPEN}', '{Status.FOLDED}')"


class Tables(Protocol):
    """What runs statements: a batch's database, or a cycle, whose writes are seen only once it is over."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> object: ...

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


class Topic(NamedTuple):
    """What is remembered of everything that counts as the same."""

    is_open: bool = False
    returns: int = 0
    asks: int = 0
    asked_us: int | None = None


class Waiting(NamedTuple):
    """A candidate, and what is remembered of its topic."""

    candidate: Candidate
    topic: Topic


class CuriosityStore:
    """Reads and writes the tables; decides nothing."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    # Candidates

    def candidate(self, gap_id: str) -> Candidate | None:
        """The one that waits under that finding."""
        rows = self._tables.query("SELECT body FROM candidates WHERE gap_id = ?", (gap_id,))
        return msgspec.json.decode(rows[0][0], type=Candidate) if rows else None

    def waiting(self) -> list[Waiting]:
        """All candidates."""
        rows = self._tables.query(
            "SELECT body, is_open, returns, asks, asked_us FROM candidates LEFT JOIN topics USING (topic)"
        )
        return [
            Waiting(msgspec.json.decode(body, type=Candidate), Topic(bool(is_open), returns or 0, asks or 0, asked_us))
            for body, is_open, returns, asks, asked_us in rows
        ]

    def waiting_count(self) -> int:
        return int(self._tables.query("SELECT count(*) FROM candidates")[0][0])

    def put_candidate(self, candidate: Candidate) -> None:
        self._tables.execute(
            "INSERT OR REPLACE INTO candidates VALUES (?, ?, ?)",
            (candidate.gap_id, candidate.topic, msgspec.json.encode(candidate)),
        )

    def drop_candidate(self, gap_id: str) -> None:
        self._tables.execute("DELETE FROM candidates WHERE gap_id = ?", (gap_id,))

    # Questions

    def question(self, question_id: str) -> Question | None:
        rows = self._tables.query("SELECT body FROM questions WHERE question_id = ?", (question_id,))
        return msgspec.json.decode(rows[0][0], type=Question) if rows else None

    def questions_of(self, gap_id: str, *statuses: Status) -> list[Question]:
        """Those about one finding."""
        marks = ", ".join("?" * len(statuses))
        return self._questions(f"gap_id = ? AND status IN ({marks})", (gap_id, *statuses))

    def folded_into(self, question_id: str) -> list[Question]:
        """Those that one stands for."""
        return self._questions("folded_into = ? AND status = ?", (question_id, Status.FOLDED))

    def unanswered_since(self, before_us: int) -> list[Question]:
        """Those that have waited for an answer since before that moment."""
        return self._questions(f"NOT {_CLOSED} AND changed_us < ? LIMIT 100", (before_us,))

    def count(self, status: Status) -> int:
        return int(self._tables.query("SELECT count(*) FROM questions WHERE status = ?", (status,))[0][0])

    def put_question(self, question: Question) -> None:
        self._tables.execute(
            "INSERT OR REPLACE INTO questions VALUES (?, ?, ?, ?, ?, ?)",
            (
                question.question_id, question.gap_id, question.status, question.changed_us, question.folded_into,
                msgspec.json.encode(question),
            ),
        )  # fmt: skip

    def forget_questions(self, keep: int) -> int:
        """Drop the oldest closed ones beyond `keep`; returns how many."""
        excess = int(self._tables.query(f"SELECT count(*) FROM questions WHERE {_CLOSED}")[0][0]) - keep
        if excess > 0:
            oldest = f"SELECT question_id FROM questions WHERE {_CLOSED} ORDER BY changed_us LIMIT ?"
            self._tables.execute(f"DELETE FROM questions WHERE question_id IN ({oldest})", (excess,))
        return max(0, excess)

    # What is remembered

    def topic(self, topic: str) -> Topic | None:
        rows = self._tables.query("SELECT is_open, returns, asks, asked_us FROM topics WHERE topic = ?", (topic,))
        return Topic(bool(rows[0][0]), *rows[0][1:]) if rows else None

    def put_topic(self, name: str, topic: Topic, now_us: int) -> None:
        self._tables.execute("INSERT OR REPLACE INTO topics VALUES (?, ?, ?, ?, ?, ?)", (name, *topic, now_us))

    def was_asked(self, hashed: str) -> bool:
        return bool(self._tables.query("SELECT 1 FROM asked WHERE evidence_hash = ?", (hashed,)))

    def note_asked(self, hashed: str, now_us: int) -> None:
        """It was asked, or would have been asked again: it is remembered from now on."""
        self._tables.execute("INSERT OR REPLACE INTO asked VALUES (?, ?)", (hashed, now_us))

    def forget_asked(self, hashed: str) -> None:
        self._tables.execute("DELETE FROM asked WHERE evidence_hash = ?", (hashed,))

    def forget_old(self, before_us: int, keep: int) -> int:
        """Drop what was last seen before that moment, and the oldest beyond `keep`; returns how many."""
        forgotten = 0
        for table, age in (("asked", "seen_us"), ("topics", "heard_us")):
            known, old = self._tables.query(f"SELECT count(*), count(*) FILTER (WHERE {age} < ?) FROM {table}",
                                            (before_us,))[0]  # fmt: skip
            if (excess := max(old, known - keep)) > 0:
                forgotten += excess
                key = "evidence_hash" if table == "asked" else "topic"
                oldest = f"SELECT {key} FROM {table} ORDER BY {age} LIMIT ?"
                self._tables.execute(f"DELETE FROM {table} WHERE {key} IN ({oldest})", (excess,))
        return forgotten

    # What answers took

    def learnt_s(self) -> dict[str, float]:
        return dict(self._tables.query("SELECT gap_type, expected_s FROM costs"))

    def put_learnt(self, gap_type: str, expected_s: float, now_us: int) -> None:
        self._tables.execute("INSERT OR REPLACE INTO costs VALUES (?, ?, ?)", (gap_type, expected_s, now_us))
        oldest = f"SELECT gap_type FROM costs ORDER BY learnt_us DESC LIMIT -1 OFFSET {MOST_COSTS}"
        self._tables.execute(f"DELETE FROM costs WHERE gap_type IN ({oldest})")

    def _questions(self, where: str, values: Sequence[Any]) -> list[Question]:
        return list(read_questions(self._tables.query(f"SELECT body FROM questions WHERE {where}", values)))


def read_questions(rows: list[tuple[Any, ...]]) -> Iterator[Question]:
    """Questions from rows of bodies."""
    for (body,) in rows:
        yield msgspec.json.decode(body, type=Question)

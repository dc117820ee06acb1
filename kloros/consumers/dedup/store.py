"""The tables: questions that wait, are open, are folded, and ended; the vectors of their texts.

Written both at once (in a batch) and in a while (in a cycle, whose statements are run when it is done).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.dedup.question import CRITICAL, LEVELS, Question
from kloros.storage.database import Tables as TableScripts

_COLUMNS = "question_id, gap_id, incident_id, question, level, value, taken_us, text, text_id, facts"
_DECLARED = """
    question_id TEXT PRIMARY KEY, gap_id TEXT, incident_id TEXT, question TEXT NOT NULL, level TEXT NOT NULL,
    value REAL NOT NULL, taken_us INTEGER NOT NULL, text TEXT NOT NULL, text_id TEXT NOT NULL, facts TEXT NOT NULL
"""
_RANK = f"CASE level {' '.join(f'WHEN {name!r} THEN {rank}' for rank, name in enumerate(LEVELS))} END"
DEDUP_TABLES: TableScripts = MappingProxyType(
    {
        "dedup": (
            f"""
            CREATE TABLE waiting ({_DECLARED}) WITHOUT ROWID;
            CREATE INDEX waiting_by_gap ON waiting (gap_id);
            CREATE TABLE open (
                {_DECLARED}, opened_us INTEGER NOT NULL, folded INTEGER NOT NULL, told_level TEXT NOT NULL
            ) WITHOUT ROWID;
            CREATE INDEX open_by_gap ON open (gap_id);
            CREATE INDEX open_by_age ON open (opened_us);
            CREATE TABLE folded (
                {_DECLARED}, folded_us INTEGER NOT NULL, folded_into TEXT NOT NULL, similarity REAL NOT NULL
            ) WITHOUT ROWID;
            CREATE INDEX folded_by_gap ON folded (gap_id);
            CREATE INDEX folded_by_open ON folded (folded_into);
            CREATE TABLE ended (
                seq INTEGER PRIMARY KEY AUTOINCREMENT, question_id TEXT NOT NULL UNIQUE, gap_id TEXT,
                question TEXT NOT NULL, level TEXT NOT NULL, value REAL NOT NULL, ended_us INTEGER NOT NULL,
                how TEXT NOT NULL, reason TEXT, folded_into TEXT
            );
            CREATE TABLE vectors (
                text_id TEXT NOT NULL, embedder TEXT NOT NULL, vector BLOB NOT NULL, made_us INTEGER NOT NULL,
                PRIMARY KEY (text_id, embedder)
            ) WITHOUT ROWID;
            CREATE INDEX vectors_by_age ON vectors (made_us)
            """,
        )
    }
)
_IN_ORDER = f"ORDER BY {_RANK} DESC, value DESC, taken_us, question_id"
# Values of one statement.
MANY = 500
_decode_facts = msgspec.json.Decoder(QuestionFacts).decode


class Tables(Protocol):
    """The database in a batch, or a cycle."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> object: ...
    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


class Waiting(msgspec.Struct, frozen=True):
    """What waits to be folded, in figures."""

    count: int
    oldest_us: int
    has_critical: bool


class DedupStore:
    """Statements on these tables, each one fact. Keeps nothing itself."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    # Looking

    def knows(self, question_id: str) -> bool:
        """Whether that question has been here, as far as is remembered."""
        return any(
            self._tables.query(f"SELECT 1 FROM {table} WHERE question_id = ?", (question_id,))
            for table in ("waiting", "open", "folded", "ended")
        )

    def counts(self) -> dict[str, int]:
        """How many questions wait, are open, are folded."""
        return {name: self._number(f"SELECT count(*) FROM {name}") for name in ("waiting", "open", "folded")}

    def waiting(self) -> Waiting:
        """What waits."""
        sql = f"SELECT count(*), coalesce(min(taken_us), 0), coalesce(max({_RANK}), 0) FROM waiting"
        count, oldest_us, level = self._tables.query(sql)[0]
        return Waiting(count, oldest_us, count > 0 and level >= CRITICAL)

    def waiting_question(self, question_id: str) -> Question | None:
        """That one, if it waits."""
        found = self._questions(f"SELECT {_COLUMNS} FROM waiting WHERE question_id = ?", (question_id,))
        return found[0] if found else None

    def most_valuable_waiting(self, most: int) -> list[Question]:
        """Those to fold next."""
        return self._questions(f"SELECT {_COLUMNS} FROM waiting {_IN_ORDER} LIMIT ?", (most,))

    def least_valuable(self, table: str, beyond: int) -> list[Question]:
        """Those of `waiting`, `open` or `folded` that are too many, when `beyond` of them are the most valuable."""
        return self._questions(f"SELECT {_COLUMNS} FROM {table} {_IN_ORDER} LIMIT -1 OFFSET ?", (beyond,))

    def open_question(self, question_id: str) -> tuple[Question, int, int] | None:
        """That open question, for how many it stands, and the level it was told with."""
        sql = f"SELECT {_COLUMNS}, folded, told_level FROM open WHERE question_id = ?"
        rows = self._tables.query(sql, (question_id,))
        return (_question(rows[0][:-2]), rows[0][-2], LEVELS.index(rows[0][-1])) if rows else None

    def open_ids(self) -> set[str]:
        """All open questions."""
        return {question_id for (question_id,) in self._tables.query("SELECT question_id FROM open")}

    def open_texts(self, question_ids: Collection[str]) -> dict[str, tuple[str, str]]:
        """Text and its id of each of these open questions."""
        sql = "SELECT question_id, text, text_id FROM open"
        if len(question_ids) > MANY:
            rows = [row for row in self._tables.query(sql) if row[0] in question_ids]
        else:
            sql += f" WHERE question_id IN ({_marks(len(question_ids))})"
            rows = self._tables.query(sql, tuple(question_ids))
        return {question_id: (text, text_id) for question_id, text, text_id in rows}

    def open_since(self, before_us: int, most: int) -> list[Question]:
        """Those that have been open since before that moment, the oldest first."""
        sql = f"SELECT {_COLUMNS} FROM open WHERE opened_us < ? ORDER BY opened_us LIMIT ?"
        return self._questions(sql, (before_us, most))

    def of_gap(self, table: str, gap_id: str) -> list[Question]:
        """Those of `waiting`, `open` or `folded` that are about that finding."""
        return self._questions(f"SELECT {_COLUMNS} FROM {table} WHERE gap_id = ?", (gap_id,))

    def folded_into(self, question_id: str) -> list[Question]:
        """Those that this open question stands for, beside itself."""
        return self._questions(f"SELECT {_COLUMNS} FROM folded WHERE folded_into = ? {_IN_ORDER}", (question_id,))

    def folded_question(self, question_id: str) -> tuple[Question, str] | None:
        """That folded question, and what it was folded into."""
        rows = self._tables.query(f"SELECT {_COLUMNS}, folded_into FROM folded WHERE question_id = ?", (question_id,))
        return (_question(rows[0][:-1]), rows[0][-1]) if rows else None

    def vectors(self, text_ids: Collection[str], embedder: str) -> dict[str, bytes]:
        """The vectors of these texts, as far as they are kept."""
        found: dict[str, bytes] = {}
        every = list(text_ids)
        for first in range(0, len(every), MANY):
            some = every[first : first + MANY]
            sql = f"SELECT text_id, vector FROM vectors WHERE text_id IN ({_marks(len(some))}) AND embedder = ?"
            found.update(self._tables.query(sql, (*some, embedder)))
        return found

    # Writing

    def put_waiting(self, question: Question) -> None:
        """One more waits."""
        self._tables.execute(f"INSERT INTO waiting ({_COLUMNS}) VALUES ({_marks(10)})", _row(question))

    def put_open(self, question: Question, folded: int, told_level: int, now_us: int) -> None:
        """A question that stands for itself and for what is folded into it."""
        columns = f"{_COLUMNS}, opened_us, folded, told_level"
        values = (*_row(question), now_us, folded, LEVELS[told_level])
        self._tables.execute(f"INSERT INTO open ({columns}) VALUES ({_marks(13)})", values)

    def put_told(self, question_id: str, told_level: int) -> None:
        """It was told anew, with that level."""
        self._tables.execute("UPDATE open SET told_level = ? WHERE question_id = ?", (LEVELS[told_level], question_id))

    def add_folded(self, question_id: str, by: int) -> None:
        """It stands for so many more, or fewer."""
        self._tables.execute("UPDATE open SET folded = folded + ? WHERE question_id = ?", (by, question_id))

    def put_folded(self, question: Question, into: str, similarity: float, now_us: int) -> None:
        """A question that another one stands for."""
        columns = f"{_COLUMNS}, folded_us, folded_into, similarity"
        values = (*_row(question), now_us, into, similarity)
        self._tables.execute(f"INSERT INTO folded ({columns}) VALUES ({_marks(13)})", values)

    def drop(self, table: str, question_id: str) -> None:
        """It is in `waiting`, `open` or `folded` no more."""
        self._tables.execute(f"DELETE FROM {table} WHERE question_id = ?", (question_id,))

    def put_ended(self, question: Question, how: str, reason: str | None, into: str | None, now_us: int) -> None:
        """The record of a question that ended."""
        sql = (
            "INSERT OR REPLACE INTO ended"
            f" (question_id, gap_id, question, level, value, ended_us, how, reason, folded_into) VALUES ({_marks(9)})"
        )
        asked, level = question.facts.question, LEVELS[question.level]
        values = (question.question_id, question.gap_id, asked, level, question.value, now_us, how, reason, into)
        self._tables.execute(sql, values)

    def put_vector(self, text_id: str, embedder: str, vector: bytes, now_us: int) -> None:
        """Keep the vector of a text."""
        self._tables.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", (text_id, embedder, vector, now_us))

    def forget(self, ended: int, vectors: int) -> None:
        """Let the oldest records, and the oldest vectors of texts that neither wait nor are open, go beyond these
        numbers."""
        self._tables.execute("DELETE FROM ended WHERE seq <= (SELECT max(seq) FROM ended) - ?", (ended,))
        if self._number("SELECT count(*) FROM vectors") <= vectors:
            return
        self._tables.execute(
            "DELETE FROM vectors WHERE (text_id, embedder) IN (SELECT text_id, embedder FROM vectors"
            " WHERE text_id NOT IN (SELECT text_id FROM open UNION SELECT text_id FROM waiting)"
            " ORDER BY made_us DESC LIMIT -1 OFFSET ?)",
            (vectors,),
        )

    def _number(self, sql: str) -> int:
        return int(self._tables.query(sql)[0][0])

    def _questions(self, sql: str, values: Sequence[Any] = ()) -> list[Question]:
        return [_question(row) for row in self._tables.query(sql, values)]


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _row(question: Question) -> tuple[Any, ...]:
    facts = msgspec.json.encode(question.facts).decode()
    return (
        question.question_id, question.gap_id, question.incident_id, question.facts.question, LEVELS[question.level],
        question.value, question.taken_us, question.text, question.text_id, facts,
    )  # fmt: skip


def _question(row: Sequence[Any]) -> Question:
    question_id, gap_id, incident_id, _, level, value, taken_us, text, _, facts = row
    return Question(
        question_id=question_id, gap_id=gap_id, incident_id=incident_id, text=text, level=LEVELS.index(level),
        value=value, taken_us=taken_us, facts=_decode_facts(facts),
    )  # fmt: skip

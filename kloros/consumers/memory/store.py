"""The memory's tables, and every statement on them.

What a beat looks at (figures) and what people read (words) are two tables: a beat reads every figure, so they are small
and lie in the order of their numbers, and so does what it deletes. There is one index, to find what is known already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from kloros.consumers.memory.fading import Sector
from kloros.storage.database import Database, Tables

MEMORY_TABLES: Tables = {
    "memory": (
        """
        CREATE TABLE memory_figures (
            number INTEGER PRIMARY KEY AUTOINCREMENT, key_hash INTEGER NOT NULL, sector TEXT NOT NULL,
            importance REAL NOT NULL, born_us INTEGER NOT NULL, created_us INTEGER NOT NULL,
            accessed_us INTEGER NOT NULL, times INTEGER NOT NULL
        );
        CREATE INDEX memory_figures_by_key ON memory_figures (key_hash);
        CREATE TABLE memory_words (
            number INTEGER PRIMARY KEY, key TEXT NOT NULL, gap_id TEXT, severity TEXT, text TEXT NOT NULL,
            note TEXT NOT NULL, related TEXT NOT NULL
        );
        CREATE TABLE memory_progress (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID
        """,
    )
}

FORGET_PROGRESS = "DELETE FROM memory_progress WHERE name = ?"
_NOTE_PROGRESS = "INSERT OR REPLACE INTO memory_progress VALUES (?, ?)"
_ADD_FIGURES = "INSERT INTO memory_figures VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_WORDS = "INSERT INTO memory_words VALUES (?, ?, ?, ?, ?, ?, ?)"
_CHANGE_FIGURES = (
    "UPDATE memory_figures SET sector = ?, importance = ?, born_us = ?, accessed_us = ?, times = ? WHERE number = ?"
)
_CHANGE_WORDS = "UPDATE memory_words SET gap_id = ?, severity = ?, text = ?, note = ?, related = ? WHERE number = ?"
_SELECT = (
    "SELECT number, key, sector, importance, born_us, created_us, accessed_us, times, gap_id, severity, text, note, "
    "related FROM memory_figures JOIN memory_words USING (number)"
)
_LATEST_FIRST = "ORDER BY accessed_us DESC, number DESC"
_ABOUT = "SELECT number FROM memory_words WHERE (text || ' ' || note || ' ' || key) LIKE ? ESCAPE '!'"
_LAST_NUMBER = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'memory_figures'), 0)"
_PAGE = "SELECT number, sector, importance, born_us FROM memory_figures WHERE number > ? ORDER BY number LIMIT ?"

Figures = tuple[int, str, float, int]
"""number, sector, importance, born_us"""


class Memory(msgspec.Struct, kw_only=True):
    """One thing remembered. `born_us` is since when it ages, see fading; moments are wall microseconds."""

    key: str
    sector: Sector
    importance: float
    born_us: int
    created_us: int
    accessed_us: int
    text: str
    number: int = 0
    times: int = 1
    gap_id: str | None = None
    severity: str | None = None
    note: str = ""
    related: str = ""

    @property
    def kind(self) -> str:
        """Of what it is a memory: finding, question, conclusion ..."""
        return self.key.partition(":")[0]

    @property
    def id(self) -> str:
        """Under which id that is known elsewhere."""
        return self.key.partition(":")[2]


class Reads(Protocol):
    """What memories are read through: the daemon's Database, or a snapshot of its file."""

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""


class MemoryReader:
    """Reads the memories."""

    def __init__(self, source: Reads) -> None:
        self._source = source

    def count(self, after: int = 0) -> int:
        """How many there are, beyond that number."""
        where = "WHERE number > ?" if after else ""
        return int(self._source.query(f"SELECT count(*) FROM memory_figures {where}", (after,) if after else ())[0][0])

    def by_number(self, number: int) -> Memory | None:
        """That one."""
        return next(iter(self._some("WHERE number = ?", number)), None)

    def by_key(self, key: str) -> Memory | None:
        """That one."""
        return next(iter(self._some("WHERE key_hash = ? AND key = ?", _hashed(key), key)), None)

    def by_id_beginning(self, beginning: str, limit: int) -> list[Memory]:
        """Those whose id, of whatever kind, begins so; in the order of their keys."""
        where = "WHERE substr(key, instr(key, ':') + 1, ?) = ? ORDER BY key LIMIT ?"
        return self._some(where, len(beginning), beginning, limit)

    def about_gap(self, gap_id: str) -> list[Memory]:
        """All that belong to one finding, as they came to be."""
        return self._some("WHERE gap_id = ? ORDER BY created_us, number", gap_id)

    def latest(self, limit: int, sector: Sector | None = None, about: str | None = None) -> list[Memory]:
        """The last so many that happened or were accessed, the latest first; of this sector, with this in them."""
        conditions = ["1"]
        values: list[object] = []
        if sector is not None:
            conditions.append("sector = ?")
            values.append(sector)
        if about is not None:
            conditions.append(f"number IN ({_ABOUT})")
            values.append(f"%{_escaped(about)}%")
        # Chosen by their figures alone: sorting a million with all their words takes seconds.
        chosen = f"SELECT number FROM memory_figures WHERE {' AND '.join(conditions)} {_LATEST_FIRST} LIMIT ?"
        return self._some(f"WHERE number IN ({chosen}) {_LATEST_FIRST}", *values, limit)

    def _some(self, clause: str, *values: object) -> list[Memory]:
        return [_memory(row) for row in self._source.query(f"{_SELECT} {clause}", values)]


class MemoryStore(MemoryReader):
    """Writes them too, in the daemon's own database and its caller's transaction."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.database = database

    def add(self, memories: Sequence[Memory]) -> None:
        """Keep new ones. No number is ever given again."""
        first = int(self.database.query(_LAST_NUMBER)[0][0]) + 1
        self.database.execute_many(_ADD_FIGURES, (_figures(n, each) for n, each in enumerate(memories, first)))
        self.database.execute_many(_ADD_WORDS, (_words(n, each) for n, each in enumerate(memories, first)))

    def change(self, memory: Memory) -> None:
        """Keep one as it is now."""
        each = memory
        figures = (each.sector, each.importance, each.born_us, each.accessed_us, each.times, each.number)
        words = (each.gap_id, each.severity, each.text, each.note, each.related, each.number)
        self.database.execute(_CHANGE_FIGURES, figures)
        self.database.execute(_CHANGE_WORDS, words)

    def page(self, after: int, limit: int) -> list[Figures]:
        """The next ones by number."""
        return self.database.query(_PAGE, (after, limit))

    def text_of(self, number: int) -> str:
        """What one of them says."""
        rows = self.database.query("SELECT text FROM memory_words WHERE number = ?", (number,))
        return str(rows[0][0]) if rows else ""

    def forget(self, numbers: Iterable[int]) -> None:
        """Delete them."""
        doomed = [(number,) for number in numbers]
        self.database.execute_many("DELETE FROM memory_figures WHERE number = ?", doomed)
        self.database.execute_many("DELETE FROM memory_words WHERE number = ?", doomed)

    def progress(self, name: str) -> bytes | None:
        """What a beat has noted."""
        rows = self.database.query("SELECT body FROM memory_progress WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def note_progress(self, name: str, body: bytes) -> None:
        """Note it."""
        self.database.execute(_NOTE_PROGRESS, (name, body))


def _hashed(key: str) -> int:
    """Eight bytes of a hash, as SQLite holds them best."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8], "big", signed=True)


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _figures(number: int, each: Memory) -> tuple[object, ...]:
    return (
        number, _hashed(each.key), each.sector, each.importance, each.born_us, each.created_us, each.accessed_us,
        each.times,
    )  # fmt: skip


def _words(number: int, each: Memory) -> tuple[object, ...]:
    return number, each.key, each.gap_id, each.severity, each.text, each.note, each.related


def _memory(row: tuple[Any, ...]) -> Memory:
    number, key, sector, importance, born_us, created_us, accessed_us, times, *words = row
    gap_id, severity, text, note, related = words
    return Memory(
        number=number, key=key, sector=Sector(sector), importance=importance, born_us=born_us, created_us=created_us,
        accessed_us=accessed_us, times=times, gap_id=gap_id, severity=severity, text=text, note=note, related=related,
    )  # fmt: skip

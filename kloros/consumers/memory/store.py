"""The memory's tables, and every statement on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from kloros.consumers.memory.fading import Sector
from kloros.storage.database import Database, Tables

MEMORY_TABLES: Tables = {
    "memory": (
        """
        CREATE TABLE memories (
            number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, sector TEXT NOT NULL,
            importance REAL NOT NULL, born_us INTEGER NOT NULL, fades_us INTEGER NOT NULL,
            created_us INTEGER NOT NULL, accessed_us INTEGER NOT NULL, times INTEGER NOT NULL,
            gap_id TEXT, severity TEXT, text TEXT NOT NULL, note TEXT NOT NULL, related TEXT NOT NULL
        );
        CREATE INDEX memories_by_fading ON memories (fades_us);
        CREATE INDEX memories_by_access ON memories (sector, accessed_us);
        CREATE INDEX memories_by_gap ON memories (gap_id) WHERE gap_id IS NOT NULL;
        CREATE TABLE memory_progress (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID
        """,
    )
}

_COLUMNS = (
    "number, key, sector, importance, born_us, fades_us, created_us, accessed_us, times, gap_id, severity, "
    "text, note, related"
)
_INSERT = (
    "INSERT INTO memories (key, sector, importance, born_us, fades_us, created_us, accessed_us, times, gap_id, "
    "severity, text, note, related) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    "UPDATE memories SET sector = ?, importance = ?, born_us = ?, fades_us = ?, accessed_us = ?, times = ?, "
    "gap_id = ?, severity = ?, text = ?, note = ?, related = ? WHERE number = ?"
)
FORGET_PROGRESS = "DELETE FROM memory_progress WHERE name = ?"
_AFTER_ALL = "\U0010ffff"


class Memory(msgspec.Struct, kw_only=True):
    """One thing remembered. `born_us` is since when it ages, see fading; moments are wall microseconds."""

    key: str
    sector: Sector
    importance: float
    born_us: int
    fades_us: int
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

    def count(self) -> int:
        """How many there are."""
        return int(self._source.query("SELECT count(*) FROM memories")[0][0])

    def count_due(self, now_us: int) -> int:
        """How many are below the threshold by now."""
        return int(self._source.query("SELECT count(*) FROM memories WHERE fades_us < ?", (now_us,))[0][0])

    def by_number(self, number: int) -> Memory | None:
        """That one."""
        return self._one("number = ?", number)

    def by_key(self, key: str) -> Memory | None:
        """That one."""
        return self._one("key = ?", key)

    def by_key_beginning(self, beginning: str, limit: int) -> list[Memory]:
        """Those whose key begins so, in the order of their keys."""
        return self._some("key >= ? AND key < ? ORDER BY key LIMIT ?", beginning, beginning + _AFTER_ALL, limit)

    def about_gap(self, gap_id: str) -> list[Memory]:
        """All that belong to one finding, as they came to be."""
        return self._some("gap_id = ? ORDER BY created_us, number", gap_id)

    def latest(self, limit: int, sectors: Sequence[Sector] = tuple(Sector), about: str | None = None) -> list[Memory]:
        """The last so many that happened or were accessed, the latest first; of these sectors, with this in them."""
        where = "" if about is None else "AND (text || ' ' || note || ' ' || key) LIKE ? ESCAPE '!'"
        pattern = () if about is None else (f"%{_escaped(about)}%",)
        found: list[Memory] = []
        for sector in sectors:  # each is in its order in the index
            clause = f"sector = ? {where} ORDER BY accessed_us DESC, number DESC LIMIT ?"
            found += self._some(clause, sector, *pattern, limit)
        found.sort(key=lambda memory: (-memory.accessed_us, -memory.number))
        return found[:limit]

    def _one(self, where: str, value: object) -> Memory | None:
        return next(iter(self._some(where, value)), None)

    def _some(self, where: str, *values: object) -> list[Memory]:
        rows = self._source.query(f"SELECT {_COLUMNS} FROM memories WHERE {where}", values)
        return [_memory(row) for row in rows]


class MemoryStore(MemoryReader):
    """Writes them too, in the daemon's own database and its caller's transaction."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.database = database

    def add(self, memory: Memory) -> None:
        """Keep a new one."""
        self.database.execute(_INSERT, _values(memory))

    def add_many(self, memories: Sequence[Memory]) -> None:
        """Keep new ones."""
        self.database.execute_many(_INSERT, map(_values, memories))

    def change(self, memory: Memory) -> None:
        """Keep one as it is now."""
        each = memory
        values = (
            each.sector, each.importance, each.born_us, each.fades_us, each.accessed_us, each.times, each.gap_id,
            each.severity, each.text, each.note, each.related, each.number,
        )  # fmt: skip
        self.database.execute(_UPDATE, values)

    def refit(self, fades: Sequence[tuple[int, int]]) -> None:
        """New (fades_us, number)."""
        self.database.execute_many("UPDATE memories SET fades_us = ? WHERE number = ?", fades)

    def page_after(self, number: int, limit: int) -> list[tuple[int, str, float, int]]:
        """(number, sector, importance, born_us) of the next ones by number."""
        sql = "SELECT number, sector, importance, born_us FROM memories WHERE number > ? ORDER BY number LIMIT ?"
        return self.database.query(sql, (number, limit))

    def page_due(self, before_us: int | None, limit: int) -> list[tuple[int, str, float, str]]:
        """(number, sector, importance, text) of those that fade first; only those due before a moment."""
        where = "" if before_us is None else "WHERE fades_us < ?"
        sql = (
            f"SELECT number, sector, importance, text FROM memories INDEXED BY memories_by_fading {where} "
            "ORDER BY fades_us, number LIMIT ?"
        )
        return self.database.query(sql, (limit,) if before_us is None else (before_us, limit))

    def forget(self, numbers: Sequence[int]) -> None:
        """Delete them."""
        self.database.execute_many("DELETE FROM memories WHERE number = ?", ((number,) for number in numbers))

    def progress(self, name: str) -> bytes | None:
        """What a beat has noted."""
        rows = self.database.query("SELECT body FROM memory_progress WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def note_progress(self, name: str, body: bytes | None) -> None:
        """Note it; None: it is done."""
        if body is None:
            self.database.execute(FORGET_PROGRESS, (name,))
        else:
            self.database.execute("INSERT OR REPLACE INTO memory_progress VALUES (?, ?)", (name, body))


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _values(each: Memory) -> tuple[object, ...]:
    return (
        each.key, each.sector, each.importance, each.born_us, each.fades_us, each.created_us, each.accessed_us,
        each.times, each.gap_id, each.severity, each.text, each.note, each.related,
    )  # fmt: skip


def _memory(row: tuple[Any, ...]) -> Memory:
    number, key, sector, importance, born_us, fades_us, created_us, accessed_us, times, *words = row
    gap_id, severity, text, note, related = words
    return Memory(
        number=number, key=key, sector=Sector(sector), importance=importance, born_us=born_us, fades_us=fades_us,
        created_us=created_us, accessed_us=accessed_us, times=times, gap_id=gap_id, severity=severity, text=text,
        note=note, related=related,
    )  # fmt: skip

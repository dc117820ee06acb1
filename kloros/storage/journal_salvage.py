"""What can still be read of a damaged journal, taken over into a new one, whoever is killed meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from kloros.errors import StoreUnusable
from kloros.storage.database import Database

_COLUMNS = "offset, id, signal, ts_us, body"
_TYPES = [int, str, str, int, bytes]
_INSERT = f"INSERT OR IGNORE INTO messages ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)"  # a damaged file may hold an id twice
_LEAP = 1_000_000  # offsets that may have been given and were lost with the end of a corrupt file
_PAST_OFFSETS = 1 << 53  # not one of ours: damage
_ROWS_AT_ONCE = 1_000  # in one transaction, so that neither memory nor SQLite's log grows with the file
_BYTES_AT_ONCE = 8 << 20
_TRY_AGAIN = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
)


def salvage(corrupt: Path, into: Database) -> None:
    """Take over what can still be read of a journal, under its own name, so that its readers find their place.

    Without its name nothing is taken: readers would begin anew, and what they have read would have its effect twice.
    The name comes last: as long as it is not there, this is not done, and goes on where it was cut short.

    Raises:
        StoreUnusable: The disk refuses.
    """
    with closing(sqlite3.connect(corrupt)) as old:
        old.execute("PRAGMA locking_mode = EXCLUSIVE")  # it is read without a file beside it, also on a full disk
        name = _read(old, corrupt, "SELECT value FROM meta WHERE name = 'journal'")
        if not isinstance(name, str):
            return
        last = into.query("SELECT coalesce(max(offset), 0) FROM messages")[0][0]
        for rows in _readable(old, corrupt, last):
            into.execute_many(_INSERT, rows)
            last = rows[-1][0]
        given = _read(old, corrupt, "SELECT seq FROM sqlite_sequence WHERE name = 'messages'")
        with into.transaction(forced=True):
            _leap(into, max(last, given if isinstance(given, int) and given < _PAST_OFFSETS else 0))
            into.execute("INSERT INTO meta VALUES ('journal', ?)", (name,))


def _read(old: sqlite3.Connection, path: Path, sql: str) -> Any:
    """A single value of a corrupt file; None when it cannot be read."""
    found = None
    with _as_far_as_possible(path):
        found = old.execute(sql).fetchone()
    return found[0] if found else None


def _readable(old: sqlite3.Connection, path: Path, after: int) -> Iterator[list[tuple[Any, ...]]]:
    """The rows behind `after`, as far as they can be read, some at a time."""
    sql = f"SELECT {_COLUMNS} FROM messages WHERE offset > ? ORDER BY offset"
    rows: list[tuple[Any, ...]] = []
    size_bytes = 0
    with _as_far_as_possible(path):
        for row in old.execute(sql, (after,)):
            if list(map(type, row)) != _TYPES or row[0] >= _PAST_OFFSETS:
                continue
            rows.append(row)
            size_bytes += len(row[4])
            if len(rows) == _ROWS_AT_ONCE or size_bytes >= _BYTES_AT_ONCE:
                yield rows
                rows, size_bytes = [], 0
    if rows:
        yield rows


@contextmanager
def _as_far_as_possible(path: Path) -> Iterator[None]:
    """End where the file cannot be read, unless it may be readable later: that raises StoreUnusable."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _TRY_AGAIN:
            raise StoreUnusable(path=path, reason=error) from error


def _leap(database: Database, last: int) -> None:
    """Give offsets from far behind `last` on."""
    row = (last + _LEAP, "~leap", "~leap", 0, b"{}")
    database.execute(_INSERT, row)
    database.execute("DELETE FROM messages WHERE id = '~leap'")

"""The journal on disk: durable signals by offset, who reads them and how far, and what is no longer kept.

An offset is never given twice, and an id never gets two: the ids of signals that are no longer kept are remembered for
a long while, because an emitter that was away may send one again.
"""

from __future__ import annotations

import json
import math
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kloros.errors import StoreUnusable
from kloros.storage.database import Database, Tables, move
from kloros.storage.journal_salvage import salvage

_TABLES: Tables = {
    "journal": (
        """
        CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE messages (
            offset INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, signal TEXT NOT NULL,
            ts_us INTEGER NOT NULL, body BLOB NOT NULL
        );
        CREATE TABLE consumers (
            name TEXT PRIMARY KEY, signals TEXT NOT NULL, offset INTEGER NOT NULL, seen_us INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE past_ids (id TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX past_ids_by_offset ON past_ids (offset)
        """,
    )
}
_INSERT = "INSERT INTO messages (offset, id, signal, ts_us, body) VALUES (?, ?, ?, ?, ?)"
_KNOWN = (
    "SELECT m.id, m.offset FROM json_each(?1) j JOIN messages m ON m.id = j.value"
    " UNION ALL SELECT p.id, p.offset FROM json_each(?1) j JOIN past_ids p ON p.id = j.value"
)
_SCANNED_ROWS = 20_000  # looked at for one page, whether they match or not: bounds how long a read takes
_PRUNED_AT_ONCE = 2_000
_PAST_IDS = 1_000_000
_BYTES_PER_PAST_ID = 1_024  # so that they take about a tenth of the room
_GRACE_US = 3_600_000_000  # for consumers to come back in, when the journal was away itself or the clock was stepped


@dataclass(frozen=True)
class Retention:
    """What is kept: everything younger than `keep_s` or not read by every known consumer, within `max_bytes`."""

    max_bytes: int = 1 << 30
    keep_s: float = 7 * 86_400.0
    consumer_forgotten_after_s: float = 30 * 86_400.0


@dataclass
class Tidied:
    """What one tidying did."""

    read: int = 0
    unread: int = 0
    forgotten: tuple[str, ...] = ()


@dataclass
class _Reader:
    signals: tuple[str, ...]
    offset: int
    seen_us: int


class JournalStore:
    """See chembus.journal.contract.JournalStore. Belongs to one thread; opens its file when it is first needed."""

    def __init__(self, path: Path, retention: Retention | None = None) -> None:
        self.path = path
        self.retention = retention or Retention()
        self.set_aside: Path | None = None
        self.salvaged = 0
        self._unsalvaged = path.with_name(f"{path.name}.unsalvaged")
        self._corrupt = path.with_name(f"{path.name}.corrupt")
        self._file: Database | None = None
        self._journal = ""
        self._pruned = 0
        self._end = 0
        self._readers: dict[str, _Reader] = {}
        self._unwritten: set[str] = set()
        self._tidied_us = 0

    @property
    def journal(self) -> str:
        self._database()
        return self._journal

    def append(self, entries: Sequence[tuple[str, str, bytes]], now_us: int) -> list[tuple[int, bool]]:
        placed: list[tuple[int, bool]] = []
        rows: list[tuple[int, str, str, int, bytes]] = []
        try:
            database = self._database()
            end = self._end
            with database.transaction(forced=True):
                known: dict[str, int] = dict(database.query(_KNOWN, (json.dumps([entry[0] for entry in entries]),)))
                for message_id, signal, body in entries:
                    offset = known.get(message_id)
                    if offset is None:
                        end += 1
                        known[message_id] = end
                        rows.append((end, message_id, signal, now_us, body))
                    placed.append((offset or end, offset is None))
                database.execute_many(_INSERT, rows)
                self._write_readers(database)
        except StoreUnusable:
            self._give_up()
            raise
        self._end = end
        self._unwritten.clear()
        return placed

    def read(
        self, signals: Sequence[str], after: int, limit: int, limit_bytes: int
    ) -> tuple[list[tuple[int, str, bytes]], int]:
        after = max(after, self._pruned)
        reach = min(self._end, after + _SCANNED_ROWS)
        where, values = _matching(signals)
        wanted = f"offset > ? AND offset <= ? AND {where}"
        sql = f"SELECT offset, signal, body FROM messages WHERE {wanted} ORDER BY offset LIMIT ?"
        try:
            with self._database().iterated(sql, (after, reach, *values, limit)) as found:
                rows, is_cut = _page(found, limit_bytes)
        except StoreUnusable:
            self._give_up()
            raise
        return rows, rows[-1][0] if is_cut or len(rows) == limit else max(after, reach)

    def bounds(self) -> tuple[int, int]:
        self._database()
        return self._pruned, self._end

    def note_consumer(self, name: str, signals: Sequence[str], offset: int | None, now_us: int) -> None:
        self._database()
        reader = self._readers.get(name)
        if reader is None:
            reader = self._readers[name] = _Reader(tuple(signals), 0, now_us)
        reader.signals, reader.seen_us = tuple(signals), now_us
        if offset is not None:
            reader.offset = min(offset, self._end)
        self._unwritten.add(name)

    def tidy(self, now_us: int) -> Tidied:
        """Forget consumers that stay away, and delete a bounded part of what need not be kept.

        Raises:
            StoreUnusable: The disk refuses.
        """
        done = Tidied()
        try:
            database = self._database()
            self._bear_with_readers(now_us)
            with database.transaction():
                self._write_readers(database)
                done.forgotten = self._forget_readers(database, now_us)
                slowest = min((reader.offset for reader in self._readers.values()), default=self._end)
                oldest_us = now_us - int(self.retention.keep_s * 1e6)
                through = self._last_older(database, slowest, oldest_us)
                through = max(through, self._pruned + self._excess(database))
                if through > self._pruned:
                    gone = self._prune(database, through)
                    done.unread = max(0, through - max(slowest, self._pruned))
                    done.read = max(0, gone - done.unread)
        except StoreUnusable:
            self._give_up()
            raise
        self._unwritten.clear()
        self._pruned = max(self._pruned, through)
        return done

    def status(self) -> dict[str, Any]:
        database = self._database()
        return {
            "journal": self._journal,
            "path": str(self.path),
            "first_offset": self._pruned + 1 if self._pruned < self._end else None,
            "end_offset": self._end,
            "used_bytes": self._used_bytes(database),
            "max_bytes": self.retention.max_bytes,
            "keep_s": self.retention.keep_s,
            "set_aside": str(self.set_aside) if self.set_aside else None,
            "consumers": [
                {
                    "name": name, "signals": list(reader.signals), "offset": reader.offset,
                    "behind": self._end - reader.offset, "seen_ts": reader.seen_us / 1e6,
                }
                for name, reader in sorted(self._readers.items())
            ],
        }  # fmt: skip

    def close(self) -> None:
        """Write down who reads and how far, and let go of the file."""
        if self._file is not None:
            with suppress(StoreUnusable), self._file.transaction():
                self._write_readers(self._file)
            self._file.close()
            self._file = None

    def _database(self) -> Database:
        if self._file is None:
            # While one waits to be salvaged, nothing is lost with the file that is to take it over.
            aside = self._corrupt if self._unsalvaged.exists() else self._unsalvaged
            database = Database(self.path, _TABLES, aside=aside)
            try:
                self._load(database)
            except BaseException:
                database.close()
                raise
            self._file = database
        return self._file

    def _load(self, database: Database) -> None:
        if self._unsalvaged.exists():
            self._take_over(database)
        found = database.query("SELECT value FROM meta WHERE name = 'journal'")
        self._journal = found[0][0] if found else secrets.token_hex(8)
        if not found:
            database.execute("INSERT INTO meta VALUES ('journal', ?)", (self._journal,))
        last = database.query("SELECT seq FROM sqlite_sequence WHERE name = 'messages'")
        self._end = last[0][0] if last else 0
        first = database.query("SELECT min(offset) FROM messages")[0][0]
        self._pruned = self._end if first is None else first - 1
        rows = database.query("SELECT name, signals, offset, seen_us FROM consumers")
        on_disk = {
            name: _Reader(tuple(json.loads(signals)), offset, seen_us) for name, signals, offset, seen_us in rows
        }
        self._readers = on_disk | self._readers

    def _take_over(self, database: Database) -> None:
        """Salvage what was set aside, here or in an earlier life that was cut short; only then is it done with.

        Once more later, it would give offsets again that were given since: hence it has another name until then.
        """
        try:
            if not database.query("SELECT 1 FROM meta WHERE name = 'journal'"):
                self._corrupt.unlink(missing_ok=True)  # an older one, whose room is needed
                salvage(self._unsalvaged, database)
            self.salvaged = database.query("SELECT count(*) FROM messages")[0][0]
            move(self._unsalvaged, self._corrupt)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnusable(path=self._unsalvaged, reason=error) from error
        self.set_aside = self._corrupt

    def _give_up(self) -> None:
        """Open the file anew next time: it, or the disk, may be another one by then."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_readers(self, database: Database) -> None:
        rows = [
            (name, json.dumps(reader.signals), reader.offset, reader.seen_us)
            for name in self._unwritten
            if (reader := self._readers.get(name))
        ]
        database.execute_many("INSERT OR REPLACE INTO consumers VALUES (?, ?, ?, ?)", rows)

    def _bear_with_readers(self, now_us: int) -> None:
        """Nobody could read while the journal did not run: all but an hour of an absence is forgiven then."""
        if not 0 <= now_us - self._tidied_us <= _GRACE_US:
            allowed_us = int(self.retention.consumer_forgotten_after_s * 1e6)
            least_us = now_us - max(0, allowed_us - _GRACE_US)
            for name, reader in self._readers.items():
                if reader.seen_us < least_us:
                    reader.seen_us = least_us
                    self._unwritten.add(name)
        self._tidied_us = now_us

    def _forget_readers(self, database: Database, now_us: int) -> tuple[str, ...]:
        oldest_us = now_us - int(self.retention.consumer_forgotten_after_s * 1e6)
        gone = tuple(name for name, reader in self._readers.items() if reader.seen_us < oldest_us)
        for name in gone:
            del self._readers[name]
            database.execute("DELETE FROM consumers WHERE name = ?", (name,))
        return gone

    def _last_older(self, database: Database, slowest: int, oldest_us: int) -> int:
        """The offset up to which everything is read and old enough, no further than is pruned at once."""
        reach = min(slowest, self._pruned + _PRUNED_AT_ONCE)
        sql = "SELECT min(offset) FROM messages WHERE offset <= ? AND ts_us >= ?"
        young: int | None = database.query(sql, (reach, oldest_us))[0][0]
        return reach if young is None else young - 1

    def _prune(self, database: Database, through: int) -> int:
        past = min(_PAST_IDS, self.retention.max_bytes // _BYTES_PER_PAST_ID)
        database.execute("INSERT OR IGNORE INTO past_ids SELECT id, offset FROM messages WHERE offset <= ?", (through,))
        database.execute("DELETE FROM past_ids WHERE offset <= ?", (through - past,))
        return database.execute("DELETE FROM messages WHERE offset <= ?", (through,))

    def _excess(self, database: Database) -> int:
        """How many of the oldest messages must go for the others to fit, no more than are pruned at once."""
        used_bytes, kept = self._used_bytes(database), self._end - self._pruned
        share = 1.0 - self.retention.max_bytes / used_bytes
        return min(kept, _PRUNED_AT_ONCE, math.ceil(kept * share)) if share > 0 else 0

    @staticmethod
    def _used_bytes(database: Database) -> int:
        pages, free, size = (
            database.query(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


def _matching(signals: Sequence[str]) -> tuple[str, list[str]]:
    """The condition under which a row is wanted, and its values."""
    if "*" in signals:
        return "1", []
    exact = [name for name in signals if not name.endswith("*")]
    prefixes = [name[:-1] for name in signals if name.endswith("*")]
    parts = [f"signal IN ({', '.join('?' * len(exact))})", *("substr(signal, 1, ?) = ?" for _ in prefixes)]
    values: list[Any] = [*exact]
    for prefix in prefixes:
        values += [len(prefix), prefix]
    return f"({' OR '.join(parts)})", values


def _page(found: Iterator[tuple[Any, ...]], limit_bytes: int) -> tuple[list[tuple[int, str, bytes]], bool]:
    """As many rows as fit, at least one, and whether there were more."""
    rows: list[tuple[int, str, bytes]] = []
    size_bytes = 0
    for offset, signal, body in found:
        size_bytes += len(body)
        if size_bytes > limit_bytes and rows:
            return rows, True
        rows.append((offset, signal, body))
    return rows, False

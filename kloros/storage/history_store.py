"""The history's tables: batched inserts, and limits by age and size that are reached in small steps.

Every step is a transaction of its own and short, so that whoever wants to write waits for one step at most. Readers
never make a writer wait (WAL); they read in pages (history_reader), so that none of them keeps the WAL from ending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from kloros.errors import StoreUnusable
from kloros.storage.database import Database, Tables
from kloros.storage.history_rows import Gap, Mark, Row

HISTORY_TABLES: Tables = MappingProxyType(
    {
        "history": (
            """
            CREATE TABLE messages (
                number INTEGER PRIMARY KEY, ts_us INTEGER NOT NULL, last_us INTEGER NOT NULL, repeats INTEGER NOT NULL,
                signal TEXT NOT NULL, zooid TEXT NOT NULL, pub TEXT, incident_id TEXT, body BLOB NOT NULL
            );
            CREATE INDEX messages_by_time ON messages (ts_us);
            CREATE INDEX messages_by_signal ON messages (signal, ts_us);
            CREATE INDEX messages_by_zooid ON messages (zooid, ts_us);
            CREATE INDEX messages_by_incident ON messages (incident_id, ts_us) WHERE incident_id IS NOT NULL;
            CREATE TABLE gaps (
                number INTEGER PRIMARY KEY, since_us INTEGER NOT NULL, until_us INTEGER NOT NULL,
                missing INTEGER NOT NULL, kind TEXT NOT NULL, signal TEXT NOT NULL, zooid TEXT NOT NULL,
                pub TEXT NOT NULL
            );
            CREATE INDEX gaps_by_time ON gaps (since_us);
            CREATE TABLE marks (
                pub TEXT NOT NULL, signal TEXT NOT NULL, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
                PRIMARY KEY (pub, signal)
            ) WITHOUT ROWID;
            CREATE INDEX marks_by_time ON marks (ts_us)
            """,
        )
    }
)

# One step of retention: bounds how long others wait for it.
STEP_ROWS = 500
STEP_BYTES = 4 << 20
STEP_PAGES = 256
# Fewer rows than this are never worth a step: pages come free only in bunches.
_LEAST_ROWS = 100
_ROW_OVERHEAD_BYTES = 250
# So much of the file may lie free: the next inserts use it.
_SPARE_BYTES = 1 << 20
_WAL_LIMIT_BYTES = 4 << 20
# For so long the writer waits for readers when it has the WAL begin anew, and otherwise for another process.
_WAL_WAIT_MS = 50
_BUSY_TIMEOUT_MS = 5_000
_INCREMENTAL = 2

_INSERT = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REPEAT = "UPDATE messages SET repeats = repeats + ?, last_us = max(last_us, ?) WHERE number = ? AND ts_us = ?"
_GAP = "INSERT INTO gaps (since_us, until_us, missing, kind, signal, zooid, pub) VALUES (?, ?, ?, ?, ?, ?, ?)"
_MARK = (
    "INSERT INTO marks VALUES (?, ?, ?, ?) ON CONFLICT (pub, signal) "
    "DO UPDATE SET seq = max(seq, excluded.seq), ts_us = max(ts_us, excluded.ts_us)"
)


@dataclass(frozen=True)
class Bounds:
    """How much history is kept. The file may be a little larger than `max_bytes` while it is written."""

    max_age_us: int
    max_bytes: int


@dataclass(frozen=True)
class Repeat:
    """`count` more messages that say the same as a stored row, the last one at `last_us`."""

    row: Row
    count: int
    last_us: int


@dataclass(frozen=True)
class Step:
    """What one step of retention did: rows let go, pages given back. Neither: there is nothing more to do."""

    rows: int = 0
    pages: int = 0

    def __bool__(self) -> bool:
        return bool(self.rows or self.pages)


class HistoryStore:
    """The history in a daemon's database. All methods raise StoreUnusable when the disk refuses."""

    def __init__(self, database: Callable[[], Database]) -> None:
        """`database` gives the present connection; it may be another one after the disk was away."""
        self._present = database
        self._prepared: Database | None = None

    @property
    def _database(self) -> Database:
        return self._present()

    def prepare(self) -> None:
        """Before the first use, and again whenever the disk may have been away. Not within a transaction."""
        database = self._database
        if database is not self._prepared:
            _let_shrink(database)
            self._prepared = database

    def add(
        self,
        rows: Sequence[Row],
        gaps: Iterable[Gap] = (),
        repeats: Iterable[Repeat] = (),
        marks: Iterable[Mark] = (),
    ) -> None:
        """Keep all of it in one transaction, which is part of the one around it, if any. Rows get their numbers."""
        database = self._database
        try:
            with database.transaction():
                last = database.query("SELECT coalesce(max(number), 0) FROM messages")[0][0]
                for number, row in enumerate(rows, last + 1):
                    row.number = number
                database.execute_many(_INSERT, map(_values, rows))
                database.execute_many(_REPEAT, map(_repeat_values, repeats))
                database.execute_many(
                    _GAP,
                    ((g.since_us, g.until_us, g.missing, g.kind, g.signal, g.zooid, g.pub) for g in gaps),
                )
                database.execute_many(_MARK, ((m.pub, m.signal, m.seq, m.ts_us) for m in marks))
        except BaseException:
            for row in rows:
                row.number = None
            raise

    def marks(self, limit: int) -> list[Mark]:
        """The last so many marks."""
        sql = "SELECT pub, signal, seq, ts_us FROM marks INDEXED BY marks_by_time ORDER BY ts_us DESC LIMIT ?"
        return [Mark(*values) for values in self._database.query(sql, (limit,))]

    def last_us(self) -> int | None:
        """When the history ends."""
        (found,) = self._database.query("SELECT max(ts_us) FROM messages")[0]
        return None if found is None else int(found)

    def used_bytes(self) -> int:
        """What the history takes up, with all that is in the same file."""
        pages, free, page_bytes = self._sizes()
        return (pages - free) * page_bytes

    def file_bytes(self) -> int:
        """The size of the file once the WAL is in it."""
        pages, _free, page_bytes = self._sizes()
        return pages * page_bytes

    def is_over(self, bounds: Bounds) -> bool:
        """Whether there is more than allowed, by size. Costs next to nothing."""
        return self.used_bytes() > bounds.max_bytes

    def trim_age(self, bounds: Bounds, now_us: int) -> Step:
        """Let go of some of what is too old, the oldest first."""
        cutoff_us = now_us - bounds.max_age_us
        with self._database.transaction() as database:
            rows = _delete_oldest(database, STEP_BYTES, before_us=cutoff_us)
            if rows < STEP_ROWS:
                rows += _delete_gaps_and_marks(database, cutoff_us)
        return Step(rows=rows)

    def trim_size(self, bounds: Bounds) -> Step:
        """Let go of some of the oldest when there is more than allowed."""
        with self._database.transaction() as database:
            excess_bytes = self.used_bytes() - bounds.max_bytes
            if excess_bytes <= 0:
                return Step()
            rows = _delete_oldest(database, min(excess_bytes, STEP_BYTES))
            rows += _delete_what_went_before(database)
        return Step(rows=rows)

    def give_back(self, bounds: Bounds) -> Step:
        """Give some free pages back to the file system, as long as there are many or the file is too large."""
        pages, free, page_bytes = self._sizes()
        is_too_large = free > 0 and pages * page_bytes > bounds.max_bytes
        if free * page_bytes <= _SPARE_BYTES and not is_too_large:
            return Step()
        with self._database.transaction() as database:
            database.query(f"PRAGMA incremental_vacuum({STEP_PAGES})")
        return Step(pages=pages - self._sizes()[0])

    def end_wal(self) -> None:
        """Let the WAL begin anew when it has grown long: readers that follow each other closely keep it from that.

        Waits for the pages that are being read just now, for a bounded time. Not within a transaction.
        """
        database = self._database
        if _wal_bytes(database) <= _WAL_LIMIT_BYTES:
            return
        database.query(f"PRAGMA busy_timeout = {_WAL_WAIT_MS}")
        try:
            database.query("PRAGMA wal_checkpoint(RESTART)")
        finally:
            database.query(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")

    def end_file(self) -> None:
        """Bring the WAL into the file, so that what was given back is missing from it on disk too. As `end_wal`."""
        database = self._database
        database.query(f"PRAGMA busy_timeout = {_WAL_WAIT_MS}")
        try:
            database.query("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            database.query(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")

    def _sizes(self) -> tuple[int, int, int]:
        database = self._database
        names = ("page_count", "freelist_count", "page_size")
        pages, free, page_bytes = (int(database.query(f"PRAGMA {name}")[0][0]) for name in names)
        return pages, free, page_bytes


_DELETE_GAPS = (
    "DELETE FROM gaps WHERE number IN (SELECT number FROM gaps INDEXED BY gaps_by_time "
    "WHERE since_us < ?1 AND until_us < ?1 ORDER BY since_us LIMIT ?2)"
)
_DELETE_MARKS = (
    "DELETE FROM marks WHERE (pub, signal) IN (SELECT pub, signal FROM marks INDEXED BY marks_by_time "
    "WHERE ts_us < ?1 ORDER BY ts_us LIMIT ?2)"
)
_LATER_THAN_ALL_US = 1 << 62


def _values(row: Row) -> tuple[object, ...]:
    last_us = max(row.last_us, row.ts_us)
    return (row.number, row.ts_us, last_us, row.repeats, row.signal, row.zooid, row.pub, row.incident_id, row.body)


def _repeat_values(repeat: Repeat) -> tuple[object, ...]:
    return repeat.count, repeat.last_us, repeat.row.number, repeat.row.ts_us


def _delete_oldest(database: Database, enough_bytes: int, before_us: int | None = None) -> int:
    """Delete the oldest messages, until `enough_bytes` of them are gone or a step is full; returns how many."""
    older = "" if before_us is None else "WHERE ts_us < ?2"
    sql = (
        f"SELECT number, length(body) FROM messages INDEXED BY messages_by_time {older} ORDER BY ts_us, number LIMIT ?1"
    )
    found = database.query(sql, (STEP_ROWS,) if before_us is None else (STEP_ROWS, before_us))
    doomed: list[tuple[int]] = []
    taken_bytes = 0
    for number, body_bytes in found:
        is_enough = taken_bytes >= STEP_BYTES or (taken_bytes >= enough_bytes and len(doomed) >= _LEAST_ROWS)
        if is_enough:
            break
        doomed.append((number,))
        taken_bytes += body_bytes + _ROW_OVERHEAD_BYTES
    database.execute_many("DELETE FROM messages WHERE number = ?", doomed)
    return len(doomed)


def _delete_gaps_and_marks(database: Database, before_us: int) -> int:
    return sum(database.execute(sql, (before_us, STEP_ROWS)) for sql in (_DELETE_GAPS, _DELETE_MARKS))


def _delete_what_went_before(database: Database) -> int:
    """Gaps and marks go with the messages around them; without any message, the oldest go."""
    first_us = database.query("SELECT min(ts_us) FROM messages")[0][0]
    return _delete_gaps_and_marks(database, _LATER_THAN_ALL_US if first_us is None else first_us)


def _wal_bytes(database: Database) -> int:
    try:
        return database.path.with_name(f"{database.path.name}-wal").stat().st_size
    except OSError:
        return 0


def _let_shrink(database: Database) -> None:
    """Let the file give pages back. Rewrites it the first time, when there is next to nothing in it."""
    database.query(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    if database.query("PRAGMA auto_vacuum")[0][0] == _INCREMENTAL:
        return
    try:
        database.query("PRAGMA auto_vacuum = INCREMENTAL")
        database.query("VACUUM")
    except StoreUnusable:  # somebody reads just now: without it free pages are used again, only not given back
        return

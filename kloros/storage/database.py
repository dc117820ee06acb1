"""One SQLite file with one writer: opened, brought up to date, set aside when corrupt.

A commit survives kill -9 of the process (WAL, the kernel has it). A `forced` one is on the platter when it returns,
and with it every commit before it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from kloros.errors import StoreUnusable

Tables: TypeAlias = Mapping[str, Sequence[str]]
"""Per room of the file (whoever owns tables there), the SQL scripts that bring it from one version to the next."""

_BUSY_TIMEOUT_S = 5.0
_CHECKED_BYTES = 64 << 20  # a larger file is not read from end to end at every start
_VERSIONS = "CREATE TABLE IF NOT EXISTS versions (room TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK = _CORRUPT | {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip


class Database:
    """The connection to one file. Safe to use from several threads, one at a time in a transaction."""

    def __init__(self, path: Path, tables: Tables, *, aside: Path | None = None) -> None:
        """Open `path`, made if need be, and apply what is missing of `tables`.

        A corrupt file is moved to `aside`, by default `<name>.corrupt`, and an empty one takes its place. A small file
        is examined for that from end to end; so is a large one beside which `<name>.suspect` lies. A statement that
        finds the file corrupt puts that there, for whoever opens it next.

        Raises:
            StoreUnusable: The disk refuses, or the file was written by a newer version of the suite.
        """
        self.path = path
        self.set_aside: Path | None = None
        self._lock = threading.RLock()
        self._depth = 0
        self._is_forcing = False
        self._suspicion = path.with_name(f"{path.name}.suspect")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._connection = self._connect(tables)
            except sqlite3.DatabaseError as error:
                if not _is_corrupt(error):
                    raise
                self.set_aside = aside or path.with_name(f"{path.name}.corrupt")
                move(path, self.set_aside)
                self._connection = self._connect(tables)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnusable(path=path, reason=error) from error
        with suppress(OSError):  # it is examined once more, then
            self._suspicion.unlink(missing_ok=True)

    @contextmanager
    def transaction(self, *, forced: bool = False) -> Iterator[Database]:
        """Everything inside is committed together, or nothing is when the block raises. Others wait meanwhile.

        A transaction inside another is part of it.

        Raises:
            StoreUnusable: The disk refuses; nothing of it is kept.
        """
        with self._lock:
            if self._depth:
                self._depth += 1
                try:
                    yield self
                finally:
                    self._depth -= 1
                return
            with self._named():
                self._force(forced)
                self._connection.execute("BEGIN IMMEDIATE")
                self._depth = 1
                try:
                    yield self
                    self._connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                        self._connection.execute("ROLLBACK")
                    raise
                finally:
                    self._depth = 0

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Keep others out, without waiting: False where another thread is at work in the database just now."""
        is_ours = self._lock.acquire(blocking=False)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._lock.release()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement, by itself or in the transaction around it; returns how many rows it touched.

        Raises:
            StoreUnusable: The disk refuses.
        """
        with self._lock, self._named():
            return self._connection.execute(sql, values).rowcount

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one statement for each row; returns how many rows they touched."""
        with self.transaction(), self._named():
            return self._connection.executemany(sql, rows).rowcount

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT (or of a statement with RETURNING)."""
        with self._lock, self._named():
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def iterated(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Iterator[tuple[Any, ...]]]:
        """The rows of a SELECT, read as they are asked for. Others wait meanwhile."""
        with self._lock, self._named(), closing(self._connection.execute(sql, values)) as rows:
            yield rows

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        if not self._lock.acquire(timeout=_BUSY_TIMEOUT_S):
            return  # a thread that never ends is in a transaction, which ends with the process
        try:
            with suppress(sqlite3.Error):
                self._connection.close()
        finally:
            self._lock.release()

    def _connect(self, tables: Tables) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            is_suspect = self._suspicion.exists()
            if is_suspect or self.path.stat().st_size <= _CHECKED_BYTES:
                check = "integrity_check" if is_suspect else "quick_check"  # which does not compare indices
                verdict = connection.execute(f"PRAGMA {check}(1)").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(f"database disk image is malformed: {verdict}")
            self._migrate(connection, tables)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection, tables: Tables) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_VERSIONS)
            versions = dict(connection.execute("SELECT room, version FROM versions"))
            for room, scripts in tables.items():
                version = versions.get(room, 0)
                if version > len(scripts):
                    reason = f"its {room} tables are of version {version}, newer than this program ({len(scripts)})"
                    raise StoreUnusable(path=self.path, reason=reason)
                for script in scripts[version:]:
                    for statement in script.split(";"):
                        connection.execute(statement)
                connection.execute("INSERT OR REPLACE INTO versions VALUES (?, ?)", (room, len(scripts)))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _force(self, forced: bool) -> None:
        if forced != self._is_forcing:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if forced else 'NORMAL'}")
            self._is_forcing = forced

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the disk under their own name; those of the statement as they are."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            if "closed" not in str(error):
                raise
            raise StoreUnusable(path=self.path, reason="it is closed") from None
        except sqlite3.Error as error:
            if _code(error) not in _DISK:
                raise
            if _code(error) in _CORRUPT:
                with suppress(OSError):
                    self._suspicion.touch()
            raise StoreUnusable(path=self.path, reason=error) from error


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_corrupt(error: sqlite3.Error) -> bool:
    return _code(error) in _CORRUPT or "malformed" in str(error)


def move(path: Path, to: Path) -> None:
    """Rename a database that nobody has open, and what belongs to it."""
    logs = {path.with_name(path.name + suffix): to.with_name(to.name + suffix) for suffix in ("-wal", "-shm")}
    for stale in logs.values():  # it would be read as if it belonged to the file that comes
        stale.unlink(missing_ok=True)
    path.replace(to)
    for log, name in logs.items():  # what it says may be readable yet
        if log.exists():
            log.replace(name)

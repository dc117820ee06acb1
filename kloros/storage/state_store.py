"""What a daemon must remember across restarts: small typed documents in one SQLite file.

One file per daemon, one writer. A commit survives kill -9 of the process (WAL, the kernel has it); it is not forced to
the platter, because everything kept here can be computed again after a power cut.
A disk that cannot be written never stops the daemon: documents stay in memory, `lack` says what is missing, and the
next write that works brings the file up to date.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

DocumentT = TypeVar("DocumentT")

_SCHEMA = "CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"
_UPSERT = "INSERT INTO documents VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"
_BUSY_TIMEOUT_S = 1.0
_CORRUPT = ("malformed", "not a database", "disk image")


class StateStore:
    """Typed documents by name, written through to `path`. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lack: str | None = None
        self.set_aside: Path | None = None
        self._lock = threading.RLock()
        self._documents: dict[str, bytes] = {}
        self._unwritten: set[str] = set()
        self._batch_depth = 0
        self._connection: sqlite3.Connection | None = None
        self._open()

    def get(self, name: str, shape: type[DocumentT]) -> DocumentT | None:
        """The document, or None when there is none or it no longer fits `shape`."""
        with self._lock:
            body = self._documents.get(name)
        if body is None:
            return None
        try:
            return msgspec.json.decode(body, type=shape)
        except msgspec.DecodeError:
            return None

    def put(self, name: str, document: object) -> None:
        """Keep `document`; on disk at the end of the enclosing batch, or at once when there is none."""
        with self._lock:
            self._documents[name] = msgspec.json.encode(document)
            self._unwritten.add(name)
            if not self._batch_depth:
                self.flush()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Everything put inside is committed in one transaction; nothing is, when the block raises."""
        with self._lock:
            before = dict(self._documents)
            self._batch_depth += 1
            try:
                yield
            except BaseException:
                self._documents = before
                raise
            finally:
                self._batch_depth -= 1
            if not self._batch_depth:
                self.flush()

    def flush(self) -> bool:
        """Write what is not yet on disk; returns whether everything is. Failure is kept in `lack`, never raised."""
        with self._lock:
            if not self._unwritten and self.lack is None:
                return True
            if self._connection is None and not self._open():
                return False
            assert self._connection is not None
            try:
                with self._connection:
                    rows = ((name, self._documents[name]) for name in self._unwritten if name in self._documents)
                    self._connection.executemany(_UPSERT, rows)
            except sqlite3.Error as error:
                self._give_up(error)
                return False
            self._unwritten.clear()
            self.lack = None
            return True

    def close(self) -> None:
        """Write what is left and close the file."""
        with self._lock:
            self.flush()
            self._disconnect()

    def _open(self) -> bool:
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not any(word in str(error) for word in _CORRUPT):
                self._give_up(error)
                return False
            return self._set_aside_and_start_anew()
        except OSError as error:
            self._give_up(error)
            return False
        return True

    def _connect(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_SCHEMA)
            on_disk = dict(connection.execute("SELECT name, body FROM documents"))
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._documents = on_disk | self._documents

    def _set_aside_and_start_anew(self) -> bool:
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        try:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._connect()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
            return False
        self.set_aside = aside
        return True

    def _give_up(self, error: Exception) -> None:
        self.lack = f"{self.path} cannot be written ({error}); state is kept in memory only"
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

"""What a daemon must remember across restarts, in one SQLite file: documents, cursors, and signals not yet sent.

Documents are small and typed, and can be computed again: a disk that cannot be written never stops the daemon. They
stay in memory, `lack` says what is missing, and the next write that works brings the file up to date. Work is
different: what must be exact (`database`) raises StoreUnusable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec

from kloros.errors import StoreUnusable
from kloros.storage.database import Database, Tables

DocumentT = TypeVar("DocumentT")

_TABLES: Tables = MappingProxyType(
    {
        "daemon": (
            """
            CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
            CREATE TABLE outbox (
                seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, signal TEXT NOT NULL, body BLOB NOT NULL
            );
            CREATE TABLE cursors (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
            CREATE TABLE dead_letters (
                seq INTEGER PRIMARY KEY, ts_us INTEGER NOT NULL, journal_offset INTEGER, signal TEXT NOT NULL,
                reason TEXT NOT NULL, body BLOB NOT NULL
            )
            """,
        )
    }
)
_UPSERT = "INSERT INTO documents VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"
_NO_TABLES: Tables = MappingProxyType({})


class StateStore:
    """Typed documents by name, written through to `path`. Safe to use from several threads."""

    def __init__(self, path: Path, tables: Tables = _NO_TABLES) -> None:
        """`tables` are the daemon's own, in rooms other than "daemon".

        Raises:
            StoreUnusable: The file was written by a newer version of the suite.
        """
        self.path = path
        self.lack: str | None = None
        self.set_aside: Path | None = None
        self._tables = {**_TABLES, **tables}
        self._lock = threading.RLock()
        self._documents: dict[str, bytes] = {}
        self._unwritten: set[str] = set()
        self._batch_depth = 0
        self._database: Database | None = None
        self._open()

    @property
    def database(self) -> Database:
        """The file itself.

        Raises:
            StoreUnusable: It cannot be opened at present.
        """
        with self._lock:
            if self._database is None and not self._open():
                raise StoreUnusable(path=self.path, reason=self.lack)
            assert self._database is not None
            return self._database

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
        """Keep `document`; on disk at the end of the enclosing batch, or at once when there is none.

        Never waits: while another thread is in a transaction, the document is written a little later (`flush`).
        """
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

    @contextmanager
    def exact(self, documents: Mapping[str, object]) -> Iterator[Database]:
        """A transaction of the database that also keeps `documents` (as they are when the block ends).

        It is on the platter when this returns. Documents are seen by `get` afterwards, and not at all when it fails.

        Raises:
            StoreUnusable: The disk refuses; nothing is kept.
        """
        database = self.database
        with database.transaction(forced=True):
            yield database
            bodies = {name: msgspec.json.encode(document) for name, document in documents.items()}
            database.execute_many(_UPSERT, bodies.items())
        with self._lock:
            self._documents.update(bodies)
            self._unwritten -= bodies.keys()

    def flush(self) -> bool:
        """Write what is not yet on disk; returns whether everything is. Failure is kept in `lack`, never raised."""
        with self._lock:
            if not self._unwritten and self.lack is None:
                return True
            if self._database is None and not self._open():
                return False
            assert self._database is not None
            with self._database.claimed() as is_free:
                return is_free and self._write(self._database)

    def close(self) -> None:
        """Write what is left and close the file."""
        with self._lock:
            self.flush()
            self._disconnect()

    def _write(self, database: Database) -> bool:
        names = [name for name in self._unwritten if name in self._documents]
        try:
            database.execute_many(_UPSERT, [(name, self._documents[name]) for name in names])
        except StoreUnusable as error:
            self._give_up(error)
            return False
        self._unwritten.clear()
        self.lack = None
        return True

    def _open(self) -> bool:
        try:
            database = Database(self.path, self._tables)
            on_disk = _documents_in(database)
        except StoreUnusable as error:
            if "newer" in str(error.reason):
                raise
            self._give_up(error)
            return False
        self._database = database
        if database.set_aside:
            self.set_aside = database.set_aside
            self._unwritten |= self._documents.keys()
        self._documents = on_disk | self._documents
        return True

    def _give_up(self, error: StoreUnusable) -> None:
        self.lack = f"{self.path} cannot be written ({error.reason}); state is kept in memory only"
        self._disconnect()

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _documents_in(database: Database) -> dict[str, bytes]:
    try:
        return dict(database.query("SELECT name, body FROM documents"))
    except StoreUnusable:
        database.close()
        raise

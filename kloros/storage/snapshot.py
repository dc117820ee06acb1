"""A daemon's database as it is at one moment, read by somebody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kloros.errors import StoreUnusable

DocumentT = TypeVar("DocumentT")


class Snapshot:
    """One read transaction: whoever goes on writing the file meanwhile, every answer is of the same moment."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        return self._connection.execute(sql, values).fetchall()

    def iterate(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a SELECT, one by one."""
        return iter(self._connection.execute(sql, values))

    def document(self, name: str, shape: type[DocumentT]) -> DocumentT | None:
        """What the daemon saved under `name`; None when there is none that fits `shape`."""
        rows = self.query("SELECT body FROM documents WHERE name = ?", (name,))
        try:
            return msgspec.json.decode(rows[0][0], type=shape) if rows else None
        except msgspec.DecodeError:
            return None


@contextmanager
def snapshot(path: Path) -> Iterator[Snapshot]:
    """The database `path`, read-only.

    Raises:
        StoreUnusable: There is none, it may not be read, or it cannot be.
    """
    try:
        if not path.exists():
            raise StoreUnusable(path=path, reason="there is no such file")
        connection = _connected(path)
    except PermissionError as error:
        raise StoreUnusable(path=path, reason="you may not look into it; be root or user kloros") from error
    except (OSError, sqlite3.Error) as error:
        raise StoreUnusable(path=path, reason=error) from error
    try:
        yield Snapshot(connection)
    except sqlite3.Error as error:  # an OSError is not of the store, but of what is done with it: printed, for instance
        raise StoreUnusable(path=path, reason=error) from error
    finally:
        with suppress(sqlite3.Error):
            connection.close()


def _connected(path: Path) -> sqlite3.Connection:
    """A connection in the middle of a read transaction."""
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        return _begun(address)
    except sqlite3.OperationalError:
        if path.with_name(f"{path.name}-wal").exists():
            raise
        # Nobody has it open, and we may not make the files with which WAL readers talk to each other.
        return _begun(f"{address}&immutable=1")


def _begun(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection

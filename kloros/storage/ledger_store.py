"""The ledger's tables: rows, where they end, segments, figures, and what was rejected.

They live in the ledger writer's one database file. Everything here runs inside its caller's transaction and keeps bytes
as they are given: what they mean is the ledger's own business. Text is read back as bytes, because a hand that changes
a row need not keep to UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kloros.errors import StoreUnusable
from kloros.storage.database import Database, Tables
from kloros.storage.reads import Reads
from kloros.storage.snapshot import snapshot

RowTuple = tuple[int, str, str, str, bytes, str]
"""seq, source, signal, zooid, body, sig"""
SignedTuple = tuple[bytes, str]
"""body, sig"""
Rejection = tuple[str, str, str, str, bytes, int]
"""source, signal, reason, detail, body, heard_us"""

LEDGER_TABLES: Tables = {
    "ledger": (
        """
        CREATE TABLE ledger_rows (
            seq INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, signal TEXT NOT NULL, zooid TEXT NOT NULL,
            body TEXT NOT NULL, sig TEXT NOT NULL
        );
        CREATE INDEX ledger_rows_by_zooid ON ledger_rows (zooid, seq);
        CREATE TABLE ledger_head (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL, sig TEXT NOT NULL);
        CREATE TABLE ledger_segments (number INTEGER PRIMARY KEY, body TEXT NOT NULL, sig TEXT NOT NULL);
        CREATE TABLE ledger_figures (zooid TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE ledger_rejected (
            number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL UNIQUE, signal TEXT NOT NULL,
            reason TEXT NOT NULL, detail TEXT NOT NULL, body TEXT NOT NULL, heard_us INTEGER NOT NULL
        )
        """,
    )
}

_ROW_COLUMNS = (
    "seq, CAST(source AS BLOB), CAST(signal AS BLOB), CAST(zooid AS BLOB), CAST(body AS BLOB), CAST(sig AS BLOB)"
)
_SIGNED_COLUMNS = "CAST(body AS BLOB), CAST(sig AS BLOB)"
_MOST_VARIABLES = 500  # of one statement; old SQLites take 999
_PAGE_ROWS = 2_000


class LedgerReader:
    """Reads the ledger's tables."""

    def __init__(self, source: Reads) -> None:
        self._source = source

    def head(self) -> SignedTuple | None:
        """Where the ledger ends."""
        found = self._source.query(f"SELECT {_SIGNED_COLUMNS} FROM ledger_head WHERE one = 1")
        return (_bytes(found[0][0]), _text(found[0][1])) if found else None

    def segments(self) -> list[tuple[int, SignedTuple]]:
        """All segments by number."""
        found = self._source.query(f"SELECT number, {_SIGNED_COLUMNS} FROM ledger_segments ORDER BY number")
        return [(number, (_bytes(body), _text(sig))) for number, body, sig in found]

    def rows(self) -> Iterator[RowTuple]:
        """All rows by number, read as they are asked for."""
        query = f"SELECT {_ROW_COLUMNS} FROM ledger_rows WHERE seq > ? ORDER BY seq LIMIT {_PAGE_ROWS}"
        page = self._source.query(f"SELECT {_ROW_COLUMNS} FROM ledger_rows ORDER BY seq LIMIT {_PAGE_ROWS}")
        while page:
            yield from map(_row, page)
            page = self._source.query(query, (page[-1][0],))

    def last_rows(self, limit: int, *, zooid: str | None = None, signal: str | None = None) -> list[RowTuple]:
        """The newest `limit` rows of that zooid and signal, oldest first."""
        wanted = [(name, value) for name, value in (("zooid", zooid), ("signal", signal)) if value is not None]
        where = " AND ".join(["1", *(f"{name} = ?" for name, _ in wanted)])
        query = f"SELECT {_ROW_COLUMNS} FROM ledger_rows WHERE {where} ORDER BY seq DESC LIMIT ?"
        found = self._source.query(query, (*(value for _, value in wanted), limit))
        return [_row(each) for each in reversed(found)]

    def last_row(self) -> RowTuple | None:
        """The row with the highest number."""
        return next(iter(self.last_rows(1)), None)

    def row_count(self) -> int:
        """How many rows there are."""
        return self._number("SELECT count(*) FROM ledger_rows")

    def rejected_count(self) -> int:
        """How many rejections are kept."""
        return self._number("SELECT count(*) FROM ledger_rejected")

    def figures_count(self) -> int:
        """How many zooids have figures."""
        return self._number("SELECT count(*) FROM ledger_figures")

    def known_sources(self, sources: Sequence[str]) -> set[str]:
        """Those of `sources` that are in the ledger, or among the rejected, already."""
        known: set[str] = set()
        for start in range(0, len(sources), _MOST_VARIABLES):
            some = sources[start : start + _MOST_VARIABLES]
            marks = ", ".join("?" * len(some))
            for table in ("ledger_rows", "ledger_rejected"):
                found = self._source.query(f"SELECT source FROM {table} WHERE source IN ({marks})", some)
                known.update(source for (source,) in found)
        return known

    def figures(self) -> list[bytes]:
        """The figures of every zooid, by its name."""
        found = self._source.query("SELECT CAST(body AS BLOB) FROM ledger_figures ORDER BY zooid")
        return [_bytes(body) for (body,) in found]

    def figures_of(self, zooid: str) -> bytes | None:
        """The figures of one zooid."""
        found = self._source.query("SELECT CAST(body AS BLOB) FROM ledger_figures WHERE zooid = ?", (zooid,))
        return _bytes(found[0][0]) if found else None

    def rejected(self, limit: int) -> list[Rejection]:
        """The newest `limit` rejections, oldest first."""
        query = (
            "SELECT source, signal, reason, detail, CAST(body AS BLOB), heard_us FROM ledger_rejected "
            "ORDER BY number DESC LIMIT ?"
        )
        found = self._source.query(query, (limit,))
        return [
            (source, signal, reason, detail, _bytes(body), heard_us)
            for source, signal, reason, detail, body, heard_us in reversed(found)
        ]

    def _number(self, query: str) -> int:
        return int(self._source.query(query)[0][0])


class LedgerStore(LedgerReader):
    """Writes the ledger's tables too, in the daemon's own database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._database = database

    def append(self, rows: Iterable[RowTuple]) -> None:
        """Add rows; one whose number or source is there already raises sqlite3.IntegrityError."""
        texts = ((seq, source, signal, zooid, body.decode(), sig) for seq, source, signal, zooid, body, sig in rows)
        self._database.execute_many("INSERT INTO ledger_rows VALUES (?, ?, ?, ?, ?, ?)", texts)

    def put_head(self, signed: SignedTuple) -> None:
        """Say where the ledger ends now."""
        body, sig = signed
        self._database.execute("INSERT OR REPLACE INTO ledger_head VALUES (1, ?, ?)", (body.decode(), sig))

    def put_segment(self, number: int, signed: SignedTuple) -> None:
        """Open, seal or release a segment."""
        body, sig = signed
        self._database.execute("INSERT OR REPLACE INTO ledger_segments VALUES (?, ?, ?)", (number, body.decode(), sig))

    def put_figures(self, figures: Iterable[tuple[str, bytes]]) -> None:
        """Keep the figures of zooids."""
        texts = ((zooid, body.decode()) for zooid, body in figures)
        self._database.execute_many("INSERT OR REPLACE INTO ledger_figures VALUES (?, ?)", texts)

    def reject(self, rejections: Iterable[Rejection]) -> None:
        """Keep what was rejected, once each."""
        columns = "(source, signal, reason, detail, body, heard_us)"
        texts = (
            (source, signal, reason, detail, body.decode("utf-8", "replace"), heard_us)
            for source, signal, reason, detail, body, heard_us in rejections
        )
        query = f"INSERT OR IGNORE INTO ledger_rejected {columns} VALUES (?, ?, ?, ?, ?, ?)"
        self._database.execute_many(query, texts)

    def forget_rejected(self, keep: int) -> int:
        """Drop all but the newest `keep` rejections; returns how many went."""
        query = "DELETE FROM ledger_rejected WHERE number <= (SELECT max(number) FROM ledger_rejected) - ?"
        return self._database.execute(query, (keep,))

    def release(self, first_seq: int, last_seq: int) -> int:
        """Delete the rows of a segment; returns how many went."""
        return self._database.execute("DELETE FROM ledger_rows WHERE seq BETWEEN ? AND ?", (first_seq, last_seq))


@contextmanager
def read_only(path: Path) -> Iterator[LedgerReader]:
    """The ledger in the file `path` as it is at this moment, whoever goes on writing it meanwhile.

    Raises:
        StoreUnusable: There is none, or it cannot be read.
    """
    with snapshot(path) as taken:
        if not taken.query("SELECT 1 FROM sqlite_master WHERE name = 'ledger_head'"):
            raise StoreUnusable(path=path, reason="there is no ledger in it")
        yield LedgerReader(taken)


def _row(found: tuple[int, bytes, bytes, bytes, bytes, bytes]) -> RowTuple:
    seq, source, signal, zooid, body, sig = found
    return seq, _text(source), _text(signal), _text(zooid), _bytes(body), _text(sig)


def _bytes(value: bytes | None) -> bytes:
    return b"" if value is None else value


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "surrogateescape")

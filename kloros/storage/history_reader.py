"""Reading the history while it is written: in pages by key, each its own short look, so that nobody waits for a reader.

A reader that has one page in its hands holds nothing in the database: however slowly its pages are printed, the WAL
ends where it should. What retention lets go of between two pages is not there any more; nothing is read twice.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import quote

from kloros.errors import StoreUnusable
from kloros.storage.history_rows import Entry, Gap, Record, Wanted

PAGE_ROWS = 500
PAGE_BYTES = 4 << 20
_BUSY_TIMEOUT_S = 5.0
_FIRST = (-(1 << 62), 0)
_LAST = (1 << 62, 0)

_MESSAGE = "number, ts_us, signal, zooid, pub, incident_id, repeats, last_us, body"
_GAP = "kind, signal, zooid, pub, since_us, until_us, missing, number"
# The signals there are, each found by one step in the index.
_SIGNALS = """
WITH RECURSIVE known (name) AS (
    SELECT min(signal) FROM messages
    UNION ALL SELECT (SELECT min(signal) FROM messages WHERE signal > name) FROM known WHERE name IS NOT NULL
) SELECT name FROM known WHERE name IS NOT NULL
"""


class HistoryReader:
    """A history file, opened to read. Use it in a `with`."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnusable when there is none, or it may not be read."""
        self._path = path
        try:
            if not path.exists():
                raise StoreUnusable(path=path, reason="there is no history yet; is kloros-chembus-historian running?")
            self._connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None
            )
        except PermissionError as error:
            raise StoreUnusable(path=path, reason="you may not look into it; be root or user kloros") from error
        except sqlite3.Error as error:
            self._give_up(error)
        try:
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute("SELECT 1 FROM messages LIMIT 1").fetchall()
        except sqlite3.Error as error:
            self.close()
            self._give_up(error)

    def __enter__(self) -> HistoryReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def read(self, wanted: Wanted) -> Iterator[Entry]:
        """What is wanted, the oldest first; messages and gaps in one line of time."""
        return heapq.merge(*self._streams(wanted, newest_first=False), key=_place)

    def newest(self, wanted: Wanted, limit: int) -> list[Entry]:
        """The last so many of what is wanted, the oldest of them first."""
        streams = self._streams(wanted, newest_first=True, page_rows=min(limit, PAGE_ROWS))
        found = list(islice(heapq.merge(*streams, key=_place, reverse=True), limit))
        return found[::-1]

    def signals(self) -> list[str]:
        """Every signal there is."""
        return [name for (name,) in self._all(_SIGNALS, ())]

    def incidents(self, beginning: str, limit: int) -> list[str]:
        """The incidents whose name begins so, in order; at most so many."""
        found: list[str] = []
        above, condition = beginning, ">="
        while len(found) < limit:
            sql = f"SELECT min(incident_id) FROM messages WHERE incident_id {condition} ?"
            (name,) = self._all(sql, (above,))[0]
            if name is None or not name.startswith(beginning):
                break
            found.append(name)
            above, condition = name, ">"
        return found

    def _streams(self, wanted: Wanted, *, newest_first: bool, page_rows: int = PAGE_ROWS) -> list[Iterator[Entry]]:
        """One stream per value of the most telling index, so that each of them comes out of it in order of time."""
        pages = _Pages(self, newest_first, page_rows)
        narrowed = list(_narrowings(wanted, self._named_signals(wanted)))
        streams: list[Iterator[Entry]] = [
            pages.messages(index, where, values, wanted) for index, where, values in narrowed
        ]
        if wanted.incident_id is None:
            streams.append(pages.gaps(wanted))
        return streams

    def _named_signals(self, wanted: Wanted) -> list[str]:
        """The wanted signals by name, prefixes resolved."""
        prefixes = tuple(topic[:-1] for topic in wanted.signals if topic.endswith("*"))
        names = {topic for topic in wanted.signals if not topic.endswith("*")}
        if prefixes:
            names.update(name for name in self.signals() if name.startswith(prefixes))
        return sorted(names)

    def _all(self, sql: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)

    def page(self, sql: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
        """The rows of one statement, cut short where they become many bytes (their last column)."""
        taken: list[tuple[Any, ...]] = []
        taken_bytes = 0
        try:
            cursor = self._connection.execute(sql, tuple(values))
            for row in cursor:
                taken.append(row)
                taken_bytes += len(row[-1]) if isinstance(row[-1], bytes) else 0
                if taken_bytes >= PAGE_BYTES:
                    break
            cursor.close()
        except sqlite3.Error as error:
            self._give_up(error)
        return taken

    def _give_up(self, error: sqlite3.Error) -> NoReturn:
        raise StoreUnusable(path=self._path, reason=error) from error


class _Pages:
    """Walks through a table by (time, number), a page at a time."""

    def __init__(self, reader: HistoryReader, newest_first: bool, page_rows: int) -> None:
        self._reader = reader
        self._start = _LAST if newest_first else _FIRST
        self._beyond = "<" if newest_first else ">"
        self._order = "DESC" if newest_first else "ASC"
        self._page_rows = page_rows

    def messages(self, index: str, where: str, values: tuple[Any, ...], wanted: Wanted) -> Iterator[Record]:
        """Messages for which `where` holds, found by `index`."""
        limits, moments = _limits(wanted, "ts_us")
        zooids, who = _one_of("zooid", () if index == "messages_by_zooid" else wanted.zooids)
        conditions, source = [where, *limits, *zooids], f"messages INDEXED BY {index}"
        rows = self._walk(_MESSAGE, source, "ts_us", conditions, (*values, *moments, *who), 1, 0)
        return (Record(*row) for row in rows)

    def gaps(self, wanted: Wanted) -> Iterator[Gap]:
        """Gaps in what is wanted."""
        limits, moments = _limits(wanted, "since_us")
        signals, named = _topics(wanted.signals)
        zooids, who = _one_of("zooid", wanted.zooids)
        conditions, source = [*limits, *signals, *zooids], "gaps INDEXED BY gaps_by_time"
        rows = self._walk(_GAP, source, "since_us", conditions, (*moments, *named, *who), 4, 7)
        return (Gap(*row) for row in rows)

    def _walk(
        self, columns: str, source: str, time: str, conditions: list[str], values: tuple[Any, ...], at: int, number: int
    ) -> Iterator[tuple[Any, ...]]:
        """`at` and `number` are the places of time and number among the columns."""
        where = " AND ".join([*filter(None, conditions), f"({time}, number) {self._beyond} (?, ?)"])
        sql = (
            f"SELECT {columns} FROM {source} WHERE {where} "
            f"ORDER BY {time} {self._order}, number {self._order} LIMIT {self._page_rows}"
        )
        place = self._start
        while page := self._reader.page(sql, (*values, *place)):
            rows = deque(page)
            place = (rows[-1][at], rows[-1][number])
            while rows:
                yield rows.popleft()


def _narrowings(wanted: Wanted, signals: list[str]) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """(index, condition, its values) of each stream."""
    if wanted.incident_id is not None:
        topics, named = _one_of("signal", tuple(signals)) if wanted.signals else ([], ())
        if wanted.signals and not signals:
            return
        where = " AND ".join(["incident_id = ?", *topics])
        yield "messages_by_incident", where, (wanted.incident_id, *named)
    elif wanted.signals:
        for name in signals:
            yield "messages_by_signal", "signal = ?", (name,)
    elif wanted.zooids:
        for zooid in dict.fromkeys(wanted.zooids):
            yield "messages_by_zooid", "zooid = ?", (zooid,)
    else:
        yield "messages_by_time", "", ()


def _limits(wanted: Wanted, time: str) -> tuple[list[str], tuple[Any, ...]]:
    conditions: list[str] = []
    values: list[int] = []
    for moment_us, compare in ((wanted.since_us, ">="), (wanted.until_us, "<=")):
        if moment_us is not None:
            conditions.append(f"{time} {compare} ?")
            values.append(moment_us)
    return conditions, tuple(values)


def _one_of(column: str, values: tuple[str, ...]) -> tuple[list[str], tuple[Any, ...]]:
    if not values:
        return [], ()
    return [f"{column} IN ({', '.join('?' * len(values))})"], values


def _topics(topics: tuple[str, ...]) -> tuple[list[str], tuple[Any, ...]]:
    """Signals, by name or prefix; gaps of signals that nobody can name any more (`*`) concern everyone."""
    if not topics:
        return [], ()
    parts = ["signal = '*'"]
    values: list[Any] = []
    for topic in topics:
        prefix = topic.removesuffix("*")
        parts.append("substr(signal, 1, ?) = ?" if topic.endswith("*") else "signal = ?")
        values += [len(prefix), prefix] if topic.endswith("*") else [prefix]
    return [f"({' OR '.join(parts)})"], tuple(values)


def _place(entry: Entry) -> tuple[int, bool, int]:
    return entry.ts_us, isinstance(entry, Gap), entry.number

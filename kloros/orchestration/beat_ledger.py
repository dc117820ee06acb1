"""The scheduler's ledger of beats: what each due moment came to, and the history of what was planned.

Written in the transaction that remembers the schedule, so that after a kill the two still agree: a beat that is emitted
again by the next life is one row, for its moment is the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from kloros.orchestration.schedule_entry import Change, EntryState, Skipped
from kloros.storage.database import Database, Tables
from kloros.storage.snapshot import Snapshot

BEAT_TABLES: Tables = MappingProxyType(
    {
        "beats": (
            """
            CREATE TABLE beats (
                entry TEXT NOT NULL, due_us INTEGER NOT NULL, beat INTEGER NOT NULL, reason TEXT NOT NULL,
                emitted_us INTEGER NOT NULL, interval_us INTEGER NOT NULL, epoch INTEGER NOT NULL,
                is_lost INTEGER NOT NULL, why TEXT, PRIMARY KEY (entry, due_us)
            ) WITHOUT ROWID;
            CREATE INDEX beats_by_due ON beats (due_us);
            CREATE TABLE skips (
                seq INTEGER PRIMARY KEY, entry TEXT NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL,
                count INTEGER NOT NULL, reason TEXT NOT NULL, at_us INTEGER NOT NULL
            );
            CREATE INDEX skips_by_end ON skips (last_us);
            CREATE TABLE plans (
                seq INTEGER PRIMARY KEY, entry TEXT NOT NULL, at_us INTEGER NOT NULL, kind TEXT NOT NULL,
                body TEXT NOT NULL
            );
            CREATE INDEX plans_by_entry ON plans (entry, seq);
            CREATE INDEX plans_by_moment ON plans (at_us)
            """,
        )
    }
)
THE_SCHEDULER = ""
"""Whose history it is when it is nobody's in particular: starts, and what could not be written."""
# While the disk refuses, this many rows are kept; what is beyond is not proven, and said to be missing.
MOST_UNWRITTEN = 200_000
_PRUNED_AT_ONCE = 20_000


class BeatRow(NamedTuple):
    """A numbered beat that was emitted; `is_lost`: the bus was not there to take it."""

    entry: str
    due_us: int
    beat: int
    reason: str
    emitted_us: int
    interval_us: int
    epoch: int
    is_lost: int
    why: str | None


class BeatLedger:
    """What is to be written, and how."""

    def __init__(self) -> None:
        self._beats: list[BeatRow] = []
        self._skips: list[tuple[str, Skipped]] = []
        self._changes: list[tuple[str, Change]] = []
        self._refused = 0

    def emitted(self, row: BeatRow) -> None:
        """A numbered beat was emitted."""
        if self._has_room():
            self._beats.append(row)

    def note(self, entry: str, change: Change) -> None:
        """Something happened to `entry`, or to the scheduler."""
        if self._has_room():
            self._changes.append((entry, change))

    def take(self, states: Mapping[str, EntryState]) -> None:
        """Take over what the entries have noted themselves."""
        for name, state in states.items():
            for skip in state.skips:
                if self._has_room():
                    self._skips.append((name, skip))
            for change in state.changes:
                self.note(name, change)
            state.skips, state.changes = [], []

    def write(self, database: Database, now_us: int) -> None:
        """Write what was noted, in the caller's transaction; `written` forgets it once that is committed."""
        if self._refused:
            change = Change(now_us, "unwritten", why=f"{self._refused} rows could not be written")
            self._changes.append((THE_SCHEDULER, change))
        database.execute_many("INSERT OR IGNORE INTO beats VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._beats)
        database.execute_many(
            "INSERT INTO skips (entry, first_us, last_us, count, reason, at_us) VALUES (?, ?, ?, ?, ?, ?)",
            [(name, each.first_us, each.last_us, each.count, each.reason, each.at_us) for name, each in self._skips],
        )
        database.execute_many(
            "INSERT INTO plans (entry, at_us, kind, body) VALUES (?, ?, ?, ?)",
            [(name, each.at_us, each.kind, msgspec.json.encode(each).decode()) for name, each in self._changes],
        )

    def written(self) -> None:
        """All of it is on disk."""
        self._beats, self._skips, self._changes, self._refused = [], [], [], 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self._beats or self._skips or self._changes or self._refused)

    def _has_room(self) -> bool:
        has_room = len(self._beats) + len(self._skips) + len(self._changes) < MOST_UNWRITTEN
        self._refused += not has_room
        return has_room


def prune(database: Database, oldest_us: int, most_rows: int) -> int:
    """Drop some of what is older than `oldest_us`, and of the oldest beats beyond `most_rows`; returns how many rows
    went. What was planned before stays as far as it still decides."""
    count, first_us = database.query("SELECT count(*), min(due_us) FROM beats")[0]
    if count > most_rows:
        beyond = min(count - most_rows, _PRUNED_AT_ONCE)
        limit_us = database.query("SELECT due_us FROM beats ORDER BY due_us LIMIT 1 OFFSET ?", (beyond,))[0][0]
        oldest_us = max(oldest_us, limit_us)
    if first_us is None or first_us >= oldest_us:
        return 0
    with database.transaction():
        gone = database.execute(
            "DELETE FROM beats WHERE (entry, due_us) IN (SELECT entry, due_us FROM beats WHERE due_us < ? LIMIT ?)",
            (oldest_us, _PRUNED_AT_ONCE),
        )
        gone += database.execute("DELETE FROM skips WHERE last_us < ?", (oldest_us,))
        gone += database.execute(
            "DELETE FROM plans WHERE at_us < ? AND EXISTS (SELECT 1 FROM plans AS later WHERE later.entry = plans.entry"
            " AND later.seq > plans.seq AND later.at_us < ? AND (later.kind = 'planned' OR plans.kind != 'planned'))",
            (oldest_us, oldest_us),
        )
    return gone


class BeatReader:
    """Reads the ledger of a scheduler, running or not."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def entries(self) -> list[str]:
        """Every entry that was ever planned."""
        found = self._snapshot.query(
            "SELECT DISTINCT entry FROM plans WHERE entry != ? ORDER BY entry", (THE_SCHEDULER,)
        )
        return [row[0] for row in found]

    def changes(self, entry: str) -> list[Change]:
        """Its history, in order. Rows that cannot be read are left out, and leave their due moments unexplained."""
        found = self._snapshot.query("SELECT body FROM plans WHERE entry = ? ORDER BY seq", (entry,))
        return list(_readable(row[0] for row in found))

    def oldest_us(self) -> int | None:
        """The earliest moment that is on record."""
        found = self._snapshot.query("SELECT min(due_us) FROM beats")
        return None if found[0][0] is None else int(found[0][0])

    def latest_us(self) -> int | None:
        """When the last beat that is on record was emitted."""
        found = self._snapshot.query(
            "SELECT max(emitted_us) FROM (SELECT emitted_us FROM beats ORDER BY due_us DESC LIMIT 100)"
        )
        return None if found[0][0] is None else int(found[0][0])

    def emitted(self, entry: str, since_us: int, until_us: int) -> list[BeatRow]:
        """Its beats that were due in between."""
        query = "SELECT * FROM beats WHERE entry = ? AND due_us BETWEEN ? AND ? ORDER BY due_us"
        return [BeatRow(*row) for row in self._snapshot.query(query, (entry, since_us, until_us))]

    def waiting(self, entry: str) -> list[int]:
        """Due moments that had come and still await their beat: one that waits in a chain, one that is owed."""
        state = self._snapshot.document(f"entry/{entry}", EntryState)
        moments = (state.waiting_us, state.owed_us) if state is not None else ()
        return [due_us for due_us in moments if due_us is not None]

    def skips(self, entry: str, since_us: int, until_us: int) -> list[Skipped]:
        """What was given up in between."""
        found = self._snapshot.query(
            "SELECT first_us, last_us, count, reason, at_us FROM skips"
            " WHERE entry = ? AND last_us >= ? AND first_us <= ? ORDER BY seq",
            (entry, since_us, until_us),
        )
        return [Skipped(*row) for row in found]


def _readable(bodies: Iterable[str]) -> Iterable[Change]:
    for body in bodies:
        try:
            yield msgspec.json.decode(body, type=Change)
        except msgspec.DecodeError:
            continue

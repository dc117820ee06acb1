"""The scheduler's ledger of beats: what each due moment came to, and the history of what was planned.

Written in the transaction that remembers the schedule, so that after a kill the two still agree: a beat that is emitted
again by the next life is one row, for its moment is the key.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import msgspec

from kloros.orchestration.schedule_entry import Change, EntryState, Skipped, Unsettled
from kloros.storage.database import Database, Tables
from kloros.storage.snapshot import Snapshot

BEAT_TABLES: Tables = MappingProxyType(
    {
        "beats": (
            """
            CREATE TABLE beats (
                entry TEXT NOT NULL, due_us INTEGER NOT NULL, beat INTEGER NOT NULL, reason TEXT NOT NULL,
                emitted_us INTEGER NOT NULL, interval_us INTEGER NOT NULL, epoch INTEGER NOT NULL,
                is_lost INTEGER NOT NULL, why TEXT, PRIMARY KEY (due_us, entry)
            ) WITHOUT ROWID;
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
# One step takes a few milliseconds, and beats wait for it.
PRUNED_AT_ONCE = 4_000
CAUGHT_UP_AT_ONCE = 1_000
LATEST_US = 2**62

Emissions: TypeAlias = "tuple[array[int], array[int]]"
"""Due moments, and when each was emitted."""


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
        self._at_once: int | None = None

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

    def write(self, database: Database, now_us: int) -> int:
        """Write what was noted, in the caller's transaction; `written` forgets it once that is committed.

        Since the disk has refused, the oldest of it: there may be much by now. Returns how many beats that were.
        """
        beats, skips = self._beats[: self._at_once], self._skips[: self._at_once]
        changes = self._changes[: self._at_once]
        if self._refused and self._is_last:  # said earlier, the proof would look for what is yet to be written
            why = f"{self._refused} rows could not be written"
            changes.append((THE_SCHEDULER, Change(now_us, "unwritten", why=why)))
        count = 0
        if beats:
            insert = "INSERT OR IGNORE INTO beats VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            count = database.execute_many(insert, beats)
        database.execute_many(
            "INSERT INTO skips (entry, first_us, last_us, count, reason, at_us) VALUES (?, ?, ?, ?, ?, ?)",
            [(name, each.first_us, each.last_us, each.count, each.reason, each.at_us) for name, each in skips],
        )
        database.execute_many(
            "INSERT INTO plans (entry, at_us, kind, body) VALUES (?, ?, ?, ?)",
            [(name, each.at_us, each.kind, msgspec.json.encode(each).decode()) for name, each in changes],
        )
        return count

    def written(self) -> None:
        """What `write` has written is on disk."""
        is_last = self._is_last
        for rows in (self._beats, self._skips, self._changes):
            del rows[: self._at_once]
        if is_last:
            self._refused, self._at_once = 0, None

    def not_written(self) -> None:
        """The disk has refused it: what comes together until it takes some again is written a little at a time."""
        self._at_once = CAUGHT_UP_AT_ONCE

    def leave_nothing(self) -> None:
        """The next time all of it is written, however long that takes: there will be no other."""
        self._at_once = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self._beats or self._skips or self._changes or self._refused)

    @property
    def _is_last(self) -> bool:
        """Whether all there is goes at once."""
        most = max(len(self._beats), len(self._skips), len(self._changes))
        return self._at_once is None or most <= self._at_once

    def _has_room(self) -> bool:
        has_room = len(self._beats) + len(self._skips) + len(self._changes) < MOST_UNWRITTEN
        self._refused += not has_room
        return has_room


def count_beats(database: Database) -> int:
    """How many beats are kept. Reads all of them: to be asked once."""
    return int(database.query("SELECT count(*) FROM beats")[0][0])


def prune_beats(database: Database, oldest_us: int, excess: int) -> int:
    """Drop the oldest beats: those due before `oldest_us`, and `excess` of them anyway; some now, the others when asked
    again. Returns how many went.

    What was due at one moment goes together, however much it is: the earliest moment on record is whole.
    """
    first = "SELECT max(due_us) FROM (SELECT due_us FROM beats WHERE due_us < ? ORDER BY due_us LIMIT ?)"
    bounds = [(oldest_us, PRUNED_AT_ONCE)]
    if excess > 0:
        bounds.append((LATEST_US, min(excess, PRUNED_AT_ONCE)))
    found = [row[0] for bound in bounds for row in database.query(first, bound) if row[0] is not None]
    return database.execute("DELETE FROM beats WHERE due_us <= ?", (max(found),)) if found else 0


def prune_history(database: Database) -> None:
    """Drop what was skipped and planned before the oldest beat that is kept. What was planned before stays as far as it
    still decides."""
    oldest_us = database.query("SELECT min(due_us) FROM beats")[0][0]
    if oldest_us is None:
        return
    with database.transaction():
        database.execute("DELETE FROM skips WHERE last_us < ?", (oldest_us,))
        database.execute(
            "DELETE FROM plans WHERE at_us < ? AND EXISTS (SELECT 1 FROM plans AS later WHERE later.entry = plans.entry"
            " AND later.seq > plans.seq AND later.at_us < ? AND (later.kind = 'planned' OR plans.kind != 'planned'))",
            (oldest_us, oldest_us),
        )


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
        """Its beats that were due in between. Reads those of all entries: for a short while, or a few entries."""
        query = "SELECT * FROM beats WHERE due_us BETWEEN ? AND ? AND entry = ? ORDER BY due_us"
        return [BeatRow(*row) for row in self._snapshot.query(query, (since_us, until_us, entry))]

    def emissions(self, since_us: int, until_us: int) -> dict[str, Emissions]:
        """When what was due in between was emitted, of every entry: read at one go, and kept in little room."""
        found: dict[str, Emissions] = {}
        query = "SELECT entry, due_us, emitted_us FROM beats WHERE due_us BETWEEN ? AND ? ORDER BY due_us"
        for entry, due_us, emitted_us in self._snapshot.iterate(query, (since_us, until_us)):
            dues, emitted = found.setdefault(entry, (array("q"), array("q")))
            dues.append(due_us)
            emitted.append(emitted_us)
        return found

    def unsettled(self, entry: str) -> Unsettled:
        """What the scheduler has yet to decide about, as it remembers it."""
        state = self._snapshot.document(f"entry/{entry}", EntryState)
        return Unsettled() if state is None else state.unsettled

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

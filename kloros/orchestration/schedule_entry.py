"""One entry of the schedule: what is configured, what is remembered, what is emitted. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from kloros.daemon.grid import Grid
from kloros.orchestration.timeline import Timeline, on_grid
from kloros.orchestration.wishes import Wish, is_held, wanted_pace

Misfire = Literal["coalesce", "skip", "all"]
Overlap = Literal["skip", "queue_one"]
Reason = Literal["due", "misfire", "control", "clock", "chain", "deadline"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the schedule as configured. Intervals are divided by pace; `min_` and `max_interval_us` bound that.

    after: the entry whose cycle a beat waits for, `deadline_us` at most: that of its latest due moment not later.
    """

    name: str
    signal: str
    ecosystem: str
    interval_us: int
    offset_us: int = 0
    adaptive: bool = True
    priority: int = 0
    misfire: Misfire = "coalesce"
    misfire_limit: int = 10
    min_interval_us: int = 1
    max_interval_us: int = 2**62
    overlap: Overlap = "skip"
    after: str | None = None
    deadline_us: int = 0

    @property
    def grid(self) -> Grid:
        """The entry's due moments at its nominal interval."""
        return Grid(self.offset_us, self.interval_us)


class Beat(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is to be emitted now. Un-numbered (`beat` and `due_us` None) when it stands for no due moment of the grid.

    `missed` counts the due moments given up since the entry's last numbered beat.
    """

    entry: Entry
    reason: Reason
    interval_us: int
    pace: float
    beat: int | None = None
    due_us: int | None = None
    late_us: int = 0
    missed: int = 0
    serial: int | None = None
    causes: tuple[tuple[str, Wish], ...] = ()


class Skipped(msgspec.Struct, frozen=True):
    """Due moments that got no beat: `count` of them, from `first_us` to `last_us`, given up at `at_us`."""

    first_us: int
    last_us: int
    count: int
    reason: str
    at_us: int


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened at `at_us` to an entry, as far as it decides when the entry is due.

    kind: `planned` (due by `timeline` from now on), `removed`, `clock_back` (from `seen_us`), `paused`, `resumed`,
    `held`, `released`. settled: how many due moments of the timeline before had been settled.
    """

    at_us: int
    kind: str
    timeline: Timeline | None = None
    nominal_us: int = 0
    offset_us: int = 0
    settled: int = 0
    seen_us: int = 0
    why: str = ""


class Unsettled(NamedTuple):
    """Due moments that had come and still await what becomes of them: one that waits in a chain, one that is owed; and
    all since `since_us`, while the entry is kept from running (`hindrance`: paused, held, maintenance)."""

    waiting: tuple[int, ...] = ()
    since_us: int | None = None
    hindrance: str = ""

    def has(self, due_us: int) -> bool:
        """Whether that moment is one of them."""
        return due_us in self.waiting or (self.since_us is not None and due_us >= self.since_us)


class EntryState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an entry remembers, across restarts too. Moments are wall clock, `_until_us` None means no end.

    A due moment is settled when it was emitted or counted as missed. `index` is the first one of the timeline not yet
    settled: whatever the wall clock does, no due moment is settled twice and none is passed over.
    cursor_us: the last settled due moment (before the first one: the grid moment preceding it).
    owed_us: a settled due moment that still awaits its beat: it had come when the entry was re-anchored, or its wait
        in a chain was over while the entry was kept from running.
    waiting_us: a settled due moment whose beat waits for the entry it comes after.
    hindrance: why due moments are not looked at in time just now; empty when they are.
    skips, changes: what is not yet written into the ledger of beats.
    echo_us: since when the wall clock, stepped back, repeats time already worked; None when it does not.
    """

    timeline: Timeline
    cursor_us: int
    nominal_us: int
    offset_us: int
    index: int = 0
    owed_us: int | None = None
    waiting_us: int | None = None
    echo_us: int | None = None
    last_due_us: int | None = None
    last_beat: int | None = None
    paused: bool = False
    override_us: int | None = None
    override_until_us: int | None = None
    wishes: dict[str, Wish] = {}
    emitted: int = 0
    numbered: int = 0
    missed: int = 0
    misfires: int = 0
    unreported: int = 0
    removed: bool = False
    hindrance: str = ""
    skips: list[Skipped] = []
    changes: list[Change] = []

    def plan(self, timeline: Timeline, at_us: int, why: str = "") -> None:
        """Be due by `timeline` from now on."""
        change = Change(at_us, "planned", timeline, self.nominal_us, self.offset_us, self.index, why=why)
        self.timeline, self.index = timeline, 0
        self.changes.append(change)

    def note(self, at_us: int, kind: str, seen_us: int = 0, why: str = "") -> None:
        """Put on record what happened."""
        self.changes.append(Change(at_us, kind, settled=self.index, seen_us=seen_us, why=why))

    @property
    def pace(self) -> float:
        """What the wishes come to, before the entry's bounds."""
        return wanted_pace(self.wishes)

    @property
    def unsettled(self) -> Unsettled:
        """What is still to be decided about what was due."""
        waiting = tuple(due_us for due_us in (self.waiting_us, self.owed_us) if due_us is not None)
        return Unsettled(waiting, self.timeline.at(self.index) if self.hindrance else None, self.hindrance)

    @property
    def is_held(self) -> bool:
        """Whether a wish keeps it from running."""
        return is_held(self.wishes)


def fresh_state(entry: Entry, after_us: int) -> EntryState:
    """An entry that is due for the first time later than `after_us`."""
    timeline = on_grid(entry.grid, after_us)
    state = EntryState(
        timeline=timeline,
        cursor_us=timeline.first_us - entry.interval_us,
        nominal_us=entry.interval_us,
        offset_us=entry.offset_us,
    )
    state.plan(timeline, after_us, "new")
    return state


def returned_state(entry: Entry, state: EntryState, after_us: int) -> EntryState:
    """An entry that had been taken out of the schedule: as a fresh one, but no moment already settled comes again."""
    fresh = fresh_state(entry, max(after_us, state.cursor_us))
    fresh.last_due_us, fresh.last_beat = state.last_due_us, state.last_beat
    fresh.emitted, fresh.numbered, fresh.misfires = state.emitted, state.numbered, state.misfires
    fresh.missed, fresh.unreported = state.missed, state.unreported
    fresh.skips, fresh.changes = state.skips, [*state.changes, *fresh.changes]
    fresh.cursor_us = max(fresh.cursor_us, state.cursor_us)
    fresh.echo_us = after_us if state.cursor_us > after_us else None
    return fresh

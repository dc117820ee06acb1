"""One beat of fading, in turns: short transactions, page by page by key; it can stop after any and go on later.

A beat measures by the moment at which it began, so that doing it again changes nothing. What it has done so far is
noted with what it deletes: killed at any moment, it goes on where it was and tells of everything once.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kloros.consumers.memory.fading import Fading
from kloros.consumers.memory.settings import MemorySettings
from kloros.consumers.memory.store import FORGET_PROGRESS, Figures, MemoryStore
from kloros.consumers.memory.words import cut
from kloros.daemon.cycle import Statement

EXAMPLES = 5
# How finely scores are told apart when there is no room for all.
STEPS = 1_000
_EXAMPLE_CHARACTERS = 120
_BEAT = "beat"
OVER: Statement = (FORGET_PROGRESS, (_BEAT,))
"""Nothing of the beat is noted any more."""


class Tally(msgspec.Struct, kw_only=True):
    """What a beat has done so far. `now_us` is the moment by which it measures, `after` the last number looked at.

    kept_by_step: how many were kept by their score in steps. crowding: the highest step that is crowded out in a second
    walk, because more were kept than there is room for; then `excess` is how many still have to go.
    """

    now_us: int
    after: int = 0
    examined: int = 0
    by_sector: dict[str, int] = {}
    crowded_out: int = 0
    examples: list[tuple[float, str]] = []
    busy_s: float = 0.0
    kept_by_step: list[int] = msgspec.field(default_factory=lambda: [0] * STEPS)
    crowding: int | None = None
    excess: int = 0

    @property
    def forgotten(self) -> int:
        """How many, for whatever reason."""
        return sum(self.by_sector.values())


def has_begun(store: MemoryStore) -> bool:
    """Whether a beat was begun and not finished."""
    return store.progress(_BEAT) is not None


class Beat:
    """Use `go_on` until it says that all is done; OVER is to be executed in the transaction that tells of it."""

    def __init__(self, store: MemoryStore, settings: MemorySettings, fading: Fading, now_us: int) -> None:
        """Begin, or go on with the one that was begun and not finished."""
        self._store, self._settings, self._fading = store, settings, fading
        body = store.progress(_BEAT)
        self.tally = msgspec.json.decode(body, type=Tally) if body else Tally(now_us=now_us)
        # Set back since the beat began, the clock no longer says that anything is due which was not due by its time.
        self._now_us = min(self.tally.now_us, now_us)

    def go_on(self, may_go_on: Callable[[], bool]) -> bool:
        """Page after page, at least one, as long as it may; returns whether all is done."""
        while True:
            is_walked = self._walk_page()
            if is_walked and not self._begin_to_crowd_out():
                return True
            if not may_go_on():
                return False

    def left(self) -> int:
        """How many have still to be looked at; never 0, there may be new ones."""
        return max(1, self._store.count(self.tally.after))

    def note(self, busy_s: float) -> None:
        """Keep how far this turn came, and how long it took."""
        self.tally.busy_s += busy_s
        self._note()

    def _walk_page(self) -> bool:
        """Look at the next page by number; returns whether it was the last one."""
        tally, limit = self.tally, self._settings.pace.page_memories
        if tally.crowding is not None and not tally.excess:
            return True
        page = self._store.page(tally.after, limit)
        if page:
            doomed = self._faded(page) if tally.crowding is None else self._crowded_out(page, tally.crowding)
            tally.after = page[-1][0]
            if doomed:
                self._forget(doomed)
        return len(page) < limit

    def _faded(self, page: list[Figures]) -> list[Figures]:
        tally, score_of, below, doomed = self.tally, self._fading.score, self._fading.forgotten_below, list[Figures]()
        tally.examined += len(page)
        for row in page:
            score = score_of(row[1], row[2], self._now_us - row[3])
            if score < below:
                doomed.append(row)
            else:
                tally.kept_by_step[_step(score)] += 1
        return doomed

    def _crowded_out(self, page: list[Figures], through: int) -> list[Figures]:
        tally, score_of = self.tally, self._fading.score
        found = [row for row in page if _step(score_of(row[1], row[2], self._now_us - row[3])) <= through]
        doomed = found[: tally.excess]
        tally.excess -= len(doomed)
        tally.crowded_out += len(doomed)
        return doomed

    def _begin_to_crowd_out(self) -> bool:
        """When more were kept than there is room for, walk once more; returns whether that is so."""
        tally = self.tally
        excess = self._store.count() - self._settings.limits.memories
        if tally.crowding is not None or excess <= 0:
            return False
        tally.excess, tally.after, tally.crowding, room = excess, 0, -1, excess
        while room > 0 and tally.crowding < STEPS - 1:
            tally.crowding += 1
            room -= tally.kept_by_step[tally.crowding]
        return True

    def _forget(self, doomed: list[Figures]) -> None:
        tally = self.tally
        with self._store.database.transaction():
            weightiest = sorted(doomed, key=lambda row: -row[2])[:EXAMPLES]
            examples = [(row[2], cut(self._store.text_of(row[0]), _EXAMPLE_CHARACTERS)) for row in weightiest]
            tally.examples = sorted([*tally.examples, *examples], key=lambda each: -each[0])[:EXAMPLES]
            for _, sector, _, _ in doomed:
                tally.by_sector[sector] = tally.by_sector.get(sector, 0) + 1
            self._store.forget(row[0] for row in doomed)
            self._note()

    def _note(self) -> None:
        self._store.note_progress(_BEAT, msgspec.json.encode(self.tally))


def _step(score: float) -> int:
    return min(STEPS - 1, int(score * STEPS))

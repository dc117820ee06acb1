"""One beat of fading, in turns: short transactions, page by page by key; it can stop after any and go on later.

A beat measures by the moment at which it began, so that doing it again changes nothing. What it has done so far is
noted with each page: killed at any moment, it goes on where it was and tells of everything once.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kloros.consumers.memory.fading import Fading, Sector
from kloros.consumers.memory.settings import FadingSettings, HalfLifeSettings, MemorySettings
from kloros.consumers.memory.store import FORGET_PROGRESS, MemoryStore
from kloros.consumers.memory.words import cut
from kloros.daemon.cycle import Statement

EXAMPLES = 5
_EXAMPLE_CHARACTERS = 120
_BEAT, _FITTED = "beat", "fitted"
OVER: Statement = (FORGET_PROGRESS, (_BEAT,))
"""Nothing of the beat is noted any more."""


class Tally(msgspec.Struct, kw_only=True):
    """What a beat has done so far. `now_us` is the moment by which it measures."""

    now_us: int
    examined: int
    by_sector: dict[str, int] = {}
    crowded_out: int = 0
    examples: list[tuple[float, str]] = []
    busy_s: float = 0.0

    @property
    def forgotten(self) -> int:
        """How many, for whatever reason."""
        return sum(self.by_sector.values())


class _Fitted(msgspec.Struct):
    """By which curve it was worked out when memories fade: up to which number so far, None for all."""

    curve: tuple[HalfLifeSettings, FadingSettings]
    after: int | None = 0


def has_begun(store: MemoryStore) -> bool:
    """Whether a beat was begun and not finished."""
    return store.progress(_BEAT) is not None


class Beat:
    """Use `go_on` until it says that all is done; OVER is to be executed in the transaction that tells of it."""

    def __init__(self, store: MemoryStore, settings: MemorySettings, fading: Fading, now_us: int) -> None:
        """Begin, or go on with the one that was begun and not finished."""
        self._store, self._settings, self._fading = store, settings, fading
        body = store.progress(_BEAT)
        self.tally = msgspec.json.decode(body, type=Tally) if body else Tally(now_us=now_us, examined=store.count())
        # Set back since the beat began, the clock no longer says that anything is due which was not due by its time.
        self._now_us = min(self.tally.now_us, now_us)
        self._excess = 0

    def go_on(self, may_go_on: Callable[[], bool]) -> bool:
        """Page after page, at least one, as long as it may; returns whether all is done."""
        if not self._all_pages(self._refit_page, may_go_on) or not self._all_pages(self._fade_page, may_go_on):
            return False
        self._excess = self._store.count() - self._settings.limits.memories
        return self._all_pages(self._crowd_page, may_go_on)

    @staticmethod
    def _all_pages(page: Callable[[], bool], may_go_on: Callable[[], bool]) -> bool:
        while page():
            if not may_go_on():
                return False
        return True

    def left(self) -> int:
        """How many are still to go, as far as it is known; never 0 while anything is left to do."""
        return max(1, self._store.count_due(self._now_us) + max(0, self._excess))

    def note(self, busy_s: float) -> None:
        """Keep how long this turn took."""
        self.tally.busy_s += busy_s
        self._note()

    # Pages; each says whether there may be another one

    def _refit_page(self) -> bool:
        """The moments at which memories fade, after the settings changed."""
        body = self._store.progress(_FITTED)
        fitted = msgspec.json.decode(body, type=_Fitted) if body else None
        if fitted is None or fitted.curve != self._fading.settings:
            fitted = _Fitted(self._fading.settings)
        if fitted.after is None:
            return False
        with self._store.database.transaction():
            page = self._store.page_after(fitted.after, self._settings.pace.page_memories)
            fades_us = self._fading.fades_us
            self._store.refit(
                [(fades_us(Sector(sector), weight, born), number) for number, sector, weight, born in page]
            )
            fitted.after = page[-1][0] if page else None
            self._store.note_progress(_FITTED, msgspec.json.encode(fitted))
        return bool(page)

    def _fade_page(self) -> bool:
        limit = self._settings.pace.page_memories
        with self._store.database.transaction():
            page = self._store.page_due(self._now_us, limit)
            self._forget(page)
        return len(page) == limit

    def _crowd_page(self) -> bool:
        """Beyond the limit, those that would fade first."""
        if self._excess <= 0:
            return False
        with self._store.database.transaction():
            page = self._store.page_due(None, min(self._excess, self._settings.pace.page_memories))
            self.tally.crowded_out += len(page)
            self._forget(page)
        self._excess -= len(page)
        return True

    def _forget(self, page: list[tuple[int, str, float, str]]) -> None:
        if not page:
            return
        self._store.forget([number for number, *_ in page])
        tally = self.tally
        for _, sector, _, _ in page:
            tally.by_sector[sector] = tally.by_sector.get(sector, 0) + 1
        weightiest = sorted(page, key=lambda row: -row[2])[:EXAMPLES]
        examples = [*tally.examples, *((row[2], cut(row[3], _EXAMPLE_CHARACTERS)) for row in weightiest)]
        tally.examples = sorted(examples, key=lambda each: -each[0])[:EXAMPLES]
        self._note()

    def _note(self) -> None:
        self._store.note_progress(_BEAT, msgspec.json.encode(self.tally))

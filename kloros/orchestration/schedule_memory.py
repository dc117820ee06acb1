"""What the scheduler remembers on disk: one document per entry, its epoch, and the ledger of beats."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from kloros.errors import StoreUnusable
from kloros.orchestration.beat_ledger import BeatLedger, count_beats, prune_beats, prune_history
from kloros.orchestration.schedule_entry import EntryState
from kloros.orchestration.schedule_settings import LedgerSettings
from kloros.storage.state_store import StateStore
from kloros.units import seconds_to_us


class ScheduleMemory:
    """The schedule's part of the scheduler's store. A commit outlives a kill -9."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.ledger = BeatLedger()
        self._beats = count_beats(store.database)
        self._names = set(store.get("entries", list[str]) or ())

    def next_epoch(self, wall_us: int) -> int:
        """A number higher than every earlier life's, kept before anything is emitted under it."""
        epoch = max((self._store.get("epoch", int) or 0) + 1, wall_us // 1000)
        self._store.put("epoch", epoch)
        return epoch

    def states(self) -> dict[str, EntryState]:
        """Every entry that was ever remembered and can still be read."""
        states = {name: self._store.get(f"entry/{name}", EntryState) for name in self._names}
        return {name: state for name, state in states.items() if state is not None}

    def remember(self, changes: Mapping[str, EntryState], now_us: int) -> None:
        """Keep the changed entries and what the ledger has noted, in one transaction.

        A disk that refuses stops nothing: the entries stay in memory, the ledger's rows wait for the next times, when
        they are written a few at a time, so that no beat is late for it.
        """
        self.ledger.take(changes)
        try:
            with self._store.database.transaction() as database:
                written = self.ledger.write(database, now_us)
                self._keep(changes)
        except StoreUnusable:
            self.ledger.not_written()
            self._keep(changes)
        else:
            self._beats += written
            self.ledger.written()

    def prune_beats(self, now_us: int, limits: LedgerSettings) -> None:
        """Let some of the beats go that are too many or too old. A disk that refuses is asked again next time."""
        with suppress(StoreUnusable):
            oldest_us, excess = now_us - seconds_to_us(limits.keep_s), self._beats - limits.max_beats
            self._beats -= prune_beats(self._store.database, oldest_us, excess)

    def prune_history(self) -> None:
        """Let go what was planned and skipped before the oldest beat that is kept."""
        with suppress(StoreUnusable):
            prune_history(self._store.database)

    def _keep(self, changes: Mapping[str, EntryState]) -> None:
        is_known = changes.keys() <= self._names
        with self._store.batch():
            for name, state in changes.items():
                self._store.put(f"entry/{name}", state)
            if not is_known:
                self._names |= changes.keys()
                self._store.put("entries", sorted(self._names))

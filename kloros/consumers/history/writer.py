"""Brings what was heard to the disk, in batches, from a thread of its own; keeps the history within its limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from structlog.typing import FilteringBoundLogger

from kloros.consumers.history.buffer import HistoryBuffer, Load
from kloros.daemon.cycle import Worker
from kloros.errors import StoreUnusable
from kloros.storage.history_rows import Gap, Row
from kloros.storage.history_store import Bounds, HistoryStore, Step

IsCancelled: TypeAlias = Callable[[], bool]
_CLOSE_WAITS_S = 2.0


class HistoryWriter:
    """Empties a buffer into a store. Its methods are safe from any thread."""

    def __init__(self, store: HistoryStore, buffer: HistoryBuffer, bounds: Bounds, log: FilteringBoundLogger) -> None:
        self.bounds = bounds
        self.lack: str | None = None
        self.stored = self.folded = self.missing = self.let_go = 0
        self._store, self._buffer, self._log = store, buffer, log
        self._lock = threading.Lock()
        self._is_asked = False
        self._worker = Worker("history writer")

    def write_soon(self) -> None:
        """Write what is in the buffer; returns at once."""
        with self._lock:
            if self._is_asked:
                return
            self._is_asked = True
        self._worker.run(self._write)

    def close(self) -> bool:
        """Write what is left and end the thread; returns whether that was done in time."""
        self.write_soon()
        return self._worker.close(_CLOSE_WAITS_S)

    def keep(self, rows: list[Row]) -> None:
        """Keep rows within the transaction that the caller is in. Raises StoreUnusable."""
        self._store.add(rows)
        self.stored += len(rows)
        self._trim_size()

    def rotate(self, now_us: int, is_cancelled: IsCancelled) -> int:
        """Bring the history within its limits, in small steps, and give room back; returns how many rows went.

        Raises:
            StoreUnusable: The disk refuses.
        """
        self._store.prepare()
        before = self.let_go
        steps: tuple[Callable[[], Step], ...] = (
            lambda: self._store.trim_age(self.bounds, now_us),
            lambda: self._store.trim_size(self.bounds),
            lambda: self._store.give_back(self.bounds),
        )
        self._take(steps, is_cancelled)
        return self.let_go - before

    def prune_soon(self, max_bytes: int, on_done: Callable[[], None]) -> None:
        """Bring the file down to that size once, in small steps; returns at once. `on_done` is called from the thread
        that did it, and not at all when the disk refused."""
        self._worker.run(partial(self._prune, max_bytes, on_done))

    def _prune(self, max_bytes: int, on_done: Callable[[], None]) -> None:
        bounds = replace(self.bounds, max_bytes=min(max_bytes, self.bounds.max_bytes))
        before, before_bytes = self.let_go, self.file_bytes()
        try:
            self._store.prepare()
            self._take((lambda: self._store.trim_size(bounds), lambda: self._store.give_back(bounds)), lambda: False)
            self._store.end_file()
        except StoreUnusable as error:
            self._note_lack(error)
            return
        self._log.info(
            "history_pruned", let_go=self.let_go - before, before_bytes=before_bytes, after_bytes=self.file_bytes()
        )
        on_done()

    def _take(self, steps: Iterable[Callable[[], Step]], is_cancelled: IsCancelled) -> None:
        for step in steps:
            while not is_cancelled() and (done := step()):
                self._count_let_go(done)
                self._store.end_wal()

    def _count_let_go(self, step: Step) -> None:
        with self._lock:  # two threads let go: that of the work, and this writer's own
            self.let_go += step.rows

    def file_bytes(self) -> int:
        """How large the history is on disk; 0 while that cannot be told."""
        try:
            return self._store.file_bytes()
        except StoreUnusable:
            return 0

    def _write(self) -> None:
        with self._lock:
            self._is_asked = False
        while load := self._buffer.take():
            if not self._put(load):
                return
        self._buffer.stored()
        try:
            self._trim_size()
            self._store.end_wal()
        except StoreUnusable as error:
            self._note_lack(error)

    def _put(self, load: Load) -> bool:
        """Write it, or give it back and say why."""
        try:
            self._store.prepare()
            self._add(load)
        except StoreUnusable as error:
            self._buffer.give_back(load)
            self._note_lack(error)
            return False
        self._buffer.stored()
        self.stored += len(load.rows)
        self.folded += sum(row.repeats for row in load.rows) + sum(each.count for each in load.repeats)
        self.missing += sum(gap.missing for gap in load.gaps)
        if self.lack is not None:
            self._log.info("history_written_again")
            self.lack = None
        return True

    def _add(self, load: Load) -> None:
        try:
            self._store.add(load.rows, load.gaps, load.repeats, load.marks.values())
        except StoreUnusable:
            raise
        except Exception:  # noqa: BLE001 - a row that no database takes must not hold up the others
            self._log.exception("history_row_refused")
            load.gaps += self._add_one_by_one(load.rows)
            load.rows = []
            self._store.add([], load.gaps, load.repeats, load.marks.values())

    def _add_one_by_one(self, rows: Iterable[Row]) -> list[Gap]:
        """Gaps for those that cannot be kept."""
        refused = []
        for row in rows:
            try:
                self._store.add([row])
                self.stored += 1
            except StoreUnusable:
                raise
            except Exception:  # noqa: BLE001 - logged by the caller, and a gap
                refused.append(Gap("refused", "*", "*", "*", row.ts_us, row.ts_us, 1 + row.repeats))
        return refused

    def _trim_size(self) -> None:
        while self._store.is_over(self.bounds) and (step := self._store.trim_size(self.bounds)):
            self._count_let_go(step)

    def _note_lack(self, error: StoreUnusable) -> None:
        if self.lack is None:
            self._log.warning("history_not_written", reason=str(error.reason))
        self.lack = f"the history cannot be written ({error.reason}); {len(self._buffer)} messages wait"

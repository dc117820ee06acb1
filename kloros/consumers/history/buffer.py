"""What waits to be written to the history: bounded in messages and in bytes, every message beyond that counted."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from kloros.storage.history_rows import Gap, GapKind, Mark, Row, zooid_of
from kloros.storage.history_store import Repeat

MAX_GAPS = 1_024
_ROW_OVERHEAD_BYTES = 500


@dataclass
class Load:
    """What one emptying of the buffer took out."""

    rows: list[Row] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    marks: dict[tuple[str, str], Mark] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rows or self.gaps or self.repeats or self.marks)


class HistoryBuffer:
    """Filled by the loop, emptied by the writer."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self.dropped = 0
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._lock = threading.Lock()
        self._load = Load()
        self._gaps: dict[tuple[GapKind, str, str], Gap] = {}
        self._repeats: dict[int, Repeat] = {}
        self._waiting: set[int] = set()
        self._out_rows = 0
        self._out_bytes = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Rows in the buffer and on their way to the disk."""
        with self._lock:
            return len(self._load.rows) + self._out_rows

    @property
    def is_holding(self) -> bool:
        """Whether anything waits to be written, be it a gap."""
        with self._lock:
            return bool(self._load or self._gaps or self._repeats)

    def resize(self, max_rows: int, max_bytes: int) -> None:
        """Other bounds from now on."""
        with self._lock:
            self._max_rows, self._max_bytes = max_rows, max_bytes

    def offer(self, row: Row) -> bool:
        """Take a message; False when there is no room: then it is dropped, and counted as a gap."""
        with self._lock:
            self._mark(row.pub, row.signal, row.seq, row.ts_us)
            size = len(row.body) + _ROW_OVERHEAD_BYTES
            is_full = (
                len(self._load.rows) + self._out_rows >= self._max_rows
                or self._bytes + self._out_bytes + size > self._max_bytes
            )
            if is_full:
                self.dropped += 1
                self._add_gap(Gap("dropped", row.signal, row.zooid, row.pub or "", row.ts_us, row.ts_us, 1))
                return False
            self._load.rows.append(row)
            self._waiting.add(id(row))
            self._bytes += size
            return True

    def repeat(self, row: Row, seq: int | None, ts_us: int) -> None:
        """A message that only repeats `row`, which is in the buffer or already stored."""
        with self._lock:
            self._mark(row.pub, row.signal, seq, ts_us)
            if id(row) in self._waiting:
                row.repeats += 1
                row.last_us = max(row.last_us, ts_us)
                return
            before = self._repeats.get(id(row))
            count, last_us = (before.count, before.last_us) if before else (0, ts_us)
            self._repeats[id(row)] = Repeat(row, count + 1, max(last_us, ts_us))

    def miss(self, gap: Gap) -> None:
        """Messages that will never be here. Those of one kind, signal and publisher are added up."""
        with self._lock:
            self._add_gap(gap)

    def take(self) -> Load:
        """Everything there is. It takes up room until `stored` or `give_back`, one of which must follow."""
        with self._lock:
            load = self._load
            load.gaps, load.repeats = list(self._gaps.values()), list(self._repeats.values())
            self._load, self._gaps, self._repeats = Load(), {}, {}
            self._waiting.clear()
            self._out_rows, self._out_bytes, self._bytes = len(load.rows), self._bytes, 0
            return load

    def stored(self) -> None:
        """What was taken is on disk: its room is free."""
        with self._lock:
            self._out_rows = self._out_bytes = 0

    def give_back(self, load: Load) -> None:
        """It could not be written: keep it for the next time."""
        with self._lock:
            load.rows += self._load.rows
            load.marks |= self._load.marks
            self._load = load
            for gap in load.gaps:
                self._add_gap(gap)
            for repeat in load.repeats:
                later = self._repeats.get(id(repeat.row))
                if later:
                    repeat = replace(
                        repeat, count=repeat.count + later.count, last_us=max(repeat.last_us, later.last_us)
                    )
                self._repeats[id(repeat.row)] = repeat
            self._waiting = {id(row) for row in load.rows}
            self._fold_repeats_of_waiting_rows()
            self._out_rows = self._out_bytes = 0
            self._bytes = _size(load.rows)

    def _fold_repeats_of_waiting_rows(self) -> None:
        for key in self._waiting & self._repeats.keys():
            repeat = self._repeats.pop(key)
            repeat.row.repeats += repeat.count
            repeat.row.last_us = max(repeat.row.last_us, repeat.last_us)

    def mark(self, pub: str, signal: str, seq: int, ts_us: int) -> None:
        """Everything up to that number is here, or was said to be missing."""
        with self._lock:
            self._mark(pub, signal, seq, ts_us)

    def _mark(self, pub: str | None, signal: str, seq: int | None, ts_us: int) -> None:
        if pub is not None and seq is not None:
            self._load.marks[pub, signal] = Mark(pub, signal, seq, ts_us)

    def _add_gap(self, gap: Gap) -> None:
        key = (gap.kind, gap.signal, gap.pub)
        if key not in self._gaps and len(self._gaps) >= MAX_GAPS:
            key = (gap.kind, "*", "*")
        known = self._gaps.get(key)
        if known is None:
            self._gaps[key] = replace(gap, signal=key[1], pub=key[2], zooid="*" if key[2] == "*" else zooid_of(gap.pub))
        else:
            self._gaps[key] = replace(
                known,
                missing=known.missing + gap.missing,
                since_us=min(known.since_us, gap.since_us),
                until_us=max(known.until_us, gap.until_us),
            )


def _size(rows: list[Row]) -> int:
    return sum(len(row.body) + _ROW_OVERHEAD_BYTES for row in rows)

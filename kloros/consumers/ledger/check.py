"""Verifying a ledger: what was changed, removed, moved or slipped in, by the number of the row. Pure.

A whole ledger set back to an earlier state of its own is whole in itself: that shows only by an end that was noted
elsewhere (the ledger writer logs it at every flush).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

import msgspec

from kloros.consumers.ledger.rows import GENESIS, Entry, Head, Row, Segment, Signed, row_hash, signature

Kind = Literal["changed", "missing", "moved", "appended", "unlinked", "head", "segment"]
DocumentT = TypeVar("DocumentT", Head, Segment)

MAX_FAULTS_KEPT = 1_000
PROGRESS_EVERY_ROWS = 20_000

_decode_entry = msgspec.json.Decoder(Entry).decode


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was written; `row` is its number, `last_row` the last of a stretch."""

    kind: Kind
    detail: str
    row: int | None = None
    last_row: int | None = None
    segment: int | None = None


class Report(msgspec.Struct, kw_only=True):
    """What a verification found; `faults` keeps the first thousand, `fault_count` counts all."""

    rows: int = 0
    released_rows: int = 0
    segments: int = 0
    last_row: int | None = None
    head_hash: str | None = None
    fault_count: int = 0
    faults: list[Fault] = []

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written."""
        return self.fault_count == 0


def verify(
    key: bytes,
    head: Signed | None,
    segments: Sequence[tuple[int, Signed]],
    rows: Iterable[Row],
    noted: tuple[int, str] | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Verify a ledger read in one piece: its head, all segments and all rows, both in the order of their numbers.

    `noted` is the number and hash of a row, as they were noted elsewhere when the ledger ended there. `on_progress` is
    told how many rows are done, of how many.
    """
    return _Verification(key, noted, on_progress).run(head, segments, rows)


class _Verification:
    def __init__(self, key: bytes, noted: tuple[int, str] | None, on_progress: Callable[[int, int], None]) -> None:
        self._key, self._noted, self._on_progress = key, noted, on_progress
        self._is_noted_seen = False
        self.report = Report()
        self._head: Head | None = None
        self._expected = 1
        self._prev: str | None = GENESIS  # None: not known, because of a fault that is already named
        self._ends: dict[int, Segment] = {}

    def run(self, head: Signed | None, segments: Sequence[tuple[int, Signed]], rows: Iterable[Row]) -> Report:
        self._head = self._read_head(head)
        self._take_segments(segments)
        last_seq = self._head.seq if self._head else None
        for row in rows:
            self._take_row(row, last_seq)
            if self.report.rows % PROGRESS_EVERY_ROWS == 0:
                self._on_progress(self.report.rows, (last_seq or 0) - self.report.released_rows)
        self._close()
        return self.report

    # Head and segments

    def _read_head(self, signed: Signed | None) -> Head | None:
        if signed is None:
            self._blame("head", "there is no record of where the ledger ends")
            return None
        head = opened(self._key, signed, Head)
        if head is None:
            self._blame("head", "the record of where the ledger ends was changed, or signed with another key")
            return None
        self.report.last_row, self.report.head_hash = head.seq, head.hash
        return head

    def _take_segments(self, segments: Sequence[tuple[int, Signed]]) -> None:
        self.report.segments = len(segments)
        before: Segment | None = Segment(number=0, last_seq=0, last_hash=GENESIS, released_ts=0.0)
        wanted = 1
        for number, signed in segments:
            if number > wanted:
                self._blame_missing_segments(wanted, number - 1)
                before = None
            segment = opened(self._key, signed, Segment)
            if segment is None or segment.number != number:
                self._blame_segment(number, "its record was changed")
                before = None
            else:
                self._follow(before, segment)
                before = segment
            wanted = number + 1
        if self._head is None:
            return
        self._blame_missing_segments(wanted, self._head.segment)
        for number in range(self._head.segment + 1, wanted):
            self._blame_segment(number, "was not opened by the ledger writer")

    def _follow(self, before: Segment | None, segment: Segment) -> None:
        number = segment.number
        if before is not None:
            if (before.last_hash, (before.last_seq or 0) + 1) != (segment.prev, segment.first_seq):
                self._blame_segment(number, "does not begin where the one before ends")
            if segment.released_ts is not None and before.released_ts is None:
                self._blame_segment(number, "released before the one before it")
        if segment.last_seq is not None:
            self._ends[segment.last_seq] = segment
        if segment.released_ts is not None and segment.last_seq is not None:
            self.report.released_rows += segment.last_seq - segment.first_seq + 1
            self._expected, self._prev = segment.last_seq + 1, segment.last_hash

    def _blame_missing_segments(self, first: int, last: int) -> None:
        for number in range(first, min(last, first + MAX_FAULTS_KEPT) + 1):
            self._blame_segment(number, "its record is missing")

    # Rows

    def _take_row(self, row: Row, last_seq: int | None) -> None:
        self.report.rows += 1
        if row.seq < self._expected:
            self._blame("appended", f"row {row.seq}: stands where rows were released, or before the first", row.seq)
            return
        if last_seq is not None and row.seq > last_seq:
            self._blame(
                "appended", f"row {row.seq}: was not written by the ledger writer (its last is {last_seq})", row.seq
            )
            return
        if row.seq > self._expected:
            self._blame_missing(self._expected, row.seq - 1)
        self._expected = row.seq + 1
        self._prev = self._checked(row)
        if self._noted and row.seq == self._noted[0]:
            self._compare_noted(self._prev)
        end = self._ends.get(row.seq)
        if end is not None and self._prev is not None and end.last_hash != self._prev:
            self._blame(
                "unlinked", f"row {row.seq}: is not the one with which segment {end.number} was sealed", row.seq
            )

    def _checked(self, row: Row) -> str | None:
        """Judge one row; returns its hash, or None when it cannot be trusted to be that row."""
        name = f"row {row.seq}"
        if signature(self._key, row.body) != row.sig:
            self._blame(
                "changed", f"{name}: was changed after it was signed, or never signed by the ledger writer", row.seq
            )
            return None
        try:
            entry = _decode_entry(row.body)
        except msgspec.MsgspecError:
            self._blame("changed", f"{name}: holds something else that the ledger writer signed", row.seq)
            return None
        if entry.seq != row.seq:
            self._blame("moved", f"{name}: holds what was written as row {entry.seq}", row.seq)
            return None
        if (entry.source, entry.signal, entry.zooid) != (row.source, row.signal, row.zooid):
            self._blame("changed", f"{name}: its columns no longer say what its signed body says", row.seq)
        if self._prev is not None and entry.prev != self._prev:
            self._blame("unlinked", f"{name}: is signed, but was not written after the row before it", row.seq)
        return row_hash(row.body, row.sig)

    def _compare_noted(self, found: str | None) -> None:
        assert self._noted
        self._is_noted_seen = True
        if found is not None and found != self._noted[1]:
            self._blame("head", f"row {self._noted[0]}: is not the one that was noted", self._noted[0])

    def _close(self) -> None:
        if self._noted and not self._is_noted_seen and self._noted[0] > self.report.released_rows:
            self._blame("head", f"row {self._noted[0]}: was noted, and is not there", self._noted[0])
        if self._head is None:
            return
        if self._expected <= self._head.seq:
            self._blame_missing(self._expected, self._head.seq)
        elif self._prev is not None and self._prev != self._head.hash:
            self._blame("unlinked", f"row {self._head.seq}: is not the one that was written last", self._head.seq)

    def _blame_missing(self, first: int, last: int) -> None:
        self._prev = None
        self.report.fault_count += last - first  # each row counts
        if first == last:
            self._blame("missing", f"row {first}: is missing", first)
        else:
            self._blame("missing", f"rows {first} to {last}: are missing", first, last)

    def _blame(self, kind: Kind, detail: str, row: int | None = None, last_row: int | None = None) -> None:
        self._add(Fault(kind=kind, detail=detail, row=row, last_row=last_row))

    def _blame_segment(self, number: int, what: str) -> None:
        self._add(Fault(kind="segment", detail=f"segment {number}: {what}", segment=number))

    def _add(self, fault: Fault) -> None:
        self.report.fault_count += 1
        if len(self.report.faults) < MAX_FAULTS_KEPT:
            self.report.faults.append(fault)


def opened(key: bytes, signed: Signed, shape: type[DocumentT]) -> DocumentT | None:
    """The document, if its signature holds."""
    if signature(key, signed.body) != signed.sig:
        return None
    try:
        return msgspec.json.decode(signed.body, type=shape)
    except msgspec.MsgspecError:
        return None

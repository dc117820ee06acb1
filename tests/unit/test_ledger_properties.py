"""Whatever a hand does to a ledger is found, and the row it did it to is named; figures equal a plain recomputation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kloros.consumers.ledger.check import Report, verify
from kloros.consumers.ledger.figures import ALPHA, WINDOW, Figures
from kloros.consumers.ledger.rows import Entry, Head, Row, Segment, Signed, append, seal, sign

KEY = b"a key of thirty-two bytes, or so"
SEGMENT_ROWS = 4

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["Grüße", "日本語", "🌍", "\x00"]
)
facts = st.dictionaries(
    text, text | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
)


class Book:
    """A ledger as it lies on the disk; every segment but the last is sealed."""

    def __init__(self, contents: Sequence[dict[str, Any]], key: bytes = KEY) -> None:
        self.rows: list[Row] = []
        segments, current, head = [], Segment(), Head()
        for number, each in enumerate(contents, 1):
            row, head = append(key, head, _entry(number, each))
            self.rows.append(row)
            if number % SEGMENT_ROWS == 0:
                sealed, current, head = seal(current, head, float(number))
                segments.append(sealed)
        self.head: Signed | None = sign(key, head)
        self.segments = [(segment.number, sign(key, segment)) for segment in [*segments, current]]

    def verify(self) -> Report:
        return verify(KEY, self.head, self.segments, sorted(self.rows))


def _entry(number: int, each: dict[str, Any]) -> Entry:
    return Entry(
        seq=0, prev="", source=f"m{number}", offset=number, signal="OBSERVATION", zooid="zähler", ts=1.0,
        heard_ts=2.0, incident_id=None, facts=each,
    )  # fmt: skip


def named(report: Report) -> set[int]:
    """Every row number that the report names."""
    return {
        row
        for fault in report.faults
        if fault.row is not None
        for row in range(fault.row, (fault.last_row or fault.row) + 1)
    }


books = st.lists(facts, min_size=1, max_size=10).map(Book)


@given(books)
def test_an_untouched_ledger_is_whole(book: Book) -> None:
    report = book.verify()
    assert report.ok
    assert report.rows == len(book.rows) == report.last_row


@given(books, st.data())
def test_any_byte_of_any_column_of_any_row(book: Book, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(book.rows) - 1))
    column = data.draw(st.sampled_from(["body", "sig", "source", "signal", "zooid"]))
    row = book.rows[index]
    value = getattr(row, column)
    raw = value if isinstance(value, bytes) else value.encode()
    place = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[place]))
    changed = raw[:place] + bytes([byte]) + raw[place + 1 :]
    new = changed if isinstance(value, bytes) else changed.decode("utf-8", "surrogateescape")
    book.rows[index] = row._replace(**{column: new})
    report = book.verify()
    assert [(fault.kind, fault.row) for fault in report.faults] == [("changed", row.seq)]


@given(books, st.data())
def test_any_stretch_taken_out(book: Book, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(book.rows) - 1))
    count = data.draw(st.integers(1, len(book.rows) - first))
    gone = {row.seq for row in book.rows[first : first + count]}
    del book.rows[first : first + count]
    report = book.verify()
    assert {fault.kind for fault in report.faults} == {"missing"}
    assert named(report) == gone
    assert report.fault_count == count


@given(books, st.data())
def test_a_row_taken_out_and_the_rest_moved_up(book: Book, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(book.rows) - 1))
    seq = book.rows[index].seq
    book.rows = book.rows[:index] + [row._replace(seq=row.seq - 1) for row in book.rows[index + 1 :]]
    report = book.verify()
    assert not report.ok
    assert report.faults[0].row == seq


@given(st.lists(facts, min_size=2, max_size=10).map(Book), st.data())
def test_any_two_rows_that_changed_places(book: Book, data: st.DataObject) -> None:
    pair = st.lists(st.integers(0, len(book.rows) - 1), min_size=2, max_size=2, unique=True)
    one, other = data.draw(pair)
    first, second = book.rows[one], book.rows[other]
    book.rows[one], book.rows[other] = first._replace(seq=second.seq), second._replace(seq=first.seq)
    report = book.verify()
    assert {(fault.kind, fault.row) for fault in report.faults} == {("moved", first.seq), ("moved", second.seq)}


@given(books, facts, st.integers(1, 3), st.booleans())
def test_any_row_appended_by_hand(book: Book, content: dict[str, Any], ahead: int, copies: bool) -> None:
    last = book.rows[-1]
    forged, _ = append(b"not the key that it should be", Head(seq=last.seq), _entry(99, content))
    row = (last if copies else forged)._replace(seq=last.seq + ahead)
    book.rows.append(row)
    report = book.verify()
    assert [(fault.kind, fault.row) for fault in report.faults] == [("appended", row.seq)]


@given(books, facts)
def test_a_row_before_the_first(book: Book, content: dict[str, Any]) -> None:
    book.rows.append(book.rows[0]._replace(seq=0))
    assert [(fault.kind, fault.row) for fault in book.verify().faults] == [("appended", 0)]


@given(books, st.data())
def test_a_row_of_another_ledger_with_the_same_key(book: Book, data: st.DataObject) -> None:
    other = Book([{"other": index} for index in range(len(book.rows))])
    index = data.draw(st.integers(0, len(book.rows) - 1))
    book.rows[index] = other.rows[index]
    report = book.verify()
    assert not report.ok
    # The row itself may follow well (the first of both ledgers does): then the next one, or the end, does not.
    assert report.faults[0].row in (index + 1, index + 2)


def _without_head(book: Book) -> None:
    book.head = None


def _with_a_changed_head(book: Book) -> None:
    assert book.head
    book.head = Signed(book.head.body.replace(b"seq", b"sex"), book.head.sig)


def _with_a_head_signed_otherwise(book: Book) -> None:
    book.head = sign(b"not the key that it should be", Head())


def _without_the_last_segment(book: Book) -> None:
    book.segments.pop()


def _without_the_first_segment(book: Book) -> None:
    del book.segments[0]


def _with_a_changed_segment(book: Book) -> None:
    number, signed = book.segments[0]
    book.segments[0] = (number, Signed(signed.body.replace(b'"number":1', b'"number":7'), signed.sig))


def _with_a_segment_too_many(book: Book) -> None:
    book.segments.append((len(book.segments) + 1, book.segments[-1][1]))


BEYOND_ROWS: list[Callable[[Book], None]] = [
    _without_head, _with_a_changed_head, _with_a_head_signed_otherwise, _without_the_last_segment,
    _without_the_first_segment, _with_a_changed_segment, _with_a_segment_too_many,
]  # fmt: skip


@given(books, st.sampled_from(BEYOND_ROWS))
def test_anything_done_to_the_records_beside_the_rows(book: Book, tamper: Callable[[Book], None]) -> None:
    tamper(book)
    report = book.verify()
    assert not report.ok
    assert {fault.kind for fault in report.faults} <= {"head", "segment"}


def _released(number: int, signed: Signed) -> tuple[int, Signed]:
    fields = json.loads(signed.body)
    del fields["kind"]
    return number, sign(KEY, Segment(**{**fields, "released_ts": 99.0}))


@given(st.lists(facts, min_size=2 * SEGMENT_ROWS + 1, max_size=12), st.integers(1, 2))
def test_released_segments_keep_the_chain(contents: list[dict[str, Any]], count: int) -> None:
    book = Book(contents)
    for index in range(count):
        book.segments[index] = _released(*book.segments[index])
    book.rows = book.rows[count * SEGMENT_ROWS :]
    report = book.verify()
    assert report.ok
    assert report.released_rows == count * SEGMENT_ROWS
    del book.rows[0]
    assert named(book.verify()) == {count * SEGMENT_ROWS + 1}


def test_rows_gone_without_a_released_segment_are_missing() -> None:
    book = Book([{"n": number} for number in range(9)])
    book.rows = book.rows[SEGMENT_ROWS:]
    assert named(book.verify()) == {1, 2, 3, 4}


def test_faults_far_apart_are_all_named() -> None:
    book = Book([{"n": number} for number in range(9)])
    book.rows[1] = book.rows[1]._replace(body=book.rows[1].body + b" ")
    del book.rows[6]
    assert [(fault.kind, fault.row) for fault in book.verify().faults] == [("changed", 2), ("missing", 7)]


observations = st.lists(st.tuples(st.booleans(), st.none() | st.floats(0, 1e9), st.floats(0, 2e9)), max_size=60)


@given(observations)
def test_figures_equal_a_plain_recomputation(taken: list[tuple[bool, float | None, float]]) -> None:
    figures = Figures(zooid="z")
    for ok, ttr_ms, ts in taken:
        figures.take(ok, ttr_ms, ts)
    assert figures.observations == len(taken)
    assert figures.ok_rate == _weighted([float(ok) for ok, _, _ in taken])
    assert figures.ttr_ms_mean == _weighted([ttr_ms for _, ttr_ms, _ in taken if ttr_ms is not None])
    last = taken[-WINDOW:]
    assert figures.window == [(ok, ttr_ms) for ok, ttr_ms, _ in last]
    assert figures.window_ok_rate == (sum(ok for ok, _, _ in last) / len(last) if last else None)
    times = [ttr_ms for _, ttr_ms, _ in last if ttr_ms is not None]
    assert figures.window_ttr_ms_mean == (sum(times) / len(times) if times else None)
    assert figures.last_ts == max((ts for _, _, ts in taken), default=None)


def _weighted(values: list[float]) -> float | None:
    average = None
    for value in values:
        average = value if average is None else (1 - ALPHA) * average + ALPHA * value
    return average

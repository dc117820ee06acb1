"""The history's file: what is put in comes out as asked for, and limits are reached, whatever comes in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kloros.errors import StoreUnusable
from kloros.storage.database import Database
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Entry, Gap, GapKind, Mark, Record, Row, Wanted
from kloros.storage.history_store import HISTORY_TABLES, Bounds, HistoryStore, Repeat

S = 1_000_000
SIGNALS = ("HEARTBEAT", "OBSERVATION", "Q_T", "Q_T_LONGER", "Q_Ü")
ZOOIDS = ("introspection_daemon", "scheduler_daemon", "someone")
NO_BOUND_BYTES = 1 << 40
EVERYTHING = Wanted()


@contextmanager
def history(folder: Path) -> Iterator[tuple[HistoryStore, Path]]:
    database = Database(folder / "state.db", HISTORY_TABLES)
    store = HistoryStore(lambda: database)
    store.prepare()
    try:
        yield store, folder / "state.db"
    finally:
        database.close()


def row(ts_us: int, signal: str = "Q_T", zooid: str = "someone", incident_id: str | None = None, size: int = 50) -> Row:
    return Row(ts_us, signal, zooid, f"{zooid}@b.1.x", incident_id, b"x" * size)


def gap(since_us: int, signal: str = "Q_T", zooid: str = "someone", missing: int = 1, kind: GapKind = "lost") -> Gap:
    return Gap(kind, signal, zooid, f"{zooid}@b.1.x", since_us, since_us, missing)


def read(path: Path, wanted: Wanted = EVERYTHING, limit: int | None = None) -> list[Entry]:
    with HistoryReader(path) as reader:
        return list(reader.read(wanted)) if limit is None else reader.newest(wanted, limit)


def trim(store: HistoryStore, bounds: Bounds, now_us: int) -> None:
    for step in (
        lambda: store.trim_age(bounds, now_us),
        lambda: store.trim_size(bounds),
        lambda: store.give_back(bounds),
    ):
        while step():
            pass


rows = st.builds(
    row,
    ts_us=st.integers(0, 30),
    signal=st.sampled_from(SIGNALS),
    zooid=st.sampled_from(ZOOIDS),
    incident_id=st.sampled_from([None, "i1", "i2"]),
)
gaps = st.builds(
    gap, since_us=st.integers(0, 30), signal=st.sampled_from((*SIGNALS, "*")), zooid=st.sampled_from(ZOOIDS)
)
questions = st.builds(
    Wanted,
    signals=st.lists(st.sampled_from((*SIGNALS, "Q_T*", "Q_*", "NONE", "*")), max_size=3).map(tuple),
    zooids=st.lists(st.sampled_from((*ZOOIDS, "nobody")), max_size=2).map(tuple),
    since_us=st.none() | st.integers(0, 30),
    until_us=st.none() | st.integers(0, 30),
    incident_id=st.sampled_from([None, None, "i1", "i9"]),
)


def is_named(signal: str, topics: tuple[str, ...]) -> bool:
    return not topics or any(signal.startswith(t[:-1]) if t.endswith("*") else signal == t for t in topics)


def is_wanted(entry: Row | Gap, wanted: Wanted) -> bool:
    incident_id = None if isinstance(entry, Gap) else entry.incident_id
    return (
        (is_named(entry.signal, wanted.signals) or (isinstance(entry, Gap) and entry.signal == "*"))
        and (not wanted.zooids or entry.zooid in wanted.zooids)
        and (wanted.since_us is None or entry.ts_us >= wanted.since_us)
        and (wanted.until_us is None or entry.ts_us <= wanted.until_us)
        and (wanted.incident_id is None or incident_id == wanted.incident_id)
    )


def told(entry: Row | Record | Gap) -> tuple[object, ...]:
    return (entry.ts_us, isinstance(entry, Gap), entry.number, entry.signal, entry.zooid)


@settings(deadline=None, max_examples=80)
@given(st.lists(rows, max_size=40), st.lists(gaps, max_size=8), st.lists(questions, min_size=1, max_size=6))
def test_a_question_finds_what_a_look_at_every_row_finds(
    put: list[Row], missing: list[Gap], asked: list[Wanted]
) -> None:
    with TemporaryDirectory() as folder, history(Path(folder)) as (store, path):
        store.add(put, missing)
        numbered = [
            Gap(g.kind, g.signal, g.zooid, g.pub, g.since_us, g.until_us, 1, n) for n, g in enumerate(missing, 1)
        ]
        for wanted in asked:
            expected = sorted(told(entry) for entry in (*put, *numbered) if is_wanted(entry, wanted))
            assert [told(entry) for entry in read(path, wanted)] == expected
            for limit in (1, 3, 1000):
                assert [told(entry) for entry in read(path, wanted, limit)] == expected[-limit:]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 3000)), max_size=60),
    st.integers(0, 100),
    st.integers(1, 60),
)
def test_age_is_bounded_and_whatever_is_young_enough_stays(put: list[tuple[int, int]], age_s: int, batch: int) -> None:
    with TemporaryDirectory() as folder, history(Path(folder)) as (store, path):
        stored = [row(ts_s * S, size=size) for ts_s, size in put]
        for first in range(0, len(stored), batch):
            store.add(stored[first : first + batch], [gap(stored[first].ts_us)])
        bounds = Bounds(max_age_us=age_s * S, max_bytes=NO_BOUND_BYTES)
        trim(store, bounds, now_us=100 * S)
        left = [entry for entry in read(path) if isinstance(entry, Record)]
        assert sorted(e.ts_us for e in left) == sorted(r.ts_us for r in stored if r.ts_us >= (100 - age_s) * S)
        assert all(entry.ts_us >= (100 - age_s) * S for entry in read(path))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 40_000), min_size=100, max_size=400), st.integers(200_000, 1_000_000), st.randoms())
def test_size_is_bounded_and_what_stays_is_the_newest(sizes: list[int], max_bytes: int, chance: object) -> None:
    moments = list(range(len(sizes)))
    chance.shuffle(moments)  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder, history(Path(folder)) as (store, path):
        for moment, size in zip(moments, sizes, strict=True):
            store.add([row(moment, size=size)])
        offered_bytes = store.used_bytes()
        bounds = Bounds(max_age_us=1 << 60, max_bytes=max_bytes)
        trim(store, bounds, now_us=len(sizes))
        assert store.used_bytes() <= max_bytes
        assert store.file_bytes() <= max_bytes
        left = [entry.ts_us for entry in read(path)]
        assert left == list(range(len(sizes) - len(left), len(sizes)))
        if offered_bytes <= max_bytes:
            assert len(left) == len(sizes)


def test_a_transaction_that_fails_leaves_nothing_and_the_rows_can_be_offered_again(tmp_path: Path) -> None:
    with history(tmp_path) as (store, path):
        first = row(1)
        with pytest.raises(ZeroDivisionError):
            store.add([first], (1 / 0 for _ in range(1)))  # type: ignore[misc]
        assert first.number is None
        assert read(path) == []
        store.add([first])
        assert [entry.number for entry in read(path)] == [first.number]


def test_repeats_are_added_to_the_row_they_repeat(tmp_path: Path) -> None:
    with history(tmp_path) as (store, path):
        tick = row(1 * S, "HEARTBEAT")
        store.add([tick])
        store.add([], repeats=[Repeat(tick, 3, 4 * S)])
        store.add([], repeats=[Repeat(tick, 1, 5 * S)])
        (found,) = read(path)
        assert isinstance(found, Record)
        assert (found.repeats, found.ts_us, found.last_us) == (4, 1 * S, 5 * S)


def test_a_mark_only_ever_grows(tmp_path: Path) -> None:
    with history(tmp_path) as (store, _path):
        store.add([], marks=[Mark("p@b.1.x", "Q_T", 7, 1), Mark("q@b.1.x", "Q_T", 1, 2)])
        store.add([], marks=[Mark("p@b.1.x", "Q_T", 5, 3)])
        assert store.marks(10) == [Mark("p@b.1.x", "Q_T", 7, 3), Mark("q@b.1.x", "Q_T", 1, 2)]
        assert store.marks(1) == [Mark("p@b.1.x", "Q_T", 7, 3)]


def test_pages_are_cut_by_bytes_and_nothing_is_lost_between_them(tmp_path: Path) -> None:
    with history(tmp_path) as (store, path):
        store.add([row(ts_us // 3, size=900_000) for ts_us in range(20)])
        assert [entry.number for entry in read(path)] == list(range(1, 21))


def test_no_history_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no history yet"):
        HistoryReader(tmp_path / "state.db")
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnusable, match="not a database"):
        HistoryReader(tmp_path / "state.db")


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    with history(tmp_path) as (store, path):
        store.add([row(1)])
        with HistoryReader(path) as reader, pytest.raises(StoreUnusable):
            reader.page("DELETE FROM messages", ())


class Explaining(HistoryReader):
    """Asks how each page would be found, before finding it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.plans: list[str] = []

    def page(self, sql: str, values: Iterable[object]) -> list[tuple[object, ...]]:
        given_values = tuple(values)
        self.plans += [str(row[-1]) for row in super().page(f"EXPLAIN QUERY PLAN {sql}", given_values)]
        return super().page(sql, given_values)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(signals=("Q_T", "Q_*")),
        Wanted(zooids=ZOOIDS, since_us=3),
        Wanted(incident_id="i1", signals=("Q_T",)),
        Wanted(signals=("Q_T",), zooids=("someone",), since_us=1, until_us=9),
    ],
    ids=["all", "signals", "daemons", "incident", "everything at once"],
)
def test_no_page_is_sorted_or_searched_from_end_to_end(wanted: Wanted, tmp_path: Path) -> None:
    with history(tmp_path) as (store, path):
        store.add([row(ts_us, signal, zooid, "i1") for ts_us in range(9) for signal in SIGNALS for zooid in ZOOIDS])
        with Explaining(path) as reader:
            assert list(reader.read(wanted))
            assert reader.newest(wanted, 5)
        assert reader.plans
        assert not [plan for plan in reader.plans if "TEMP B-TREE" in plan or not plan.startswith("SEARCH")]

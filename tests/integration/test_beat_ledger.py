"""The ledger of beats on disk: one row for each due moment, bounded by age and number, a little at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kloros.orchestration import beat_ledger
from kloros.orchestration.beat_ledger import BEAT_TABLES, BeatLedger, BeatReader, BeatRow
from kloros.orchestration.schedule_entry import Change, Entry, Skipped, fresh_state
from kloros.orchestration.schedule_memory import ScheduleMemory
from kloros.orchestration.schedule_settings import LedgerSettings
from kloros.orchestration.timeline import Timeline
from kloros.storage.snapshot import snapshot
from kloros.storage.state_store import StateStore

S = 1_000_000
START_US = 1_700_000_000 * S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    store = StateStore(tmp_path / "state.db", BEAT_TABLES)
    yield store
    store.close()


def row(number: int, entry: str = "scan", emitted_us: int = 0) -> BeatRow:
    due_us = START_US + number * S
    return BeatRow(entry, due_us, number, "due", emitted_us or due_us + 100, S, 1, 0, None)


def remember(memory: ScheduleMemory, *rows: BeatRow) -> None:
    for each in rows:
        memory.ledger.emitted(each)
    memory.remember({}, START_US)


def kept(tmp_path: Path, entry: str = "scan") -> list[int]:
    with snapshot(tmp_path / "state.db") as taken:
        return [each.beat for each in BeatReader(taken).emitted(entry, 0, 2 * START_US)]


def test_a_beat_that_is_emitted_again_is_one_row_as_it_was_first(store: StateStore, tmp_path: Path) -> None:
    remember(ScheduleMemory(store), row(1), row(2), row(1, "other"))
    remember(ScheduleMemory(store), row(2, emitted_us=START_US + 99 * S), row(3))
    assert kept(tmp_path) == [1, 2, 3]
    assert kept(tmp_path, "other") == [1]
    with snapshot(tmp_path / "state.db") as taken:
        found = BeatReader(taken).emissions(START_US + S, START_US + 2 * S)
    assert {entry: list(zip(*pair, strict=True)) for entry, pair in found.items()} == {
        "scan": [(START_US + S, START_US + S + 100), (START_US + 2 * S, START_US + 2 * S + 100)],
        "other": [(START_US + S, START_US + S + 100)],
    }


def test_the_oldest_beats_go_when_there_are_too_many(store: StateStore, tmp_path: Path) -> None:
    memory, limits = ScheduleMemory(store), LedgerSettings(keep_s=10 * 86400.0, max_beats=1000)
    remember(memory, *(row(number) for number in range(1500)))
    memory.prune_beats(START_US, limits)
    assert kept(tmp_path) == list(range(500, 1500))
    memory.prune_beats(START_US, limits)
    assert len(kept(tmp_path)) == 1000, "and no more of them"
    again = ScheduleMemory(store)
    remember(again, row(1500))
    again.prune_beats(START_US, limits)
    assert kept(tmp_path)[0] == 501, "a new life knows how many there are"


def test_beats_that_are_too_old_go(store: StateStore, tmp_path: Path) -> None:
    memory = ScheduleMemory(store)
    remember(memory, *(row(number) for number in range(100)))
    memory.prune_beats(START_US + 3660 * S, LedgerSettings(keep_s=3600.0))
    assert kept(tmp_path) == list(range(60, 100))


def test_they_go_a_little_at_a_time(store: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat_ledger, "PRUNED_AT_ONCE", 100)
    memory, limits = ScheduleMemory(store), LedgerSettings(max_beats=1000)
    remember(memory, *(row(number) for number in range(1250)))
    counts = []
    for _ in range(4):
        memory.prune_beats(START_US, limits)
        counts.append(len(kept(tmp_path)))
    assert counts == [1150, 1050, 1000, 1000]


def test_what_was_planned_stays_as_long_as_it_decides_about_a_beat_that_is_kept(
    store: StateStore, tmp_path: Path
) -> None:
    memory = ScheduleMemory(store)
    entry = Entry(name="scan", signal="Q_TRIGGER_SCAN", ecosystem="test", interval_us=S)
    state = fresh_state(entry, START_US)
    for second in (10, 30, 50):
        state.plan(Timeline(START_US + second * S, 0, START_US + second * S, S), START_US + second * S, str(second))
        state.skips.append(Skipped(START_US + second * S, START_US + (second + 1) * S, 2, "paused", START_US))
    memory.ledger.note("scan", Change(START_US + 31 * S, "paused"))
    remember(memory, *(row(number) for number in range(100)))
    memory.remember({"scan": state}, START_US)
    memory.prune_beats(START_US + (3600 + 40) * S, LedgerSettings(keep_s=3600.0))
    memory.prune_history()
    assert kept(tmp_path)[0] == 40
    with snapshot(tmp_path / "state.db") as taken:
        reader = BeatReader(taken)
        assert [each.why for each in reader.changes("scan") if each.kind == "planned"] == ["30", "50"]
        assert [each.first_us for each in reader.skips("scan", 0, 2 * START_US)] == [START_US + 50 * S]


def test_a_history_without_beats_is_left_alone(store: StateStore) -> None:
    ledger = BeatLedger()
    ledger.note("scan", Change(START_US, "paused"))
    ledger.write(store.database, START_US)
    ScheduleMemory(store).prune_history()
    assert store.database.query("SELECT count(*) FROM plans") == [(1,)]

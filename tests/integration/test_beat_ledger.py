"""The ledger of beats on disk: one row for each due moment, bounded by age and number, a little at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.bench import bench

from kloros.clock import VirtualClock
from kloros.orchestration import beat_ledger
from kloros.orchestration.beat_ledger import BEAT_TABLES, BeatLedger, BeatReader, BeatRow
from kloros.orchestration.schedule_entry import Change, Entry, Skipped, fresh_state
from kloros.orchestration.schedule_memory import ScheduleMemory
from kloros.orchestration.schedule_settings import LedgerSettings
from kloros.orchestration.scheduler_daemon import SchedulerDaemon
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


WRITE_AND_PRUNE = """
import sys
from pathlib import Path
from test_beat_ledger import START_US, S, remember, row
from kloros.orchestration import beat_ledger
from kloros.orchestration.beat_ledger import BEAT_TABLES
from kloros.orchestration.schedule_entry import Change
from kloros.orchestration.schedule_memory import ScheduleMemory
from kloros.orchestration.schedule_settings import LedgerSettings
from kloros.storage.state_store import StateStore

store = StateStore(Path(sys.argv[1]) / "state.db", BEAT_TABLES)
memory, limits = ScheduleMemory(store), LedgerSettings(max_beats=1000)
first = store.database.query("SELECT coalesce(max(due_us), 0) FROM beats")[0][0]
number = (first - START_US) // S + 1 if first else 0
while True:
    for each in range(number, number + 100):
        memory.ledger.note("scan", Change(START_US + each * S, "paused"))
    remember(memory, *(row(each, name) for each in range(number, number + 100) for name in ("scan", "other")))
    memory.prune_beats(START_US, limits)
    memory.prune_history()
    number += 100
    print(number, flush=True)
"""


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


@pytest.mark.parametrize("how", ["by number", "by age"])
def test_what_was_due_together_goes_together_however_much_it_is(
    store: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Else the earliest moment on record would lack beats, and the proof would call them vanished."""
    monkeypatch.setattr(beat_ledger, "PRUNED_AT_ONCE", 100)
    memory = ScheduleMemory(store)
    remember(memory, *(row(number, f"entry_{which:03}") for number in range(10) for which in range(250)))
    limits = LedgerSettings(max_beats=1000) if how == "by number" else LedgerSettings(keep_s=3600.0)
    sizes = []
    for _ in range(8):
        memory.prune_beats(START_US if how == "by number" else START_US + 3606 * S, limits)
        with snapshot(tmp_path / "state.db") as taken:
            found = BeatReader(taken).emissions(0, 2 * START_US)
        assert {len(dues) for dues, _emitted in found.values()} == {len(found["entry_000"][0])}
        sizes.append(sum(len(dues) for dues, _emitted in found.values()))
    assert sizes == [2250, 2000, 1750, 1500, 1250, 1000, 1000, 1000]


def test_what_a_full_disk_has_refused_is_bounded_and_caught_up_a_little_at_a_time(
    store: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat_ledger, "MOST_UNWRITTEN", 400)
    monkeypatch.setattr(beat_ledger, "CAUGHT_UP_AT_ONCE", 150)
    memory = ScheduleMemory(store)
    (pages,) = store.database.query("PRAGMA page_count")[0]
    store.database.query(f"PRAGMA max_page_count = {pages}")
    for number in range(410):
        memory.ledger.emitted(row(number))
    for _ in range(20):
        memory.remember({}, START_US)
    assert kept(tmp_path) == []
    store.database.query("PRAGMA max_page_count = 1000000")
    counts = []
    while not memory.ledger.is_empty:
        memory.remember({}, START_US)
        (notes,) = store.database.query("SELECT count(*) FROM plans")[0]
        counts.append((len(kept(tmp_path)), notes))
    assert counts == [(150, 0), (300, 0), (400, 1)], "what is missing is said when all else is there"
    with snapshot(tmp_path / "state.db") as taken:
        changes = BeatReader(taken).changes(beat_ledger.THE_SCHEDULER)
    assert [(each.kind, each.why) for each in changes] == [("unwritten", "10 rows could not be written")]
    remember(memory, *(row(number) for number in range(410, 600)))
    assert len(kept(tmp_path)) == 590, "all at once again"


def test_what_is_left_is_written_at_the_end_however_much_it_is(
    store: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat_ledger, "CAUGHT_UP_AT_ONCE", 10)
    memory = ScheduleMemory(store)
    memory.ledger.not_written()
    memory.ledger.leave_nothing()
    remember(memory, *(row(number) for number in range(50)))
    assert len(kept(tmp_path)) == 50


def test_a_kill_in_the_middle_of_it_leaves_a_ledger_without_holes(tmp_path: Path) -> None:
    """Killed in the middle of writing and pruning, again and again: what is kept is whole, and bounded as before."""
    ends = []
    for life in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_AND_PRUNE, str(tmp_path)],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        )  # fmt: skip
        assert process.stdout
        for _ in range(12 + 7 * life):  # it is somewhere in its next turn when it is killed
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
        scan, other = kept(tmp_path), kept(tmp_path, "other")
        assert scan == other
        assert all(later == earlier + 1 for earlier, later in pairwise(scan))
        assert 500 <= len(scan) <= 600, "at most one turn more than is kept"
        with snapshot(tmp_path / "state.db") as taken:
            changes = BeatReader(taken).changes("scan")
        assert changes[-1].at_us == START_US + scan[-1] * S
        ends.append(scan[-1])
    assert ends == sorted(set(ends)), "each life went on where the last one ended"


def test_the_scheduler_lets_go_of_a_little_every_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat_ledger, "PRUNED_AT_ONCE", 120)
    (tmp_path / "config").mkdir()
    schedule = tmp_path / "config" / "scheduler_config.toml"
    busy = '[entries.busy]\ninterval_s = 0.01\nsignal = "Q_TRIGGER_BUSY"\necosystem = "test"\n'
    schedule.write_text(busy)
    with bench(SchedulerDaemon, tmp_path, VirtualClock(wall_us=START_US)) as table:

        def beats() -> list[int]:
            return [us for (us,) in table.daemon.store.database.query("SELECT due_us FROM beats ORDER BY due_us")]

        table.advance(15.0)
        assert 1480 <= len(beats()) <= 1500, "the last tenth of a second may not be written yet"
        schedule.write_text("[ledger]\nmax_beats = 1000\n" + busy)
        table.daemon.on_reload()
        counts, gone = [], beats()[0]
        for _ in range(40):
            table.advance(1.0)
            counts.append(len(beats()))
            assert beats()[0] <= gone + 2 * 120 * 10_000, "a little at a time"
            gone = beats()[0]
        assert counts[0] > 1250
        assert all(1000 <= count <= 1120 for count in counts[-10:]), "what comes in a second, at most, is too many"
        table.advance(30.0)
        plans = table.daemon.store.database.query("SELECT count(*) FROM plans WHERE entry = 'busy'")
        assert plans == [(1,)]

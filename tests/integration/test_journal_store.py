"""The journal on disk: one offset per id for ever, bounded, and salvaged when its file is damaged."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from kloros.errors import StoreUnusable
from kloros.storage import database, journal_salvage
from kloros.storage.journal_store import JournalStore, Retention

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
NOW_US = 20_000 * DAY_US
PAGE = (1_000, 1 << 20)


def entries(start: int, stop: int, signal: str = "A", size: int = 10) -> list[tuple[str, str, bytes]]:
    return [(f"id.{n}", signal, b'{"n":%d,"x":"%s"}' % (n, b"x" * size)) for n in range(start, stop)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JournalStore]:
    store = JournalStore(tmp_path / "journal.db", Retention(max_bytes=1 << 20, keep_s=3600.0))
    yield store
    store.close()


def test_offsets_count_from_one_and_an_id_keeps_its_own(store: JournalStore) -> None:
    assert store.append(entries(0, 3), NOW_US) == [(1, True), (2, True), (3, True)]
    assert store.append(entries(1, 5), NOW_US) == [(2, False), (3, False), (4, True), (5, True)]
    twice = entries(7, 8) * 2
    assert store.append(twice, NOW_US) == [(6, True), (6, False)]


def test_a_reader_gets_what_it_asked_for_in_order_and_learns_how_far_that_goes(store: JournalStore) -> None:
    store.append([("a", "A", b"{}"), ("b", "B_ONE", b"{}"), ("c", "B_TWO", b"{}"), ("d", "A", b"{}")], NOW_US)
    assert store.read(["A"], 0, *PAGE) == ([(1, "A", b"{}"), (4, "A", b"{}")], 4)
    assert store.read(["B_*"], 0, 1, 1000) == ([(2, "B_ONE", b"{}")], 2)
    assert store.read(["B_*"], 2, *PAGE) == ([(3, "B_TWO", b"{}")], 4)
    assert [row[0] for row in store.read(["*"], 1, *PAGE)[0]] == [2, 3, 4]
    assert store.read(["NONE"], 0, *PAGE) == ([], 4)


def test_a_page_is_bounded_in_bytes_but_never_empty_for_that(store: JournalStore) -> None:
    store.append(entries(0, 10, size=1000), NOW_US)
    rows, next_after = store.read(["A"], 0, 1000, 2500)
    assert ([row[0] for row in rows], next_after) == ([1, 2], 2)
    assert len(store.read(["A"], 0, 1000, 1)[0]) == 1


def test_no_more_of_the_journal_is_read_than_fits_into_the_page(store: JournalStore) -> None:
    store.append(entries(0, 100, size=100_000), NOW_US)
    tracemalloc.start()
    try:
        assert len(store.read(["A"], 0, 1000, 250_000)[0]) == 2
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_every_consumer_has_read_goes_when_it_is_old_and_not_before(store: JournalStore) -> None:
    store.append(entries(0, 10), NOW_US)
    store.note_consumer("fast", ["A"], 10, NOW_US)
    store.note_consumer("slow", ["A"], 4, NOW_US)
    assert store.tidy(NOW_US + 1).read == 0
    later_us = NOW_US + DAY_US
    assert store.tidy(later_us).read == 4
    assert store.bounds() == (4, 10)
    store.note_consumer("slow", ["A"], 10, later_us)
    assert store.tidy(later_us).read == 6
    assert store.append(entries(10, 11), later_us) == [(11, True)]


def test_the_id_of_what_is_no_longer_kept_is_known_still(store: JournalStore) -> None:
    store.append(entries(0, 5), NOW_US)
    store.tidy(NOW_US + DAY_US)
    assert store.bounds() == (5, 5)
    assert store.append(entries(4, 6), NOW_US) == [(5, False), (6, True)]


def hourly(store: JournalStore, start_us: int, hours: int) -> tuple[str, ...]:
    """Who is forgotten while the journal runs that long."""
    return tuple(name for hour in range(hours + 1) for name in store.tidy(start_us + hour * HOUR_US).forgotten)


def test_a_consumer_that_stays_away_is_forgotten_by_name(store: JournalStore) -> None:
    store.append(entries(0, 5), NOW_US)
    store.note_consumer("gone", ["A"], 1, NOW_US)
    assert hourly(store, NOW_US, 30 * 24) == ()
    assert store.tidy(NOW_US + 30 * DAY_US + 1).forgotten == ("gone",)
    assert store.tidy(NOW_US + 30 * DAY_US + 2).forgotten == ()


def test_a_machine_that_was_off_for_long_forgets_nobody_who_comes_back_with_it(tmp_path: Path) -> None:
    path, later_us = tmp_path / "journal.db", NOW_US + 400 * DAY_US
    store = JournalStore(path)
    store.append(entries(0, 5), NOW_US)
    for name in ("back", "dead"):
        store.note_consumer(name, ["A"], 0, NOW_US)
    store.close()
    store = JournalStore(path)
    assert store.tidy(later_us).forgotten == ()
    store.note_consumer("back", ["A"], 2, later_us + 1)
    assert store.tidy(later_us + HOUR_US).forgotten == ()
    assert store.tidy(later_us + HOUR_US + 1).forgotten == ("dead",)
    assert store.bounds() == (2, 5)
    assert len(store.read(["A"], 2, *PAGE)[0]) == 3
    store.close()


def test_a_clock_that_is_stepped_far_forgets_nobody_who_is_there(store: JournalStore) -> None:
    store.append(entries(0, 5), NOW_US)
    store.note_consumer("there", ["A"], 1, NOW_US)
    assert store.tidy(NOW_US).forgotten == ()
    for now_us in (NOW_US + 300 * DAY_US, NOW_US, NOW_US + 40 * DAY_US):
        assert store.tidy(now_us).forgotten == ()
    assert store.bounds()[1] == 5
    assert hourly(store, NOW_US + 40 * DAY_US, 40 * 24) == ()  # the step had dated it 300 days ahead


def test_ten_times_what_is_allowed_stays_within_bounds_and_counts_what_was_not_read(store: JournalStore) -> None:
    store.note_consumer("stuck", ["A"], None, NOW_US)
    unread = 0
    for start in range(0, 10_000, 500):
        store.append(entries(start, start + 500, size=1000), NOW_US)
        unread += store.tidy(NOW_US).unread
    while done := store.tidy(NOW_US).unread:
        unread += done
    pruned, end = store.bounds()
    assert (unread, end) == (pruned, 10_000)
    assert 8_000 < pruned < 9_600
    figures = store.status()
    assert figures["used_bytes"] <= 1 << 20
    newest = store.read(["*"], end - 100, *PAGE)[0]
    assert [row[0] for row in newest] == list(range(end - 99, end + 1))


def test_a_full_disk_refuses_whole_appends_and_heals(store: JournalStore) -> None:
    store.append(entries(0, 3), NOW_US)
    database = store._database()
    pages = database.query("PRAGMA page_count")[0][0]
    database.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreUnusable, match="full"):
        store.append(entries(3, 1000, size=1000), NOW_US)
    assert store.bounds() == (0, 3)
    assert store.append(entries(3, 5), NOW_US) == [(4, True), (5, True)]


def test_consumers_and_bounds_are_remembered(tmp_path: Path) -> None:
    first = JournalStore(tmp_path / "journal.db")
    name = first.journal
    first.append(entries(0, 5), NOW_US)
    first.note_consumer("one", ["A", "B_*"], 3, NOW_US)
    first.close()
    second = JournalStore(tmp_path / "journal.db")
    (consumer,) = second.status()["consumers"]
    assert (second.journal, second.bounds()) == (name, (0, 5))
    assert (consumer["name"], consumer["signals"], consumer["behind"]) == ("one", ["A", "B_*"], 2)
    second.close()


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, str]:
    """A journal whose last quarter is damaged, and its name."""
    path = tmp_path / "journal.db"
    store = JournalStore(path)
    name = store.journal
    store.append(entries(0, 2_000, size=500), NOW_US)
    store.close()
    damage(path)
    return path, name


def damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size * 3 // 4)
        file.write(b"\xff" * 4096 * 4)


def test_what_can_be_read_of_a_damaged_file_is_taken_over_under_its_name(damaged: tuple[Path, str]) -> None:
    path, name = damaged
    second = JournalStore(path)
    assert second.journal == name
    assert second.set_aside == path.with_name("journal.db.corrupt")
    assert 0 < second.salvaged < 2_000
    rows = second.read(["A"], 0, 500, 1 << 20)[0]
    assert rows[0] == (1, "A", entries(0, 1, size=500)[0][2])
    ((offset, is_new),) = second.append(entries(5_000, 5_001), NOW_US)
    assert is_new
    assert offset > 2_000  # an offset that was ever given is never given again
    second.close()


def test_a_file_that_is_no_database_is_set_aside_for_a_journal_of_another_name(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"nothing of the kind " * 1000)
    store = JournalStore(path)
    assert store.append(entries(0, 1), NOW_US) == [(1, True)]
    assert store.set_aside is not None
    assert store.salvaged == 0
    store.close()


def test_an_offset_that_was_given_is_not_given_again_though_it_was_lost(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = JournalStore(path)
    first.append(entries(0, 2_000, size=500), NOW_US)
    first._database().execute("UPDATE sqlite_sequence SET seq = 5000000")
    first.close()
    damage(path)
    second = JournalStore(path)
    ((offset, _),) = second.append(entries(5_000, 5_001), NOW_US)
    assert offset > 5_000_000
    second.close()


KILLS = {
    "before it begins": "inner = database.move; database.move = lambda *args: (inner(*args), die())",
    "half-way": "journal_salvage._ROWS_AT_ONCE = 500; inner = journal_salvage._readable\n"
    "def readable(*args):\n    rows = inner(*args); yield next(rows); yield next(rows); die()\n"
    "journal_salvage._readable = readable",
    "before its end": "journal_salvage._leap = lambda *args: die()",
    "after its end": "journal_store.move = lambda *args: die()",
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_salvage_that_is_killed_is_ended_by_the_next_life(damaged: tuple[Path, str], moment: str) -> None:
    path, name = damaged
    undisturbed = path.parent / "undisturbed" / "journal.db"
    undisturbed.parent.mkdir()
    undisturbed.write_bytes(path.read_bytes())
    script = (
        "import os, signal; from pathlib import Path\n"
        "from kloros.storage import database, journal_salvage, journal_store\n"
        f"die = lambda *args: os.kill(os.getpid(), signal.SIGKILL)\n{KILLS[moment]}\n"
        f"journal_store.JournalStore(Path({str(path)!r})).bounds()"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert path.with_name("journal.db.unsalvaged").exists()
    expected, store = JournalStore(undisturbed), JournalStore(path)
    assert (store.journal, store.bounds()) == (name, expected.bounds())
    assert store.read(["*"], 0, 5_000, 1 << 30) == expected.read(["*"], 0, 5_000, 1 << 30)
    assert store.salvaged == expected.salvaged > 0
    assert [found.name for found in path.parent.glob("journal.db.*")] == ["journal.db.corrupt"]
    expected.close()
    store.close()


def test_a_salvage_that_the_disk_refuses_is_tried_again(
    damaged: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, name = damaged
    store = JournalStore(path)
    with monkeypatch.context() as patch:

        def refuse(*args: object) -> None:
            raise StoreUnusable(path=path, reason="database or disk is full")

        patch.setattr(journal_salvage, "_leap", refuse)
        for _ in range(2):
            with pytest.raises(StoreUnusable, match="full"):
                store.append(entries(5_000, 5_001), NOW_US)
    ((offset, is_new),) = store.append(entries(5_000, 5_001), NOW_US)
    assert (store.journal, is_new) == (name, True)
    assert offset > 2_000
    assert len(store.read(["A"], 0, 5_000, 1 << 30)[0]) == store.salvaged
    assert len(store.read(["A"], 1_000_000, 5_000, 1 << 30)[0]) == 1
    store.close()


def test_what_was_salvaged_once_is_not_salvaged_into_a_journal_that_begins_anew(damaged: tuple[Path, str]) -> None:
    path, name = damaged
    first = JournalStore(path)
    first.append(entries(5_000, 5_001), NOW_US)
    first.close()
    path.unlink()
    second = JournalStore(path)
    assert second.journal != name
    assert second.bounds() == (0, 0)
    assert second.set_aside is None
    assert path.with_name("journal.db.corrupt").exists()
    second.close()


def test_what_waits_to_be_salvaged_is_safe_from_a_second_damage(damaged: tuple[Path, str]) -> None:
    path, name = damaged
    path.replace(path.with_name("journal.db.unsalvaged"))
    path.write_bytes(b"nothing of the kind " * 1000)
    store = JournalStore(path)
    assert store.journal == name
    assert store.salvaged > 0
    store.close()


def test_a_large_journal_that_proves_corrupt_at_work_is_salvaged_when_it_is_opened_next(
    damaged: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, name = damaged
    monkeypatch.setattr(database, "_CHECKED_BYTES", 0)
    store = JournalStore(path)
    assert store.bounds() == (0, 2_000)
    with pytest.raises(StoreUnusable, match="malformed"):
        store.read(["A"], 0, 5_000, 1 << 30)
    assert store.set_aside is None
    assert store.read(["A"], 0, 5_000, 1 << 30)[0]
    assert (store.journal, store.set_aside) == (name, path.with_name("journal.db.corrupt"))
    store.close()

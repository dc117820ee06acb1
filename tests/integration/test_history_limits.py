"""Ten times the allowed history is offered while others read: limits hold, the newest is there, nobody is held up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kloros.storage.database import Database
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Record, Row, Wanted
from kloros.storage.history_store import HISTORY_TABLES, Bounds, HistoryStore

MIB = 1 << 20
S = 1_000_000
ALLOWED_BYTES = 4 * MIB
BODY_BYTES = 400
BATCH_ROWS = 500
# What a loaded machine may take at most; on an idle one it is a hundredth of that. The figure itself is printed.
GENEROUS_S = 1.0

READER_PROCESS = """
import sys
from pathlib import Path
from kloros.errors import StoreUnusable
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Wanted
print("reading", flush=True)
while True:
    with HistoryReader(Path(sys.argv[1])) as reader:
        for _ in reader.read(Wanted(signals=("S3", "S7"))): pass
        reader.newest(Wanted(), 5000)
"""


def row(number: int) -> Row:
    body = b'{"number":%d,"filling":"%s"}' % (number, b"x" * BODY_BYTES)
    return Row(number * 1000, f"S{number % 10}", f"zooid{number % 5}", "zooid@b.1.x", None, body)


@contextmanager
def reading_without_pause(path: Path) -> Iterator[None]:
    """A process that reads all the time, a thread that does, and one that stops in the middle of a page for ever."""
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with HistoryReader(path) as reader:
                for _ in reader.read(Wanted(zooids=("zooid1",))):
                    if stop.is_set():
                        break

    command = [sys.executable, "-c", READER_PROCESS, str(path)]
    with HistoryReader(path) as dawdler, subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"reading\n"
        next(dawdler.read(Wanted()))
        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
            assert process.poll() is None, "the reader died"
        finally:
            stop.set()
            thread.join()
            process.kill()


def timed(act: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    act()
    return time.perf_counter() - start_s


def figures(waits_s: list[float]) -> str:
    waits_s.sort()
    parts = {"median": len(waits_s) // 2, "p99": len(waits_s) * 99 // 100, "longest": -1}
    return ", ".join(f"{name} {waits_s[at] * 1e3:.1f} ms" for name, at in parts.items())


def file_bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


def test_ten_times_the_allowed_history_stays_bounded_and_readers_hold_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    database = Database(path, HISTORY_TABLES)
    store = HistoryStore(lambda: database)
    store.prepare()
    bounds = Bounds(max_age_us=1 << 60, max_bytes=ALLOWED_BYTES)
    total = 10 * ALLOWED_BYTES // (BODY_BYTES + 150)
    waits_s, largest_bytes = [], 0
    store.add([row(0)])
    with reading_without_pause(path):
        for first in range(1, total, BATCH_ROWS):
            rows = [row(number) for number in range(first, first + BATCH_ROWS)]
            waits_s.append(timed(lambda rows=rows: store.add(rows)))
            while store.is_over(bounds):
                waits_s.append(timed(lambda: store.trim_size(bounds)))
            waits_s.append(timed(store.end_wal))
            largest_bytes = max(largest_bytes, file_bytes(path))
        last = rows[-1].ts_us // 1000
        left = []
        with HistoryReader(path) as reader:
            left = [entry.ts_us // 1000 for entry in reader.read(Wanted()) if isinstance(entry, Record)]
    database.close()
    print(
        f"\n{last} messages offered to {ALLOWED_BYTES // MIB} MiB, ten times too many, {BATCH_ROWS} at a "
        f"time: {figures(waits_s)}; largest with WAL {largest_bytes / MIB:.1f} MiB; {len(left)} left"
    )
    assert left == list(range(last - len(left) + 1, last + 1)), "what is left is the newest, without a hole"
    assert len(left) * BODY_BYTES > ALLOWED_BYTES // 2, "what is allowed is used"
    assert largest_bytes < ALLOWED_BYTES + 12 * MIB
    assert waits_s[-1] < GENEROUS_S


def test_retention_of_a_history_that_is_far_too_large_lets_the_writer_in_between_its_steps(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    database = Database(path, HISTORY_TABLES)
    store = HistoryStore(lambda: database)
    store.prepare()
    for first in range(0, 30_000, 5_000):
        store.add([row(number) for number in range(first, first + 5_000)])
    bounds = Bounds(max_age_us=6_000 * 1000, max_bytes=ALLOWED_BYTES)
    before_bytes = store.file_bytes()
    is_done = threading.Event()

    def retain() -> None:
        now_us = 30_000 * 1000
        for step in (
            lambda: store.trim_age(bounds, now_us),
            lambda: store.trim_size(bounds),
            lambda: store.give_back(bounds),
        ):
            while step():
                store.end_wal()
        is_done.set()

    waits_s = []
    with reading_without_pause(path):
        thread = threading.Thread(target=retain)
        thread.start()
        number = 30_000
        while not is_done.is_set():
            number += 1
            waits_s.append(timed(lambda number=number: store.add([row(number)])))
            time.sleep(0.002)
        thread.join()
    after_bytes = store.file_bytes()
    database.close()
    print(
        f"\n{before_bytes / MIB:.0f} MiB brought down to {after_bytes / MIB:.1f} MiB; {len(waits_s)} writes meanwhile: "
        f"{figures(waits_s)}"
    )
    assert len(waits_s) > 5
    assert after_bytes <= ALLOWED_BYTES
    assert waits_s[-1] < GENEROUS_S


def test_a_reader_that_meets_retention_goes_on_with_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    database = Database(path, HISTORY_TABLES)
    store = HistoryStore(lambda: database)
    store.add([row(number) for number in range(2_000)])
    with HistoryReader(path) as reader:
        reading = reader.read(Wanted())
        first = [next(reading).ts_us // 1000 for _ in range(10)]
        while store.trim_age(Bounds(max_age_us=500 * 1000, max_bytes=1 << 40), 2_000 * 1000):
            pass
        rest = [entry.ts_us // 1000 for entry in reading]
    database.close()
    assert first == list(range(10))
    assert rest == [*range(10, 500), *range(1_500, 2_000)], "its page in hand, then what is left; nothing twice"

"""How fast the history is written, asked and read, and what a burst costs.

By hand: `python tests/benchmarks/history.py`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.histories import accounted, burst, hasty_bus, running, told

from kloros.consumers.chembus_historian_daemon import ChembusHistorianDaemon
from kloros.daemon.suite_settings import SuiteSettings
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.place import Place
from kloros.storage.database import Database
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Row, Wanted
from kloros.storage.history_store import HISTORY_TABLES, HistoryStore

ROWS = 500_000
BODY = b'{"signal":"S","facts":{"filling":"%s"}}' % (b"x" * 250)


def timed(act: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    act()
    return time.perf_counter() - start_s


def write(store: HistoryStore, batch: int) -> float:
    """Rows per second."""
    took_s = 0.0
    for first in range(0, ROWS, batch):
        rows = [
            Row(n * 1000, f"S{n % 50}", f"z{n % 10}", f"z{n % 10}@b.1.x", "i" if n % 10_000 == 7 else None, BODY)
            for n in range(first, first + batch)
        ]
        took_s += timed(lambda rows=rows: store.add(rows))
    return ROWS / took_s


def ask(path: Path) -> None:
    questions = {
        "the newest 100": Wanted(),
        "the newest 100 of a signal": Wanted(signals=("S7",)),
        "the newest 100 of a family of a daemon": Wanted(signals=("S1*",), zooids=("z1",)),
        "an incident": Wanted(incident_id="i"),
    }
    with HistoryReader(path) as reader:
        for name, wanted in questions.items():
            print(f"  {name}: {timed(lambda wanted=wanted: reader.newest(wanted, 100)) * 1e3:.1f} ms")
        took_s = timed(lambda: sum(1 for _ in reader.read(Wanted())))
        print(f"  all, in order: {ROWS / took_s:,.0f} rows/s")


def burst_into_a_historian(folder: Path, count: int) -> None:
    place, suite = Place(folder / "config", folder / "state", folder / "run"), SuiteSettings()
    path = place.state / "chembus_historian" / "state.db"
    with running(ChemProxyDaemon, place, suite), running(ChembusHistorianDaemon, place, suite):
        start_s = time.perf_counter()
        with hasty_bus(place) as bus:
            sent = burst(bus, count)
            emitted_s = time.perf_counter() - start_s
            time.sleep(1.0)  # a farewell into a full queue would be lost with the tail that it tells of
        while accounted(path) < sent:
            time.sleep(0.05)
        took_s = time.perf_counter() - start_s
    stored, missing = told(path)
    print(
        f"burst of {sent:,}: sent in {emitted_s:.1f} s, accounted for after {took_s:.1f} s; {stored:,} stored + "
        f"{sum(missing.values()):,} gaps {missing or ''} = {stored + sum(missing.values()):,}"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        path = Path(folder) / "state.db"
        database = Database(path, HISTORY_TABLES)
        store = HistoryStore(lambda: database)
        store.prepare()
        rate = write(store, 1_000)
        print(f"written in batches of 1,000: {rate:,.0f} rows/s, {store.used_bytes() / ROWS:.0f} bytes each")
        ask(path)
        database.close()
    for count in (50_000, 200_000):
        with tempfile.TemporaryDirectory(prefix="kl", dir="/tmp") as folder:
            burst_into_a_historian(Path(folder), count)


if __name__ == "__main__":
    main()

"""How fast the ledger is written, in committed batches, and verified. By hand: `python tests/benchmarks/ledger.py`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.ledgers import Ledger, ledger, message

from kloros.consumers.ledger.check import verify
from kloros.consumers.ledger.keys import read_key
from kloros.consumers.ledger.rows import Row, Signed
from kloros.storage.ledger_store import read_only

ROWS = 200_000
BATCHES = (1, 16, 256, 1024)


def write(book: Ledger, first: int, rows: int, batch: int) -> float:
    """Rows per second, each batch on the platter before the next."""
    messages = [
        message(n, zooid=f"z{n % 20}", ttr_ms=n % 97, extras={"wo": "Köln"}) for n in range(first, first + rows)
    ]
    start_s = time.perf_counter()
    for index in range(0, rows, batch):
        book.record(messages[index : index + batch])
    return rows / (time.perf_counter() - start_s)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        with ledger(Path(folder)) as book:
            first = 1
            for batch in BATCHES:
                rows = {1: 2_000, 16: 20_000}.get(batch, ROWS // 2)
                print(f"written in batches of {batch:>5}: {write(book, first, rows, batch):>9,.0f} rows/s")
                first += rows
            book.flush()
        size = (Path(folder) / "state.db").stat().st_size
        key = read_key(Path(folder) / "ledger.key")
        start_s = time.perf_counter()
        with read_only(Path(folder) / "state.db") as reader:
            head = reader.head()
            segments = [(number, Signed(*signed)) for number, signed in reader.segments()]
            report = verify(key, Signed(*head) if head else None, segments, (Row(*row) for row in reader.rows()))
        took_s = time.perf_counter() - start_s
        assert report.ok, report.faults
        print(
            f"verified: {report.rows / took_s:,.0f} rows/s ({report.rows:,} rows, {size / report.rows:.0f} bytes each)"
        )


if __name__ == "__main__":
    main()

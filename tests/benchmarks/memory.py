"""How long a beat over a million memories takes, and how long others wait. By hand: `tests/benchmarks/memory.py`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.memories import decaying, fill, one_beat

MEMORIES = 1_000_000
LIMIT_S = 600.0


def main() -> None:
    """An argument is the directory of the disk to measure on."""
    for due_share in (0.0, 0.01, 0.2, 1.0):
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
            path = Path(folder) / "state/state.db"
            start_s = time.perf_counter()
            due = fill(path, MEMORIES, due_share, time.time_ns() // 1000)
            filled_s = time.perf_counter() - start_s
            print(f"{MEMORIES:,} memories ({path.stat().st_size / MEMORIES:.0f} bytes each) in {filled_s:.0f} s")
            with decaying(Path(folder)) as table:
                waits = one_beat(table, LIMIT_S)
            print(f"  {due:>9,} due: {waits.figures()}")


if __name__ == "__main__":
    main()

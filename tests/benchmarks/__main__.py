"""All benchmarks, one after the other: `.venv/bin/python tests/benchmarks` (see docs/benchmarks.md)."""

from __future__ import annotations

import durable
import idle
import lateness
import many_entries
import start_up
import throughput


def main() -> None:
    """Run them all with the same arguments."""
    for benchmark in (lateness, throughput, many_entries, idle, start_up, durable):
        benchmark.console.rule((benchmark.__doc__ or "").partition("\n")[0])
        benchmark.main()


if __name__ == "__main__":
    main()

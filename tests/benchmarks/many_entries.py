"""(c) 10,000 entries, each due every five seconds: 2,000 beats a second on average.

How late the beats are and what the scheduling process costs, for KLoROS, with its ledger of beats and without,
APScheduler 3 and the floor (see lateness.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from harness import arguments, console, in_turns, print_machine, ratio, table
from paced import APSCHEDULER, FLOOR, FORGETFUL, KLOROS, Outcome, run, spread

CONTENDERS = (FLOOR, KLOROS, FORGETFUL, APSCHEDULER)
ENTRIES, INTERVAL_US = 10_000, 5_000_000
COLUMNS = (
    "contender", "beats", "missing", "emitted p50", "p99", "max", "received p50", "p99", "max", "CPU s per 10,000",
)  # fmt: skip


def main(given_arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = arguments(__doc__ or "").parse_args(given_arguments)
    rounds = given.rounds or (1 if given.quick else 3)
    seconds = 5.0 if given.quick else 15.0
    print_machine()
    title = f"{ENTRIES:,} entries, {ENTRIES * 1_000_000 // INTERVAL_US:,} beats/s"
    console.print(f"\n{title}", style="bold")
    outcomes: dict[str, list[Outcome]] = {name: [] for name in CONTENDERS}
    for _, name in in_turns(CONTENDERS, rounds):
        outcomes[name].append(run(name, spread(ENTRIES, INTERVAL_US), seconds))
    rows = [_row(name, outcomes[name]) for name in CONTENDERS]
    table(f"{title} (milliseconds; medians over {rounds} rounds)", COLUMNS, rows)
    cost = {name: [outcome.cpu_s for outcome in outcomes[name]] for name in CONTENDERS}
    console.print(f"  CPU, APScheduler / KLoROS: {ratio(cost[APSCHEDULER], cost[KLOROS]):.2f}x")
    console.print(f"  CPU, KLoROS / without its ledger: {ratio(cost[KLOROS], cost[FORGETFUL]):.2f}x")
    late = {name: [outcome.received(99) for outcome in outcomes[name]] for name in CONTENDERS}
    console.print(f"  received p99, APScheduler / KLoROS: {ratio(late[APSCHEDULER], late[KLOROS]):.2f}x")


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    emitted = [f"{median(outcome.emitted(percent) for outcome in outcomes):.3f}" for percent in (50, 99, 100)]
    received = [f"{median(outcome.received(percent) for outcome in outcomes):.3f}" for percent in (50, 99, 100)]
    beats, missing = sum(len(o.received_ms) for o in outcomes), sum(o.missing for o in outcomes)
    cpu_s = median(10_000 * outcome.cpu_s / max(1, len(outcome.received_ms)) for outcome in outcomes)
    return [name, f"{beats:,}", str(missing), *emitted, *received, f"{cpu_s:.3f}"]


if __name__ == "__main__":
    main()

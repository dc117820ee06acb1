"""(a) How late triggers are: from due to emitted, and from due to received by another process.

The KLoROS scheduler daemon, with its forwarder and a listening daemon, against a bare timerfd loop and against
APScheduler 3, both with bare pyzmq through a bare proxy to a bare listener. Same jobs, same topology, three processes
each, taking turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from harness import arguments, console, in_turns, print_machine, ratio, table
from paced import APSCHEDULER, FLOOR, KLOROS, Job, Outcome, at_once, run, spread

CONTENDERS = (FLOOR, KLOROS, APSCHEDULER)
COLUMNS = (
    "contender", "beats", "missing", "emitted p50", "p99", "max", "received p50", "p99", "max", "CPU",
)  # fmt: skip


def main(given_arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = arguments(__doc__ or "").parse_args(given_arguments)
    rounds = given.rounds or (1 if given.quick else 4)
    seconds = 3.0 if given.quick else 6.0
    print_machine()
    compare("100 beats/s: 10 jobs, each 10 times a second, evenly spread", spread(10, 100_000), rounds, seconds)
    compare("1,000 one-second jobs, evenly spread", spread(1000, 1_000_000), rounds, seconds)
    compare("1,000 one-second jobs, all due at once", at_once(1000, 1_000_000), rounds, seconds)


def compare(title: str, jobs: Sequence[Job], rounds: int, seconds: float) -> None:
    """One workload by all contenders, in turns."""
    console.print(f"\n{title}", style="bold")
    outcomes: dict[str, list[Outcome]] = {name: [] for name in CONTENDERS}
    for _, name in in_turns(CONTENDERS, rounds):
        outcomes[name].append(run(name, jobs, seconds))
    table(
        f"{title} (milliseconds; medians over {rounds} rounds)",
        COLUMNS,
        [_row(name, outcomes[name]) for name in CONTENDERS],
    )
    ours = outcomes[KLOROS]
    for other, words in ((FLOOR, "KLoROS received / floor"), (APSCHEDULER, "APScheduler received / KLoROS")):
        theirs = outcomes[other]
        pairs = (ours, theirs) if other == FLOOR else (theirs, ours)
        figures = (
            f"p{percent} {ratio([o.received(percent) for o in pairs[0]], [o.received(percent) for o in pairs[1]]):.2f}x"
            for percent in (50, 99)
        )
        console.print(f"  {words}: {', '.join(figures)}")


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    emitted = [f"{median(outcome.emitted(percent) for outcome in outcomes):.3f}" for percent in (50, 99, 100)]
    received = [f"{median(outcome.received(percent) for outcome in outcomes):.3f}" for percent in (50, 99, 100)]
    beats, missing = sum(len(o.received_ms) for o in outcomes), sum(o.missing for o in outcomes)
    cpu = median(100 * outcome.cpu_s / outcome.span_s for outcome in outcomes)
    return [name, f"{beats:,}", str(missing), *emitted, *received, f"{cpu:.1f} %"]


if __name__ == "__main__":
    main()

"""(e) Durable signals: acknowledged emits per second, and how fast a consumer that is far behind catches up.

An emit is acknowledged when it is on the platter (SQLite WAL, synchronous=FULL). The floor is the same commit without
anything around it: one process whose threads hand rows to one that commits what has gathered ("group commit"), and,
lower still, a loop in which nobody waits for anybody ("bare loop"). By hand: `python tests/benchmarks/durable.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from statistics import median

import durable_nats
from harness import (
    Child,
    Room,
    arguments,
    children,
    console,
    in_turns,
    memory_mib,
    print_machine,
    ratio,
    room,
    script,
    table,
)

PUBS, OUTBOX, GROUP, BARE = "ChemPub, each waits", "outbox, 500 at once", "group commit, each waits", "bare loop"
NATS = "NATS JetStream, each waits"
ROLES = {PUBS: "chem_pubs", OUTBOX: "outbox", GROUP: "group_commit", BARE: "bare_loop"}
EMITTERS = (1, 8, 64)
LIMIT_S = 60.0


def main(given_arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = arguments(__doc__ or "").parse_args(given_arguments)
    rounds = given.rounds or (1 if given.quick else 3)
    print_machine()
    emits(rounds, 1.5 if given.quick else 4.0)
    catching_up(rounds, 100_000 if given.quick else 1_000_000)


def emits(rounds: int, seconds: float) -> None:
    """Acknowledged emits per second."""
    rates: dict[tuple[str, int], list[float]] = {}
    contenders = [PUBS, GROUP, BARE] + [NATS] * durable_nats.is_installed()
    for emitters in EMITTERS:
        for _, name in in_turns(contenders + [OUTBOX] * (emitters == 1), rounds):
            with room() as place, children(place) as start:
                proxy = start_proxy(place, start)
                amount = ("--emitters", emitters, "--seconds", seconds)
                if name == NATS:
                    child = start(script("durable_nats.py", *amount))
                else:
                    child = start(script("durable_parts.py", ROLES[name], place.runtime, *amount))
                count, span_s, _ = json.loads(child.wait_line("result", LIMIT_S))
                proxy.stop()
            rates.setdefault((name, emitters), []).append(count / span_s)
    rows = []
    for (name, emitters), found in rates.items():
        of_group, of_bare = (f"{ratio(found, rates[floor, emitters]):.2f}x" for floor in (GROUP, BARE))
        rows.append([name, str(emitters), f"{median(found):,.0f}", of_group, of_bare])
    if NATS not in contenders:
        console.print(f"  without {NATS}: {durable_nats.CURE}", style="dim")
    elif not durable_nats.syncs_each():
        console.print(f"  {NATS}: this server (before 2.10) acknowledges first, syncs every 2 min", style="dim")
    table("Acknowledged durable emits", ("contender", "emitters", "emits/s", "of group commit", "of bare loop"), rows)


def catching_up(rounds: int, count: int) -> None:
    """Signals read, decoded, per second by one who is `count` behind."""
    rows = []
    with room() as place, children(place) as start:
        journal = place.path / "state" / "chem_proxy" / "journal.db"
        start(script("durable_parts.py", "fill", journal, "--count", count)).wait(LIMIT_S)
        proxy = start_proxy(place, start)
        for page in (500, 2_000, 5_000):
            rates, peaks = [], []
            for _ in range(rounds):
                child = start(script("durable_parts.py", "catch_up", place.runtime, "--page", page))
                done, span_s, peak_mib = json.loads(child.wait_line("result", LIMIT_S))
                assert done == count
                rates.append(done / span_s)
                peaks.append(peak_mib)
            proxy_mib = memory_mib(proxy.pid)[0]
            rows.append([f"pages of {page:,}", f"{median(rates):,.0f}", f"{max(peaks):.0f}", f"{proxy_mib:.0f}"])
    columns = ("reader", "signals/s", "peak of reader, MiB", "proxy, MiB")
    table(f"Catching up with {count:,} signals", columns, rows)


def start_proxy(place: Room, start: Callable[[Sequence[str]], Child]) -> Child:
    """The real one; whoever needs it waits for it."""
    (place.config / "kloros.toml").write_text("[metrics]\nenabled = false\n")
    return start(["-m", "kloros.orchestration.chem_proxy_daemon"])


if __name__ == "__main__":
    main()
    console.print()

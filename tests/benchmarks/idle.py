"""(d) What the suite costs while nothing happens: CPU, wake-ups and memory of each process.

The default schedule, once as separate processes as systemd runs them, with their
metrics served, and once as `kloros run --plain`. A wake-up is a voluntary context switch: a thread that had gone to
sleep was woken. PSS shares out what several processes have in common, so it can be added up.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import (  # fmt: skip
    Child,
    Room,
    arguments,
    children,
    console,
    cpu_s,
    free_port,
    memory_mib,
    print_machine,
    room,
    table,
    voluntary_switches,
)

DAEMONS = {
    "chem_proxy": "kloros.orchestration.chem_proxy_daemon",
    "scheduler": "kloros.orchestration.scheduler_daemon",
    "introspection": "kloros.consumers.introspection_daemon",
    "ledger_writer": "kloros.consumers.ledger_writer_daemon",
    "chembus_historian": "kloros.consumers.chembus_historian_daemon",
    "curiosity_core_consumer": "kloros.consumers.curiosity_core_consumer_daemon",
    "semantic_dedup_consumer": "kloros.consumers.semantic_dedup_consumer_daemon",
    "investigation_consumer": "kloros.consumers.investigation_consumer_daemon",
    "action_consumer": "kloros.consumers.action_consumer_daemon",
    "shadow": "kloros.consumers.shadow_daemon",
    "tournament_consumer": "kloros.consumers.tournament_consumer_daemon",
    "decay": "kloros.consumers.decay_daemon",
    "affect": "kloros.affect.affect_daemon",
    "optimiser": "kloros.optimisation.optimiser_daemon",
}
PORTS = dict(zip(DAEMONS, range(9640, 9640 + len(DAEMONS)), strict=True))
CONFIG = Path(__file__).parents[2] / "config"
COLUMNS = ("process", "CPU", "wake-ups/s", "RSS MiB", "PSS MiB", "threads")


@dataclass
class Cost:
    """What one process used."""

    name: str
    cpu_percent: float
    wakeups_per_s: float
    rss_mib: float
    pss_mib: float
    threads: int

    def row(self) -> list[str]:
        return [
            self.name, f"{self.cpu_percent:.2f} %", f"{self.wakeups_per_s:.1f}", f"{self.rss_mib:.1f}",
            f"{self.pss_mib:.1f}", str(self.threads),
        ]  # fmt: skip


def main(given_arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = arguments(__doc__ or "").parse_args(given_arguments)
    settle_s, watch_s = (3.0, 5.0) if given.quick else (10.0, 60.0)
    print_machine()
    for title, start_suite in (("Separate processes", _start_processes), ("kloros run --plain", _start_run)):
        console.print(f"\n{title}: {watch_s:g} s, after {settle_s:g} s", style="bold")
        with room() as place, children(place) as start:
            shutil.copytree(CONFIG, place.config, dirs_exist_ok=True)
            pids = start_suite(place, start)
            time.sleep(settle_s)
            costs = watch(pids, watch_s)
        if len(costs) == len(DAEMONS):
            consumers = [cost for cost in costs if cost.name not in ("chem_proxy", "scheduler")]
            costs += [_sum(f"the {len(consumers)} consumers", consumers), _sum("together", costs)]
        elif len(costs) > 1:
            costs.append(_sum("together", costs))
        table(f"Idle: {title}", COLUMNS, [cost.row() for cost in costs])


def watch(pids: dict[str, int], seconds: float) -> list[Cost]:
    """What the processes use in so many seconds."""
    before = {name: (cpu_s(pid), voluntary_switches(pid)) for name, pid in pids.items()}
    began_s = time.monotonic()
    time.sleep(seconds)
    span_s = time.monotonic() - began_s
    costs = []
    for name, pid in pids.items():
        used_s, switches = cpu_s(pid) - before[name][0], voluntary_switches(pid) - before[name][1]
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        costs.append(Cost(name, 100 * used_s / span_s, switches / span_s, *memory_mib(pid), threads))
    return costs


def _start_processes(place: Room, start: Callable[[Sequence[str]], Child]) -> dict[str, int]:
    settings = place.config / "kloros.toml"
    text = settings.read_text()
    for stem, port in PORTS.items():
        text = text.replace(f"{stem} = {port}", f"{stem} = {free_port()}")
    settings.write_text(text)
    return {stem: start(["-m", module]).pid for stem, module in DAEMONS.items()}


def _start_run(place: Room, start: Callable[[Sequence[str]], Child]) -> dict[str, int]:
    suite = start(["-m", "kloros.cli", "run", "--plain"])
    time.sleep(1.0)
    pids = {"kloros run": suite.pid}
    with suppress(OSError):
        for child in Path(f"/proc/{suite.pid}/task/{suite.pid}/children").read_text().split():
            pids[f"its child {child}"] = int(child)
    return pids


def _sum(name: str, costs: Sequence[Cost]) -> Cost:
    return Cost(
        name,
        sum(cost.cpu_percent for cost in costs),
        sum(cost.wakeups_per_s for cost in costs),
        sum(cost.rss_mib for cost in costs),
        sum(cost.pss_mib for cost in costs),
        sum(cost.threads for cost in costs),
    )


if __name__ == "__main__":
    main()

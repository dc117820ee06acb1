"""How fast the optimiser judges and enacts: `.venv/bin/python tests/benchmarks/optimiser.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from harness import arguments, console, percentile, print_machine, table

from kloros.clock import SystemClock
from kloros.optimisation import book as books
from kloros.optimisation.detector import Detector
from kloros.optimisation.gates import GateState, Standing, decide
from kloros.optimisation.model import ActionKind, ImprovementAction, OptimiserConfig
from kloros.optimisation.optimiser import AsyncSelfOptimiser
from kloros.optimisation.optimiser_metrics import PrometheusMetrics
from kloros.optimisation.profiler import Profiler
from kloros.telemetry.metrics import Metrics

ACTIONS, QUICK = 10_000, 1_000
# Nothing is held back: what is measured is the work, not the waiting.
OPEN = OptimiserConfig(max_enactments_per_cycle=10**9, enable_rate_limit=False, window_s=1.0)
STEP = (("metric", "latency_p95_threshold_ms"),)


def tunes(count: int) -> list[ImprovementAction]:
    """Each of another module, or back and forth, so that each changes something."""
    return [
        ImprovementAction(
            f"module_{number % 1000}", ActionKind.TUNE_THRESHOLD, 0.5, "a benchmark",
            (*STEP, ("delta", "0.1" if number // 1000 % 2 == 0 else "-0.05")), f"a-{number}",
        )
        for number in range(count)
    ]  # fmt: skip


def row(name: str, each_s: Sequence[float]) -> list[str]:
    """A contender's line."""
    ranked = sorted(each_s)
    total_s = sum(each_s)
    marks = [percentile(ranked, percent) * 1e6 for percent in (50, 95, 99, 100)]
    return [name, f"{len(each_s):,}", f"{len(each_s) / total_s:,.0f}", *(f"{mark:,.1f}" for mark in marks)]


def timed(calls: Sequence[Callable[[], object]]) -> list[float]:
    """How long each call took."""
    each_s = []
    for call in calls:
        begun_s = time.perf_counter()
        call()
        each_s.append(time.perf_counter() - begun_s)
    return each_s


def judged(actions: Sequence[ImprovementAction], config: OptimiserConfig) -> list[float]:
    """The gates by themselves."""
    state = GateState()

    def judge(number: int, action: ImprovementAction) -> Callable[[], object]:
        standing = Standing(now_us=number * 1_000, wall_us=number * 1_000)
        return lambda: decide(state, action, standing, config)

    return timed([judge(number, action) for number, action in enumerate(actions)])


async def enacted(
    actions: Sequence[ImprovementAction], config: OptimiserConfig, keep: Callable[[books.Book], None] | None = None
) -> list[float]:
    """`enact`, one action a call, on the detector that is really tuned; with its metrics."""
    optimiser = AsyncSelfOptimiser(
        config=config, thresholds=Detector(), metrics=PrometheusMetrics(Metrics()), keep=keep, clock=SystemClock()
    )
    each_s = []
    for action in actions:
        begun_s = time.perf_counter()
        await optimiser.enact((action,))
        each_s.append(time.perf_counter() - begun_s)
    return each_s


async def in_one_call(actions: Sequence[ImprovementAction], config: OptimiserConfig) -> list[float]:
    """All in one call; the mean for each."""
    optimiser = AsyncSelfOptimiser(config=config, thresholds=Detector(), clock=SystemClock())
    begun_s = time.perf_counter()
    await optimiser.enact(actions)
    return [(time.perf_counter() - begun_s) / len(actions)] * len(actions)


def profiled(count: int) -> list[float]:
    """The figures of a full window."""
    profiler = Profiler()
    for number in range(10_000):
        profiler.record("module", float(number % 997), number * 5_000)
    return timed([lambda: profiler.figures("module", 50_000_000)] * (count // 100))


def main() -> None:
    """Print the table."""
    count = QUICK if arguments(__doc__ or "").parse_args().quick else ACTIONS
    print_machine()
    actions = tunes(count)
    flags = [ImprovementAction("module", ActionKind.FLAG_FOR_REVIEW, 0.5, f"flag {n}") for n in range(count)]
    rows = [
        row("gates, all pass", judged(actions, OPEN)),
        row("gates, default limits", judged(actions, OptimiserConfig())),
        row("enact, made and read back", asyncio.run(enacted(actions, OPEN))),
        row("enact, default limits", asyncio.run(enacted(actions, OptimiserConfig()))),
        row("enact, flags", asyncio.run(enacted(flags, OptimiserConfig()))),
        row("enact, all in one call", asyncio.run(in_one_call(actions, OPEN))),
        row("profiler, figures of 10,000", profiled(count)),
    ]
    note = "Latencies in µs. `enact` with the default limits: 5 are made, the others are judged and deferred."
    table("The optimiser", ["", "actions", "per second", "p50", "p95", "p99", "max"], rows, note)
    console.print()


if __name__ == "__main__":
    main()

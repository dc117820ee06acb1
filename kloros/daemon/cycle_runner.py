"""Runs a consumer's cycles: one at a time in a worker thread, watched by the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from kloros.clock import Clock
from kloros.daemon.cycle import Cycle, Worker
from kloros.daemon.fallback import Run
from kloros.daemon.loop import Loop
from kloros.daemon.suite_settings import CycleSettings

MOST_OVERLAPPED = 1_000  # of a cycle that runs for very long


class CycleRunner:
    """At most one cycle runs; requests that come meanwhile coalesce into one run after it, or are skipped.

    The due moments that thereby get no cycle of their own are noted in the next cycle that ends (`overlapped`); what
    they knew to be missed is told by the next numbered one that starts.

    Args:
        work: does the cycle's work in the worker thread; an exception is an outcome.
        prepare: makes the Cycle for a run, just before it starts.
        on_done: called in the loop with the cycle and what went wrong, or None.
        on_overdrawn: called in the loop when a cycle outlives its budget.
        on_hung: called in the loop when it outlives all patience; the worker is lost by then, and should the cycle end
            after all, nobody hears of it.
        worker: the thread, which others may use too.
        is_taken: whether they do so now; `resume` must be called when they no longer do.
    """

    def __init__(
        self,
        loop: Loop,
        clock: Clock,
        limits: CycleSettings,
        *,
        work: Callable[[Cycle], None],
        prepare: Callable[[Run], Cycle],
        on_done: Callable[[Cycle, str | None], None],
        on_overdrawn: Callable[[Cycle], None],
        on_hung: Callable[[Cycle], None],
        worker: Worker,
        is_taken: Callable[[], bool],
    ) -> None:
        self._loop, self._clock, self._limits = loop, clock, limits
        self._work, self._prepare, self._on_done = work, prepare, on_done
        self._on_overdrawn, self._on_hung = on_overdrawn, on_hung
        self._worker, self._is_taken = worker, is_taken
        self._running: Cycle | None = None
        self._disowned: Cycle | None = None
        self._pending: Run | None = None
        self._coalesced = 0
        self._overlapped: list[int] = []
        self._missed = 0

    @property
    def is_busy(self) -> bool:
        """Whether a cycle is running."""
        return self._running is not None

    def request(self, run: Run) -> None:
        """Run it now, or once after the cycle that is running."""
        if self._running is None and not self._is_taken():
            self._start(run)
        elif run.is_skipped_when_busy and self._running is not None:
            self.give_up(run)
        elif self._pending is None:
            self._pending = run
        else:
            self._coalesced += 1
            self.give_up(run if run.due_us is None else self._pending)
            if run.due_us is not None:
                self._pending = run

    def give_up(self, run: Run) -> None:
        """It gets no cycle of its own; the next cycle that ends says so."""
        self._missed += run.missed
        if run.due_us is not None and len(self._overlapped) < MOST_OVERLAPPED:
            self._overlapped.append(run.due_us)

    def forget_pending(self) -> None:
        """Nothing is to run after the present cycle."""
        if self._pending is not None:
            self.give_up(self._pending)
        self._pending, self._coalesced = None, 0

    def resume(self) -> None:
        """The worker is free: run what was requested meanwhile."""
        if self._running is None and self._pending is not None:
            run, self._pending = self._pending, None
            self._start(run)

    def cancel(self) -> None:
        """Ask the running cycle to end, and start none after it."""
        self.forget_pending()
        if self._running:
            self._running.cancelled.set()

    def _start(self, run: Run) -> None:
        if run.due_us is not None:
            run, self._missed = replace(run, missed=run.missed + self._missed), 0
        cycle = self._prepare(run)
        cycle.coalesced, self._coalesced = self._coalesced, 0
        cycle.started_s, cycle.started_us = self._clock.monotonic_s(), self._clock.wall_us()
        self._running = cycle
        patience_s = max(self._limits.hang_at_least_s, self._limits.hang_factor * cycle.budget_s)
        self._loop.at_monotonic("budget", cycle.started_s + cycle.budget_s, partial(self._overdrawn, cycle))
        self._loop.at_monotonic("hang", cycle.started_s + patience_s, partial(self._hung, cycle))
        self._worker.run(partial(self._run_in_worker, cycle))

    def _run_in_worker(self, cycle: Cycle) -> None:
        error: str | None = None
        try:
            self._work(cycle)
        except Exception as exception:  # a failed cycle is an outcome, not the end of the daemon
            error = f"{type(exception).__name__}: {exception}"
            cycle.log.exception("cycle_failed")
        self._loop.call_soon(partial(self._done, cycle, error))

    def _done(self, cycle: Cycle, error: str | None) -> None:
        if cycle is self._disowned:
            return
        self._running = None
        cycle.overlapped, self._overlapped = self._overlapped, []
        self._loop.at_monotonic("budget", None)
        self._loop.at_monotonic("hang", None)
        self._on_done(cycle, error)
        self.resume()

    def _overdrawn(self, cycle: Cycle) -> None:
        cycle.cancelled.set()
        self._on_overdrawn(cycle)

    def _hung(self, cycle: Cycle) -> None:
        self._disowned = cycle
        self._on_hung(cycle)

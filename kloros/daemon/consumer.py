"""The base of every consumer: trigger -> cycle in a worker thread, one at a time; its own clock when triggers stop."""

from __future__ import annotations

import re
from functools import partial
from typing import ClassVar

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, FallbackFacts, HeartbeatFacts, TickEntry, TickFacts, TriggerFacts
from kloros.clock import seconds_to_us, us_to_seconds
from kloros.daemon.cycle import Cycle, Worker
from kloros.daemon.daemon import Daemon, Kit
from kloros.daemon.fallback import BeatKeeper, Limits, Pacing, Refusal, Run, Source, Trigger

# A cycle may use this share of the interval before it counts as over budget, unless the config says otherwise.
BUDGET_SHARE = 0.8
# How long a stopping consumer waits for the cycle it is in.
STOP_GRACE_S = 1.5


class Consumer(Daemon):
    """A daemon that works when its trigger is heard.

    Subclasses set `schedule` (the entry's name), `signal` (its trigger) and `interval_s` (used until the scheduler is
    heard), and write `cycle`. `zooid`, `niche` and `ecosystem` follow from the class name unless set.
    """

    schedule: ClassVar[str]
    signal: ClassVar[str]
    interval_s: ClassVar[float]
    ecosystem: ClassVar[str]

    def __init_subclass__(cls) -> None:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        for attribute, default in (("zooid", name), ("niche", name), ("ecosystem", name)):
            if not hasattr(cls, attribute):
                setattr(cls, attribute, default)

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        nominal_us = seconds_to_us(self.interval_s)
        pacing = self.store.get("pacing", Pacing) or Pacing(interval_us=nominal_us, nominal_us=nominal_us)
        limits = Limits(self.suite.fallback.missed_intervals, self.suite.fallback.heartbeat_fallback)
        self.beats = BeatKeeper(pacing, limits, self.clock.monotonic_s())
        self.backlog = 0
        self._running: Cycle | None = None
        self._pending: Run | None = None
        self._coalesced = 0
        self._last_beat: int | None = None
        self._was_engaged = False
        self._worker = Worker(f"{self.zooid}-cycle")
        self._common[self.signal] = self._on_trigger
        self._cycles = self.metrics.counter("kloros_cycles_total", "Cycles by source and outcome.", ("source", "outcome"))
        self._cycle_s = self.metrics.histogram("kloros_cycle_duration_seconds", "How long cycles take.")
        self._lateness_s = self.metrics.histogram("kloros_trigger_lateness_seconds", "From due to heard.")
        self._missed = self.metrics.counter("kloros_beats_missed_total", "Beats that nobody ran.")
        self.metrics.gauge("kloros_fallback_engaged", "1 while on its own clock.").set_function(
            lambda: float(self.beats.engaged)
        )
        self.metrics.gauge("kloros_backlog_items", "What the last cycle left waiting.").set_function(
            lambda: float(self.backlog)
        )

    # For subclasses

    def cycle(self, cycle: Cycle) -> None:
        """Do one beat's work. Runs in a worker thread; may block. Must be overridden."""
        raise NotImplementedError

    @property
    def budget_s(self) -> float:
        """Seconds a cycle may take before it is over budget."""
        configured = self.suite.cycles.budgets_s.get(self.zooid.removesuffix("_daemon"))
        return configured or BUDGET_SHARE * us_to_seconds(self.beats.pacing.interval_us)

    # Hearing

    def _on_trigger(self, message: Message) -> None:
        facts: TriggerFacts = message.facts
        due_us = None if facts.due_ts is None else seconds_to_us(facts.due_ts)
        interval_us = None if facts.interval_s is None else seconds_to_us(facts.interval_s)
        decision = self.beats.on_trigger(
            Trigger(facts.beat, due_us, interval_us, facts.epoch or 0), self.clock.monotonic_s()
        )
        self._note_fallback()
        if isinstance(decision, Refusal):
            self.count(decision)
            self.log.debug("trigger_refused", reason=decision.value, schedule=self.schedule, beat=facts.beat)
        else:
            if decision.due_us is not None:
                self._lateness_s.observe(max(0.0, us_to_seconds(self.clock.wall_us() - decision.due_us)))
            self._request(decision)
        self._arm()

    def on_tick(self, message: Message, tick: TickFacts) -> None:
        entry = tick.entries.get(self.schedule)
        pacing = self._pacing_of(entry) if entry else None
        self.beats.on_tick(tick.epoch or 0, pacing, self.clock.monotonic_s(), self.clock.wall_us())
        self._arm()

    def _pacing_of(self, entry: TickEntry) -> Pacing:
        interval_us = seconds_to_us(entry.interval_s)
        offset_us = seconds_to_us(entry.offset_s)
        return Pacing(
            interval_us=interval_us,
            nominal_us=seconds_to_us(entry.nominal_s) if entry.nominal_s else interval_us,
            offset_us=offset_us,
            anchor_us=offset_us if entry.next_due_ts is None else seconds_to_us(entry.next_due_ts),
            paused=entry.paused,
        )

    # Falling back

    def on_start(self) -> None:
        self._arm()

    def on_maintenance(self, is_on: bool) -> None:
        if not is_on:
            self.beats.resume(self.clock.monotonic_s(), self.clock.wall_us())
        self._arm()

    def on_clock_step(self, step_s: float) -> None:
        self._on_time()

    def _arm(self) -> None:
        """Set the moments at which this consumer would have to act by itself."""
        now_us, now_s = self.clock.wall_us(), self.clock.monotonic_s()
        can_fall_back = self.is_working and not self.beats.pacing.paused
        engage_s = self.beats.engage_at_s() if can_fall_back and not self.beats.engaged else None
        self.loop.at_monotonic("engage", engage_s, self._on_time)
        due_us = self.beats.next_local_due_us(now_us, now_s) if can_fall_back else None
        self.loop.at_wall("local beat", due_us, self._on_time)

    def _on_time(self) -> None:
        if self.is_working:
            run = self.beats.on_time(self.clock.wall_us(), self.clock.monotonic_s())
            self._note_fallback()
            if run:
                self._request(run)
        self._arm()

    def _note_fallback(self) -> None:
        if self.beats.engaged == self._was_engaged:
            return
        self._was_engaged = self.beats.engaged
        silent_s = round(self.beats.silent_s(self.clock.monotonic_s()), 3)
        signal, event = (
            ("FALLBACK_ENGAGED", "fallback_engaged") if self.beats.engaged else ("FALLBACK_RELEASED", "fallback_released")
        )
        self.log.warning(event, signal=signal, schedule=self.schedule, silent_s=silent_s, beat=self._last_beat)
        self.bus.emit(signal, FallbackFacts(
            daemon=self.zooid, schedule=self.schedule, last_beat=self._last_beat, silent_s=silent_s))
        self.notify.status(self.status())

    # Working

    def _request(self, run: Run) -> None:
        if not self.is_working:
            self.count("refused_not_working")
        elif self._running is None:
            self._start(run, coalesced=0)
        else:
            self._coalesce(run)

    def _coalesce(self, run: Run) -> None:
        """A cycle is running: keep one run for after it, standing for all that came meanwhile."""
        self.count("coalesced")
        if self._pending is None:
            self._pending, self._coalesced = run, 0
            return
        self._coalesced += 1
        if run.due_us is not None:
            self._pending = run

    def _start(self, run: Run, coalesced: int) -> None:
        cycle = Cycle(
            run=run, budget_s=self.budget_s, coalesced=coalesced, clock=self.clock, store=self.store,
            log=self.log.bind(schedule=self.schedule, beat=run.beat),
            started_s=self.clock.monotonic_s(), started_us=self.clock.wall_us(),
        )
        self._running = cycle
        limits = self.suite.cycles
        hung_at_s = cycle.started_s + max(limits.hang_at_least_s, limits.hang_factor * cycle.budget_s)
        self.loop.at_monotonic("budget", cycle.started_s + cycle.budget_s, partial(self._over_budget, cycle))
        self.loop.at_monotonic("hang", hung_at_s, partial(self._hung, cycle))
        self._worker.run(partial(self._work, cycle))

    def _work(self, cycle: Cycle) -> None:
        error: str | None = None
        try:
            self.cycle(cycle)
        except Exception as exception:  # noqa: BLE001 - a failed cycle is an outcome, not the end of the daemon
            error = f"{type(exception).__name__}: {exception}"
            cycle.log.exception("cycle_failed")
        self.loop.call_soon(partial(self._finish, cycle, error))

    def _finish(self, cycle: Cycle, error: str | None) -> None:
        if error is None:
            error = self._commit(cycle)
        else:
            self._remember(cycle, {})
        overdrawn = cycle.remaining_s < 0
        self._conclude(cycle, "failed" if error else "over_budget" if overdrawn else "ok", error)
        if (run := self._pending) is not None:
            self._pending = None
            if self.is_working:
                self._start(run, self._coalesced)
        self._arm()

    def _commit(self, cycle: Cycle) -> str | None:
        """The cycle's documents and its beat in one transaction, then its signals; returns what went wrong."""
        try:
            self._remember(cycle, cycle.documents)
            for out in cycle.outgoing:
                self.bus.emit(out.signal, out.facts, intensity=out.intensity, incident_id=out.incident_id)
        except Exception as exception:  # noqa: BLE001 - facts that do not fit their signal fail the cycle, not the daemon
            self.log.exception("cycle_commit_failed", schedule=self.schedule)
            return f"{type(exception).__name__}: {exception}"
        return None

    def _remember(self, cycle: Cycle, documents: dict[str, object]) -> None:
        self.beats.done(cycle.run.due_us)
        with self.store.batch():
            for name, document in documents.items():
                self.store.put(name, document)
            self.store.put("pacing", self.beats.pacing)

    def _conclude(self, cycle: Cycle, outcome: str, error: str | None) -> None:
        self._running = None
        self.loop.at_monotonic("budget", None, self._arm)
        self.loop.at_monotonic("hang", None, self._arm)
        run, duration_s = cycle.run, self.clock.monotonic_s() - cycle.started_s
        self._last_beat = run.beat if run.beat is not None else self._last_beat
        self.backlog = cycle.backlog
        self.processed_count += cycle.processed
        self._cycles.labels(run.source.value, outcome).inc()
        self._cycle_s.observe(duration_s)
        self._missed.inc(run.missed)
        self.log.log(
            20 if outcome == "ok" else 30, "cycle", schedule=self.schedule, beat=run.beat,
            due_ts=None if run.due_us is None else us_to_seconds(run.due_us), source=run.source.value, outcome=outcome,
            duration_ms=round(duration_s * 1e3, 1), processed=cycle.processed, backlog=cycle.backlog or None,
            missed=run.missed or None, coalesced=cycle.coalesced or None, error=error,
        )
        self.bus.emit("Q_CYCLE_REPORT", CycleReportFacts(
            daemon=self.zooid, schedule=self.schedule, beat=run.beat,
            due_ts=None if run.due_us is None else us_to_seconds(run.due_us),
            source=run.source.value, outcome=outcome, started_ts=us_to_seconds(cycle.started_us),  # type: ignore[arg-type]
            duration_s=round(max(duration_s, 0.0), 6), processed=cycle.processed, backlog=cycle.backlog,
            error=error, missed=run.missed, coalesced=cycle.coalesced,
        ))

    def _over_budget(self, cycle: Cycle) -> None:
        if cycle is self._running:
            cycle.cancelled.set()
            self.count("over_budget")
            self.log.warning("cycle_over_budget", schedule=self.schedule, beat=cycle.run.beat, budget_s=cycle.budget_s)

    def _hung(self, cycle: Cycle) -> None:
        if cycle is self._running:
            self._conclude(cycle, "hung", f"still running after {-cycle.remaining_s + cycle.budget_s:.0f} s")
            self.log.error("cycle_hung", schedule=self.schedule, beat=cycle.run.beat)
            self.stop(exit_code=1)

    # Telling

    def mode(self) -> str:
        mode = super().mode()
        if mode != "normal":
            return mode
        return "fallback" if self.beats.engaged else "paused" if self.beats.pacing.paused else "normal"

    def status(self) -> str:
        return f"{self.mode()}, last beat {self._last_beat if self._last_beat is not None else '-'}, backlog {self.backlog}"

    def heartbeat_facts(self) -> HeartbeatFacts:
        facts = super().heartbeat_facts()
        facts.schedule, facts.last_beat, facts.backlog = self.schedule, self._last_beat, self.backlog
        done_us = self.beats.pacing.done_us
        facts.last_due_ts = None if done_us is None else us_to_seconds(done_us)
        return facts

    def on_stop(self) -> None:
        self._pending = None
        if self._running:
            self._running.cancelled.set()
        if self._worker.close(STOP_GRACE_S):
            self.loop.turn(0.0)  # a cycle that ended meanwhile still tells its outcome
        self.store.put("pacing", self.beats.pacing)

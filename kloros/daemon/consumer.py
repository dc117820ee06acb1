"""The base of every consumer: trigger -> cycle in a worker thread, one at a time; its own clock when triggers stop."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import ClassVar, Literal

from kloros.chembus.envelope import Message
from kloros.chembus.facts import (
    CycleBudgetFacts,
    CycleReportFacts,
    FallbackFacts,
    HeartbeatFacts,
    TickEntry,
    TickFacts,
    TriggerFacts,
)
from kloros.daemon.cycle import Cycle, Outgoing
from kloros.daemon.cycle_runner import CycleRunner
from kloros.daemon.daemon import Daemon, Kit
from kloros.daemon.fallback import BeatKeeper, Limits, Pacing, Refusal, Run, Source, Trigger
from kloros.errors import OutboxFull
from kloros.units import seconds_to_us, us_to_seconds

Outcome = Literal["ok", "failed", "over_budget", "hung"]

# A cycle may use this share of the interval before it counts as over budget, unless the config says otherwise.
BUDGET_SHARE = 0.8
# A granted budget is at most so many times the own one, and at least its so-many-th part.
GRANT_RANGE = 10.0


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
        for attribute in ("zooid", "niche", "ecosystem"):
            if not hasattr(cls, attribute):
                setattr(cls, attribute, name)

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        nominal_us = seconds_to_us(self.interval_s)
        pacing = self.store.get("pacing", Pacing) or Pacing(interval_us=nominal_us, nominal_us=nominal_us)
        limits = Limits(self.suite.fallback.missed_intervals, self.suite.fallback.heartbeat_fallback)
        self.beats = BeatKeeper(pacing, limits, self.clock.monotonic_s())
        self.backlog = 0
        self._last_beat: int | None = None
        self._was_engaged = False
        self._granted_s: float | None = None
        self._common[self.signal] = self._on_trigger
        self._common["CYCLE_BUDGET"] = self._on_budget
        self._cycles = CycleRunner(
            self.loop, self.clock, self.suite.cycles, work=self.cycle, prepare=self._prepare,
            on_done=self._on_done, on_overdrawn=self._on_overdrawn, on_hung=self._on_hung,
            worker=self.durables.worker, is_taken=lambda: self.intake is not None and self.intake.is_working,
        )  # fmt: skip
        self._register_metrics()

    def _register_metrics(self) -> None:
        metrics = self.metrics
        self._cycles_total = metrics.counter("kloros_cycles_total", "Cycles run.", ("source", "outcome"))
        self._cycle_s = metrics.histogram("kloros_cycle_duration_seconds", "How long cycles take.")
        self._lateness_s = metrics.histogram("kloros_trigger_lateness_seconds", "From due to heard.")
        self._missed = metrics.counter("kloros_beats_missed_total", "Beats that nobody ran.")
        engaged = metrics.gauge("kloros_fallback_engaged", "1 while on its own clock.")
        engaged.set_function(lambda: float(self.beats.engaged))
        backlog = metrics.gauge("kloros_backlog_items", "What the last cycle left waiting.")
        backlog.set_function(lambda: float(self.backlog))

    # For subclasses

    def cycle(self, cycle: Cycle) -> None:
        """Do one beat's work. Runs in a worker thread; may block. Must be overridden."""
        raise NotImplementedError

    @property
    def budget_s(self) -> float:
        """Seconds a cycle may take before it is over budget: granted for a while, or its own."""
        return self._granted_s or self.own_budget_s

    @property
    def own_budget_s(self) -> float:
        """Seconds a cycle may take by the settings."""
        configured = self.suite.cycles.budgets_s.get(self.zooid.removesuffix("_daemon"))
        return configured or BUDGET_SHARE * us_to_seconds(self.beats.pacing.interval_us)

    @property
    def is_busy(self) -> bool:
        """Whether a cycle is running, or a batch."""
        return self._cycles.is_busy or super().is_busy

    def may_take_work(self) -> bool:
        return super().may_take_work() and not self._cycles.is_busy

    def on_work_done(self) -> None:
        self._cycles.resume()

    # Hearing the scheduler

    def _on_trigger(self, message: Message) -> None:
        facts: TriggerFacts = message.facts
        due_us = None if facts.due_ts is None else seconds_to_us(facts.due_ts)
        interval_us = None if facts.interval_s is None else seconds_to_us(facts.interval_s)
        trigger = Trigger(facts.beat, due_us, interval_us, facts.epoch or 0, facts.serial)
        decision = self.beats.on_trigger(trigger, self.clock.monotonic_s(), self.clock.wall_us())
        self._note_fallback()
        runs_it = isinstance(decision, Run) and decision.due_us is not None
        if trigger.epoch and not runs_it and decision is not Refusal.OLD_EPOCH:
            # A beat that was run, or one older than that, which never will be; at most work is done without its number.
            self._cycles.give_up(Run(Source.TRIGGER, facts.beat, due_us))
        if isinstance(decision, Refusal):
            self.count(decision.value)
            self.log.debug("trigger_refused", reason=decision.value, schedule=self.schedule, beat=facts.beat)
        else:
            if decision.due_us is not None:
                self._lateness_s.observe(max(0.0, us_to_seconds(self.clock.wall_us() - decision.due_us)))
            self._request(replace(decision, is_skipped_when_busy=facts.overlap == "skip"))
        self._arm()

    def _on_budget(self, message: Message) -> None:
        """More time, or less, for a while; the heartbeat at once says what is in force."""
        facts: CycleBudgetFacts = message.facts
        if facts.daemon != self.zooid:
            return
        until_us = None if facts.until_ts is None else seconds_to_us(facts.until_ts)
        is_grant = facts.budget_s is not None and until_us is not None and until_us > self.clock.wall_us()
        self._granted_s = self._bounded(facts.budget_s or 0.0) if is_grant else None
        self.loop.at_wall("budget lapses", until_us if is_grant else None, self._budget_lapsed)
        self.log.info("cycle_budget", budget_s=self.budget_s, granted=is_grant, requester=facts.requester)
        self.beat_heart()

    def _bounded(self, granted_s: float) -> float:
        """A grant changes the own budget by a factor of `GRANT_RANGE` at most."""
        return min(max(granted_s, self.own_budget_s / GRANT_RANGE), self.own_budget_s * GRANT_RANGE)

    def _budget_lapsed(self) -> None:
        self._granted_s = None
        self.log.info("cycle_budget", budget_s=self.budget_s, granted=False)

    def on_tick(self, message: Message, tick: TickFacts) -> None:
        entry = tick.entries.get(self.schedule)
        pacing = _pacing_of(entry) if entry else None
        self.beats.on_tick(tick.epoch or 0, pacing, self.clock.monotonic_s(), self.clock.wall_us())
        self._arm()

    # Falling back

    def on_start(self) -> None:
        self._arm()

    def on_maintenance(self, is_on: bool) -> None:
        if is_on:
            self._cycles.forget_pending()
        else:
            self.beats.resume(self.clock.monotonic_s(), self.clock.wall_us())
        self._arm()

    def on_clock_step(self, step_s: float) -> None:
        self._on_time()

    def _arm(self) -> None:
        """Set the moments at which this consumer would have to act by itself."""
        is_waiting = self.is_working and not self.beats.pacing.paused and not self.beats.engaged
        self.loop.at_monotonic("engage", self.beats.engage_at_s() if is_waiting else None, self._on_time)
        now_us, now_s = self.clock.wall_us(), self.clock.monotonic_s()
        due_us = self.beats.next_local_due_us(now_us, now_s) if self.is_working else None
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
        signal = "FALLBACK_ENGAGED" if self.beats.engaged else "FALLBACK_RELEASED"
        silent_s = round(max(0.0, self.beats.silent_s(self.clock.monotonic_s())), 3)
        self.log.warning(signal.lower(), signal=signal, schedule=self.schedule, silent_s=silent_s, beat=self._last_beat)
        facts = FallbackFacts(daemon=self.zooid, schedule=self.schedule, last_beat=self._last_beat, silent_s=silent_s)
        self.bus.emit(signal, facts)
        self.notify.status(self.status())

    # Working

    def _request(self, run: Run) -> None:
        if not self.is_working:
            self.count("refused_not_working")
            self._cycles.give_up(run)
            return
        if self._cycles.is_busy:
            self.count("skipped_busy" if run.is_skipped_when_busy else "coalesced")
        self._cycles.request(run)

    def _prepare(self, run: Run) -> Cycle:
        log = self.log.bind(schedule=self.schedule, beat=run.beat)
        keep = self.durables.keep_in_worker
        return Cycle(run=run, budget_s=self.budget_s, log=log, clock=self.clock, store=self.store, keep=keep)

    def _on_done(self, cycle: Cycle, error: str | None) -> None:
        is_overdrawn = cycle.remaining_s < 0
        self.beats.done(cycle.run)
        if error is None:
            error = self._commit(cycle, "over_budget" if is_overdrawn else "ok")
        if error is not None:
            self._close_without_effect(cycle, "failed", error)
        self._arm()
        if self.intake:
            self.intake.turn()

    def _commit(self, cycle: Cycle, outcome: Outcome) -> str | None:
        """The cycle's documents, its durable signals, its report and its beat in one transaction, then its other
        signals; returns what went wrong."""
        try:
            report = self._report(cycle, outcome, None)
            documents = {**cycle.documents, "pacing": self.beats.pacing}
            outgoing = [*cycle.outgoing, Outgoing("Q_CYCLE_REPORT", report, 1.0, None)]
            self.durables.keep(documents, outgoing, cycle.statements)
        except Exception as exception:  # facts that do not fit fail the cycle, not the daemon
            self.log.exception("cycle_commit_failed", schedule=self.schedule)
            return f"{type(exception).__name__}: {exception}"
        self._tell(cycle, report)
        return None

    def _close_without_effect(self, cycle: Cycle, outcome: Outcome, error: str) -> None:
        """Only the beat and the report remain of a cycle that went wrong."""
        report = self._report(cycle, outcome, error)
        try:
            self.durables.keep({"pacing": self.beats.pacing}, [Outgoing("Q_CYCLE_REPORT", report, 1.0, None)])
        except OutboxFull as full:
            self.log.error("cycle_report_lost", schedule=self.schedule, reason=str(full))
        self._tell(cycle, report)

    def _on_overdrawn(self, cycle: Cycle) -> None:
        self.count("over_budget")
        self.log.warning("cycle_over_budget", schedule=self.schedule, beat=cycle.run.beat, budget_s=cycle.budget_s)

    def _on_hung(self, cycle: Cycle) -> None:
        self.beats.done(cycle.run)
        self._close_without_effect(cycle, "hung", f"still running {-cycle.remaining_s:.0f} s after its budget")
        self.log.error("cycle_hung", schedule=self.schedule, beat=cycle.run.beat, budget_s=cycle.budget_s)
        self.stop(exit_code=1)

    # Telling

    def _report(self, cycle: Cycle, outcome: Outcome, error: str | None) -> CycleReportFacts:
        run, duration_s = cycle.run, max(0.0, self.clock.monotonic_s() - cycle.started_s)
        return CycleReportFacts(
            daemon=self.zooid, schedule=self.schedule, beat=run.beat,
            due_ts=None if run.due_us is None else us_to_seconds(run.due_us), source=run.source.value,
            outcome=outcome, started_ts=us_to_seconds(cycle.started_us), duration_s=round(duration_s, 6),
            processed=cycle.processed, backlog=cycle.backlog, error=error, missed=run.missed, coalesced=cycle.coalesced,
            overlapped_ts=[us_to_seconds(due_us) for due_us in cycle.overlapped],
        )  # fmt: skip

    def _tell(self, cycle: Cycle, report: CycleReportFacts) -> None:
        """One canonical log line, the metrics."""
        run, outcome, duration_s = cycle.run, report.outcome, report.duration_s
        self._last_beat = self._last_beat if run.beat is None else run.beat
        self.backlog = cycle.backlog
        self.processed_count += cycle.processed
        self._cycles_total.labels(run.source.value, outcome).inc()
        self._cycle_s.observe(duration_s)
        self._missed.inc(run.missed)
        self.log.log(
            logging.INFO if outcome == "ok" else logging.WARNING, "cycle", schedule=self.schedule, beat=run.beat,
            due_ts=report.due_ts, source=run.source.value, outcome=outcome, duration_ms=round(duration_s * 1e3, 1),
            processed=cycle.processed, backlog=cycle.backlog or None, missed=run.missed or None,
            coalesced=cycle.coalesced or None, error=report.error,
        )  # fmt: skip

    def mode(self) -> str:
        mode = super().mode()
        if mode != "normal":
            return mode
        return "fallback" if self.beats.engaged else "paused" if self.beats.pacing.paused else "normal"

    def status(self) -> str:
        last = "none yet" if self._last_beat is None else str(self._last_beat)
        staged = f", runs {self.artifact}" if self.artifact else ""
        return f"{self.mode()}, last beat {last}, backlog {self.backlog}{staged}"

    def heartbeat_facts(self) -> HeartbeatFacts:
        facts = super().heartbeat_facts()
        facts.schedule, facts.last_beat, facts.backlog = self.schedule, self._last_beat, self.backlog
        facts.budget_s = self.budget_s
        done_us = self.beats.pacing.done_us
        facts.last_due_ts = None if done_us is None else us_to_seconds(done_us)
        return facts

    def on_stop(self) -> None:
        self._cycles.cancel()
        self.store.put("pacing", self.beats.pacing)


def _pacing_of(entry: TickEntry) -> Pacing:
    interval_us = seconds_to_us(entry.interval_s)
    offset_us = seconds_to_us(entry.offset_s)
    return Pacing(
        interval_us=interval_us,
        nominal_us=seconds_to_us(entry.nominal_s) if entry.nominal_s else interval_us,
        offset_us=offset_us,
        anchor_us=offset_us if entry.next_due_ts is None else seconds_to_us(entry.next_due_ts),
        paused=entry.paused,
        held_until_us=None if entry.held_until_ts is None else seconds_to_us(entry.held_until_ts),
    )

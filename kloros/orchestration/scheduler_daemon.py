"""The scheduler: emits every beat when it is due, shows the whole schedule each second, obeys control signals.

A beat is emitted first and remembered afterwards: a scheduler killed in between emits it again in its next life, and
consumers, who know beats by their due moment, run it once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kloros.chembus.envelope import Message
from kloros.chembus.facts import AffectFacts, ChangedFacts, ClockFacts, ControlFacts, CycleReportFacts, TickFacts
from kloros.daemon import runner
from kloros.daemon.daemon import Daemon, Kit
from kloros.errors import ConfigError, ScheduleRefused
from kloros.machine.host import host_id
from kloros.orchestration.adaptation import Adaptation
from kloros.orchestration.beat_ledger import BEAT_TABLES, THE_SCHEDULER
from kloros.orchestration.beat_notes import BeatNotes
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_config import ScheduleConfig, load_schedule
from kloros.orchestration.schedule_control import LONGEST_TEXT, apply, shortened
from kloros.orchestration.schedule_entry import Beat, Change
from kloros.orchestration.schedule_facts import tick_entry, trigger_facts
from kloros.orchestration.schedule_memory import ScheduleMemory
from kloros.orchestration.tick_pages import TickPages
from kloros.units import us_to_seconds

# Beats are written down once none is due for IDLE_US, or REMEMBER_WITHIN_S after they were emitted.
IDLE_US = 20_000
REMEMBER_WITHIN_S = 0.1
PRUNE_HISTORY_EVERY_S = 60.0


class SchedulerDaemon(Daemon):
    """Paces the suite."""

    zooid = "scheduler_daemon"
    niche = "orchestration"
    hears = ("Q_SCHEDULE_CONTROL", "Q_CYCLE_REPORT", "AFFECT_*")
    tables = BEAT_TABLES

    def __init__(self, kit: Kit) -> None:
        self.config_file = runner.settings_file(kit.place, "scheduler")
        self._draw = kit.clock.wall_us()
        self.config = self._load()
        super().__init__(kit)
        self.memory = ScheduleMemory(self.store)
        self.schedule = Schedule(
            self.config.entries,
            self.clock.wall_us(),
            self.memory.states(),
            self.config.misfire_grace_us,
            self.config.settle_us,
        )
        self.adaptation = Adaptation(self.schedule, self.config)
        self.notes = BeatNotes(self.clock, self.log, self.metrics, self.memory.ledger)
        self.pages = TickPages(self.schedule)
        self.epoch = 0
        self._common["STATUS_REQUEST"] = self._on_status_request
        self._tick_due_us: int | None = None
        self._is_remembering_soon = False
        self._pruned_s = self.clock.monotonic_s()

    # Named moments

    def on_start(self) -> None:
        self.epoch = self.notes.epoch = self.memory.next_epoch(self.clock.wall_us())
        self.memory.ledger.note(THE_SCHEDULER, Change(self.clock.wall_us(), "started", why=f"epoch {self.epoch}"))
        if self.in_maintenance:
            self.schedule.suspend()
        self.log.info("schedule_loaded", entries=len(self.schedule), epoch=self.epoch, file=str(self.config_file))
        self._emit_due()
        self._tick()

    def on_signal(self, message: Message) -> None:
        facts = message.facts
        if isinstance(facts, CycleReportFacts):
            changed, beats = self.adaptation.on_report(facts, self.clock.wall_us())
            self._emit_all(beats)
            self._tell_adapted(changed)
        elif isinstance(facts, AffectFacts):
            self._tell_adapted(self.adaptation.on_affect(message.signal, facts, self.clock.wall_us()))
        else:
            self._control(message, facts)

    def _tell_adapted(self, names: Sequence[str]) -> None:
        """Say which entries run at another interval from now on, and why."""
        for name in names:
            shown = tick_entry(self.schedule.view(name))
            detail = shown.why or f"back to {shown.interval_s:g} s"
            self.log.info("adapted", schedule=name, interval_s=shown.interval_s, pace=shown.pace, why=detail)
            facts = ChangedFacts(op="adapt", ok=True, schedule=name, detail=detail, value=shown.pace)
            self.bus.emit("Q_SCHEDULE_CHANGED", facts)
        if names:
            self._emit_due()

    def _control(self, message: Message, facts: ControlFacts) -> None:
        wish = shortened(facts)
        if wish.op == "reload":
            self._reload(wish.requester, message.id)
            return
        try:
            detail, beat = apply(self.schedule, wish, self.clock.wall_us())
        except ScheduleRefused as refused:
            self._answer(wish.op, False, refused.reason, wish, message.id)
            return
        if beat is not None:
            self._emit_all([beat])
        self._emit_due()
        self._remember()
        self._answer(wish.op, True, detail, wish, message.id)

    def _on_status_request(self, _message: Message) -> None:
        self.beat_heart()
        self._tick()  # who asks how things are wants to see the schedule, and not to wait a second for it

    def on_reload(self) -> None:
        self._reload("SIGHUP", None)

    def on_maintenance(self, is_on: bool) -> None:
        if is_on:
            self.schedule.suspend()
        else:
            self.schedule.unsuspend()
        detail = f"maintenance {'on' if is_on else 'off'}: {self._maintenance_reason}".removesuffix(": ")
        self.memory.ledger.note(THE_SCHEDULER, Change(self.clock.wall_us(), "maintenance", why=detail))
        self.bus.emit("Q_SCHEDULE_CHANGED", ChangedFacts(op="maintenance", ok=True, detail=detail))
        self._emit_due()
        self._tick()

    def on_clock_step(self, step_s: float) -> None:
        detail = f"the wall clock was stepped by {step_s:+g} s"
        self.memory.ledger.note(THE_SCHEDULER, Change(self.clock.wall_us(), "clock_step", why=detail))
        self.bus.emit("Q_SCHEDULE_CHANGED", ChangedFacts(op="clock_step", ok=True, detail=detail, value=step_s))
        self._emit_due()
        self._tick()

    def on_tick(self, message: Message, tick: TickFacts) -> None:
        if tick.epoch is not None and tick.epoch != self.epoch:
            self.count("foreign_tick")
            self.log.warning("another_scheduler", its_epoch=tick.epoch, our_epoch=self.epoch, pub=message.pub)

    def on_housekeeping(self) -> None:
        self._arm()
        self.notes.tell_the_rest()
        self.memory.prune_beats(self.clock.wall_us(), self.config.ledger)
        now_s = self.clock.monotonic_s()
        if now_s - self._pruned_s >= PRUNE_HISTORY_EVERY_S:
            self._pruned_s = now_s
            self.memory.prune_history()

    def on_stop(self) -> None:
        self.memory.ledger.note(THE_SCHEDULER, Change(self.clock.wall_us(), "stopped"))
        self.memory.ledger.leave_nothing()
        self._remember()

    def status(self) -> str:
        p99_ms = self.notes.lateness.percentiles()[1]
        late = "" if p99_ms is None else f", lateness p99 {p99_ms:.2f} ms"
        return f"{self.mode()}, {len(self.config.entries)} entries, last {self.notes.last_beat}{late}"

    # Beats

    def _emit_due(self) -> None:
        if self.killed:
            return
        self._emit_all(self.schedule.advance(self.clock.wall_us()))
        self._remember_soon()
        self._arm()

    def _emit_all(self, beats: Sequence[Beat]) -> None:
        """Beats that are due together all leave before anything is noted about the first of them."""
        emitted = [self._emit(beat) for beat in beats]
        for beat, (late_us, is_lost) in zip(beats, emitted, strict=True):
            self.notes.emitted(beat, late_us, is_lost=is_lost)

    def _emit(self, beat: Beat) -> tuple[int, bool]:
        """How late the trigger left, and whether it was lost at once."""
        late_us = 0 if beat.due_us is None else self.clock.wall_us() - beat.due_us
        facts = trigger_facts(beat, self.zooid, self.epoch, late_us)
        message_id = self.bus.emit(beat.entry.signal, facts, ecosystem=beat.entry.ecosystem)
        return late_us, message_id is None

    def _remember_soon(self) -> None:
        now_us = self.clock.wall_us()
        due_us = self.schedule.next_due_us(now_us)
        if due_us is None or due_us - now_us > IDLE_US:
            self._remember()
        elif not self._is_remembering_soon:
            self._is_remembering_soon = True
            self.loop.at_monotonic("remember", self.clock.monotonic_s() + REMEMBER_WITHIN_S, self._remember)

    def _remember(self) -> None:
        self._is_remembering_soon = False
        self.loop.at_monotonic("remember", None)
        changes = self.schedule.take_changes()
        if changes or not self.memory.ledger.is_empty:
            self.memory.remember(changes, self.clock.wall_us())

    def _arm(self) -> None:
        """Set the next deadlines; set again each second, in case the wall clock has moved without a word."""
        now_us = self.clock.wall_us()
        is_serving = not self.killed
        self.loop.at_wall("beats", self.schedule.next_due_us(now_us) if is_serving else None, self._emit_due)
        self.loop.at_wall("tick", self._tick_due_us if is_serving else None, self._tick)

    # The observable schedule

    def _tick(self) -> None:
        if self.killed:
            return
        self._tick_due_us = self.pages.due_after(self.clock.wall_us(), self.config.tick_interval_us)
        self._emit_due()  # beats are often due with the tick: they go first, the tick is long
        self.bus.emit("Q_SCHEDULE_TICK", self._tick_facts())
        self._arm()

    def _tick_facts(self) -> TickFacts:
        page, entries = self.pages.turn()
        p50_ms, p99_ms = self.notes.lateness.percentiles()
        until_us = self.maintenance.until_us
        return TickFacts(
            tick=self.clock.wall_us() // self.config.tick_interval_us,
            uptime_s=self.clock.monotonic_s() - self._started_s,
            maintenance=self.in_maintenance,
            maintenance_changed_ts=us_to_seconds(self.maintenance.changed_us),
            maintenance_until_ts=None if until_us is None else us_to_seconds(until_us),
            maintenance_reason=self._maintenance_reason or None,
            epoch=self.epoch,
            scheduler=self.zooid,
            page=page,
            pages=self.pages.count,
            entries=entries,
            lateness_p50_ms=None if p50_ms is None else max(0.0, round(p50_ms, 3)),
            lateness_p99_ms=None if p99_ms is None else max(0.0, round(p99_ms, 3)),
            clock=ClockFacts(
                synchronised=self.clock.synchronised(), steps=self.clock_steps, last_step_s=self.last_step_s or None
            ),
        )

    @property
    def _maintenance_reason(self) -> str:
        return self.maintenance.reason[:LONGEST_TEXT]  # what is remembered may be longer

    # Control

    def _load(self) -> ScheduleConfig:
        return load_schedule(self.config_file, host_id(), self._draw)

    def _reload(self, requester: str | None, request_id: str | None) -> None:
        wish = ControlFacts(op="reload", requester=requester)
        try:
            config = self._load()
        except ConfigError as error:
            self.log.error("reload_refused", reason=str(error))
            self._answer("reload", False, str(error), wish, request_id)
            return
        self.config = config
        self.schedule.grace_us, self.schedule.settle_us = config.misfire_grace_us, config.settle_us
        self.adaptation.reload(config)
        report = self.schedule.reload(config.entries, self.clock.wall_us())
        self._emit_due()
        self._remember()
        changes = {"added": report.added, "removed": report.removed, "changed": report.changed}
        parts = [f"{word} {', '.join(names)}" for word, names in changes.items() if names]
        self._answer("reload", True, "; ".join(parts) or "nothing changed", wish, request_id)
        self._tick()

    def _answer(self, op: str, ok: bool, detail: str, wish: ControlFacts, request_id: str | None) -> None:
        log = self.log.info if ok else self.log.warning
        log("schedule_changed" if ok else "control_refused", op=op, schedule=wish.schedule, detail=detail,
            requester=wish.requester)  # fmt: skip
        facts = ChangedFacts(
            op=op,
            ok=ok,
            schedule=wish.schedule,
            detail=detail,
            value=wish.value,
            request_id=request_id,
            requester=wish.requester,
        )
        self.bus.emit("Q_SCHEDULE_CHANGED", facts)


if __name__ == "__main__":
    sys.exit(runner.main(SchedulerDaemon))

"""optimiser: looks at how everybody's cycles went, changes what it may, and verifies what came of it."""

from __future__ import annotations

import sys
from pathlib import Path

from kloros.chembus.envelope import Message
from kloros.chembus.facts import (
    ChangedFacts,
    Facts,
    HeartbeatFacts,
    OptimiserPauseFacts,
    OptimiserStateFacts,
    StatusRequestFacts,
    TickFacts,
)
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.fallback import Run, Source
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.pen import BatchPen
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import StoreUnusable
from kloros.machine.privileged_client import PrivilegedClient
from kloros.optimisation import store
from kloros.optimisation.changes import Change, ChangeState
from kloros.optimisation.intake import Intake
from kloros.optimisation.levers import Budgets, Hand, Lever, Paces, Thresholds
from kloros.optimisation.live import Live
from kloros.optimisation.model import ActionKind, ReflectionState
from kloros.optimisation.optimiser_metrics import PrometheusMetrics
from kloros.optimisation.pause import Pause, why_paused
from kloros.optimisation.register import live_count
from kloros.optimisation.round import REPORT, Report, Round
from kloros.optimisation.settings import OptimiserSettings
from kloros.optimisation.step_journal import Desk
from kloros.optimisation.store import OPTIMISER_TABLES, Stage
from kloros.optimisation.swap import Helper, Versions
from kloros.storage.reads import Reads
from kloros.units import seconds_to_us

PAUSE = "pause"


class OptimiserDaemon(Consumer):
    """The loop profile, detect, plan, enact, verify, reflect, on its trigger.

    What comes in between (an action, a person's word, a bad cycle of a module on probation) has a cycle of its own at
    once, which only enacts and verifies: an errand.
    """

    zooid = "optimiser_daemon"
    niche = "optimiser"
    ecosystem = "optimisation"
    schedule = "optimisation"
    signal = "Q_TRIGGER_OPTIMISATION"
    interval_s = 60.0
    hears = ("HEARTBEAT", "Q_SCHEDULE_CHANGED", "OPTIMISER_PAUSE", "OPTIMISER_RESUME")
    consumes = (
        "Q_CYCLE_REPORT", "Q_IMPROVEMENT_ACTION", "Q_SHADOW_VERDICT", "Q_REVIEW_DECISION", "FLAG_FOR_REVIEW",
        "FLAG_CLOSED",
    )  # fmt: skip
    tables = OPTIMISER_TABLES

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), OptimiserSettings, self.log)
        self._live = Live(self.clock.monotonic_s())
        self._pause = self.store.get(PAUSE, Pause) or Pause()
        self._why_paused = ""
        self._state = ReflectionState.IDLE
        self._is_wanted = False
        self._errands: list[Run] = []
        self._on_probation: dict[str, Change] = {}
        self._waiting = self._open_changes = self._open_flags = 0
        self._asi = PrometheusMetrics(self.metrics)
        for name, read in (
            ("kloros_optimiser_paused", lambda: float(bool(self._why_paused))),
            ("kloros_optimiser_changes_open", lambda: float(self._open_changes)),
            ("kloros_optimiser_flags_open", lambda: float(self._open_flags)),
        ):
            self.metrics.gauge(name, "As its name says.").set_function(read)
        for module in self._own.current.hot_swap.modules:
            self._asi.know(module)

    # What comes in

    def work(self, batch: Batch) -> None:
        pen = BatchPen(batch)
        intake = Intake(pen, self._own.current, batch.log, self.clock.wall_us(), self.zooid)
        for message in batch.messages:
            intake.hear(message)
        batch.processed = len(batch.messages)
        for event, count in (intake.counts + intake.register.counts).items():
            self.count(event, count)
        self._is_wanted = self._is_wanted or intake.is_wanted

    def on_work_done(self) -> None:
        super().on_work_done()
        self._run_errand()

    def _run_errand(self) -> None:
        if self._is_wanted and self.is_working and not self._errands:
            self._is_wanted = False
            run = Run(Source.INJECTED)
            self._errands.append(run)
            self._request(run)

    # The beat

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()
        is_errand = any(cycle.run is each for each in self._errands)
        self._errands = []
        beat = Round(cycle, self._desk(cycle), self._live, self.zooid)
        beat.finish_what_is_under_way()
        beat.keep_up()
        if not is_errand:
            self._turn(ReflectionState.PROFILING)
            beat.look()
            self._turn(ReflectionState.OPTIMISING)
        beat.enact()
        beat.verify()
        if not is_errand:
            beat.tidy()
        self._look(cycle)
        for event, count in beat.journal.register.counts.items():
            self.count(event, count)
        waits = bool(store.actions(cycle, Stage.WAITING))
        self._turn(ReflectionState.AWAITING_APPROVAL if waits else ReflectionState.IDLE)

    def _desk(self, cycle: Cycle) -> Desk:
        settings = self._own.current
        versions = Versions(self.place.state, self._live, self.clock, self.helper(), settings.hot_swap)
        levers: dict[ActionKind, Lever] = {
            ActionKind.TUNE_THRESHOLD: Thresholds(cycle, settings),
            ActionKind.INCREASE_BUDGET: Budgets(self._live, self.clock),
            ActionKind.REDUCE_LOAD: Paces(self._live, self.clock, cycle),
            ActionKind.HOT_SWAP_MODULE: versions,
        }

        def emit(signal: str, facts: Facts) -> None:
            cycle.emit(signal, facts)
            cycle.commit()

        hand = Hand(lambda seconds: self.wait(cycle, seconds), emit, settings.limits.answer_s)
        return Desk(settings, levers, versions, hand, self.paused, lambda: _health(cycle), self._asi)

    def helper(self) -> Helper:
        """Who restarts units."""
        return PrivilegedClient(self.place.runtime)

    def wait(self, cycle: Cycle, seconds: float) -> bool:
        """Let time pass within a cycle; False when the cycle has to end."""
        return not cycle.cancelled.wait(seconds)

    def on_start(self) -> None:
        """What was under way when an earlier life ended is looked at before anything else is done."""
        super().on_start()
        self._look_for_pause()
        self.bus.emit("STATUS_REQUEST", StatusRequestFacts(requester=self.zooid))
        try:
            self._look(self.store.database)
            self._is_wanted = any(
                each.state is not ChangeState.SETTLING for each in store.open_changes(self.store.database)
            )
            self._is_wanted = self._is_wanted or bool(store.actions(self.store.database, Stage.QUEUED, Stage.ACTING))
        except StoreUnusable as error:
            self.log.warning("changes_not_read", reason=str(error))
        self._tell_state()

    # The kill switch

    def paused(self) -> str:
        """Why nothing may be changed just now; asked before each act, in any thread."""
        return why_paused(self._pause, self.clock.wall_us(), str(self.kill_file), self.kill_file.exists())

    @property
    def kill_file(self) -> Path:
        """While this is there, nothing is changed."""
        told = self._own.current.pause.kill_file
        return Path(told) if told else self.place.state / stem_of(type(self)) / "KILL"

    def on_housekeeping(self) -> None:
        self._look_for_pause()
        self._look_after_probation()
        self._run_errand()

    def _look_for_pause(self) -> None:
        why = self.paused()
        if why == self._why_paused:
            return
        self._why_paused = why
        self.log.warning("optimiser_paused" if why else "optimiser_resumed", reason=why or None)
        self._tell_state()
        self.notify.status(self.status())
        self._is_wanted = self._is_wanted or not why

    def _look_after_probation(self) -> None:
        """A module on probation that is silent, or was started anew, is looked at within the second."""
        versions = Versions(self.place.state, self._live, self.clock, self.helper(), self._own.current.hot_swap)
        self._is_wanted = self._is_wanted or any(
            versions.lost_since(stem, change.made_us or change.written_us, change.pid)
            for stem, change in self._on_probation.items()
        )

    # What is heard live

    def on_tick(self, message: Message, tick: TickFacts) -> None:
        super().on_tick(message, tick)
        self._live.hear_tick(tick, self.clock.monotonic_s())

    def on_signal(self, message: Message) -> None:
        facts = message.facts
        if isinstance(facts, HeartbeatFacts):
            self._live.hear_heart(facts, self.clock.monotonic_s())
        elif isinstance(facts, ChangedFacts):
            self._live.hear_answer(facts)
        elif isinstance(facts, OptimiserPauseFacts):
            self._take_pause(facts, message.signal == "OPTIMISER_PAUSE")

    def _take_pause(self, facts: OptimiserPauseFacts, is_on: bool) -> None:
        until_us = None if facts.until_ts is None else seconds_to_us(facts.until_ts)
        requester, reason = (facts.requester or "")[:200], (facts.reason or "")[:500]
        self._pause = Pause(is_on, reason, requester, self.clock.wall_us(), until_us if is_on else None)
        self.store.put(PAUSE, self._pause)
        self._look_for_pause()

    # Telling

    def _look(self, source: Reads) -> None:
        changes = store.open_changes(source)
        self._waiting = len(store.actions(source, Stage.QUEUED, Stage.WAITING))
        self._open_changes, self._open_flags = len(changes), live_count(source)
        hot = self._own.current.hot_swap.modules
        self._on_probation = {
            hot.get(each.module_name, each.module_name): each
            for each in changes
            if each.action_kind is ActionKind.HOT_SWAP_MODULE and each.state is ChangeState.SETTLING
        }

    def _turn(self, state: ReflectionState) -> None:
        if state is not self._state:
            self._state = state
            self.loop.call_soon(lambda: self._tell_state(state))

    def _tell_state(self, at_work: ReflectionState | None = None) -> None:
        state = ReflectionState.STOPPED if self._why_paused else at_work or self._state
        facts = OptimiserStateFacts(
            state=str(state), paused=self._why_paused, waiting=self._waiting, open_changes=self._open_changes,
            open_flags=self._open_flags,
        )  # fmt: skip
        self.bus.emit("OPTIMISER_STATE", facts)

    def status(self) -> str:
        paused = f", changes nothing: {self._why_paused}" if self._why_paused else ""
        return f"{super().status()}, {self._open_changes} changes open, {self._open_flags} flags{paused}"

    def on_reload(self) -> None:
        self._own.reload()


def _health(cycle: Cycle) -> tuple[int, int]:
    """How many modules are unhealthy, and how many there are, at the last look."""
    report = cycle.load(REPORT, Report)
    return (0, 0) if report is None else report.health


if __name__ == "__main__":
    sys.exit(main(OptimiserDaemon))

"""The suite's daemons as they look to the optimiser, for days of virtual time: noisy, obeying, and now and then ill."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kloros.chembus.envelope import Message
from kloros.chembus.facts import ChangedFacts, CycleReportFacts, HeartbeatFacts, TickEntry, TickFacts
from kloros.clock import VirtualClock
from kloros.daemon.cycle import Cycle, Outgoing
from kloros.daemon.fallback import Run, Source
from kloros.machine.privileged_protocol import Answer, AnyRequest
from kloros.optimisation import store
from kloros.optimisation.intake import Intake
from kloros.optimisation.levers import Budgets, Hand, Paces, Thresholds
from kloros.optimisation.live import Live
from kloros.optimisation.model import ActionKind
from kloros.optimisation.optimiser_metrics import NoMetrics
from kloros.optimisation.round import REPORT, Report, Round
from kloros.optimisation.settings import OptimiserSettings
from kloros.optimisation.step_journal import Desk
from kloros.optimisation.store import OPTIMISER_TABLES
from kloros.optimisation.swap import Versions
from kloros.storage import artifacts
from kloros.storage.state_store import StateStore
from kloros.telemetry.logs import get_logger
from kloros.units import us_to_seconds

DAY_S = 86_400.0
OWN = "optimiser_daemon"
SWAPPED, SWAPPED_STEM = "semantic_dedup", "semantic_dedup_consumer"
BROKEN = "broken"
_OPEN_S = 1e12


class Work(NamedTuple):
    """What a cycle comes upon: how long it would take, and whether it fails."""

    seconds: float
    fails: bool = False


Illness = Callable[["Straw", Work, float, random.Random], Work]
"""What becomes of a daemon's work at a moment (seconds since the beginning)."""


@dataclass
class Straw:
    """A daemon. Most stop when their budget is used up, as told; a stubborn one goes on to its end."""

    stem: str
    entry: str
    interval_s: float
    median_s: float
    phase: float = 0.0
    is_stubborn: bool = False
    granted_s: float | None = None
    pace: float = 1.0
    lives: bool = True
    began_s: float = 0.0
    version: str = ""
    next_s: float = 0.0
    free_s: float = 0.0
    ended: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def own_s(self) -> float:
        return 0.8 * self.interval_s

    @property
    def budget_s(self) -> float:
        return self.granted_s or self.own_s


def suite() -> dict[str, Straw]:
    """The suite as its schedule has it; the optimiser itself is the real one."""
    told = [
        ("introspection", "introspection_scan", 5.0, 0.12), ("affect", "affect_sensing", 10.0, 0.03),
        (SWAPPED_STEM, "semantic_dedup", 5.0, 0.08), ("tournament_consumer", "tournament_evaluation", 15.0, 1.2),
        ("curiosity_core_consumer", "curiosity_generation", 60.0, 0.09), ("shadow", "shadow_evaluation", 60.0, 6.0),
        ("ledger_writer", "ledger_flush", 60.0, 0.05), ("action_consumer", "action_processing", 300.0, 6.0),
        ("investigation_consumer", "investigation_processing", 300.0, 12.0), ("decay", "memory_decay", 3600.0, 4.0),
        ("chembus_historian", "history_rotate", 3600.0, 5.0),
    ]  # fmt: skip
    return {
        stem: Straw(stem, entry, interval_s, median_s, phase=number * 0.5, next_s=3.0 * number)
        for number, (stem, entry, interval_s, median_s) in enumerate(told)
    }


@dataclass(frozen=True)
class Planted:
    """Something that goes wrong: `stem` empty means everybody. `is_bad`: whether a cycle shows it."""

    what: str
    stem: str
    from_h: float
    until_h: float
    illness: Illness | None = None
    is_bad: Callable[[float, str], bool] = lambda duration_s, outcome: outcome != "ok"
    expects: str = "flag"
    version: str = ""
    shows_after_h: float = 0.0

    def holds(self, now_s: float) -> bool:
        return self.from_h * 3600 <= now_s < self.until_h * 3600


class Said(NamedTuple):
    """A signal of the optimiser, and when (seconds since the beginning)."""

    at_s: float
    signal: str
    facts: Any


class Week:
    """A world, and the real optimiser in it, one beat a minute."""

    def __init__(self, folder: Path, settings: OptimiserSettings, planted: list[Planted], seed: int) -> None:
        self.settings, self.planted, self.chance = settings, planted, random.Random(seed)
        self.clock, self.daemons, self.folder = VirtualClock(), suite(), folder
        self.began_us = self.clock.wall_us()
        self.store = StateStore(folder / "optimiser" / "state.db", OPTIMISER_TABLES)
        self.live = Live(self.clock.monotonic_s())
        self.said: list[Said] = []
        self.paused, self.is_there = "", True
        self._untold: list[tuple[float, CycleReportFacts]] = []
        self._schedules: dict[str, Straw] = {straw.entry: straw for straw in self.daemons.values()}

    @property
    def now_s(self) -> float:
        return us_to_seconds(self.clock.wall_us() - self.began_us)

    @property
    def root(self) -> Path:
        return artifacts.artifacts_under(self.folder)

    # The daemons

    def run_daemons(self, until_s: float) -> None:
        """All cycles that begin before that moment."""
        for straw in self.daemons.values():
            while straw.next_s < until_s:
                begins_s = straw.next_s
                straw.next_s += straw.interval_s / straw.pace
                if straw.lives and begins_s >= straw.free_s:
                    self._cycle(straw, begins_s)

    def _cycle(self, straw: Straw, now_s: float) -> None:
        daily = 1 + 0.2 * math.sin(2 * math.pi * now_s / DAY_S + straw.phase)
        work = Work(straw.median_s * daily * self.chance.lognormvariate(0, 0.25), self.chance.random() < 0.0005)
        for each in self.planted:
            if each.illness and each.stem in ("", straw.stem) and each.holds(now_s):
                work = each.illness(straw, work, now_s, self.chance)
        if math.isinf(work.seconds):
            return
        is_over = work.seconds > straw.budget_s
        duration_s = min(work.seconds, straw.budget_s * 1.01) if is_over and not straw.is_stubborn else work.seconds
        outcome: Any = "failed" if work.fails else "over_budget" if is_over else "ok"
        straw.free_s = now_s + duration_s
        straw.ended.append((straw.free_s, duration_s, outcome))
        facts = CycleReportFacts(
            daemon=f"{straw.stem}_daemon", schedule=straw.entry, source="trigger", outcome=outcome,
            started_ts=us_to_seconds(self.began_us) + now_s, duration_s=duration_s,
        )  # fmt: skip
        self._untold.append((straw.free_s, facts))

    def _tell(self) -> bool:
        """Whatever ended by now reaches the optimiser; whether it wants to look at once."""
        told = [facts for ended_s, facts in self._untold if ended_s <= self.now_s]
        self._untold = [each for each in self._untold if each[0] > self.now_s]
        return self.hear("Q_CYCLE_REPORT", *told)

    def hear(self, signal: str, *many: Any) -> bool:
        """Durable signals, one batch; whether it wants to look at once."""
        with self.store.exact({}) as database:
            intake = Intake(_Pen(self, database), self.settings, get_logger(), self.clock.wall_us(), OWN)
            for facts in many:
                intake.hear(Message(signal=signal, ecosystem="test", facts=facts, ts=0.0))
        return intake.is_wanted

    def obey(self, out: Outgoing) -> None:
        facts: Any = out.facts
        if out.signal == "CYCLE_BUDGET":
            self.daemons[facts.daemon.removesuffix("_daemon")].granted_s = facts.budget_s
        elif out.signal == "Q_SCHEDULE_CONTROL":
            self._schedules[facts.schedule].pace = facts.value
            self.live.hear_answer(ChangedFacts(op="set_pace", ok=True, requester=facts.requester))

    def ask(self, request: AnyRequest, timeout_s: float = 30.0) -> Answer:
        """The helper restarts the one daemon whose module may be swapped."""
        straw = self.daemons[SWAPPED_STEM]
        straw.version = artifacts.current_version(self.root, SWAPPED) or ""
        straw.lives, straw.began_s = straw.version != BROKEN, self.clock.monotonic_s()
        straw.granted_s = None
        self.live.hearts.pop(f"{SWAPPED_STEM}_daemon", None)
        return Answer(outcome="done")

    def show(self) -> None:
        """Hearts, and the tick."""
        now_s = self.clock.monotonic_s()
        for straw in self.daemons.values():
            if straw.lives:
                heart = HeartbeatFacts(
                    zooid=f"{straw.stem}_daemon", niche="straw", uptime_s=now_s - straw.began_s, processed_count=0,
                    schedule=straw.entry, mode="normal", budget_s=straw.budget_s,
                )  # fmt: skip
                self.live.hear_heart(heart, now_s)
        entries = {
            straw.entry: TickEntry(signal="Q", interval_s=straw.interval_s, pace=straw.pace)
            for straw in self.daemons.values()
        }
        self.live.hear_tick(TickFacts(tick=1, uptime_s=1.0, entries=entries), now_s)

    # The optimiser

    def minute(self) -> None:
        """A minute of everybody's life, and a beat."""
        self.run_daemons(self.now_s + 60.0)
        self.clock.advance(60.0 - self.now_s % 60.0)
        self.show()
        if self._tell():
            self.beat(is_errand=True)
        self.beat()

    def beat(self, *, is_errand: bool = False) -> None:
        """As the daemon does it."""
        cycle = Cycle(
            run=Run(Source.INJECTED), budget_s=_OPEN_S, log=get_logger(), clock=self.clock, store=self.store,
            keep=self._keep,
        )  # fmt: skip
        beat = Round(cycle, self._desk(cycle), self.live, OWN)
        beat.finish_what_is_under_way()
        if not is_errand:
            beat.keep_up()
            beat.look()
        beat.enact()
        beat.verify()
        if not is_errand:
            beat.tidy()
        cycle.commit()

    def _desk(self, cycle: Cycle) -> Desk:
        versions = Versions(self.folder, self.live, self.clock, self, self.settings.hot_swap)

        def emit(signal: str, facts: Any) -> None:
            cycle.emit(signal, facts)
            cycle.commit()

        def health() -> tuple[int, int]:
            report = cycle.load(REPORT, Report)
            return report.health if report else (0, 0)

        return Desk(
            self.settings,
            {
                ActionKind.TUNE_THRESHOLD: Thresholds(cycle, self.settings),
                ActionKind.INCREASE_BUDGET: Budgets(self.live, self.clock),
                ActionKind.REDUCE_LOAD: Paces(self.live, self.clock, cycle),
                ActionKind.HOT_SWAP_MODULE: versions,
            },
            versions, Hand(self._wait, emit, 5.0), lambda: self.paused, health, NoMetrics(),
        )  # fmt: skip

    def _wait(self, seconds: float) -> bool:
        self.clock.advance(seconds)
        self.show()
        return True

    def _keep(self, cycle: Cycle) -> None:
        with self.store.exact(cycle.documents) as database:
            for sql, values in cycle.statements:
                database.execute(sql, values)
        for out in cycle.outgoing:
            self.say(out)

    def say(self, out: Outgoing) -> None:
        self.said.append(Said(self.now_s, out.signal, out.facts))
        self.obey(out)

    def knobs(self) -> list[store.Knob]:
        return store.knobs(self.store.database)


class _Pen:
    """A batch's."""

    def __init__(self, week: Week, database: Any) -> None:
        self._week, self._database = week, database

    def query(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._database.query(sql, values)
        return rows

    def execute(self, sql: str, values: Any = ()) -> object:
        return self._database.execute(sql, values)

    def emit(self, signal: str, facts: Any = None, *, incident_id: str | None = None) -> None:
        self._week.say(Outgoing(signal, facts))

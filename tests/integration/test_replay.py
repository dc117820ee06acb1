"""An hour is recorded and replayed under virtual time: the consumers decide what they decided when it was real."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench, bench

from kloros.chembus.envelope import Message
from kloros.chembus.memory import MemoryBus, MemoryHub
from kloros.cli.replay import Tally, Timed, unfolded
from kloros.clock import VirtualClock
from kloros.consumers.chembus_historian_daemon import ChembusHistorianDaemon
from kloros.consumers.introspection.scanners.base import Scanner
from kloros.consumers.introspection.scanners.bus_health import BusHealthScanner
from kloros.consumers.introspection.scanners.registry import IntrospectionSettings
from kloros.consumers.introspection_daemon import IntrospectionDaemon
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.orchestration.scheduler_daemon import SchedulerDaemon
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Wanted, zooid_of
from kloros.units import seconds_to_us

HOUR_S = 3600
START_US = 1_700_000_040_000_000  # a whole minute
SCHEDULE = """
[entries.introspection_scan]
interval_s = 5
signal = "Q_TRIGGER_INTROSPECTION"
offset_s = 1
[entries.mood]
interval_s = 20
signal = "Q_TRIGGER_MOOD"
offset_s = 3
[entries.history_rotate]
interval_s = 3600
signal = "Q_TRIGGER_HISTORY_ROTATE"
"""


class BusWatcher(IntrospectionDaemon):
    """Introspection that looks at the bus alone: all it decides comes from signals."""

    def make_scanners(self, settings: IntrospectionSettings) -> list[Scanner]:
        return [BusHealthScanner(settings.bus_health)]


class Mood(Consumer):
    """Flags what was announced since its last beat, unless all was well by then."""

    zooid = "mood_daemon"
    schedule, signal, interval_s = "mood", "Q_TRIGGER_MOOD", 20.0
    hears = ("AFFECT_*",)

    def on_signal(self, message: Message) -> None:
        self._strain = getattr(self, "_strain", 0) + (1 if message.signal == "AFFECT_RESOURCE_STRAIN" else 0)
        if message.signal == "AFFECT_WELLBEING_HIGH":
            self._strain = 0

    def cycle(self, cycle: Cycle) -> None:
        cycle.processed = getattr(self, "_strain", 0)
        if cycle.processed > 1:
            facts = {"flag_id": f"{cycle.run.beat}", "module_name": "mood", "rationale": f"{cycle.processed} strains"}
            cycle.emit("FLAG_FOR_REVIEW", facts)
        self._strain = 0


CONSUMERS: tuple[type[Consumer], ...] = (BusWatcher, Mood)
Decided = dict[str, list[tuple[Any, ...]]]
DECISIONS = ("Q_CYCLE_REPORT", "CAPABILITY_GAP", "CAPABILITY_RESTORED", "FLAG_FOR_REVIEW", "FALLBACK_ENGAGED")


def settle(tables: Sequence[Bench[Any]]) -> None:
    """Let everyone handle what there is; what one says then, the others hear."""
    for table in (*tables, *tables):
        table.settle()


def advance(tables: Sequence[Bench[Any]], clock: VirtualClock, until_us: int) -> None:
    """Let virtual time pass for all of them, from one deadline to the next."""
    while (left_s := (until_us - clock.wall_us()) / 1e6) > 0:
        clock.advance(min(left_s, max(min(table.daemon.loop.next_wait_s() for table in tables), 1e-6)))
        settle(tables)


def decisions(table: Bench[Any], zooids: set[str]) -> Decided:
    """What each of them decided: every run with its reason and outcome, every finding, every flag."""
    decided: Decided = {zooid: [] for zooid in zooids}
    for signal in DECISIONS:
        for message in table.heard(signal):
            if (zooid := zooid_of(message.pub)) in zooids:
                decided[zooid].append(_decision(signal, message.facts))
    return decided


def _decision(signal: str, facts: Any) -> tuple[Any, ...]:
    if signal == "Q_CYCLE_REPORT":
        return (signal, facts.beat, facts.due_ts, facts.source, facts.outcome, facts.missed, facts.processed)
    if signal.startswith("CAPABILITY"):
        return (signal, facts.gap_id, facts.gap_type, facts.gap_name, facts.severity, facts.change, facts.detail)
    if signal == "FLAG_FOR_REVIEW":
        return (signal, facts.flag_id, facts.rationale)
    return (signal, facts.schedule, facts.last_beat)


class Hour:
    """The hour as it really passes: a scheduler that dies and comes back, an operator, others on the bus."""

    def __init__(self, folder: Path, clock: VirtualClock) -> None:
        self.clock, self.hub = clock, MemoryHub()
        self._folder = folder
        self._stack = ExitStack()
        self._scheduler = ExitStack()
        self.historian = self._start(ChembusHistorianDaemon, self._stack)
        self._tables: list[Bench[Any]] = [self.historian]
        self._tables += [self._start(each, self._stack) for each in CONSUMERS]
        self.scheduler: Bench[Any] | None = None

    def _start(self, daemon_class: type[Any], stack: ExitStack) -> Bench[Any]:
        own = self._folder / daemon_class.__name__
        (own / "config").mkdir(parents=True, exist_ok=True)
        (own / "config/scheduler_config.toml").write_text(SCHEDULE)
        return stack.enter_context(bench(daemon_class, own, self.clock, hub=self.hub))

    def start_scheduler(self) -> None:
        self.scheduler = self._start(SchedulerDaemon, self._scheduler)

    def kill_scheduler(self) -> None:
        self._scheduler.close()
        self._scheduler, self.scheduler = ExitStack(), None

    @property
    def tables(self) -> list[Bench[Any]]:
        return [*self._tables, *([self.scheduler] if self.scheduler else [])]

    def pass_until(self, second: float) -> None:
        advance(self.tables, self.clock, START_US + seconds_to_us(second))

    def settle(self) -> None:
        settle(self.tables)

    def close(self) -> None:
        self._scheduler.close()
        self._stack.close()


def live_through(hour: Hour) -> None:
    """One eventful hour."""
    other = MemoryBus(hour.hub, name="other", clock=hour.clock)
    heart = {"zooid": "other_daemon", "niche": "n", "uptime_s": 1.0, "processed_count": 0, "mode": "normal"}
    faster = {"op": "set_interval", "schedule": "mood", "value": 7.0, "ttl_s": 300.0}
    events: list[tuple[float, Any]] = [
        (0.5, hour.start_scheduler),
        (1200.0, hour.kill_scheduler),
        (1290.25, hour.start_scheduler),
        (400.0, lambda: other.emit("Q_SCHEDULE_CONTROL", {"op": "pause", "schedule": "introspection_scan"})),
        (700.0, lambda: other.emit("Q_SCHEDULE_CONTROL", {"op": "resume", "schedule": "introspection_scan"})),
        (1500.0, lambda: other.emit("Q_SCHEDULE_CONTROL", faster)),
        (2000.0, lambda: other.emit("MAINTENANCE_SUSPEND", {"reason": "an update"})),
        (2100.0, lambda: other.emit("MAINTENANCE_RESUME")),
        (2500.0, lambda: other.emit("BUS_GAP", {"observer": "x", "signal": "S", "pub": "p", "missing": 3})),
        (3001.5, lambda: other.emit("Q_TRIGGER_MOOD")),
    ]
    events += [(10.0 * n, lambda: other.emit("HEARTBEAT", heart)) for n in range(1, 90)]  # then it falls silent
    events += [(13.0 * n, lambda: other.emit("AFFECT_RESOURCE_STRAIN", {"cause": "io"})) for n in range(20, 250)]
    events += [(77.0 * n, lambda: other.emit("AFFECT_WELLBEING_HIGH")) for n in range(1, 40)]
    for second, act in sorted(events, key=lambda event: event[0]):
        hour.pass_until(second)
        act()
        hour.settle()
    hour.pass_until(HOUR_S)
    other.close()


def recorded(hour: Hour) -> tuple[list[Timed], Tally]:
    """The hour as the historian has it."""
    tally = Tally()
    historian = hour.historian.daemon
    historian._writer.close()
    with HistoryReader(historian.store.path) as reader:
        timed = list(unfolded(reader.read(Wanted(since_us=START_US)), tally))
    return timed, tally


def replayed(daemon_class: type[Consumer], timed: Sequence[Timed], folder: Path) -> list[tuple[Any, ...]]:
    """What that consumer, new and alone, decides when the hour comes to it a second time."""
    clock = VirtualClock(wall_us=START_US)
    with bench(daemon_class, folder, clock) as table:
        for ts_us, message in timed:
            if zooid_of(message.pub) == daemon_class.zooid:
                continue  # its own words: it is to find them again
            advance([table], clock, ts_us)
            again = {"ecosystem": message.ecosystem, "intensity": message.intensity, "incident_id": message.incident_id}
            table.outsider.emit(message.signal, message.facts, **again)
            table.settle()
        advance([table], clock, START_US + seconds_to_us(HOUR_S))
        return decisions(table, {daemon_class.zooid})[daemon_class.zooid]


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Decided, list[Timed], Tally]:
    passing = Hour(tmp_path_factory.mktemp("hour"), VirtualClock(wall_us=START_US))
    try:
        live_through(passing)
        decided = decisions(passing.historian, {each.zooid for each in CONSUMERS})
        timed, tally = recorded(passing)
    finally:
        passing.close()
    return decided, timed, tally


@pytest.mark.parametrize("daemon_class", CONSUMERS, ids=lambda each: each.__name__)
def test_a_replayed_hour_leads_to_the_same_decisions(daemon_class: type[Consumer], hour: Any, tmp_path: Path) -> None:
    decided, timed, tally = hour
    expected = decided[daemon_class.zooid]
    assert tally.missing == tally.unreadable == 0
    assert len(expected) > 100
    told = {"CAPABILITY_GAP", "CAPABILITY_RESTORED"} if daemon_class is BusWatcher else {"FLAG_FOR_REVIEW"}
    assert {decision[0] for decision in expected} == {"Q_CYCLE_REPORT", "FALLBACK_ENGAGED"} | told
    assert replayed(daemon_class, timed, tmp_path) == expected


def test_the_recorded_hour_has_every_tick_though_few_are_kept(hour: Any) -> None:
    _decided, timed, _tally = hour
    ticks = [message for _, message in timed if message.signal == "Q_SCHEDULE_TICK"]
    assert 3400 <= len(ticks) <= 3600

"""Records a trial: the beats of a daemon as the bus tells them, and when its old timer would have worked.

The old timer is the loop that every daemon used to have: look at the clock once a second, work when an interval has
passed since the last time. It only makes a note.
"""

from __future__ import annotations

from contextlib import suppress

import psutil

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, HeartbeatFacts, TickFacts, TriggerFacts
from kloros.cli.comparing.verdict import Cost, Cycle, Trial
from kloros.clock import Clock
from kloros.units import seconds_to_us

POLL_S = 1.0
COST_EVERY_S = 5.0
TOPICS = ("Q_CYCLE_REPORT", "Q_SCHEDULE_TICK", "HEARTBEAT")


class OldTimer:
    """`if now - last >= interval: work; sleep(1)`"""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock, self._interval_s = clock, interval_s
        self._last_s = self._clock.monotonic_s()
        self.fired_us: list[int] = []
        self.next_look_s = self._last_s + POLL_S

    def look(self) -> None:
        """The loop's turn, when `next_look_s` has come."""
        now_s = self._clock.monotonic_s()
        if now_s < self.next_look_s:
            return
        if now_s - self._last_s >= self._interval_s:
            self.fired_us.append(self._clock.wall_us())
            self._last_s = now_s
        self.next_look_s = now_s + POLL_S


class Recorder:
    """Takes what is heard."""

    def __init__(self, trial: Trial, clock: Clock) -> None:
        self.trial, self._clock = trial, clock
        self._process: psutil.Process | None = None
        self._cost_s = 0.0

    def hear(self, message: Message) -> None:
        """A message of TOPICS, or of the daemon's trigger."""
        facts = message.facts
        if isinstance(facts, CycleReportFacts) and facts.daemon == self.trial.daemon:
            self._report(facts)
        elif isinstance(facts, TriggerFacts) and facts.due_ts is not None:
            self.trial.triggers_us.append(seconds_to_us(facts.due_ts))
            self.trial.was_paced |= facts.pace not in (None, 1.0)
        elif isinstance(facts, TickFacts):
            self._tick(facts)
        elif isinstance(facts, HeartbeatFacts) and facts.zooid == self.trial.daemon and facts.pid:
            with suppress(psutil.Error):
                self._process = psutil.Process(facts.pid)

    def weigh(self) -> None:
        """Note what the daemon's process costs, now and then."""
        now_s = self._clock.monotonic_s()
        if self._process is None or now_s - self._cost_s < COST_EVERY_S:
            return
        self._cost_s = now_s
        with suppress(psutil.Error):
            times = self._process.cpu_times()
            rss_bytes = self._process.memory_info().rss
            self.trial.costs.append(Cost(self._clock.wall_us(), times.user + times.system, rss_bytes))

    def _tick(self, facts: TickFacts) -> None:
        self.trial.was_paced |= facts.maintenance
        if entry := facts.entries.get(self.trial.schedule):
            self.trial.was_paced |= entry.paused or entry.interval_s != (entry.nominal_s or entry.interval_s)

    def _report(self, facts: CycleReportFacts) -> None:
        due_us = None if facts.due_ts is None else seconds_to_us(facts.due_ts)
        overlapped = tuple(seconds_to_us(ts) for ts in facts.overlapped_ts)
        started_us = seconds_to_us(facts.started_ts)
        self.trial.cycles.append(Cycle(due_us, started_us, facts.source, facts.outcome, overlapped))

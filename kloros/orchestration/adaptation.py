"""What moods and backlogs do to the schedule. Pure: messages in, wishes of the schedule changed."""

from __future__ import annotations

from kloros.chembus.facts import AffectFacts, CycleReportFacts
from kloros.errors import ScheduleRefused
from kloros.orchestration.affect_rules import wishes_of
from kloros.orchestration.backpressure import Backpressure, Wishes
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_config import ScheduleConfig
from kloros.orchestration.schedule_entry import Beat
from kloros.units import seconds_to_us


class Adaptation:
    """The rules of one configuration, applied to `schedule`."""

    def __init__(self, schedule: Schedule, config: ScheduleConfig) -> None:
        self._schedule = schedule
        self.reload(config)

    def reload(self, config: ScheduleConfig) -> None:
        """Follow these rules from now on. What was wished by the old ones expires."""
        self._affect = config.affect
        self._backpressure = Backpressure(config.backpressure)

    def on_affect(self, signal: str, facts: AffectFacts, now_us: int) -> list[str]:
        """The machine feels like this; returns the entries whose interval that changed."""
        entries = [view.entry for view in self._schedule.views()]
        ttl_us = None if facts.ttl_s is None else seconds_to_us(facts.ttl_s)
        wishes = wishes_of(self._affect, entries, signal, (facts.cause or "")[:200], ttl_us, now_us)
        return self._change([(name, source, wish) for name, source, wish in wishes], now_us)

    def on_report(self, facts: CycleReportFacts, now_us: int) -> tuple[list[str], list[Beat]]:
        """A cycle ended: the entries whose interval that changed, and the beats that had waited for it.

        Beats that got no cycle of their own have ended with it.
        """
        try:
            interval_us = self._schedule.view(facts.schedule).state.timeline.interval_us
        except ScheduleRefused:
            return [], []  # somebody's own consumer, without an entry here
        changed = self._change(self._backpressure.on_report(facts.schedule, facts.backlog, interval_us, now_us), now_us)
        ended_ts = [*([] if facts.due_ts is None else [facts.due_ts]), *facts.overlapped_ts]
        if not ended_ts:
            return changed, []
        return changed, self._schedule.report(facts.schedule, seconds_to_us(max(ended_ts)), now_us)

    def _change(self, wishes: Wishes, now_us: int) -> list[str]:
        changed = []
        for name, source, wish in wishes:
            before = self._state_of(name)
            self._schedule.wish(name, source, wish, now_us)
            if self._state_of(name) != before:
                changed.append(name)
        return changed

    def _state_of(self, name: str) -> tuple[int, bool]:
        state = self._schedule.view(name).state
        return state.timeline.interval_us, state.is_held

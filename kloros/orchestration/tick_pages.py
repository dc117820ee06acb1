"""The observable schedule in pages: a long one takes turns, so that no tick delays a beat for long. Pure."""

from __future__ import annotations

from kloros.chembus.facts import TickEntry
from kloros.daemon.grid import Grid
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_facts import tick_entry

ENTRIES_PER_PAGE = 100
PAGES_PER_TICK = 10


class TickPages:
    """Which part of the schedule the next tick shows, and when that is due."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._page = 0

    @property
    def count(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-len(self._schedule) // ENTRIES_PER_PAGE))

    def due_after(self, now_us: int, tick_interval_us: int) -> int:
        """When the next page is due: all of them within one tick interval, at most PAGES_PER_TICK, evenly spread."""
        return Grid(0, tick_interval_us // min(self.count, PAGES_PER_TICK)).due_after(now_us)

    def turn(self) -> tuple[int, dict[str, TickEntry]]:
        """The next page: its number and its entries."""
        self._page = (self._page + 1) % self.count
        start = self._page * ENTRIES_PER_PAGE
        views = self._schedule.views(start, start + ENTRIES_PER_PAGE)
        return self._page, {view.entry.name: tick_entry(view) for view in views}

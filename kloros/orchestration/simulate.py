"""A schedule played in virtual time. Pure: a simulated day of the default schedule takes a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_entry import Beat, Entry

US_PER_HOUR = 3_600_000_000


def simulate(entries: Iterable[Entry], start_us: int, hours: float) -> Iterator[Beat]:
    """Every beat from `start_us` on, for so many hours, with a scheduler that is never late."""
    end_us = start_us + round(hours * US_PER_HOUR)
    now_us = start_us
    schedule = Schedule(entries, now_us)
    while (due_us := schedule.next_due_us(now_us)) is not None and due_us <= end_us:
        now_us = due_us
        yield from schedule.advance(now_us)

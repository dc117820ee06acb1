"""A schedule played in virtual time. Pure: a simulated day of the default schedule takes a fraction of a second."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_entry import Beat, Entry

US_PER_HOUR = 3_600_000_000
_AT_ONCE: Mapping[str, int] = MappingProxyType({})


def simulate(
    entries: Iterable[Entry], start_us: int, hours: float, durations_us: Mapping[str, int] = _AT_ONCE
) -> Iterator[Beat]:
    """Every beat from `start_us` on, for so many hours, with a scheduler that is never late.

    durations_us: how long each entry's cycles take, for the entries that wait for others; at once unless given.
    """
    end_us = start_us + round(hours * US_PER_HOUR)
    now_us = start_us
    schedule = Schedule(entries, now_us)
    running: list[tuple[int, str, int]] = []  # (when it ends, entry, when it was due)
    while True:
        due_us = schedule.next_due_us(now_us)
        moments_us = [each for each in (due_us, running[0][0] if running else None) if each is not None]
        if not moments_us or min(moments_us) > end_us:
            return
        now_us = max(now_us, min(moments_us))
        beats = schedule.advance(now_us)
        while running and running[0][0] <= now_us:
            _, name, ended_due_us = heapq.heappop(running)
            beats += schedule.report(name, ended_due_us, now_us)
        for beat in beats:
            if beat.due_us is not None:
                ends_us = now_us + durations_us.get(beat.entry.name, 0)
                heapq.heappush(running, (ends_us, beat.entry.name, beat.due_us))
            yield beat

"""A schedule played in virtual time. Pure: a simulated day of the default schedule takes a fraction of a second."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from kloros.orchestration.affect_rules import AffectRule, wishes_of
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_entry import Beat, Entry

US_PER_HOUR = 3_600_000_000
TOLD_EVERY_US = 10_000_000
_AT_ONCE: Mapping[str, int] = MappingProxyType({})


class Mood(msgspec.Struct, frozen=True):
    """A mood that is told from `from_us` to `to_us`, every ten seconds."""

    signal: str
    from_us: int
    to_us: int
    cause: str = "simulated"


def simulate(
    entries: Iterable[Entry],
    start_us: int,
    hours: float,
    durations_us: Mapping[str, int] = _AT_ONCE,
    moods: Iterable[Mood] = (),
    rules: Sequence[AffectRule] = (),
    settle_us: int = 0,
) -> Iterator[Beat]:
    """Every beat from `start_us` on, for so many hours, with a scheduler that is never late.

    durations_us: how long each entry's cycles take, for the entries that wait for others; at once unless given.
    moods: what is felt meanwhile, and moves the entries by `rules`.
    """
    end_us = start_us + round(hours * US_PER_HOUR)
    now_us = start_us
    entries = list(entries)
    schedule = Schedule(entries, now_us, settle_us=settle_us)
    told = deque(sorted(_told(moods)))
    running: list[tuple[int, str, int]] = []  # (when it ends, entry, when it was due)
    while True:
        due_us = schedule.next_due_us(now_us)
        events = (due_us, running[0][0] if running else None, told[0][0] if told else None)
        moments_us = [each for each in events if each is not None]
        if not moments_us or min(moments_us) > end_us:
            return
        now_us = max(now_us, min(moments_us))
        while told and told[0][0] <= now_us:
            _, signal, cause = told.popleft()
            for name, source, wish in wishes_of(rules, entries, signal, cause, None, now_us):
                schedule.wish(name, source, wish, now_us)
        beats = schedule.advance(now_us)
        while running and running[0][0] <= now_us:
            _, name, ended_due_us = heapq.heappop(running)
            beats += schedule.report(name, ended_due_us, now_us)
        for beat in beats:
            if beat.due_us is not None:
                ends_us = now_us + durations_us.get(beat.entry.name, 0)
                heapq.heappush(running, (ends_us, beat.entry.name, beat.due_us))
            yield beat


def _told(moods: Iterable[Mood]) -> Iterator[tuple[int, str, str]]:
    for mood in moods:
        for at_us in range(mood.from_us, mood.to_us + 1, TOLD_EVERY_US):
            yield at_us, mood.signal, mood.cause

"""[[affect]] and [[backpressure]] of config/scheduler_config.toml -> rules, checked against the entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from kloros.chembus.facts import AffectFacts
from kloros.chembus.vocabulary import VOCABULARY
from kloros.errors import UnknownSignal
from kloros.orchestration.affect_rules import EVERY_ADAPTIVE, AffectRule
from kloros.orchestration.backpressure import QueueRule
from kloros.orchestration.schedule_entry import Entry
from kloros.orchestration.schedule_settings import (
    FASTEST_PACE,
    SLOWEST_PACE,
    AffectSettings,
    BackpressureSettings,
    Wrong,
    within,
)
from kloros.units import seconds_to_us

LONGEST_TTL_S = 3600.0
MOST_WAITING = 10_000_000


def affect_rules(tables: Iterable[AffectSettings], entries: Sequence[Entry]) -> Iterator[AffectRule]:
    """The rules of [[affect]]. Raises Wrong."""
    for number, table in enumerate(tables):
        where = f"affect[{number}]"
        _check_mood(f"{where}.signal", table.signal)
        if not table.entries:
            raise Wrong(f"{where}.entries", "none", f'names of entries, or ["{EVERY_ADAPTIVE}"]')
        for name in table.entries:
            if name != EVERY_ADAPTIVE:
                _check_movable(f"{where}.entries", name, entries)
        if table.pace != 0:
            within(f"{where}.pace", table.pace, SLOWEST_PACE, FASTEST_PACE)
        ttl_us = seconds_to_us(within(f"{where}.ttl_s", table.ttl_s, 1.0, LONGEST_TTL_S))
        yield AffectRule(signal=table.signal, entries=table.entries, pace=table.pace, ttl_us=ttl_us)


def queue_rules(tables: Iterable[BackpressureSettings], entries: Sequence[Entry]) -> Iterator[QueueRule]:
    """The rules of [[backpressure]]. Raises Wrong."""
    seen: set[str] = set()
    for number, table in enumerate(tables):
        where = f"backpressure[{number}]"
        _check_known(f"{where}.queue", table.queue, entries)
        if table.queue in seen:
            raise Wrong(f"{where}.queue", repr(table.queue), "one rule for each queue")
        seen.add(table.queue)
        within(f"{where}.high", table.high, 1, MOST_WAITING)
        if not 0 <= table.low < table.high:
            raise Wrong(f"{where}.low", table.low, f"0 or more, and less than high = {table.high}")
        for name, pace in table.slow.items():
            _check_movable(f"{where}.slow", name, entries)
            within(f"{where}.slow.{name}", pace, SLOWEST_PACE, 1.0)
            if name == table.queue:
                raise Wrong(f"{where}.slow", repr(name), "entries upstream: slowing the queue's own fills it up")
        within(f"{where}.speed", table.speed, 1.0, FASTEST_PACE)
        if table.speed != 1.0:
            _check_movable(f"{where}.queue", table.queue, entries)
        yield QueueRule(queue=table.queue, high=table.high, low=table.low, slow=table.slow, speed=table.speed)


def _check_mood(key: str, name: str) -> None:
    try:
        facts = VOCABULARY.lookup(name).facts
    except UnknownSignal as unknown:
        raise Wrong(key, repr(name), unknown.suggestion or "a signal AFFECT_*") from None
    if facts is not AffectFacts:
        raise Wrong(key, repr(name), "a signal AFFECT_*")


def _check_known(key: str, name: str, entries: Sequence[Entry]) -> Entry:
    for entry in entries:
        if entry.name == name:
            return entry
    close = get_close_matches(name, [entry.name for entry in entries], n=1)
    raise Wrong(key, repr(name), f"the name of an entry{f' (did you mean {close[0]}?)' if close else ''}")


def _check_movable(key: str, name: str, entries: Sequence[Entry]) -> None:
    if not _check_known(key, name, entries).adaptive:
        raise Wrong(key, repr(name), "an entry whose pace may change (its adaptive = false)")

"""config/scheduler_config.toml -> the entries of the schedule. Every key that is accepted has an effect."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec

from kloros.chembus.facts import TriggerFacts
from kloros.chembus.vocabulary import VOCABULARY
from kloros.config import load
from kloros.errors import ConfigError, UnknownSignal
from kloros.orchestration.adaptive_config import affect_rules, queue_rules
from kloros.orchestration.affect_rules import AffectRule
from kloros.orchestration.backpressure import QueueRule
from kloros.orchestration.schedule_entry import Entry
from kloros.orchestration.schedule_settings import (
    LONGEST_INTERVAL_S,
    SHORTEST_INTERVAL_S,
    EntrySettings,
    LedgerSettings,
    ScheduleFile,
    Wrong,
    within,
)
from kloros.units import seconds_to_us

DEADLINE_SHARE = 0.25
"""How much of its interval a chained entry waits for the one before it, unless the file says otherwise."""
DEFAULT_MISFIRE_LIMIT = 10
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class ScheduleConfig(msgspec.Struct, frozen=True):
    """What the scheduler runs on. Times in microseconds."""

    entries: tuple[Entry, ...]
    tick_interval_us: int
    misfire_grace_us: int
    settle_us: int = 0
    ledger: LedgerSettings = LedgerSettings()
    affect: tuple[AffectRule, ...] = ()
    backpressure: tuple[QueueRule, ...] = ()


def load_schedule(path: Path, host: str = "", draw: int = 0) -> ScheduleConfig:
    """Read and check the whole file; raises ConfigError naming file, key, found and expected.

    `host` and `draw` seed the jitter: the former stays the same on a machine, the latter is new with each start.
    """
    file = load(path, ScheduleFile)
    try:
        entries = tuple(_entries(file.entries, host, draw))
        return ScheduleConfig(
            entries=entries,
            settle_us=seconds_to_us(within("adaptive.settle_s", file.adaptive.settle_s, 0.0, 86_400.0)),
            ledger=_ledger(file.ledger),
            affect=tuple(affect_rules(file.affect, entries)),
            backpressure=tuple(queue_rules(file.backpressure, entries)),
            tick_interval_us=seconds_to_us(
                within("scheduler.tick_interval_s", file.scheduler.tick_interval_s, 0.1, 60.0)
            ),
            misfire_grace_us=seconds_to_us(
                within("scheduler.misfire_grace_s", file.scheduler.misfire_grace_s, 0.0, 3600.0)
            ),
        )
    except Wrong as wrong:
        raise ConfigError(file=path, key=wrong.key, found=wrong.found, expected=wrong.expected) from None


def _ledger(table: LedgerSettings) -> LedgerSettings:
    within("ledger.keep_s", table.keep_s, 3600.0, LONGEST_INTERVAL_S)
    within("ledger.max_beats", table.max_beats, 1000, 100_000_000)
    return table


def _entries(tables: Mapping[str, EntrySettings], host: str, draw: int) -> Iterator[Entry]:
    if not tables:
        raise Wrong("entries", "no entry at all", "at least one table [entries.NAME]")
    emitters: dict[str, str] = {}
    for name, table in tables.items():
        where = f"entries.{name}"
        if not _NAME.fullmatch(name):
            raise Wrong(where, repr(name), "a name of lower-case letters, digits and _, at most 64")
        ecosystem = _ecosystem(where, table)
        other = emitters.setdefault(table.signal, name)
        if other != name:
            expected = f"a signal of its own ({other} has this one, and its consumer could not tell their beats apart)"
            raise Wrong(f"{where}.signal", repr(table.signal), expected)
        _check_chain(name, table, tables, where)
        yield _entry(name, table, ecosystem, where, f"{host if table.jitter == 'host' else draw}/{name}")


def _entry(name: str, table: EntrySettings, ecosystem: str, where: str, seed: str) -> Entry:
    shortest_s = within(f"{where}.min_interval_s", table.min_interval_s, SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S)
    longest_s = within(f"{where}.max_interval_s", table.max_interval_s, shortest_s, LONGEST_INTERVAL_S)
    interval_s = within(f"{where}.interval_s", table.interval_s, shortest_s, longest_s)
    if not 0 <= table.offset_s < interval_s:
        raise Wrong(f"{where}.offset_s", table.offset_s, f"0 or more, and less than the interval of {interval_s:g} s")
    misfire_limit = DEFAULT_MISFIRE_LIMIT if table.misfire_limit is None else table.misfire_limit
    if table.misfire_limit is not None and table.misfire != "all":
        raise Wrong(f"{where}.misfire_limit", table.misfire_limit, 'no such key here: it belongs to misfire = "all"')
    return Entry(
        name=name,
        signal=table.signal,
        ecosystem=ecosystem,
        interval_us=seconds_to_us(interval_s),
        offset_us=seconds_to_us(table.offset_s) + _jitter_us(table, where, seed),
        adaptive=table.adaptive,
        priority=int(within(f"{where}.priority", table.priority, -100, 100)),
        misfire=table.misfire,
        misfire_limit=int(within(f"{where}.misfire_limit", misfire_limit, 1, 1000)),
        min_interval_us=seconds_to_us(shortest_s),
        max_interval_us=seconds_to_us(longest_s),
        overlap=table.overlap,
        after=table.after,
        deadline_us=seconds_to_us(_deadline_s(table)) if table.after else 0,
    )


def _check_chain(name: str, table: EntrySettings, tables: Mapping[str, EntrySettings], where: str) -> None:
    if table.after is None:
        if table.deadline_s is not None:
            raise Wrong(f"{where}.deadline_s", table.deadline_s, "no such key here: it belongs to `after`")
        return
    if table.after not in tables:
        close = get_close_matches(table.after, tables, n=1)
        expected = f"the name of an entry{f' (did you mean {close[0]}?)' if close else ''}"
        raise Wrong(f"{where}.after", repr(table.after), expected)
    chain = [name]
    while (after := tables[chain[-1]].after) is not None and after in tables:
        if after in chain:
            raise Wrong(f"{where}.after", repr(table.after), f"no circle: {' after '.join([*chain, after])}")
        chain.append(after)
    within(f"{where}.deadline_s", _deadline_s(table), 0.001, table.interval_s / 2)


def _deadline_s(table: EntrySettings) -> float:
    return table.interval_s * DEADLINE_SHARE if table.deadline_s is None else table.deadline_s


def _jitter_us(table: EntrySettings, where: str, seed: str) -> int:
    """How much later than its offset the entry is due: the same for all its beats, so that they stay on one grid.

    From a hash of host and name, so that it outlives restarts and machines differ; asked to be random, of a draw.
    """
    room_s = table.interval_s - table.offset_s
    if not 0 <= table.jitter_s <= room_s:
        expected = f"0 to {room_s:g} s, so that a beat stays within its interval"
        raise Wrong(f"{where}.jitter_s", table.jitter_s, expected)
    share = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64
    return int(share * seconds_to_us(table.jitter_s))


def _ecosystem(where: str, table: EntrySettings) -> str:
    """The entry's ecosystem, its signal's own when none is given."""
    try:
        signal = VOCABULARY.lookup(table.signal)
    except UnknownSignal as unknown:
        expected = unknown.suggestion or "a signal of the vocabulary, or a trigger of your own, Q_TRIGGER_<NAME>"
        raise Wrong(f"{where}.signal", repr(table.signal), expected) from None
    if signal.facts is not TriggerFacts:
        raise Wrong(f"{where}.signal", repr(table.signal), "a trigger, Q_TRIGGER_<NAME>")
    if table.ecosystem == "":
        raise Wrong(f"{where}.ecosystem", "''", "a name, or no such key for the signal's own")
    return table.ecosystem or signal.ecosystem

"""config/scheduler_config.toml -> the entries of the schedule. Every key that is accepted has an effect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from kloros.chembus.facts import TriggerFacts
from kloros.chembus.vocabulary import VOCABULARY
from kloros.clock import seconds_to_us
from kloros.config import Settings, load
from kloros.errors import ConfigError, UnknownSignal
from kloros.orchestration.schedule_entry import Entry, Misfire

SHORTEST_INTERVAL_S = 0.01
LONGEST_INTERVAL_S = 366 * 86_400.0
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class SchedulerSettings(Settings, frozen=True):
    """[scheduler]: `tick_interval_s` between two Q_SCHEDULE_TICK; a beat later than `misfire_grace_s` is a misfire."""

    tick_interval_s: float = 1.0
    misfire_grace_s: float = 1.0


class EntrySettings(Settings, frozen=True):
    """[entries.NAME]"""

    interval_s: float
    signal: str
    ecosystem: str | None = None
    adaptive: bool = True
    offset_s: float = 0.0
    priority: int = 0
    misfire: Misfire = "coalesce"
    misfire_limit: int | None = None
    min_interval_s: float = SHORTEST_INTERVAL_S
    max_interval_s: float = LONGEST_INTERVAL_S


class ScheduleFile(Settings, frozen=True):
    """The whole file."""

    scheduler: SchedulerSettings = SchedulerSettings()
    entries: dict[str, EntrySettings] = {}


class ScheduleConfig(msgspec.Struct, frozen=True):
    """What the scheduler runs on. Times in microseconds."""

    entries: tuple[Entry, ...]
    tick_interval_us: int
    misfire_grace_us: int


class _Wrong(Exception):
    """A key of a table whose value makes no sense."""

    def __init__(self, key: str, found: object, expected: str) -> None:
        super().__init__(key)
        self.key, self.found, self.expected = key, found, expected


def load_schedule(path: Path) -> ScheduleConfig:
    """Read and check the whole file; raises ConfigError naming file, key, found and expected."""
    file = load(path, ScheduleFile)
    try:
        return ScheduleConfig(
            entries=tuple(_entries(file.entries)),
            tick_interval_us=seconds_to_us(
                _within("scheduler.tick_interval_s", file.scheduler.tick_interval_s, 0.1, 60.0)
            ),
            misfire_grace_us=seconds_to_us(
                _within("scheduler.misfire_grace_s", file.scheduler.misfire_grace_s, 0.0, 3600.0)
            ),
        )
    except _Wrong as wrong:
        raise ConfigError(file=path, key=wrong.key, found=wrong.found, expected=wrong.expected) from None


def _entries(tables: Mapping[str, EntrySettings]) -> Iterator[Entry]:
    if not tables:
        raise _Wrong("entries", "no entry at all", "at least one table [entries.NAME]")
    emitters: dict[str, str] = {}
    for name, table in tables.items():
        where = f"entries.{name}"
        if not _NAME.fullmatch(name):
            raise _Wrong(where, repr(name), "a name of lower-case letters, digits and _, at most 64")
        ecosystem = _ecosystem(where, table)
        other = emitters.setdefault(table.signal, name)
        if other != name:
            expected = f"a signal of its own ({other} has this one, and its consumer could not tell their beats apart)"
            raise _Wrong(f"{where}.signal", repr(table.signal), expected)
        yield _entry(name, table, ecosystem, where)


def _entry(name: str, table: EntrySettings, ecosystem: str, where: str) -> Entry:
    shortest_s = _within(f"{where}.min_interval_s", table.min_interval_s, SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S)
    longest_s = _within(f"{where}.max_interval_s", table.max_interval_s, shortest_s, LONGEST_INTERVAL_S)
    interval_s = _within(f"{where}.interval_s", table.interval_s, shortest_s, longest_s)
    if not 0 <= table.offset_s < interval_s:
        raise _Wrong(f"{where}.offset_s", table.offset_s, f"0 or more, and less than the interval of {interval_s:g} s")
    if table.misfire_limit is not None and table.misfire != "all":
        raise _Wrong(f"{where}.misfire_limit", table.misfire_limit, 'no such key here: it belongs to misfire = "all"')
    return Entry(
        name=name,
        signal=table.signal,
        ecosystem=ecosystem,
        interval_us=seconds_to_us(interval_s),
        offset_us=seconds_to_us(table.offset_s),
        adaptive=table.adaptive,
        priority=int(_within(f"{where}.priority", table.priority, -100, 100)),
        misfire=table.misfire,
        misfire_limit=int(_within(f"{where}.misfire_limit", table.misfire_limit or 10, 1, 1000)),
        min_interval_us=seconds_to_us(shortest_s),
        max_interval_us=seconds_to_us(longest_s),
    )


def _ecosystem(where: str, table: EntrySettings) -> str:
    """The entry's ecosystem, its signal's own when none is given."""
    try:
        signal = VOCABULARY.lookup(table.signal)
    except UnknownSignal as unknown:
        expected = unknown.suggestion or "a signal of the vocabulary, or a trigger of your own, Q_TRIGGER_<NAME>"
        raise _Wrong(f"{where}.signal", repr(table.signal), expected) from None
    if signal.facts is not TriggerFacts:
        raise _Wrong(f"{where}.signal", repr(table.signal), "a trigger, Q_TRIGGER_<NAME>")
    if table.ecosystem == "":
        raise _Wrong(f"{where}.ecosystem", "''", "a name, or no such key for the signal's own")
    return table.ecosystem or signal.ecosystem


def _within(key: str, value: float, lowest: float, highest: float) -> float:
    if not lowest <= value <= highest:
        raise _Wrong(key, value, f"{lowest:.10g} to {highest:.10g}")
    return value

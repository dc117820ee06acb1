"""What is legal in a schedule and yet not meant, most likely. Pure. The codes are stable."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from kloros.orchestration.affect_rules import EVERY_ADAPTIVE, AffectRule
from kloros.orchestration.schedule_config import ScheduleConfig
from kloros.orchestration.schedule_entry import Entry
from kloros.orchestration.stagger import collisions, staggered

Level = Literal["warning", "note"]

RULES = {
    "K101": "two entries fire together",
    "K201": "a chain that cannot help: its deadline ends before the entry it waits for does",
    "K202": "a chain that always waits in vain: nobody runs the entry before it",
    "K301": "a rule that oscillates: its mood is told less often than its pace lasts",
    "K302": "a rule that starves an entry",
    "K303": "a rule without effect: the entry's bounds leave no room",
    "K304": "a rule for a mood that nobody emits",
    "K305": "two rules of one mood for one entry: the later one holds",
    "K306": "a queue that may oscillate: its marks are too close",
    "K401": "a signal that nobody hears",
    "K402": "more work than time: cycles take longer than their interval",
}
# The affect daemon tells what holds every ten seconds; a mood's pace must outlast that with some air.
TOLD_EVERY_US = 10_000_000
LONGEST_STARVED_US = 86_400_000_000
STARVED_FACTOR = 20
CLOSEST_MARKS = 1.25
BUSY_SHARE = 0.8


class Remark(msgspec.Struct, frozen=True):
    """`table` and `key` say where in the file: `entries.scan` and `offset_s`, or `affect[2]` and `ttl_s`."""

    code: str
    level: Level
    table: str
    key: str
    text: str


def lint(
    config: ScheduleConfig,
    *,
    durations_us: Mapping[str, int] | None = None,
    emitted_moods: Collection[str] | None = None,
    heard_signals: Collection[str] | None = None,
) -> list[Remark]:
    """All remarks, in the order of their codes.

    durations_us: measured cycle durations by entry. emitted_moods, heard_signals: what somebody emits, what somebody
    hears; None: not known, and not judged.
    """
    entries = {entry.name: entry for entry in config.entries}
    durations_us = durations_us or {}
    remarks = [
        *_collisions(config.entries, durations_us),
        *_chains(entries, durations_us, heard_signals),
        *_moods(config.affect, entries, emitted_moods),
        *_queues(config),
        *_signals(config.entries, heard_signals),
        *_busy(config.entries, durations_us),
    ]
    return sorted(remarks, key=lambda remark: (remark.code, remark.table))


def _collisions(entries: Sequence[Entry], durations_us: Mapping[str, int]) -> Iterator[Remark]:
    found = collisions(entries, durations_us)
    if not found:
        return
    better = staggered(entries, durations_us)
    offsets = {entry.name: entry.offset_us for entry in entries}
    for each in found:
        moves = [
            f"{name}.offset_s = {better[name] / 1e6:g}"
            for name in (each.one, each.other)
            if better[name] != offsets[name]
        ]
        cure = f"; better: {', '.join(moves)}" if moves else ""
        text = (
            f"{each.one} and {each.other} come within {each.apart_us / 1e6:g} s of one another, every "
            f"{each.every_us / 1e6:g} s{cure}"
        )
        yield Remark("K101", "warning", f"entries.{each.other}", "offset_s", text)


def _chains(
    entries: Mapping[str, Entry], durations_us: Mapping[str, int], heard: Collection[str] | None
) -> Iterator[Remark]:
    for entry in entries.values():
        upstream = entries.get(entry.after or "")
        if upstream is None:
            continue
        takes_us = durations_us.get(upstream.name, 0)
        if takes_us > entry.deadline_us:
            text = f"{upstream.name} takes {takes_us / 1e6:g} s, {entry.name} waits {entry.deadline_us / 1e6:g} s"
            yield Remark("K201", "warning", f"entries.{entry.name}", "deadline_s", text)
        if heard is not None and upstream.signal not in heard:
            text = f"nobody hears {upstream.signal}: each beat waits up to its deadline, {entry.deadline_us / 1e6:g} s"
            yield Remark("K202", "warning", f"entries.{entry.name}", "after", text)


def _moods(
    rules: Sequence[AffectRule], entries: Mapping[str, Entry], emitted: Collection[str] | None
) -> Iterator[Remark]:
    seen: dict[tuple[str, str], int] = {}
    for number, rule in enumerate(rules):
        table = f"affect[{number}]"
        if rule.ttl_us < 2 * TOLD_EVERY_US:
            told_s, ttl_s = TOLD_EVERY_US / 1e6, rule.ttl_us / 1e6
            text = f"{rule.signal} is told every {told_s:g} s: a pace that lasts {ttl_s:g} s comes and goes"
            yield Remark("K301", "warning", table, "ttl_s", text)
        if emitted is not None and rule.signal not in emitted:
            text = f"nothing in the suite emits {rule.signal}; it moves the schedule only when somebody injects it"
            yield Remark("K304", "note", table, "signal", text)
        for entry in _moved(rule, entries):
            if (rule.signal, entry.name) in seen:
                text = f"{rule.signal} already has a rule for {entry.name}, affect[{seen[rule.signal, entry.name]}]"
                yield Remark("K305", "warning", table, "entries", text)
            seen[rule.signal, entry.name] = number
            yield from _effect(rule, entry, table)


def _effect(rule: AffectRule, entry: Entry, table: str) -> Iterator[Remark]:
    if rule.pace == 0:
        return
    wanted_us = round(entry.interval_us / rule.pace)
    got_us = min(max(wanted_us, entry.min_interval_us), entry.max_interval_us)
    if got_us == entry.interval_us and rule.pace != 1:
        text = f"{entry.name} stays at {entry.interval_us / 1e6:g} s: its own bounds leave no room"
        yield Remark("K303", "note", table, "pace", text)
    if got_us > max(LONGEST_STARVED_US, 2 * entry.interval_us) or got_us > STARVED_FACTOR * entry.interval_us:
        text = f"{entry.name} would run every {got_us / 1e6:g} s instead of {entry.interval_us / 1e6:g} s"
        yield Remark("K302", "warning", table, "pace", text)


def _moved(rule: AffectRule, entries: Mapping[str, Entry]) -> list[Entry]:
    is_for_all = EVERY_ADAPTIVE in rule.entries
    return [entry for entry in entries.values() if entry.adaptive and (is_for_all or entry.name in rule.entries)]


def _queues(config: ScheduleConfig) -> Iterator[Remark]:
    for number, rule in enumerate(config.backpressure):
        if rule.high < CLOSEST_MARKS * rule.low:
            text = f"high = {rule.high} and low = {rule.low} are close: each beat of the queue may change the pace"
            yield Remark("K306", "warning", f"backpressure[{number}]", "low", text)


def _signals(entries: Sequence[Entry], heard: Collection[str] | None) -> Iterator[Remark]:
    for entry in entries:
        if heard is not None and entry.signal not in heard:
            text = f"no daemon of the suite hears {entry.signal}; one of your own has to"
            yield Remark("K401", "note", f"entries.{entry.name}", "signal", text)


def _busy(entries: Sequence[Entry], durations_us: Mapping[str, int]) -> Iterator[Remark]:
    for entry in entries:
        takes_us = durations_us.get(entry.name, 0)
        if takes_us > BUSY_SHARE * entry.interval_us:
            text = f"its cycles take {takes_us / 1e6:g} s of {entry.interval_us / 1e6:g} s"
            yield Remark("K402", "warning", f"entries.{entry.name}", "interval_s", text)

"""What the history folds: messages that say the same as the one before them. Pure.

Ticks and heartbeats would be most of a history. Of those that say the same again, one stands for all until
`keep_every_s` have passed; they are counted on it, and whatever changes is kept at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.facts import HeartbeatFacts, JournalFacts, TickFacts
from kloros.storage.history_rows import Row

MAX_LINES = 4_096
_LOSSES = ("gap", "drop")
_ENTRY_FIELDS = (
    "signal", "interval_s", "nominal_s", "offset_s", "pace", "paused", "override_until_ts", "held_until_ts", "why",
)  # fmt: skip


class Thinner:
    """Knows, per publisher and signal, the row that stands for the last message."""

    def __init__(self, keep_every_s: Mapping[str, float]) -> None:
        """`keep_every_s` by signal; of other signals, and of those with 0, every message is kept."""
        self._keep_every_us = {signal: round(seconds * 1e6) for signal, seconds in keep_every_s.items() if seconds}
        self._lines: dict[Hashable, tuple[Hashable, Row]] = {}

    def thins(self, signal: str) -> bool:
        """Whether messages of that signal are folded."""
        return signal in self._keep_every_us

    def stand_in(self, message: Message, ts_us: int) -> Row | None:
        """The row that this message only repeats; None when it is to be kept: then call `kept`."""
        known = self._lines.get(_line(message))
        if known is None:
            return None
        saying, row = known
        is_young = 0 <= ts_us - row.ts_us < self._keep_every_us[message.signal]
        return row if is_young and saying == what_it_says(message) else None

    def kept(self, message: Message, row: Row) -> None:
        """`row` stands for that message from now on."""
        if len(self._lines) >= MAX_LINES:
            self._lines.clear()  # costs one kept message each, nothing else
        self._lines[_line(message)] = (what_it_says(message), row)


def what_it_says(message: Message) -> Hashable:
    """What of a message is news when it changes: not counts that grow, nor moments that pass."""
    facts = message.facts
    if isinstance(facts, TickFacts):
        entries = tuple(
            (name, *(getattr(entry, field) for field in _ENTRY_FIELDS)) for name, entry in facts.entries.items()
        )
        return (facts.epoch, facts.scheduler, facts.pages, facts.maintenance, facts.maintenance_until_ts, entries)
    if isinstance(facts, HeartbeatFacts):
        losses = tuple(facts.counters.get(name, 0) for name in _LOSSES)
        return (facts.zooid, facts.pid, facts.mode, facts.schedule, facts.detail, losses)
    if isinstance(facts, JournalFacts):
        return facts.journal  # what is new in it is in the history itself
    return msgspec.json.encode(facts)


def _line(message: Message) -> Hashable:
    page = message.facts.page if isinstance(message.facts, TickFacts) else 0
    return message.signal, message.pub, message.incident_id, page

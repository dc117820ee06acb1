"""Signals into memories: a new one, or an earlier one that is accessed by happening again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.facts_work import MemoryAccessFacts
from kloros.consumers.memory.events import Event, event_of
from kloros.consumers.memory.fading import Fading, Sector
from kloros.consumers.memory.store import Memory, MemoryStore
from kloros.consumers.memory.words import cut

_MOST_RELATED = 8


class Recorder:
    """Remembers, by the settings. Everything happens in the caller's transaction."""

    def __init__(self, store: MemoryStore, fading: Fading, text_characters: int) -> None:
        self._store, self._fading, self._longest = store, fading, text_characters

    def remember(self, messages: Iterable[Message], now_us: int) -> Counter[str]:
        """Returns how many were `new`, `accessed`, or said nothing to remember (`passed`).

        What happened is remembered as of its own moment, unless the emitter's clock was ahead.
        """
        counts: Counter[str] = Counter()
        for message in messages:
            moment_us = min(round(message.ts * 1e6), now_us)
            if isinstance(message.facts, MemoryAccessFacts):
                memory = self._store.by_number(message.facts.memory)
                counts["passed" if memory is None else "accessed"] += 1
                if memory is not None:
                    self._store.change(self._accessed(memory, moment_us))
            elif (event := event_of(message)) is None:
                counts["passed"] += 1
            elif (memory := self._store.by_key(event.key)) is None:
                counts["new"] += 1
                self._store.add([self._new(event, moment_us)])
            else:
                counts["accessed"] += 1
                self._store.change(self._again(memory, event, moment_us))
        return counts

    def _new(self, event: Event, moment_us: int) -> Memory:
        return Memory(
            key=event.key,
            sector=event.sector,
            importance=event.importance,
            born_us=moment_us,
            created_us=moment_us,
            accessed_us=moment_us,
            gap_id=event.gap_id,
            severity=event.severity,
            text=cut(event.text, self._longest),
            note=cut(event.note, self._longest),
            related=_together("", event.related),
        )

    def _accessed(self, memory: Memory, moment_us: int) -> Memory:
        born_us = self._fading.accessed(memory.sector, memory.importance, memory.born_us, moment_us)
        return msgspec.structs.replace(
            memory,
            born_us=born_us,
            accessed_us=max(memory.accessed_us, moment_us),
        )

    def _again(self, memory: Memory, event: Event, moment_us: int) -> Memory:
        """The same once more. What was more than an episode stays so, and what mattered does not matter less."""
        sector = memory.sector if event.sector is Sector.EPISODIC else event.sector
        importance = max(memory.importance, event.importance)
        is_same = (sector, importance) == (memory.sector, memory.importance)
        move = self._fading.moved
        born_us = (
            self._fading.accessed(sector, importance, memory.born_us, moment_us)
            if is_same
            else move(memory.sector, memory.importance, sector, importance, memory.born_us, moment_us)
        )
        return msgspec.structs.replace(
            memory,
            sector=sector,
            importance=importance,
            born_us=born_us,
            accessed_us=max(memory.accessed_us, moment_us),
            times=memory.times + event.is_new,
            gap_id=event.gap_id or memory.gap_id,
            severity=event.severity or memory.severity,
            text=memory.text if event.keeps_text else cut(event.text, self._longest),
            note=cut(event.note, self._longest),
            related=_together(memory.related, event.related),
        )


def _together(known: str, more: Iterable[str]) -> str:
    """Ids with spaces between; the latest so many."""
    ids = list(dict.fromkeys([*known.split(), *("".join(each.split()) for each in more)]))
    return " ".join(ids[-_MOST_RELATED:])

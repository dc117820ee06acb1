"""Where a finding's story comes from: the history, or what is left of it in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import typer

from kloros.chembus.envelope import Message
from kloros.cli.history import message_of, open_history
from kloros.cli.stored import stored_by
from kloros.cli.story.lives import Life, Step, lives, measure
from kloros.consumers.memory.store import MemoryReader
from kloros.errors import StoreUnusable
from kloros.storage.history_rows import Record, Wanted
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.consumers.memory.store import Memory
    from kloros.storage.history_reader import HistoryReader

MOST_ALIKE = 100
# Which facts name something by an id, and which signals carry them.
ID_FIELDS = ("gap_id", "question_id", "action_id", "flag_id")
CARRIERS = ("Q_CURIOSITY_*", "Q_QUESTION_FOLDED", "Q_INVESTIGATION_COMPLETE", "Q_ACTION_*", "FLAG_*")
_STEP_WORDS = {
    "finding": "found", "question": "asked", "investigation": "investigated", "conclusion": "investigated",
    "action": "acted", "flag": "flagged", "verdict": "judged", "change": "changed", "reflection": "looked back",
}  # fmt: skip


class Sources:
    """What can be asked. Use it in a `with`; `lacks` says what is missing, and why."""

    def __init__(self) -> None:
        self.lacks: list[str] = []
        self._stack = ExitStack()
        self._history = self._open_history()
        self._memory = self._open_memory()

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def incident_of(self, wanted: str) -> str:
        """The incident to which that id belongs, or ids that begin so. Raises typer.BadParameter."""
        found = self._incidents_of(wanted)
        if not found:
            others = "flags: kloros review show, the optimiser's actions: kloros optimiser explain"
            raise typer.BadParameter(f"nothing in a finding's story is called {wanted!r}{self._excuse()} ({others})")
        incidents = {found[wanted]} if wanted in found else set(found.values())
        if len(incidents) > 1:
            shown = ", ".join(sorted(found)[:5])
            raise typer.BadParameter(f"{wanted!r} is the beginning of {len(found)} ids: {shown} ...")
        return incidents.pop()

    def told_by_history(self, incident_id: str) -> list[Life]:
        """Its lives; none where the history does not know it (any more)."""
        return [] if self._history is None else lives(_messages(self._history, Wanted(incident_id=incident_id)))

    def told_by_memory(self, incident_id: str) -> list[Life]:
        """What is remembered of it, as one life; none where nothing is."""
        memories = [] if self._memory is None else self._memory.about_gap(incident_id)
        return [_remembered(memories)] if memories else []

    def _incidents_of(self, wanted: str) -> dict[str, str]:
        """Ids that begin so, each with its incident."""
        found: dict[str, str] = {}
        if self._history is not None:
            found |= {name: name for name in self._history.incidents(wanted, MOST_ALIKE)}
        if self._memory is not None and wanted not in found:
            alike = self._memory.by_id_beginning(wanted, MOST_ALIKE)
            found |= {each.id.partition("/")[0]: each.gap_id for each in alike if each.gap_id is not None}
        if self._history is not None and not found:
            found |= _carried(self._history, wanted)
        return found

    def _open_history(self) -> HistoryReader | None:
        try:
            return self._stack.enter_context(open_history())
        except StoreUnusable as error:
            self.lacks.append(f"no history: {error.reason}")
            return None

    def _open_memory(self) -> MemoryReader | None:
        try:
            return MemoryReader(self._stack.enter_context(stored_by("decay")))
        except StoreUnusable as error:
            self.lacks.append(f"no memory: {error.reason}")
            return None

    def _excuse(self) -> str:
        return f" ({'; '.join(self.lacks)})" if self.lacks else ""


def _messages(history: HistoryReader, wanted: Wanted) -> Iterator[Message]:
    for entry in history.read(wanted):
        if isinstance(entry, Record) and (message := message_of(entry)) is not None:
            yield message


def _carried(history: HistoryReader, wanted: str) -> dict[str, str]:
    """As `incidents_of`, from what the signals of the chain carry."""
    found: dict[str, str] = {}
    for entry in history.read(Wanted(signals=CARRIERS)):
        if not isinstance(entry, Record) or wanted.encode() not in entry.body:
            continue
        facts = msgspec.json.decode(entry.body).get("facts", {})
        incident_id = entry.incident_id or facts.get("gap_id")
        ids = [facts.get(name) for name in ID_FIELDS]
        if isinstance(incident_id, str):
            found |= {each: incident_id for each in ids if isinstance(each, str) and each.startswith(wanted)}
    return found


def _remembered(memories: list[Memory]) -> Life:
    steps = [
        Step(
            ts=each.created_us / US_PER_S,
            word=_STEP_WORDS.get(each.kind, each.kind),
            text=f"{each.text} [{each.id}]",
            details=[each.note] if each.note else [],
            by="memory",
        )
        for each in memories
    ]
    measure(steps)
    return Life(is_remembered=True, steps=steps)

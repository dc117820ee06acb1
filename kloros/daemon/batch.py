"""Durable signals as a daemon is given them, and what it gives back: effects, documents and signals, kept together."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from kloros.chembus.envelope import Message
from kloros.chembus.facts import Facts
from kloros.chembus.vocabulary import VOCABULARY
from kloros.daemon.cycle import Outgoing
from kloros.storage.database import Database
from kloros.storage.state_store import StateStore

DocumentT = TypeVar("DocumentT")


@dataclass
class Batch:
    """Some durable signals, in the order of the journal (each has its `offset`), and one transaction around them.

    What is done through `database`, saved and emitted here is committed together with the daemon's place in the
    journal: all of it, once, or nothing when `work` raises. It is then given again, the signals one by one; one that
    raises three times is put aside as a dead letter. So: change nothing but the database and this object.
    `bodies` are the messages as JSON, just as their emitters wrote them. `processed` counts for the heartbeat; left
    alone, it is the number of messages.
    """

    messages: Sequence[Message]
    bodies: Sequence[bytes]
    database: Database
    store: StateStore
    log: FilteringBoundLogger
    processed: int = 0
    outgoing: list[Outgoing] = field(default_factory=list)
    documents: dict[str, object] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def emit(
        self,
        signal: str,
        facts: Facts | Mapping[str, object] | None = None,
        *,
        intensity: float = 1.0,
        incident_id: str | None = None,
    ) -> None:
        """Send `signal` when the batch is committed; a durable one is committed with it.

        An unknown signal raises UnknownSignal here, where it was written.
        """
        VOCABULARY.lookup(signal)
        self.outgoing.append(Outgoing(signal, facts, intensity, incident_id))

    def save(self, name: str, document: object) -> None:
        """Keep `document` (anything msgspec encodes) under `name`, as part of the transaction."""
        self.documents[name] = document

    def load(self, name: str, shape: type[DocumentT]) -> DocumentT | None:
        """The document saved under `name`, before or in this batch; None when there is none that fits `shape`."""
        if name in self.documents:
            document = self.documents[name]
            return document if isinstance(document, shape) else None
        return self.store.get(name, shape)

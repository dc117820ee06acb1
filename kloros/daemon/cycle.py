"""One unit of a consumer's work, run in a worker thread so that the daemon's loop stays free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from structlog.typing import FilteringBoundLogger

from kloros.chembus.facts import Facts
from kloros.chembus.vocabulary import VOCABULARY
from kloros.clock import Clock
from kloros.daemon.fallback import Run, Source
from kloros.storage.state_store import StateStore

DocumentT = TypeVar("DocumentT")


Statement: TypeAlias = tuple[str, Sequence[Any]]
"""SQL and its values."""


@dataclass(frozen=True)
class Outgoing:
    """A signal that a cycle wants sent once its work is done."""

    signal: str
    facts: Facts | Mapping[str, object] | None
    intensity: float = 1.0
    incident_id: str | None = None


@dataclass
class Cycle:
    """What a cycle is given and what it gives back.

    Set `processed` (how many things were done) and `backlog` (how many wait) for the cycle report. Signals emitted,
    documents saved and statements given here leave together, in one transaction after the cycle returned; a cycle that
    raises leaves nothing, but for what it kept before with `commit`.
    """

    run: Run
    budget_s: float
    log: FilteringBoundLogger
    clock: Clock
    store: StateStore
    coalesced: int = 0
    overlapped: list[int] = field(default_factory=list)
    processed: int = 0
    backlog: int = 0
    outgoing: list[Outgoing] = field(default_factory=list)
    documents: dict[str, object] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    started_s: float = 0.0
    started_us: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)
    keep: Callable[[Cycle], None] | None = None

    @property
    def source(self) -> Source:
        """Who asked: trigger, fallback or injected."""
        return self.run.source

    @property
    def remaining_s(self) -> float:
        """What is left of the budget; below zero when it is overdrawn."""
        return self.budget_s - (self.clock.monotonic_s() - self.started_s)

    def emit(
        self,
        signal: str,
        facts: Facts | Mapping[str, object] | None = None,
        *,
        intensity: float = 1.0,
        incident_id: str | None = None,
    ) -> None:
        """Send `signal` when the cycle is done. An unknown signal raises UnknownSignal here, where it was written."""
        VOCABULARY.lookup(signal)
        self.outgoing.append(Outgoing(signal, facts, intensity, incident_id))

    def save(self, name: str, document: object) -> None:
        """Keep `document` (anything msgspec encodes) on disk under `name` when the cycle is done."""
        self.documents[name] = document

    def load(self, name: str, shape: type[DocumentT]) -> DocumentT | None:
        """The document saved under `name`; None when there is none that fits `shape`."""
        return self.store.get(name, shape)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Run one statement on the daemon's own tables when the cycle is done: `query` does not see it before."""
        self.statements.append((sql, values))

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT on the daemon's own tables. Raises StoreUnusable."""
        return self.store.database.query(sql, values)

    def commit(self) -> None:
        """Keep and send now what was given so far. For what must be on disk before something is done outside, and for
        what became of that: a cycle that is killed or fails later does not take it along.

        Raises:
            StoreUnusable: The disk refuses; nothing of it is kept.
            BadFacts, Oversize, RateLimited: See Bus.emit. Nothing of it is kept.
        """
        if self.keep is None:
            raise RuntimeError("this cycle belongs to nobody who could keep anything")
        self.keep(self)
        self.outgoing, self.documents, self.statements = [], {}, []


class Worker:
    """One thread that runs one job at a time; a job that hangs never blocks the process from ending."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def run(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise, after the jobs before it."""
        self._jobs.put(job)

    def close(self, timeout_s: float) -> bool:
        """End the thread after its present job; returns whether it ended in time."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

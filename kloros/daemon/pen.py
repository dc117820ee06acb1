"""What work that is told by events and work that is done on a beat have in common: a pen to write with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from kloros.chembus.facts import Facts
from kloros.daemon.batch import Batch
from kloros.storage.reads import Reads


class Pen(Reads, Protocol):
    """A batch, by way of BatchPen, or a cycle."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> object:
        """Run a statement, as part of what is committed later."""

    def emit(self, signal: str, facts: Facts | None = None, *, incident_id: str | None = None) -> None:
        """Send a signal, once that is committed."""


class BatchPen:
    """A batch as a pen."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        return self._batch.database.query(sql, values)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> object:
        """Run a statement in the batch's transaction."""
        return self._batch.database.execute(sql, values)

    def emit(self, signal: str, facts: Facts | None = None, *, incident_id: str | None = None) -> None:
        """Send a signal once the batch is committed."""
        self._batch.emit(signal, facts, incident_id=incident_id)

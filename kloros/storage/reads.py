"""What tables are read through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Reads(Protocol):
    """Answers a SELECT: a daemon's own Database, a snapshot of its file, a batch or a cycle."""

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""

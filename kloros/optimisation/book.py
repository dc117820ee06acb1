"""All that an optimiser must not forget: what its gates know, its open changes, where each value was first. Pure."""

from __future__ import annotations

import msgspec

from kloros.optimisation.changes import Change
from kloros.optimisation.gates import GateState
from kloros.optimisation.model import Value

MOST_ENDED = 1_000
MOST_ORIGINS = 10_000


class Book(msgspec.Struct):
    """Kept before anything is done. `ended` holds the last ones, oldest first."""

    gates: GateState = msgspec.field(default_factory=GateState)
    changes: dict[str, Change] = {}
    ended: list[Change] = []
    origins: dict[str, float] = {}

    def put(self, change: Change) -> None:
        """A change as it is now; one that has ended moves to the ended ones, once."""
        if change.is_open:
            self.changes[change.change_id] = change
        elif self.changes.pop(change.change_id, None) is not None:
            self.ended.append(change)
            del self.ended[:-MOST_ENDED]

    def busy(self) -> frozenset[str]:
        """The modules with a change that is not verified yet."""
        return frozenset(change.module_name for change in self.changes.values())

    def origin(self, module: str, name: str, current: float) -> float | None:
        """Where a value was before its first change, on which its bounds in all rest; None: no room for more."""
        key = f"{module}|{name}"
        if key not in self.origins and len(self.origins) >= MOST_ORIGINS:
            return None
        return self.origins.setdefault(key, current)

    def find(self, change_id: str) -> Change | None:
        """An open or ended change by its id."""
        found = self.changes.get(change_id)
        return found or next((each for each in reversed(self.ended) if each.change_id == change_id), None)


def encode(book: Book) -> bytes:
    """As it is kept."""
    return msgspec.json.encode(book)


def decode(kept: bytes) -> Book:
    """As it was kept; raises msgspec.ValidationError or DecodeError for anything else."""
    return msgspec.json.decode(kept, type=Book)


def told(value: Value) -> str:
    """A value in words."""
    return f"{value:g}" if isinstance(value, float | int) else value or "as installed"

"""What a scanner is."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from kloros.consumers.introspection.findings import Symptom


class Now(NamedTuple):
    """The moment of a scan: wall time for what is dated, monotonic time for how long something lasts."""

    wall_us: int
    monotonic_s: float


class Scanner(Protocol):
    """Looks at one source. Called in a thread of its own, never twice at once."""

    name: str
    timeout_s: float

    def scan(self, now: Now) -> list[Symptom]:
        """What is wrong now; raises CannotObserve when the source is missing. It is asked again in the next cycle."""


@runtime_checkable
class Remembers(Protocol):
    """A scanner with a place to go on from after a restart."""

    def keepsake(self) -> str:
        """What to remember, as of the last scan that returned. Never called while a scan runs."""

    def recall(self, keepsake: str) -> None:
        """Go on from there. Text it cannot read is ignored."""

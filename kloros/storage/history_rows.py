"""What the history holds: messages, alike ones folded into one row, and gaps where messages are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

GapKind: TypeAlias = Literal["lost", "dropped", "away", "overrun", "refused"]
"""lost on the way to us · dropped from our own full buffer · sent while nobody recorded · let go by the journal before
we read them · came, and was refused."""


@dataclass(slots=True, eq=False)
class Row:
    """One message to be kept. `repeats` alike ones up to `last_us` are folded into it. `number` once it is stored."""

    ts_us: int
    signal: str
    zooid: str
    pub: str | None
    incident_id: str | None
    body: bytes
    seq: int | None = None
    repeats: int = 0
    last_us: int = 0
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a publisher's signal is accounted for: its last sequence number that is stored or in a gap."""

    pub: str
    signal: str
    seq: int
    ts_us: int


@dataclass(frozen=True, slots=True)
class Record:
    """One stored message as it is read back."""

    number: int
    ts_us: int
    signal: str
    zooid: str
    pub: str | None
    incident_id: str | None
    repeats: int
    last_us: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """`missing` messages that are not in the history, and why. `number` is the row's own, 0 before it is stored."""

    kind: GapKind
    signal: str
    zooid: str
    pub: str
    since_us: int
    until_us: int
    missing: int
    number: int = 0

    @property
    def ts_us(self) -> int:
        """Where it stands among the messages."""
        return self.since_us


Entry: TypeAlias = Record | Gap


@dataclass(frozen=True)
class Wanted:
    """A question to the history; what is empty or None does not narrow it. Both moments are included.

    A signal with a trailing `*` means all that begin like it.
    """

    signals: tuple[str, ...] = ()
    zooids: tuple[str, ...] = ()
    since_us: int | None = None
    until_us: int | None = None
    incident_id: str | None = None


def zooid_of(pub: str | None) -> str:
    """Who published, from the name of its run."""
    return "" if pub is None else pub.partition("@")[0]

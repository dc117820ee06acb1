"""The one interface to the bus that the rest of the code sees, and the figures every bus keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kloros.chembus.envelope import Message, RefusalReason
from kloros.chembus.facts import Facts
from kloros.chembus.journal.contract import Journal


@dataclass(frozen=True)
class Refusal:
    """A message that was not taken, kept for a person to look at."""

    reason: RefusalReason
    topic: str
    detail: str
    wall_us: int


@dataclass(frozen=True)
class Loss:
    """Messages lost since last asked: a `gap` on the way, a `drop` from our own full queue."""

    kind: Literal["gap", "drop"]
    signal: str
    pub: str
    missing: int
    since_us: int


@dataclass
class BusCounters:
    """What a bus did, counted from its start. Nothing is lost without one of these going up."""

    emitted: int = 0
    lost_unjoined: int = 0
    rate_limited: int = 0
    received: int = 0
    legacy: int = 0
    duplicate: int = 0
    gap: int = 0
    drop: int = 0
    unannounced: int = 0  # losses that are counted, and that the bus would not let us tell of
    forgotten: int = 0  # (publisher, signal) pairs that fell out of the bounded table
    refused: Counter[RefusalReason] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, int]:
        """All of them by name; refusals as refused_<reason>."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        return plain | {f"refused_{reason}": count for reason, count in self.refused.items()}


class Bus(Protocol):
    """A place on the bus. Belongs to one thread."""

    @property
    def counters(self) -> BusCounters: ...

    @property
    def recent_refusals(self) -> Sequence[Refusal]:
        """The last few refused messages, oldest first."""

    @property
    def joined(self) -> bool:
        """Whether emitting and hearing are confirmed to work now."""

    @property
    def pub(self) -> str:
        """This run of this publisher, as its messages name it."""

    def emit(
        self,
        signal: str,
        facts: Facts | Mapping[str, Any] | None = None,
        *,
        ecosystem: str | None = None,
        intensity: float = 1.0,
        incident_id: str | None = None,
        trace: str | None = None,
    ) -> str | None:
        """Send a message; returns its id, or None when it could not go out (counted).

        Without `ecosystem` the vocabulary's own is used. A durable signal has its emit return once the journal has it
        on disk; a daemon does not wait for that, but emits through its outbox.

        Raises:
            UnknownSignal, BadFacts, Oversize: The caller is wrong; a receiver would have refused it.
            RateLimited: Too fast, for a signal whose excess is not simply dropped.
            NotJournaled: The journal did not confirm a durable signal in time, or would not keep it.
        """

    def open_journal(self) -> Journal:
        """A connection to the journal, to be closed before the bus.

        Raises:
            EndpointRefused: This bus knows of none.
        """

    def subscribe(self, topic: str) -> None:
        """Hear a signal by its exact name; a trailing `*` asks for a prefix. Certain to work after `join`."""

    def unsubscribe(self, topic: str) -> None:
        """Stop hearing what `subscribe` was told with the same words."""

    def join(self, timeout_s: float) -> None:
        """Wait until emitting and every subscription so far are confirmed by a round trip.

        Raises:
            BusUnreachable: That took longer than `timeout_s`.
        """

    def receive(self, limit: int = 256) -> list[Message]:
        """What has arrived, at most `limit` messages, without waiting. Refused ones are counted, not returned."""

    def receive_with_bodies(self, limit: int = 256) -> list[tuple[Message, bytes]]:
        """Like `receive`, each message with the JSON it came as."""

    def take_losses(self) -> list[Loss]:
        """Losses found since last asked, per kind, signal and publisher."""

    def pollables(self) -> Sequence[Any]:
        """What a Poller waits on; when any is ready, call `receive`."""

    def sent_seqs(self) -> dict[str, int]:
        """The last sequence number sent per signal: the `sent` of a HEARTBEAT."""

    def close(self) -> None:
        """Say what was sent last, let it leave (bounded), and release everything. May be called twice."""

"""A bus inside one process, through the real codec: for tests and simulations."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from kloros.chembus.bus import BusCounters, Loss, Refusal
from kloros.chembus.declaration import Vocabulary
from kloros.chembus.emitter import Emitter
from kloros.chembus.envelope import Message
from kloros.chembus.facts import Facts
from kloros.chembus.journal.contract import Entry, Journal, NotKept
from kloros.chembus.journal.keeper import JournalKeeper
from kloros.chembus.journal.memory import MemoryJournalClient, MemoryJournalStore
from kloros.chembus.journal.wire import Append
from kloros.chembus.receiver import Receiver
from kloros.chembus.vocabulary import VOCABULARY
from kloros.clock import Clock, SystemClock
from kloros.errors import BusError, BusUnreachable, NotJournaled


class MemoryHub:
    """What connects MemoryBuses, with a journal. Set `up` to False to play an outage."""

    def __init__(self) -> None:
        self.up = True
        self.store = MemoryJournalStore()
        self.keeper: JournalKeeper | None = None
        self._bell: Emitter | None = None
        self._members: list[MemoryBus] = []

    def keep(self, clock: Clock) -> JournalKeeper:
        """The keeper of the journal, which reads the clock of whoever needs it first."""
        if self.keeper is None:
            self.keeper = JournalKeeper(self.store, clock, self.publish)
            self._bell = Emitter(
                self.publish, name="chem_journal", niche="bus", clock=clock, vocabulary=VOCABULARY,
                counters=BusCounters(),
            )  # fmt: skip
        return self.keeper

    def tell(self) -> None:
        """Pass on what was kept, and ring the doorbell."""
        assert self.keeper is not None
        assert self._bell is not None
        self.keeper.forward()
        if news := self.keeper.take_news():
            self._bell.emit("Q_JOURNAL_ADVANCED", news)

    def attach(self, bus: MemoryBus) -> None:
        """Let a bus hear what the others say."""
        self._members.append(bus)

    def detach(self, bus: MemoryBus) -> None:
        """Let it go."""
        if bus in self._members:
            self._members.remove(bus)

    def publish(self, topic: bytes, body: bytes) -> bool:
        """Hand two frames, of any bytes, to every member; False while the hub is down."""
        if self.up:
            for member in tuple(self._members):
                member.deliver(topic, body)
        return self.up


class MemoryBus:
    """A Bus (see there) on a MemoryHub. A full inbox loses the newest message, as a full socket does."""

    def __init__(
        self,
        hub: MemoryHub | None = None,
        *,
        name: str = "memory",
        niche: str = "unknown",
        clock: Clock | None = None,
        vocabulary: Vocabulary = VOCABULARY,
        queue_limit: int = 50_000,
        open_facts: bool = False,
    ) -> None:
        clock = clock or SystemClock()
        self._clock = clock
        self.counters = BusCounters()
        self._hub = hub or MemoryHub()
        self._inbox: deque[tuple[bytes, bytes]] = deque()
        self._queue_limit = queue_limit
        self._receiver = Receiver(clock=clock, vocabulary=vocabulary, counters=self.counters, open_facts=open_facts)
        self._emitter = Emitter(
            self._hub.publish,
            name=name,
            niche=niche,
            clock=clock,
            vocabulary=vocabulary,
            counters=self.counters,
            open_facts=open_facts,
        )
        self._wakeup: tuple[int, int] | None = None
        self._closed = False
        self._joined = False
        self._hub.attach(self)

    @property
    def joined(self) -> bool:
        return self._joined and self._hub.up and not self._closed

    @property
    def pub(self) -> str:
        return self._emitter.pub

    @property
    def recent_refusals(self) -> Sequence[Refusal]:
        return tuple(self._receiver.recent_refusals)

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
        if self._closed:
            raise BusError(detail="it is closed")
        if self._emitter.is_durable(signal):
            entry = self._emitter.encode(
                signal, facts, ecosystem=ecosystem, intensity=intensity, incident_id=incident_id, trace=trace
            )
            return self._keep(entry) if entry else None
        return self._emitter.emit(
            signal, facts, ecosystem=ecosystem, intensity=intensity, incident_id=incident_id, trace=trace
        )

    def open_journal(self) -> Journal:
        return MemoryJournalClient(self._hub.keep(self._clock), self._hub, self._clock, self._hub.tell)

    def subscribe(self, topic: str) -> None:
        self._receiver.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        self._receiver.unsubscribe(topic)

    def join(self, timeout_s: float) -> None:
        if not self._hub.up:
            raise BusUnreachable(endpoint="memory", timeout_s=timeout_s)
        self._receiver.confirm()
        self._joined = True

    def receive(self, limit: int = 256) -> list[Message]:
        return [message for message, _ in self.receive_with_bodies(limit)]

    def receive_with_bodies(self, limit: int = 256) -> list[tuple[Message, bytes]]:
        self._receiver.begin_batch()
        messages: list[tuple[Message, bytes]] = []
        while self._inbox and len(messages) < limit:
            topic, body = self._inbox.popleft()
            message = self._receiver.accept(topic, body)
            if message is not None:
                messages.append((message, body))
        self.counters.received += len(messages)
        if not self._inbox and self._wakeup:
            self._drain_wakeup(self._wakeup[0])
        return messages

    def take_losses(self) -> list[Loss]:
        return self._receiver.take_losses()

    def pollables(self) -> Sequence[Any]:
        if self._wakeup is None and not self._closed:
            self._wakeup = os.pipe()
            for fd in self._wakeup:
                os.set_blocking(fd, False)
            if self._inbox:
                os.write(self._wakeup[1], b"\0")
        return self._wakeup[:1] if self._wakeup else ()

    def sent_seqs(self) -> dict[str, int]:
        return self._emitter.sent_seqs()

    def close(self) -> None:
        if self._closed:
            return
        self._emitter.farewell()
        self._closed = True
        self._hub.detach(self)
        self._inbox.clear()
        for fd in self._wakeup or ():
            os.close(fd)
        self._wakeup = None

    def deliver(self, topic: bytes, body: bytes) -> None:
        """Take two frames from the hub."""
        if len(self._inbox) >= self._queue_limit:
            return
        self._inbox.append((topic, body))
        if self._wakeup and len(self._inbox) == 1:
            os.write(self._wakeup[1], b"\0")

    def _keep(self, entry: Entry) -> str:
        if not self._hub.up:
            raise NotJournaled(signal=entry.signal, message_id=entry.id, timeout_s=0, reason="the hub is down")
        (answer,) = self._hub.keep(self._clock).append([Append(0, [entry])])
        self._hub.tell()
        if isinstance(answer, NotKept):
            raise NotJournaled(signal=entry.signal, message_id=entry.id, timeout_s=0, reason=answer.detail)
        return entry.id

    @staticmethod
    def _drain_wakeup(fd: int) -> None:
        try:
            while os.read(fd, 4096):
                pass
        except BlockingIOError:
            return

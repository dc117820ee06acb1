"""The bus over ZeroMQ: one subscribing and one publishing socket, both connected to the proxy."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from kloros.chembus.bus import BusCounters, Loss, Refusal
from kloros.chembus.curve import secure_client
from kloros.chembus.declaration import Vocabulary
from kloros.chembus.emitter import Emitter
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message, RefusalReason
from kloros.chembus.facts import Facts
from kloros.chembus.join import JOIN_PREFIX, probe
from kloros.chembus.journal.blocking import BlockingJournal
from kloros.chembus.journal.client import JournalClient
from kloros.chembus.journal.contract import Entry, Journal, has_offset
from kloros.chembus.link import PublisherLink
from kloros.chembus.receiver import HEARTBEAT, Receiver
from kloros.chembus.sockets import SocketLimits, tune
from kloros.chembus.vocabulary import VOCABULARY
from kloros.clock import Clock, SystemClock
from kloros.errors import BusError, BusUnreachable, EndpointRefused

_PROBE_EVERY_MS = 5


class ZmqBus:
    """A Bus (see there). Connects at once and keeps reconnecting; `join` waits for it."""

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        name: str,
        niche: str = "unknown",
        clock: Clock | None = None,
        vocabulary: Vocabulary = VOCABULARY,
        limits: SocketLimits | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        open_facts: bool = False,
    ) -> None:
        """`name` names the publisher in its messages. `open_facts` lets undeclared signals through, both ways.

        Raises:
            EndpointRefused: An endpoint cannot work or is not safe.
        """
        endpoints.check()
        limits = limits or SocketLimits()
        self._clock = clock or SystemClock()
        self._endpoints = endpoints
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._closed = False
        self.counters = BusCounters()
        self._link = PublisherLink(self._context, endpoints, limits, self._clock)
        self._emitter = Emitter(
            self._link.send,
            name=name,
            niche=niche,
            clock=self._clock,
            vocabulary=vocabulary,
            counters=self.counters,
            open_facts=open_facts,
        )
        self._receiver = Receiver(
            clock=self._clock, vocabulary=vocabulary, counters=self.counters, open_facts=open_facts
        )
        self._sub = self._context.socket(zmq.SUB)
        tune(self._sub, limits)
        self._sub.subscribe(HEARTBEAT)  # a HEARTBEAT says what was sent: lost tails are found with it
        secure_client(self._sub, endpoints.keys)
        self._sub.connect(endpoints.subscribe)
        self._journal: BlockingJournal | None = None
        self._ready: deque[tuple[Message, bytes]] = deque()
        self._join_topic: bytes | None = None
        self._confirmed = False
        self._outages_seen = 0
        self._overlooks: Callable[[bytes], bool] | None = None

    @property
    def joined(self) -> bool:
        return self._confirmed and self._link.up

    @property
    def link_up(self) -> bool:
        """Whether the proxy can be reached; `joined` follows within a round trip."""
        return self._link.up

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
        if self._endpoints.journal is not None and self._emitter.is_durable(signal):
            entry = self._emitter.encode(
                signal, facts, ecosystem=ecosystem, intensity=intensity, incident_id=incident_id, trace=trace
            )
            return self._keep(entry) if entry else None
        return self._emitter.emit(
            signal, facts, ecosystem=ecosystem, intensity=intensity, incident_id=incident_id, trace=trace
        )

    def open_journal(self) -> Journal:
        if self._endpoints.journal is None:
            raise EndpointRefused(endpoint=self._endpoints.publish, reason="it has no journal beside it")
        return JournalClient(self._context, self._endpoints.journal, self._clock)

    def subscribe(self, topic: str) -> None:
        if self._receiver.subscribe(topic):
            self._sub.subscribe(topic.removesuffix("*"))

    def unsubscribe(self, topic: str) -> None:
        if self._receiver.unsubscribe(topic):
            self._sub.unsubscribe(topic.removesuffix("*"))

    def overlook(self, is_journaled: Callable[[bytes], bool]) -> None:
        """Pass over unread what the journal has published: for who hears everything and works off nothing.

        `is_journaled` is asked of each message that seems to have an offset.
        """
        self._overlooks = is_journaled
        self._receiver.numbers_journaled = False

    def join(self, timeout_s: float) -> None:
        deadline_s = self._clock.monotonic_s() + timeout_s
        if not self._link.wait_up(timeout_s):
            raise BusUnreachable(endpoint=self._endpoints.publish, timeout_s=timeout_s)
        self.begin_join()
        while not self._confirmed:
            if self._clock.monotonic_s() >= deadline_s:
                raise BusUnreachable(endpoint=self._endpoints.subscribe, timeout_s=timeout_s)
            self._send_probe()
            self._sub.poll(_PROBE_EVERY_MS)
            self._ready.extend(self._drain(256))

    def begin_join(self) -> None:
        """Like `join`, without waiting: `joined` becomes true in a later `receive`."""
        self._leave_join_topic()
        self._confirmed = False
        self._join_topic = JOIN_PREFIX + secrets.token_hex(8).encode()
        self._sub.subscribe(self._join_topic)

    def receive(self, limit: int = 256) -> list[Message]:
        return [message for message, _ in self.receive_with_bodies(limit)]

    def receive_with_bodies(self, limit: int = 256) -> list[tuple[Message, bytes]]:
        """Like `receive`, each message with the JSON it came as."""
        if self._closed:
            return []
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        taken.extend(self._drain(limit - len(taken)))
        self._watch_link()
        self.counters.received += len(taken)
        return taken

    def take_losses(self) -> list[Loss]:
        return self._receiver.take_losses()

    def pollables(self) -> Sequence[Any]:
        return () if self._closed else (self._sub, self._link.socket)

    def sent_seqs(self) -> dict[str, int]:
        return self._emitter.sent_seqs()

    def close(self) -> None:
        if self._closed:
            return
        self._emitter.farewell()
        self._closed = True
        self._confirmed = False
        self._sub.close(0)
        if self._journal:
            self._journal.close()
        self._link.close()
        if self._own_context:
            self._context.term()  # waits for what is on its way, no longer than the linger time

    def _keep(self, entry: Entry) -> str:
        assert self._endpoints.journal is not None
        if self._journal is None:
            self._journal = BlockingJournal(self._context, self._endpoints.journal, self._clock)
        self._journal.append(entry)
        return entry.id

    def _drain(self, limit: int) -> list[tuple[Message, bytes]]:
        self._receiver.begin_batch()
        accept, receive, overlooks = self._receiver.accept, self._sub.recv, self._overlooks
        taken: list[tuple[Message, bytes]] = []
        try:
            for _ in range(limit):
                head = receive(zmq.NOBLOCK, False)
                topic = head.bytes
                frame = receive(zmq.NOBLOCK, False) if head.more else None
                if frame is None or frame.more:
                    self._refuse_frames(topic, frame)
                    continue
                body = frame.bytes
                if overlooks is not None and has_offset(body) and overlooks(body):
                    continue
                message = accept(topic, body)
                if message is not None:
                    taken.append((message, body))
                elif topic == self._join_topic:
                    self._finish_joining()
        except zmq.Again:
            pass
        return taken

    def _refuse_frames(self, topic: bytes, frame: zmq.Frame | None) -> None:
        count = 1
        while frame is not None:
            count += 1
            frame = self._sub.recv(zmq.NOBLOCK, copy=False) if frame.more else None
        self._receiver.refuse(RefusalReason.BAD_FRAMES, topic, f"{count} frames instead of 2")

    def _watch_link(self) -> None:
        self._link.drain()
        if self._link.outages != self._outages_seen:
            self._outages_seen = self._link.outages
            self._confirmed = False
            self.begin_join()
        if not self._confirmed and self._join_topic and self._link.up:
            self._send_probe()

    def _send_probe(self) -> None:
        if self._join_topic:
            self._link.send(self._join_topic, probe(self._join_topic, self._clock.wall_us()))

    def _finish_joining(self) -> None:
        self._leave_join_topic()
        self._receiver.confirm()
        self._confirmed = True

    def _leave_join_topic(self) -> None:
        if self._join_topic:
            self._sub.unsubscribe(self._join_topic)
            self._join_topic = None

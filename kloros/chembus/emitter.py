"""The sending half of every bus, short of the socket: validate, limit, number, encode."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Any

from kloros.chembus.bus import BusCounters
from kloros.chembus.declaration import Delivery, Signal, Vocabulary
from kloros.chembus.envelope import MAX_TOPIC_BYTES, Codec, Message, codec_for
from kloros.chembus.facts import Facts, HeartbeatFacts
from kloros.chembus.incarnation import new_pub
from kloros.chembus.journal.contract import Entry
from kloros.chembus.ratelimit import TokenBucket
from kloros.clock import Clock
from kloros.errors import BusError, RateLimited, UnknownSignal

MAX_LINES = 32_768  # signals one publisher can number before it takes a new name; a scheduler has one per entry
MAX_SENT = 2_000  # signals a HEARTBEAT speaks of, so that it stays a small message

Send = Callable[[bytes, bytes], bool]


class _Line:
    """What an emitter keeps per signal."""

    __slots__ = ("bucket", "codec", "ecosystem", "emitted_as", "is_durable", "raises", "rate_per_s", "seq", "topic")

    def __init__(self, name: str, signal: Signal | None, now_s: float) -> None:
        self.topic = name.encode()
        self.codec: Codec = codec_for(signal.facts if signal else None)
        self.ecosystem = signal.ecosystem if signal else "unknown"
        self.is_durable = signal is not None and signal.delivery is Delivery.DURABLE
        self.raises = signal is not None and signal.over_rate == "raise"
        self.rate_per_s = signal.rate_per_s if signal else None
        self.bucket = TokenBucket(signal.rate_per_s, signal.burst, now_s) if signal and signal.rate_per_s else None
        self.seq = 0
        self.emitted_as = 0  # the how-manieth message of its publisher was its last


class Emitter:
    """Turns emits into numbered frames and hands them to `send`, which says whether they went out."""

    def __init__(
        self,
        send: Send,
        *,
        name: str,
        niche: str,
        clock: Clock,
        vocabulary: Vocabulary,
        counters: BusCounters,
        open_facts: bool = False,
    ) -> None:
        """`open_facts` lets signals outside the vocabulary through, with any facts."""
        self._send = send
        self._name = name
        self._niche = niche
        self._clock = clock
        self._vocabulary = vocabulary
        self._counters = counters
        self._open_facts = open_facts
        self._lines: dict[str, _Line] = {}
        self._started_s = clock.monotonic_s()
        self._rename()

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
        """See Bus.emit."""
        prepared = self._prepare(signal, facts, ecosystem, intensity, incident_id, trace)
        if prepared is None:
            return None
        line, message, body = prepared
        if not self._send(line.topic, body):
            self._counters.lost_unjoined += 1
            return None
        self._number(line)
        return message.id

    def encode(
        self,
        signal: str,
        facts: Facts | Mapping[str, Any] | None = None,
        *,
        ecosystem: str | None = None,
        intensity: float = 1.0,
        incident_id: str | None = None,
        trace: str | None = None,
    ) -> Entry | None:
        """A durable signal for the journal, numbered as sent. None when the limit dropped it. Raises as `emit`."""
        prepared = self._prepare(signal, facts, ecosystem, intensity, incident_id, trace)
        if prepared is None:
            return None
        line, message, body = prepared
        self._number(line)
        assert message.id is not None
        return Entry(message.id, signal, body)

    def is_durable(self, signal: str) -> bool:
        """Whether that signal belongs in the journal. Raises UnknownSignal."""
        return (self._lines.get(signal) or self._open_line(signal)).is_durable

    def start_anew(self) -> None:
        """Take a new name, under which all numbers begin at 1: what was numbered last is not going to be sent."""
        self._lines.clear()
        self._rename()

    def sent_seqs(self) -> dict[str, int]:
        """The last number sent per signal; of very many signals, those emitted last.

        Durable ones are left out: the journal passes them on in its own time, and knows by itself what is missing.
        """
        used = [
            (line.emitted_as, name, line.seq) for name, line in self._lines.items() if line.seq and not line.is_durable
        ]
        if len(used) > MAX_SENT:
            used = heapq.nlargest(MAX_SENT, used)
        return {name: seq for _, name, seq in used}

    def farewell(self) -> None:
        """A last HEARTBEAT that says what was sent, so that a lost tail is noticed."""
        sent = self.sent_seqs()
        if not sent or not self._vocabulary.knows("HEARTBEAT"):
            return
        facts = HeartbeatFacts(
            zooid=self._name,
            niche=self._niche,
            uptime_s=max(0.0, self._clock.monotonic_s() - self._started_s),
            processed_count=self._counters.received,
            mode="stopped",
            sent=sent,
        )
        self.emit("HEARTBEAT", facts)

    def _prepare(
        self,
        signal: str,
        facts: Facts | Mapping[str, Any] | None,
        ecosystem: str | None,
        intensity: float,
        incident_id: str | None,
        trace: str | None,
    ) -> tuple[_Line, Message, bytes] | None:
        """The message under its next number, and encoded; None when the limit dropped it."""
        line = self._lines.get(signal) or self._open_line(signal)
        if line.bucket is not None and not line.bucket.take(self._clock.monotonic_s()):
            self._refuse_rate(signal, line)
            return None
        message = self._message(line, signal, facts, ecosystem, intensity, incident_id, trace)
        return line, message, line.codec.encode(message)

    def _message(
        self,
        line: _Line,
        signal: str,
        facts: Facts | Mapping[str, Any] | None,
        ecosystem: str | None,
        intensity: float,
        incident_id: str | None,
        trace: str | None,
    ) -> Message:
        return line.codec.message_type(
            signal=signal,
            ecosystem=line.ecosystem if ecosystem is None else ecosystem,
            intensity=intensity,
            facts=line.codec.facts(signal, facts, more=self._open_facts),
            incident_id=incident_id,
            trace=trace,
            ts=self._clock.wall_us() / 1e6,
            id=f"{self._token}.{self._count + 1}",
            pub=self.pub,
            seq=line.seq + 1,
        )

    def _number(self, line: _Line) -> None:
        line.seq += 1
        self._count += 1
        line.emitted_as = self._count
        self._counters.emitted += 1

    def _open_line(self, name: str) -> _Line:
        if len(name.encode(errors="surrogatepass")) > MAX_TOPIC_BYTES:
            raise BusError(detail=f"the name of a signal has at most {MAX_TOPIC_BYTES} bytes, {name[:40]}... has more")
        try:
            signal: Signal | None = self._vocabulary.lookup(name)
        except UnknownSignal:
            if not self._open_facts:
                raise
            signal = None
        if len(self._lines) >= MAX_LINES:
            self._lines.clear()
            self._rename()
        line = self._lines[name] = _Line(name, signal, self._clock.monotonic_s())
        return line

    def _rename(self) -> None:
        self.pub = new_pub(self._name, self._clock)
        self._token = self.pub.rpartition("@")[2]
        self._count = 0

    def _refuse_rate(self, signal: str, line: _Line) -> None:
        self._counters.rate_limited += 1
        if line.raises:
            raise RateLimited(signal=signal, rate_per_s=line.rate_per_s)

"""How often signals are emitted and how long they travel, from sequence numbers and time stamps. Pure.

Sequence numbers say how many were emitted between the first and the last that were seen, whoever lost some of them:
the rate is the publisher's, not the observer's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from kloros.chembus.envelope import Message

MAX_SAMPLES = 100_000
MAX_LINES = 10_000


class Rate(msgspec.Struct, kw_only=True):
    """One signal of one publisher. `rate_hz` is None until two moments are known."""

    signal: str
    publisher: str
    emitted: int
    heard: int
    missing: int
    span_s: float
    rate_hz: float | None


class Latency(msgspec.Struct, kw_only=True):
    """From emit to here, in milliseconds, of what was heard; `missing` had none."""

    signal: str
    heard: int
    missing: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class _Line:
    __slots__ = ("first_seq", "first_ts", "heard", "last_seq", "last_ts")

    def __init__(self, seq: int | None, ts: float) -> None:
        self.first_seq, self.first_ts = seq, ts
        self.last_seq, self.last_ts = seq, ts
        self.heard = 0

    @property
    def emitted(self) -> int:
        """How many, the first and the last included."""
        if self.first_seq is None or self.last_seq is None:
            return self.heard
        return self.last_seq - self.first_seq + 1


class Observation:
    """Fed with what was heard and when; says rates and latencies."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}
        self._travel_ms: dict[str, list[float]] = {}
        self.unlisted = 0

    def note(self, message: Message, heard_ts: float) -> None:
        """A message was heard. Beyond so many publishers' signals they are only counted, in `unlisted`."""
        key = (message.signal, message.pub or "an older client")
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) >= MAX_LINES:
                self.unlisted += 1
                return
            line = self._lines[key] = _Line(message.seq, message.ts)
        line.heard += 1
        if message.seq is not None and line.last_seq is not None and message.seq > line.last_seq:
            line.last_seq = message.seq
        line.last_ts = max(line.last_ts, message.ts)
        samples = self._travel_ms.setdefault(message.signal, [])
        travel_ms = (heard_ts - message.ts) * 1e3
        if len(samples) < MAX_SAMPLES:
            samples.append(travel_ms)
        else:  # the newest replace the oldest
            samples[line.heard % MAX_SAMPLES] = travel_ms

    def rates(self) -> list[Rate]:
        """One per signal and publisher, by name."""
        return [_rate(*key, line) for key, line in sorted(self._lines.items())]

    def latencies(self) -> list[Latency]:
        """One per signal, by name."""
        heard, missing = Counter[str](), Counter[str]()
        for (signal, _pub), line in self._lines.items():
            heard[signal] += line.heard
            missing[signal] += line.emitted - line.heard
        return [
            _latency(signal, sorted(samples), heard[signal], missing[signal])
            for signal, samples in sorted(self._travel_ms.items())
        ]


def _rate(signal: str, pub: str, line: _Line) -> Rate:
    span_s = line.last_ts - line.first_ts
    return Rate(
        signal=signal,
        publisher=pub.partition("@")[0],
        emitted=line.emitted,
        heard=line.heard,
        missing=line.emitted - line.heard,
        span_s=span_s,
        rate_hz=(line.emitted - 1) / span_s if span_s > 0 and line.emitted > 1 else None,
    )


def _latency(signal: str, ordered_ms: Sequence[float], heard: int, missing: int) -> Latency:
    def share(part: float) -> float:
        return ordered_ms[min(len(ordered_ms) - 1, int(part * len(ordered_ms)))]

    return Latency(
        signal=signal, heard=heard, missing=missing, p50_ms=share(0.5), p90_ms=share(0.9), p99_ms=share(0.99),
        max_ms=ordered_ms[-1],
    )  # fmt: skip

"""Replaying history: every message again, in its order and with its distances in time. The order of things is pure."""

from __future__ import annotations

import heapq
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from kloros.chembus.declaration import Vocabulary
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.vocabulary import VOCABULARY
from kloros.chembus.zmq_bus import ZmqBus
from kloros.cli.history import message_of
from kloros.clock import Clock
from kloros.place import Place
from kloros.storage.history_rows import Entry, Gap, Record

PUBLISHER = "kloros_replay"
# The journal of the bus that is replayed onto rings by itself.
DOORBELL = "Q_JOURNAL_ADVANCED"
_JOIN_TIMEOUT_S = 5.0


class Timed(NamedTuple):
    """A message and when it passed."""

    ts_us: int
    message: Message


@dataclass
class Tally:
    """What a replay did. `missing` were never recorded, `unreadable` are of another version."""

    emitted: int = 0
    refused: int = 0
    missing: int = 0
    unreadable: int = 0


def unfolded(entries: Iterable[Entry], tally: Tally) -> Iterator[Timed]:
    """Every message that passed, in order of time: those that one row stands for too, evenly spread over its time.

    What the history does not have is counted in `tally`.
    """
    waiting: list[tuple[int, int, Iterator[int], Message]] = []
    order = count()

    def until(ts_us: float) -> Iterator[Timed]:
        while waiting and waiting[0][0] <= ts_us:
            due_us, _, moments, message = heapq.heappop(waiting)
            yield Timed(due_us, message)
            if (next_us := next(moments, None)) is not None:
                heapq.heappush(waiting, (next_us, next(order), moments, message))

    for entry in entries:
        yield from until(entry.ts_us)
        if entry.signal == DOORBELL:
            continue
        if isinstance(entry, Gap):
            tally.missing += entry.missing
        elif (message := message_of(entry)) is None:
            tally.unreadable += 1 + entry.repeats
        else:
            yield Timed(entry.ts_us, message)
            moments = _moments_of_repeats(entry)
            if (first_us := next(moments, None)) is not None:
                heapq.heappush(waiting, (first_us, next(order), moments, message))
    yield from until(float("inf"))


def _moments_of_repeats(record: Record) -> Iterator[int]:
    span_us = record.last_us - record.ts_us
    return (record.ts_us + span_us * number // record.repeats for number in range(1, record.repeats + 1))


def play(timed: Iterable[Timed], clock: Clock, speed: float, emit: Callable[[Message], None]) -> None:
    """Emit each message when its time has come: `speed` times as fast as it was, 0 without any waiting."""
    start_s, first_us = clock.monotonic_s(), None
    for ts_us, message in timed:
        first_us = ts_us if first_us is None else first_us
        if speed:
            wait_s = start_s + (ts_us - first_us) / 1e6 / speed - clock.monotonic_s()
            if wait_s > 0:
                clock.sleep(wait_s)
        emit(message)


@contextmanager
def replay_bus(place: Place) -> Iterator[ZmqBus]:
    """A publisher without rate limits on the bus of `place`; a replay has its own pace. Raises BusUnreachable."""
    unlimited = Vocabulary(replace(signal, rate_per_s=None) for signal in VOCABULARY)
    bus = ZmqBus(Endpoints.for_runtime_dir(place.runtime), name=PUBLISHER, niche="cli", vocabulary=unlimited)
    try:
        bus.join(_JOIN_TIMEOUT_S)
        yield bus
    finally:
        bus.close()


def emit_again(bus: ZmqBus, message: Message) -> bool:
    """Emit it as a new message of ours, emitted now: numbers and moments of old would be refused. Whether it left."""
    sent = bus.emit(
        message.signal, message.facts, ecosystem=message.ecosystem, intensity=message.intensity,
        incident_id=message.incident_id, trace=message.trace,
    )  # fmt: skip
    return sent is not None


@contextmanager
def private_place(place: Place) -> Iterator[Place]:
    """A bus of its own, journal included, in a temporary directory; it is gone afterwards.

    Raises:
        KlorosError: Its proxy did not start.
    """
    from kloros.cli.running.suite import Member
    from kloros.daemon.suite_settings import SuiteSettings
    from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
    from kloros.telemetry.logs import configure_logging

    configure_logging("json", "error", sys.stderr)
    with tempfile.TemporaryDirectory(prefix="kloros-replay-") as folder:
        private = Place(place.config, Path(folder) / "state", Path(folder) / "run")
        proxy = Member(ChemProxyDaemon, private, SuiteSettings())
        proxy.start()
        try:
            proxy.wait_started()
            yield private
        finally:
            proxy.stop()
            proxy.join(_JOIN_TIMEOUT_S)

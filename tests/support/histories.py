"""A real historian on a real bus, and a publisher in a hurry."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kloros.chembus.declaration import Signal
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.facts import TriggerFacts
from kloros.chembus.sockets import SocketLimits
from kloros.chembus.vocabulary import VOCABULARY, Vocabulary
from kloros.chembus.zmq_bus import ZmqBus
from kloros.daemon.daemon import Daemon
from kloros.daemon.runner import composed
from kloros.daemon.suite_settings import SuiteSettings
from kloros.place import Place
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Gap, Record, Wanted

SIGNAL = "Q_TRIGGER_BURST"
LIMIT_S = 60.0


@contextmanager
def running(daemon_class: type[Daemon], place: Place, suite: SuiteSettings) -> Iterator[Daemon]:
    """The daemon in a thread of its own, as soon as it is on the bus."""
    ready, box = threading.Event(), list[Daemon]()

    def run() -> None:
        with composed(daemon_class, place, suite, has_metrics=False) as daemon:
            box.append(daemon)
            daemon.loop.call_soon(ready.set)
            daemon.run()

    thread = threading.Thread(target=run, name=daemon_class.__name__)
    thread.start()
    assert ready.wait(LIMIT_S)
    try:
        yield box[0]
    finally:
        box[0].stop()
        thread.join(LIMIT_S)


def told(path: Path, signal: str = SIGNAL) -> tuple[int, dict[str, int]]:
    """How many are stored, and how many are gaps, by kind."""
    stored, missing = 0, dict[str, int]()
    with HistoryReader(path) as reader:
        for entry in reader.read(Wanted(signals=(signal,))):
            if isinstance(entry, Record):
                stored += 1 + entry.repeats
            elif isinstance(entry, Gap) and entry.missing:
                missing[entry.kind] = missing.get(entry.kind, 0) + entry.missing
    return stored, missing


@contextmanager
def hasty_bus(place: Place, limits: SocketLimits | None = None) -> Iterator[ZmqBus]:
    """A publisher without rate limits. Its last heartbeat, at the end, says how many it sent."""
    signal = Signal(name=SIGNAL, facts=TriggerFacts, ecosystem="t", summary="t", rate_per_s=None)
    known = Vocabulary([signal, VOCABULARY.lookup("HEARTBEAT")])
    bus = ZmqBus(Endpoints.for_runtime_dir(place.runtime), name="hasty", vocabulary=known, limits=limits)
    bus.join(LIMIT_S)
    yield bus
    bus.close()


def burst(bus: ZmqBus, count: int) -> int:
    """Emit as fast as can be; returns how many went out."""
    for number in range(count):
        bus.emit(SIGNAL, {"beat": number})
    return bus.sent_seqs()[SIGNAL]


def accounted(path: Path) -> int:
    stored, missing = told(path)
    return stored + sum(missing.values())

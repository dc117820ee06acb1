"""A burst over the real bus into the real historian: what is stored and what is a gap is what was sent, exactly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kloros.chembus.declaration import Signal
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.facts import TriggerFacts
from kloros.chembus.sockets import SocketLimits
from kloros.chembus.vocabulary import VOCABULARY, Vocabulary
from kloros.chembus.zmq_bus import ZmqBus
from kloros.consumers.chembus_historian_daemon import ChembusHistorianDaemon
from kloros.daemon.runner import composed
from kloros.daemon.suite_settings import BusSettings, SuiteSettings
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.place import Place
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Gap, Record, Wanted

BURST = 50_000
SIGNAL = "Q_TRIGGER_BURST"
LIMIT_S = 60.0


@contextmanager
def running(daemon_class: type, place: Place, suite: SuiteSettings) -> Iterator[object]:
    """The daemon in a thread of its own, as soon as it is on the bus."""
    ready, box = threading.Event(), []

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


@pytest.fixture
def place(runtime_dir: Path) -> Place:
    return Place(runtime_dir / "config", runtime_dir / "state", runtime_dir / "run")


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


def burst(bus: ZmqBus) -> int:
    """Emit as fast as can be; returns how many went out."""
    for number in range(BURST):
        bus.emit(SIGNAL, {"beat": number})
    return bus.sent_seqs()[SIGNAL]


def accounted(path: Path) -> int:
    stored, missing = told(path)
    return stored + sum(missing.values())


def is_quiet(path: Path) -> bool:
    """Whether nothing more is written."""
    before = accounted(path)
    time.sleep(0.5)
    return before == accounted(path) > 0


def test_after_a_burst_stored_and_gaps_are_what_was_sent(place: Place, wait_for: Callable[..., None]) -> None:
    suite = SuiteSettings()
    path = place.state / "chembus_historian" / "state.db"
    with running(ChemProxyDaemon, place, suite), running(ChembusHistorianDaemon, place, suite):
        with hasty_bus(place) as bus:
            start_s = time.perf_counter()
            sent = burst(bus)
            emitted_s = time.perf_counter() - start_s
        wait_for(lambda: accounted(path) >= sent, LIMIT_S, "the burst to be accounted for")
        done_s = time.perf_counter() - start_s
        stored, missing = told(path)
    print(f"\n{sent} sent in {emitted_s:.1f} s, accounted for after {done_s:.1f} s: {stored} stored, gaps {missing}")
    assert stored + sum(missing.values()) == sent
    assert told(path) == (stored, missing), "and nothing was added when it stopped"


def test_it_holds_when_queues_and_buffer_are_far_too_small(place: Place, wait_for: Callable[..., None]) -> None:
    place.config.mkdir(parents=True)
    (place.config / "chembus_historian_config.toml").write_text("[write]\nbuffer_messages = 2000\nat_messages = 1999\n")
    suite = SuiteSettings(bus=BusSettings(queue_messages=3_000))
    path = place.state / "chembus_historian" / "state.db"
    with running(ChemProxyDaemon, place, suite), running(ChembusHistorianDaemon, place, suite):
        with hasty_bus(place, SocketLimits(send_queue=3_000)) as bus:
            sent = burst(bus)
            wait_for(lambda: is_quiet(path), LIMIT_S, "the storm to pass")
        wait_for(lambda: accounted(path) >= sent, LIMIT_S, "the burst to be accounted for")
        stored, missing = told(path)
    print(f"\n{sent} sent: {stored} stored, gaps {missing}")
    assert stored + sum(missing.values()) == sent
    assert sum(missing.values()) > 0, "this was meant to be too much"

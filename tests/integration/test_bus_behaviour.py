"""What every bus does alike: one suite, run on the one in memory and on ZeroMQ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from kloros.chembus.bus import Bus
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.facts import HeartbeatFacts, TriggerFacts
from kloros.chembus.memory import MemoryBus, MemoryHub
from kloros.chembus.poller import Poller
from kloros.chembus.proxy import Forwarder
from kloros.chembus.vocabulary import Signal, Vocabulary
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import VirtualClock
from kloros.errors import BadFacts, BusError, BusUnreachable, Oversize, RateLimited, UnknownSignal

MakeBus = Callable[..., Bus]


class Place:
    """Somewhere to open buses, and a way to play an outage there."""

    def __init__(self, kind: str, endpoints: Endpoints, vocabulary: Vocabulary) -> None:
        self.kind, self.endpoints, self.vocabulary = kind, endpoints, vocabulary
        self.clock = VirtualClock(monotonic_s=1000.0)
        self.hub = MemoryHub()
        self.forwarder: Forwarder | None = None
        self.closing = ExitStack()
        self.start()

    def start(self) -> None:
        self.hub.up = True
        if self.kind == "zmq":
            self.forwarder = Forwarder([self.endpoints])

    def stop(self) -> None:
        self.hub.up = False
        if self.forwarder:
            self.forwarder.close()

    def bus(self, name: str = "tester", *hears: str, join: bool = True) -> Bus:
        self.clock.advance(0.001)  # who comes later started later
        if self.kind == "zmq":
            bus: Bus = ZmqBus(self.endpoints, name=name, vocabulary=self.vocabulary)
        else:
            bus = MemoryBus(self.hub, name=name, vocabulary=self.vocabulary, clock=self.clock)
        self.closing.callback(bus.close)
        for topic in hears:
            bus.subscribe(topic)
        if join:
            bus.join(5.0)
        self.clock.advance(0.001)
        return bus


@pytest.fixture(params=["memory", "zmq"])
def place(request: pytest.FixtureRequest, endpoints: Endpoints, vocabulary: Vocabulary) -> Iterator[Place]:
    here = Place(request.param, endpoints, vocabulary)
    with here.closing:
        here.closing.callback(here.stop)
        yield here


def hear(bus: Bus, count: int, limit_s: float = 10.0) -> list[Message]:
    """Exactly `count` messages, and no more."""
    poller = Poller()
    poller.register(bus)
    heard: list[Message] = []
    while len(heard) < count:
        if not poller.wait(limit_s):
            pytest.fail(f"heard {len(heard)} of {count}")
        heard.extend(bus.receive())
    assert len(heard) == count
    return heard


def nothing_before(speaker: Bus, hearer: Bus) -> list[Message]:
    """What is heard before a last message that comes for certain."""
    speaker.emit("OTHER", {"why": "last"})
    heard: list[Message] = []
    while not heard or heard[-1].facts.why != "last":
        heard.extend(hear(hearer, 1))
    return heard[:-1]


def test_what_is_emitted_is_heard_once_and_whole(place: Place) -> None:
    hearer, speaker = place.bus("hearer", "TEST"), place.bus("speaker")
    message_id = speaker.emit(
        "TEST", TriggerFacts(beat=7), ecosystem="garden", intensity=2.0, incident_id="i", trace="t"
    )
    (message,) = hear(hearer, 1)
    assert message.signal == "TEST"
    assert message.ecosystem == "garden"
    assert message.intensity == 2.0
    assert message.facts == TriggerFacts(beat=7)
    assert (message.incident_id, message.trace) == ("i", "t")
    assert (message.id, message.pub, message.seq) == (message_id, speaker.pub, 1)
    assert hearer.counters.received == 1
    assert speaker.counters.emitted == 1


def test_the_vocabulary_fills_in_the_ecosystem(place: Place) -> None:
    bus = place.bus("self", "TEST")
    bus.emit("TEST")
    assert hear(bus, 1)[0].ecosystem == "tests"


def test_the_first_message_comes_once_per_topic(place: Place) -> None:
    hearer, speaker = place.bus("hearer", "*"), place.bus("speaker")
    for signal in ("TEST", "TEST_LONGER", "TEST"):
        speaker.emit(signal)
    assert [(m.signal, m.seq) for m in hear(hearer, 3)] == [("TEST", 1), ("TEST_LONGER", 1), ("TEST", 2)]


def test_names_are_exact_and_a_star_asks_for_a_prefix(place: Place) -> None:
    exact, prefix, speaker = place.bus("exact", "TEST", "OTHER"), place.bus("prefix", "TEST*"), place.bus("speaker")
    speaker.emit("TEST_LONGER")
    assert nothing_before(speaker, exact) == []
    assert [m.signal for m in hear(prefix, 1)] == ["TEST_LONGER"]


def test_unsubscribed_is_not_heard(place: Place) -> None:
    hearer, speaker = place.bus("hearer", "TEST", "OTHER"), place.bus("speaker")
    hearer.unsubscribe("TEST")
    hearer.unsubscribe("NEVER_WAS")
    hearer.join(5.0)
    speaker.emit("TEST")
    assert nothing_before(speaker, hearer) == []


def test_signals_that_share_an_incident_are_all_heard(place: Place) -> None:
    hearer, speaker = place.bus("hearer", "*"), place.bus("speaker")
    for signal in ("TEST", "OTHER", "TEST"):
        speaker.emit(signal, incident_id="the-same")
    assert [m.signal for m in hear(hearer, 3)] == ["TEST", "OTHER", "TEST"]
    assert hearer.counters.duplicate == 0


def test_a_callers_mistake_is_an_error_and_costs_no_number(place: Place) -> None:
    bus = place.bus("self", "TEST")
    with pytest.raises(UnknownSignal):
        bus.emit("TEST_UNDECLARED")
    with pytest.raises(BadFacts):
        bus.emit("TEST", {"beat": "one"})
    with pytest.raises(BadFacts):
        bus.emit("TEST", intensity=float("nan"))
    with pytest.raises(Oversize):
        bus.emit("TEST", TriggerFacts(why="x" * (1 << 20)))
    bus.emit("TEST")
    assert hear(bus, 1)[0].seq == 1
    assert bus.counters.emitted == 1


def test_excess_is_dropped_or_raised_as_the_vocabulary_says(place: Place) -> None:
    for over_rate in ("drop", "raise"):
        place.vocabulary.declare(
            Signal(
                name=f"SLOW_{over_rate}",
                facts=TriggerFacts,
                ecosystem="tests",
                summary="Slow.",
                rate_per_s=0.001,
                burst=2,
                over_rate=over_rate,  # type: ignore[arg-type]
            )
        )
    bus = place.bus()
    assert [bus.emit("SLOW_drop") is None for _ in range(3)] == [False, False, True]
    bus.emit("SLOW_raise")
    bus.emit("SLOW_raise")
    with pytest.raises(RateLimited):
        bus.emit("SLOW_raise")
    assert bus.counters.rate_limited == 2
    assert bus.sent_seqs() == {"SLOW_drop": 2, "SLOW_raise": 2}


def test_an_outage_is_counted_not_raised_and_ends(place: Place, wait_for: Callable[..., None]) -> None:
    bus = place.bus("self", "TEST")
    place.stop()
    wait_for(lambda: (bus.receive(), not bus.joined)[1], what="the outage to be noticed")
    assert bus.emit("TEST") is None
    assert bus.counters.lost_unjoined == 1
    place.start()
    wait_for(lambda: (bus.receive(), bus.joined)[1], what="the return")
    bus.emit("TEST")
    assert hear(bus, 1)[0].seq == 1  # what never went out has no number: it is no gap
    assert bus.counters.gap == 0


def test_joining_nobody_says_so(place: Place) -> None:
    place.stop()
    bus = place.bus(join=False)
    with pytest.raises(BusUnreachable, match=r"did not answer within 0\.05 s"):
        bus.join(0.05)
    assert not bus.joined
    assert bus.emit("TEST") is None


def test_a_closing_publisher_reports_what_it_sent(place: Place) -> None:
    hearer, speaker = place.bus("hearer", "HEARTBEAT"), place.bus("speaker")
    speaker.emit("TEST")
    speaker.emit("TEST")
    assert speaker.sent_seqs() == {"TEST": 2}
    speaker.close()
    (last,) = hear(hearer, 1)
    assert isinstance(last.facts, HeartbeatFacts)
    assert (last.facts.zooid, last.facts.mode, last.facts.sent) == ("speaker", "stopped", {"TEST": 2})


def test_closed_is_closed(place: Place) -> None:
    bus = place.bus("self", "TEST")
    bus.close()
    bus.close()
    assert not bus.joined
    assert bus.receive() == []
    assert list(bus.pollables()) == []
    with pytest.raises(BusError, match="closed"):
        bus.emit("TEST")


def test_receive_takes_no_more_than_asked(place: Place) -> None:
    bus = place.bus("self", "TEST")
    for _ in range(10):
        bus.emit("TEST")
    hear(bus, 10)
    for _ in range(10):
        bus.emit("TEST")
    poller = Poller()
    poller.register(bus)
    seen = []
    while sum(seen) < 10:
        assert poller.wait(5.0)
        seen.append(len(bus.receive(limit=3)))
    assert max(seen) <= 3


def test_two_buses_that_hear_the_same_do_not_disturb_each_other(place: Place) -> None:
    one, two, speaker = place.bus("one", "TEST"), place.bus("two", "TEST"), place.bus("speaker")
    for _ in range(100):
        speaker.emit("TEST")
    assert [m.seq for m in hear(one, 100)] == [m.seq for m in hear(two, 100)] == list(range(1, 101))

"""What arrives and what is counted as lost make what was sent, whatever happens on the way."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.facts import HeartbeatFacts, TriggerFacts
from kloros.chembus.memory import MemoryBus, MemoryHub
from kloros.chembus.proxy import Forwarder
from kloros.chembus.sockets import SocketLimits
from kloros.chembus.vocabulary import Signal, suite_vocabulary
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import VirtualClock

OpenBus = Callable[..., ZmqBus]
WaitFor = Callable[..., None]

NARROW = SocketLimits(send_queue=50, receive_queue=50)
BURST = 20_000
PADDING = "x" * 400  # more than the kernel's buffers swallow


def accounted(hearer: ZmqBus, speaker: ZmqBus) -> int:
    """What the hearer knows of, once the speaker said again how much it sent, as every daemon does each 10 s."""
    facts = HeartbeatFacts(zooid="s", niche="n", uptime_s=0, processed_count=0, sent=speaker.sent_seqs())
    speaker.emit("HEARTBEAT", facts)
    while hearer.receive():
        pass
    return hearer.counters.received + hearer.counters.gap


def test_a_burst_into_narrow_queues_loses_much_and_hides_nothing(
    endpoints: Endpoints, open_bus: OpenBus, wait_for: WaitFor
) -> None:
    forwarder = Forwarder([endpoints], limits=NARROW)
    try:
        hearer = open_bus("hearer", hears=("TEST",), limits=NARROW)
        speaker = open_bus("speaker", limits=NARROW)
        for _ in range(BURST):
            speaker.emit("TEST", {"why": PADDING})
        wait_for(lambda: accounted(hearer, speaker) == BURST, what="every message to be accounted for")
        assert hearer.counters.gap > 0
        assert hearer.counters.received > 0
        losses = hearer.take_losses()
        assert {(loss.kind, loss.signal, loss.pub) for loss in losses} == {("gap", "TEST", speaker.pub)}
        assert sum(loss.missing for loss in losses) == hearer.counters.gap
        assert hearer.take_losses() == []
    finally:
        forwarder.close()


def test_a_burst_into_the_usual_queues_arrives_whole(proxy: Forwarder, open_bus: OpenBus, wait_for: WaitFor) -> None:
    hearer, speaker = open_bus("hearer", hears=("TEST",)), open_bus("speaker")
    for _ in range(BURST):
        speaker.emit("TEST", TriggerFacts(beat=1))
    wait_for(lambda: accounted(hearer, speaker) == BURST)
    assert hearer.counters.received == BURST


def test_a_slow_hearer_does_not_starve_a_fast_one(endpoints: Endpoints, open_bus: OpenBus, wait_for: WaitFor) -> None:
    forwarder = Forwarder([endpoints], limits=SocketLimits(send_queue=1000, receive_queue=50_000))
    try:
        slow = open_bus("slow", hears=("TEST",), limits=NARROW)
        fast, speaker = open_bus("fast", hears=("TEST",)), open_bus("speaker")
        for number in range(6_000):
            speaker.emit("TEST", {"why": PADDING})
            # The fast one keeps up to within half its queue: libzmq hears of room in it only in steps of that size.
            if number % 100 == 99:
                wait_for(lambda: (fast.receive(), fast.counters.received > number - 200)[1])  # noqa: B023 - used at once
        wait_for(lambda: accounted(fast, speaker) == 6_000)
        assert fast.counters.received == 6_000
        wait_for(lambda: accounted(slow, speaker) == 6_000)
    finally:
        forwarder.close()


@pytest.mark.parametrize("rounds", [3])
def test_a_proxy_that_is_killed_costs_messages_but_no_truth(
    start_proxy: Callable[..., subprocess.Popen[bytes]], open_bus: OpenBus, wait_for: WaitFor, rounds: int
) -> None:
    process = start_proxy()
    hearer, speaker = open_bus("hearer", hears=("TEST",)), open_bus("speaker")
    unsent = 0
    for _ in range(rounds):
        for number in range(400):
            if number == 200:
                process.kill()
                process.wait()
            unsent += speaker.emit("TEST") is None
            hearer.receive()
        process = start_proxy()
        for bus in (hearer, speaker):
            wait_for(lambda: (bus.receive(), bus.joined)[1], what="the return")  # noqa: B023 - used at once
    assert speaker.counters.lost_unjoined == unsent
    wait_for(lambda: accounted(hearer, speaker) == rounds * 400 - unsent, what="every message to be accounted for")
    assert speaker.counters.emitted - speaker.sent_seqs()["HEARTBEAT"] == rounds * 400 - unsent
    assert hearer.counters.duplicate == 0


def test_what_was_sent_before_one_listened_is_no_loss(proxy: Forwarder, open_bus: OpenBus, wait_for: WaitFor) -> None:
    witness, early = open_bus("witness", hears=("TEST",)), open_bus("early")
    early.emit("TEST")
    early.emit("TEST")
    wait_for(lambda: (witness.receive(), witness.counters.received == 2)[1], what="both to be past the proxy")
    hearer = open_bus("hearer", hears=("TEST",))
    early.emit("TEST")
    wait_for(lambda: accounted(hearer, early) == 1)
    assert hearer.counters.gap == 0


@given(
    fates=st.lists(st.sampled_from(["arrives", "lost", "twice", "damaged", "restart"]), max_size=120),
    seed=st.integers(0, 2**16),
)
def test_no_stream_is_too_strange(fates: list[str], seed: int) -> None:
    """A publisher, sometimes restarted, over a way that loses, repeats and damages: all of it is accounted for."""
    vocabulary = suite_vocabulary()
    for name in ("A", "B"):
        vocabulary.declare(Signal(name=name, facts=TriggerFacts, ecosystem="t", summary="T.", rate_per_s=None))
    clock, choice = VirtualClock(monotonic_s=5.0), random.Random(seed)
    hub, way = MemoryHub(), MemoryHub()
    hearer = MemoryBus(hub, name="hearer", clock=clock, vocabulary=vocabulary)
    hearer.subscribe("*")
    hearer.join(0)
    sent = damaged = twice = heard = 0
    fate = "arrives"

    class Way(MemoryBus):
        def deliver(self, topic: bytes, body: bytes) -> None:
            if fate == "damaged":
                hub.publish(topic, body.replace(b'"facts":{', b'"facts":{"beat":"not a number",'))
            elif fate != "lost":
                hub.publish(topic, body)
                if fate == "twice":
                    hub.publish(topic, body)

    def publisher() -> MemoryBus:
        clock.advance(1.0)
        return MemoryBus(way, name="speaker", clock=clock, vocabulary=vocabulary)

    Way(way)
    speaker = publisher()
    for fate in fates:
        if fate == "restart":
            speaker.close()
            speaker = publisher()
            continue
        speaker.emit(choice.choice(("A", "B")), {"missed": 1})
        sent, damaged, twice = sent + 1, damaged + (fate == "damaged"), twice + (fate == "twice")
        heard += sum(message.signal != "HEARTBEAT" for message in hearer.receive())
    fate = "arrives"
    speaker.close()
    heard += sum(message.signal != "HEARTBEAT" for message in hearer.receive())
    assert heard + hearer.counters.refused.total() + hearer.counters.gap == sent
    assert hearer.counters.refused.total() == damaged
    assert hearer.counters.duplicate == twice

"""Anyone may put anything on the bus: it is counted by reason, and nothing stops."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from kloros.chembus.bus import BusCounters
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import MAX_FRAME_BYTES, MAX_TOPIC_BYTES
from kloros.chembus.proxy import Forwarder
from kloros.chembus.receiver import Receiver
from kloros.chembus.vocabulary import VOCABULARY
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import SystemClock

OpenBus = Callable[..., ZmqBus]
WaitFor = Callable[..., None]
Shout = Callable[..., None]


def old_message(**changes: object) -> bytes:
    """A message as an existing client writes it."""
    fields = {
        "signal": "TEST",
        "ecosystem": "tests",
        "intensity": 1.0,
        "facts": {},
        "incident_id": None,
        "trace": None,
        "ts": time.time(),
        "schema_version": 1,
    }
    return json.dumps({**fields, **changes}, separators=(",", ":")).encode()


@pytest.fixture
def shout(proxy: Forwarder, endpoints: Endpoints) -> Iterator[Shout]:
    """Puts raw frames on the bus, from a bare pyzmq socket that is known to be connected."""
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.set(zmq.SNDHWM, 0)  # what it says must arrive, however busy the proxy is
    socket.connect(endpoints.publish)
    assert socket.poll(5000)
    yield lambda *frames: socket.send_multipart(frames)
    socket.close(0)
    context.term()


GARBAGE = {
    "random bytes": ((b"TEST", b"\xff" + os.urandom(200)), "not_json"),
    "empty": ((b"TEST", b""), "not_json"),
    "one frame": ((b"TEST",), "bad_frames"),
    "three frames": ((b"TEST", old_message(), b"more"), "bad_frames"),
    "five frames": ((b"TEST", old_message(), b"TEST", old_message(), b""), "bad_frames"),
    "wrong JSON": ((b"TEST", old_message()[:-1]), "not_json"),
    "a list": ((b"TEST", b"[1,2]"), "wrong_type"),
    "deep nesting": ((b"TEST", b'{"new":' + b"[" * 10_000), "not_json"),
    "lone surrogate": ((b"TEST", old_message(trace="\ud800")), "not_json"),
    "wrong type": ((b"TEST", old_message(ecosystem=7)), "wrong_type"),
    "no facts": ((b"TEST", old_message(facts=None)), "bad_facts"),
    "wrong facts": ((b"TEST", old_message(facts={"beat": "one"})), "bad_facts"),
    "huge integer": ((b"TEST", old_message(facts={"beat": 10**400})), "bad_facts"),
    "NaN": ((b"TEST", old_message(intensity=float("nan"))), "not_finite"),
    "infinity in the facts": ((b"TEST", old_message(facts={"late_s": float("inf")})), "not_finite"),
    "ts of 1e300": ((b"TEST", old_message(ts=1e300)), "wrong_type"),
    "schema 99": ((b"TEST", old_message(schema_version=99)), "schema_version"),
    "another topic": ((b"TEST", old_message(signal="OTHER")), "wrong_topic"),
    "a topic that is not UTF-8": ((b"TEST\xff\xfe", old_message()), "wrong_topic"),
    "a topic of a megabyte": ((b"TEST" * (1 << 18), old_message()), "oversize"),
    "unknown signal": ((b"TEST_UNHEARD_OF", old_message(signal="TEST_UNHEARD_OF")), "unknown_signal"),
    "10 MB": ((b"TEST", old_message(trace="x" * 10_000_000)), "oversize"),
    "stale": ((b"Q_TRIGGER_INTROSPECTION", old_message(signal="Q_TRIGGER_INTROSPECTION", ts=1.5e9)), "stale"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_counted_by_reason_and_the_next_message_heard(
    kind: str, shout: Shout, open_bus: OpenBus, wait_for: WaitFor
) -> None:
    frames, reason = GARBAGE[kind]
    bus = open_bus("hearer", hears=("TEST*", "Q_TRIGGER_INTROSPECTION"))
    heard = []
    for _ in range(3):
        shout(*frames)
        shout(b"TEST", old_message())
    wait_for(lambda: (heard.extend(bus.receive()), len(heard) >= 3)[1])
    assert [message.signal for message in heard] == ["TEST"] * 3
    assert bus.counters.refused == {reason: 3}
    assert {refusal.reason for refusal in bus.recent_refusals} == {reason}
    assert bus.counters.as_dict()[f"refused_{reason}"] == 3
    assert bus.counters.legacy == bus.counters.received == 3


def test_refusals_are_kept_but_not_all(shout: Shout, open_bus: OpenBus, wait_for: WaitFor) -> None:
    bus = open_bus("hearer", hears=("TEST",))
    for _ in range(500):
        shout(b"TEST", b"junk")
    wait_for(lambda: (bus.receive(), bus.counters.refused.total() == 500)[1])
    assert 0 < len(bus.recent_refusals) < 100


def test_who_sends_too_much_at_once_is_cut_off_and_nobody_else(
    shout: Shout, open_bus: OpenBus, proxy: Forwarder, wait_for: WaitFor
) -> None:
    bus = open_bus("hearer", hears=("TEST",))
    shout(b"TEST", b"x" * (MAX_FRAME_BYTES + 1))
    bus.emit("TEST")
    wait_for(lambda: len(bus.receive()) == 1)
    assert bus.counters.refused.total() == 0
    assert proxy.alive()


def test_many_strange_topics_do_not_fill_memory(shout: Shout, open_bus: OpenBus, wait_for: WaitFor) -> None:
    bus = open_bus("hearer", hears=("*",))
    for number in range(6_000):
        name = f"Q_TRIGGER_{number}"
        body = old_message(signal=name, id=str(number), pub=f"p{number}", seq=1)
        shout(name.encode(), body)
        if number % 500 == 0:
            bus.receive(limit=1000)
    wait_for(lambda: (bus.receive(limit=1000), bus.counters.received == 6_000)[1], limit_s=30)
    assert bus.counters.gap == 0


def test_a_topic_that_is_too_long_is_refused_each_time_and_kept_nowhere() -> None:
    """Every process hears HEARTBEAT, and with it whatever begins like that."""
    counters = BusCounters()
    receiver = Receiver(clock=SystemClock(), vocabulary=VOCABULARY, counters=counters)
    longest = b"HEARTBEAT".ljust(MAX_TOPIC_BYTES, b"x")
    for topic in (longest, longest + b"x", longest + b"x"):
        assert receiver.accept(topic, b"{}") is None
    assert counters.refused == {"oversize": 2}
    assert max(len(refusal.topic) for refusal in receiver.recent_refusals) < 100
    assert [len(topic) for topic in receiver._routes] == [MAX_TOPIC_BYTES]


def test_random_noise(shout: Shout, open_bus: OpenBus, wait_for: WaitFor) -> None:
    bus = open_bus("hearer", hears=("*",))
    heard: list[str] = []
    for size in range(300):
        shout(os.urandom(size % 7), *(os.urandom(size) for _ in range(size % 4)))
    shout(b"TEST", old_message())
    wait_for(lambda: (heard.extend(m.signal for m in bus.receive()), "TEST" in heard)[1])
    assert heard == ["TEST"]
    assert bus.counters.refused.total() == 300

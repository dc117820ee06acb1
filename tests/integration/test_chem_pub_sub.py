"""ChemPub and ChemSub: what any program uses, and the faults the bus before this one had."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zmq

from kloros.chembus import hub
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.facts import KillFacts
from kloros.chembus.proxy import Forwarder
from kloros.chembus.pub import ChemPub
from kloros.chembus.sub import ChemSub
from kloros.chembus.vocabulary import Vocabulary
from kloros.chembus.zmq_bus import ZmqBus
from kloros.errors import BusError, EndpointRefused, UnknownSignal

OpenBus = Callable[..., ZmqBus]
WaitFor = Callable[..., None]
SIGNAL = "Q_TRIGGER_CHEM_TEST"


def ignore(message: dict[str, Any]) -> None:
    """A handler that does nothing."""


def test_what_is_emitted_is_handled_once_as_a_dict(proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor) -> None:
    heard: list[dict[str, Any]] = []
    with ChemSub(SIGNAL, heard.append, endpoints=endpoints) as sub, ChemPub(endpoints, "speaker") as pub:
        message_id = pub.emit(SIGNAL, ecosystem="tests", facts={"beat": 3}, incident_id="i", trace="t")
        wait_for(lambda: heard)
        assert sub.joined
        assert pub.joined
        assert sub.handled == 1
    assert len(heard) == 1
    assert heard[0]["id"] == message_id
    assert heard[0]["facts"] == {"beat": 3}
    assert (heard[0]["incident_id"], heard[0]["trace"], heard[0]["seq"]) == ("i", "t", 1)


def test_1000_open_close_pairs(proxy: Forwarder, endpoints: Endpoints) -> None:
    with ChemPub(endpoints) as pub:
        for _ in range(1000):
            with ChemSub(SIGNAL, ignore, endpoints=endpoints):
                pub.emit(SIGNAL)


def test_1000_publishers(proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor) -> None:
    heard: list[str] = []
    with ChemSub(SIGNAL, lambda message: heard.append(message["pub"]), endpoints=endpoints):
        for _ in range(1000):
            with ChemPub(endpoints) as pub:
                pub.emit(SIGNAL)
        wait_for(lambda: len(heard) == 1000)
    assert len(set(heard)) == 1000


def test_closing_while_messages_pour_in(proxy: Forwarder, endpoints: Endpoints) -> None:
    stop = threading.Event()

    def pour() -> None:
        with ChemPub(endpoints) as pub:
            while not stop.is_set():
                pub.emit(SIGNAL)
                pub.emit("Q_TRIGGER_CHEM_OTHER")

    pouring = [threading.Thread(target=pour) for _ in range(2)]
    for thread in pouring:
        thread.start()
    try:
        for _ in range(50):
            arrived = threading.Event()
            sub = ChemSub(SIGNAL, lambda message, arrived=arrived: arrived.set(), endpoints=endpoints)  # type: ignore[misc]
            assert arrived.wait(10)
            sub.close()
    finally:
        stop.set()
        for thread in pouring:
            thread.join()


def test_closing_from_the_handler(proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor) -> None:
    heard: list[int] = []

    def once(message: dict[str, Any]) -> None:
        heard.append(message["seq"])
        sub.close()

    sub = ChemSub(SIGNAL, once, endpoints=endpoints)
    with ChemPub(endpoints) as pub:
        for _ in range(10):
            pub.emit(SIGNAL)
        wait_for(sub.is_killed)
    sub.close()
    assert heard == [1]


def test_closing_from_many_threads_at_once(proxy: Forwarder, endpoints: Endpoints) -> None:
    subs = [ChemSub(SIGNAL, ignore, endpoints=endpoints) for _ in range(10)]
    closing = [threading.Thread(target=sub.close) for sub in subs * 2]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()


def test_however_many_subscriptions_there_is_one_io_thread(proxy: Forwarder, endpoints: Endpoints) -> None:
    subs = [ChemSub(f"Q_TRIGGER_CHEM_{number}", ignore, endpoints=endpoints) for number in range(20)]
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("chem-hub") == 1
    for sub in subs:
        sub.close()


def test_50000_messages_to_a_slow_handler(
    proxy: Forwarder, endpoints: Endpoints, vocabulary: Vocabulary, open_bus: OpenBus, wait_for: WaitFor
) -> None:
    announced = open_bus("monitor", hears=("BUS_DROP", "BUS_GAP"))
    sub = ChemSub(
        "TEST", lambda message: time.sleep(0.001), "slow", endpoints=endpoints, queue_limit=500, open_facts=True
    )
    with sub, ChemPub(endpoints, vocabulary=vocabulary) as pub:
        for _ in range(50_000):
            pub.emit("TEST")
        pub.close()
        wait_for(lambda: sub.handled + sub.dropped + sub.counters.gap == 50_000, what="all to be accounted for")
        assert sub.dropped > 0
        assert sub.handled >= 500
        dropped = 0

        def told() -> bool:
            nonlocal dropped
            dropped += sum(m.facts.dropped for m in announced.receive() if m.signal == "BUS_DROP")
            return dropped == sub.dropped

        wait_for(told, what="every drop to be announced")
        assert sub.counters.drop == sub.dropped


def test_a_handler_that_fails_is_handed_the_next_message(
    proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor
) -> None:
    def fail(message: dict[str, Any]) -> None:
        raise RuntimeError("no")

    with ChemSub(SIGNAL, fail, endpoints=endpoints) as sub, ChemPub(endpoints) as pub:
        pub.emit(SIGNAL)
        pub.emit(SIGNAL)
        wait_for(lambda: sub.handled == 2)
        assert sub.inbox.failed == 2


def test_exact_names_and_prefixes(proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor) -> None:
    exact: list[str] = []
    prefix: list[str] = []
    with (
        ChemSub("Q_TRIGGER_CHEM", lambda m: exact.append(m["signal"]), endpoints=endpoints),
        ChemSub("Q_TRIGGER_CHEM*", lambda m: prefix.append(m["signal"]), endpoints=endpoints),
        ChemPub(endpoints) as pub,
    ):
        pub.emit("Q_TRIGGER_CHEM_LONGER")
        pub.emit("Q_TRIGGER_CHEM")
        wait_for(lambda: exact and len(prefix) == 2)
    assert exact == ["Q_TRIGGER_CHEM"]
    assert prefix == ["Q_TRIGGER_CHEM_LONGER", "Q_TRIGGER_CHEM"]


def test_the_kill_switch_stops_whom_it_names(
    proxy: Forwarder, endpoints: Endpoints, open_bus: OpenBus, wait_for: WaitFor
) -> None:
    operator = open_bus("operator")
    heard: list[str] = []
    with (
        ChemSub(SIGNAL, lambda m: heard.append("victim"), "victim", endpoints=endpoints) as victim,
        ChemSub(SIGNAL, lambda m: heard.append("other"), "other", endpoints=endpoints) as other,
    ):
        operator.emit("governance.kill", KillFacts(zooid="victim", reason="test"))
        wait_for(victim.is_killed)
        assert not other.is_killed()
        operator.emit(SIGNAL)
        wait_for(lambda: heard)
        operator.emit("governance.kill", KillFacts(zooid="other"))
        wait_for(other.is_killed)
    assert heard == ["other"]


def test_one_heartbeat_per_process(
    proxy: Forwarder, endpoints: Endpoints, open_bus: OpenBus, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "HEARTBEAT_EVERY_S", 0.2)
    monitor = open_bus("monitor", hears=("HEARTBEAT",))
    with ChemSub(SIGNAL, ignore, "z", "n", endpoints=endpoints), ChemSub("TEST", ignore, "y", endpoints=endpoints):
        beats: list[Any] = []
        wait_for(lambda: (beats.extend(monitor.receive()), len(beats) >= 3)[1])
        assert {(beat.facts.zooid, beat.facts.niche, beat.ecosystem) for beat in beats} == {("z", "n", "colony")}
        assert len({beat.pub for beat in beats}) == 1


def test_a_status_request_is_answered_at_once(
    proxy: Forwarder, endpoints: Endpoints, open_bus: OpenBus, wait_for: WaitFor
) -> None:
    with ChemSub(SIGNAL, ignore, "z", endpoints=endpoints):
        asker = open_bus("asker", hears=("HEARTBEAT",))
        asker.emit("STATUS_REQUEST")
        wait_for(lambda: [m for m in asker.receive() if m.facts.zooid == "z"], limit_s=5)


def heartbeat(sent: dict[str, int], seq: int) -> bytes:
    """One that this bus would refuse to emit."""
    facts = {"zooid": "z", "niche": "n", "uptime_s": 0, "processed_count": 0, "sent": sent}
    return msgspec.json.encode(
        {"signal": "HEARTBEAT", "ecosystem": "c", "facts": facts, "ts": time.time(), "pub": "p@x", "seq": seq}
    )


def shout_two_heartbeats(endpoints: Endpoints, signal: str) -> None:
    """The second says that four more of `signal` were sent, which nobody heard."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.XPUB) as socket:
        socket.connect(endpoints.publish)
        assert socket.poll(5_000)
        for seq, sent in ((1, 1), (2, 5)):
            socket.send_multipart([b"HEARTBEAT", heartbeat({signal: sent}, seq)])
    context.term()


def test_a_heartbeat_that_names_an_endless_signal_is_refused_and_everyone_goes_on_hearing(
    proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor
) -> None:
    heard: list[str] = []
    with ChemSub("*", lambda message: heard.append(message["signal"]), endpoints=endpoints) as sub:
        shout_two_heartbeats(endpoints, "K" * 1_000_000)
        wait_for(lambda: sub.counters.refused["bad_facts"] == 2)
        with ChemPub(endpoints) as pub:
            pub.emit(SIGNAL)
            wait_for(lambda: SIGNAL in heard)


def test_a_loss_that_cannot_be_told_of_is_counted_and_the_next_message_heard(
    proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit = ZmqBus.emit

    def refusing(bus: ZmqBus, signal: str, *given: Any, **more: Any) -> str | None:
        if signal == "BUS_GAP":
            raise BusError(detail="not this one")
        return emit(bus, signal, *given, **more)

    monkeypatch.setattr(ZmqBus, "emit", refusing)
    heard: list[str] = []
    with ChemSub("*", lambda message: heard.append(message["signal"]), endpoints=endpoints) as sub:
        shout_two_heartbeats(endpoints, SIGNAL)
        wait_for(lambda: sub.counters.unannounced == 1)
        with ChemPub(endpoints) as pub:
            pub.emit(SIGNAL)
            wait_for(lambda: SIGNAL in heard)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_hub_that_failed_is_replaced_for_all_it_served(
    proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hubs() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "chem-hub"]

    first: list[Any] = []
    second: list[Any] = []
    with ChemSub(SIGNAL, first.append, endpoints=endpoints) as before, ChemPub(endpoints) as pub:
        with monkeypatch.context() as patching:
            patching.setattr(ZmqBus, "receive_with_bodies", lambda *_: 1 / 0)
            pub.emit(SIGNAL)
            wait_for(lambda: not hubs())
        with ChemSub(SIGNAL, second.append, endpoints=endpoints) as after:
            assert after.joined
            pub.emit(SIGNAL)
            wait_for(lambda: first and second)
            assert len(hubs()) == 1
            assert before.counters is after.counters


FORKING = """
import json, os, signal, sys
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.pub import ChemPub
from kloros.chembus.sub import ChemSub
from kloros.errors import BusError

SIGNAL = "Q_TRIGGER_CHEM_TEST"
endpoints = Endpoints(*sys.argv[1:3])
pub = ChemPub(endpoints, "parent")
sub = ChemSub(SIGNAL, lambda message: None, endpoints=endpoints)
pub.emit(SIGNAL)
signal.alarm(60)
child = os.fork()
if child:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps({"child": code, "parent": bool(pub.emit(SIGNAL))}))
    sys.exit()
signal.alarm(30)
refused = 0
for use in (lambda: pub.emit(SIGNAL), lambda: pub.joined, pub.sent_seqs):
    try:
        use()
    except BusError as error:
        refused += "before a fork" in str(error)
sub.close()
pub.close()
heard = []
with ChemSub(SIGNAL, heard.append, endpoints=endpoints) as own, ChemPub(endpoints, "child") as other:
    other.emit(SIGNAL)
    while not heard:
        signal.sigtimedwait([], 0.001)
sys.exit(40 + refused + own.joined)
"""


def test_a_forked_child_leaves_alone_what_its_parent_made_and_makes_its_own(
    proxy: Forwarder, endpoints: Endpoints
) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, endpoints.publish, endpoints.subscribe],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    assert json.loads(ran.stdout) == {"child": 44, "parent": True}


class TestWithoutAProxy:
    def test_emitting_is_counted_and_waits_once(self, endpoints: Endpoints) -> None:
        with ChemPub(endpoints) as pub:
            assert pub.emit(SIGNAL) is None
            started_s = time.monotonic()
            assert [pub.emit(SIGNAL) for _ in range(100)] == [None] * 100
            assert time.monotonic() - started_s < 0.5
            assert pub.counters.lost_unjoined == 101
            assert not pub.joined
            assert pub.sent_seqs() == {}

    def test_hearing_begins_when_it_comes(self, endpoints: Endpoints, wait_for: WaitFor) -> None:
        heard: list[dict[str, Any]] = []
        with ChemSub(SIGNAL, heard.append, endpoints=endpoints) as sub, ChemPub(endpoints) as pub:
            assert not sub.joined
            forwarder = Forwarder([endpoints])
            wait_for(lambda: sub.joined and pub.joined)
            pub.emit(SIGNAL)
            wait_for(lambda: heard)
        forwarder.close()

    @pytest.mark.parametrize("make", [lambda e: ChemPub(e), lambda e: ChemSub(SIGNAL, ignore, endpoints=e)])
    def test_an_unsafe_endpoint_is_refused(self, make: Callable[[Endpoints], object]) -> None:
        with pytest.raises(EndpointRefused, match="leaves this machine"):
            make(Endpoints("tcp://192.0.2.1:5558", "tcp://192.0.2.1:5559"))


def test_a_mistake_is_the_callers(proxy: Forwarder, endpoints: Endpoints) -> None:
    pub = ChemPub(endpoints)
    with pytest.raises(UnknownSignal, match="did you mean HEARTBEAT"):
        pub.emit("HEARTBEATS", ecosystem="colony")
    pub.close()
    pub.close()
    assert not pub.joined
    with pytest.raises(BusError, match="closed"):
        pub.emit(SIGNAL)


def test_many_threads_share_a_publisher(proxy: Forwarder, endpoints: Endpoints, wait_for: WaitFor) -> None:
    seen: list[int] = []
    with ChemSub(SIGNAL, lambda m: seen.append(m["seq"]), endpoints=endpoints), ChemPub(endpoints) as pub:
        emitting = [threading.Thread(target=lambda: [pub.emit(SIGNAL) for _ in range(250)]) for _ in range(8)]
        for thread in emitting:
            thread.start()
        for thread in emitting:
            thread.join()
        wait_for(lambda: len(seen) == 2000)
    assert seen == list(range(1, 2001))


def test_nothing_sleeps(proxy: Forwarder, endpoints: Endpoints) -> None:
    def took_s() -> float:
        started_s = time.monotonic()
        with ChemPub(endpoints) as pub:
            pub.emit(SIGNAL)
        return time.monotonic() - started_s

    assert min(took_s() for _ in range(10)) < 0.05

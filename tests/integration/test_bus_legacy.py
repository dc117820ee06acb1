"""Existing clients, played by bare pyzmq and stdlib JSON over the loopback TCP pairs, and the old Python names."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from kloros.chembus.endpoints import Endpoints, compat_endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.proxy import Forwarder
from kloros.chembus.zmq_bus import ZmqBus
from kloros.errors import BadFacts, EndpointRefused
from kloros.orchestration.chem_bus_v2 import ChemPub, ChemSub

OpenBus = Callable[..., ZmqBus]
WaitFor = Callable[..., None]
ANY_PORTS = Endpoints("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")


@pytest.fixture
def compat(endpoints: Endpoints) -> Iterator[list[Endpoints]]:
    """A proxy at home on ipc, with two TCP pairs beside it; gives these two, with their real ports."""
    forwarder = Forwarder([endpoints, ANY_PORTS, ANY_PORTS])
    _, _, *tcp = forwarder.endpoints
    yield [Endpoints(tcp[0], tcp[1]), Endpoints(tcp[2], tcp[3])]
    forwarder.close()


@pytest.fixture
def bare() -> Iterator[Callable[[int, str], zmq.Socket[bytes]]]:
    """Bare pyzmq sockets, as existing clients open them."""
    context = zmq.Context()
    opened = []

    def connect(kind: int, endpoint: str) -> zmq.Socket[bytes]:
        opened.append(context.socket(kind))
        opened[-1].connect(endpoint)
        return opened[-1]

    yield connect
    for socket in opened:
        socket.close(0)
    context.term()


def old_bytes(signal: str, **facts: object) -> bytes:
    message = {"signal": signal, "ecosystem": "e", "intensity": 1.5, "facts": facts, "incident_id": None, "trace": None}
    return json.dumps(message | {"ts": time.time(), "schema_version": 1}, separators=(",", ":")).encode()


def test_the_pairs_are_those_in_use() -> None:
    assert [(pair.publish[-4:], pair.subscribe[-4:]) for pair in compat_endpoints()] == [
        ("5558", "5559"),
        ("5556", "5557"),
    ]


def test_an_old_publisher_is_heard_on_either_pair(
    compat: list[Endpoints], bare: Any, open_bus: OpenBus, wait_for: WaitFor
) -> None:
    bus = open_bus("hearer", hears=("TEST",))
    for number, pair in enumerate(compat):
        publisher = bare(zmq.PUB, pair.publish)
        heard: list[Message] = []

        def again(number: int = number, publisher: Any = publisher, heard: list[Message] = heard) -> bool:
            publisher.send_multipart([b"TEST", old_bytes("TEST", beat=number)])  # an old client cannot know: it repeats
            heard.extend(message for message in bus.receive() if message.facts.beat == number)
            return bool(heard)

        wait_for(again)
        assert (heard[0].intensity, heard[0].seq) == (1.5, None)
    assert bus.counters.legacy == bus.counters.received > 0
    assert bus.counters.gap == bus.counters.duplicate == 0


def test_an_old_subscriber_hears_us(compat: list[Endpoints], bare: Any, open_bus: OpenBus, wait_for: WaitFor) -> None:
    bus = open_bus("speaker")
    subscriber = bare(zmq.SUB, compat[0].subscribe)
    subscriber.subscribe(b"TEST")
    wait_for(lambda: (bus.emit("TEST", {"beat": 3}), subscriber.poll(10))[1])
    topic, body = subscriber.recv_multipart()
    read = json.loads(body)
    assert topic.decode() == read["signal"] == "TEST"
    assert read["facts"] == {"beat": 3}
    assert {"ecosystem", "intensity", "incident_id", "trace", "ts", "schema_version"} <= set(read)


class TestOldNames:
    @pytest.fixture(autouse=True)
    def _environment(self, compat: list[Endpoints], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KLR_CHEM_XSUB", compat[0].publish)
        monkeypatch.setenv("KLR_CHEM_XPUB", compat[0].subscribe)
        self.pairs = compat

    def test_a_round_trip(self, wait_for: WaitFor) -> None:
        heard: list[dict[str, Any]] = []
        sub = ChemSub("Q_TRIGGER_CURIOSITY", heard.append, zooid_name="z", niche="n")
        pub = ChemPub()
        pub.emit("Q_TRIGGER_CURIOSITY", ecosystem="curiosity", intensity=2.0, facts={"own": [1]}, incident_id="i")
        wait_for(lambda: heard)
        pub.close()
        sub.close()
        assert (heard[0]["signal"], heard[0]["intensity"], heard[0]["facts"]) == (
            "Q_TRIGGER_CURIOSITY",
            2.0,
            {"own": [1]},
        )

    def test_signals_outside_the_vocabulary_pass(self, wait_for: WaitFor) -> None:
        heard: list[dict[str, Any]] = []
        with ChemSub("MY_OLD_SIGNAL", heard.append), ChemPub() as pub:
            pub.emit("MY_OLD_SIGNAL", ecosystem="mine", facts={"any": {"thing": None}})
            wait_for(lambda: heard)
        assert heard[0]["facts"] == {"any": {"thing": None}}
        assert heard[0]["ecosystem"] == "mine"

    def test_declared_signals_keep_their_promises(self) -> None:
        with ChemPub() as pub, pytest.raises(BadFacts):
            pub.emit("Q_TRIGGER_CURIOSITY", ecosystem="curiosity", facts={"beat": "one"})

    def test_an_old_publisher_reaches_an_old_subscriber(self, bare: Any, wait_for: WaitFor) -> None:
        heard: list[dict[str, Any]] = []
        publisher = bare(zmq.PUB, self.pairs[1].publish)
        with ChemSub("MY_OLD_SIGNAL", heard.append) as sub:
            wait_for(lambda: (publisher.send_multipart([b"MY_OLD_SIGNAL", old_bytes("MY_OLD_SIGNAL", x=1)]), heard)[1])
            assert sub.counters.legacy > 0
        assert heard[0]["facts"] == {"x": 1}

    def test_the_second_family_of_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KLR_CHEM_XSUB")
        monkeypatch.delenv("KLR_CHEM_XPUB")
        monkeypatch.setenv("KLR_UMN_XSUB", self.pairs[1].publish)
        monkeypatch.setenv("KLR_UMN_XPUB", self.pairs[1].subscribe)
        with ChemPub() as pub:
            assert pub.emit("TEST_OLD", ecosystem="e")

    def test_the_environment_is_read_when_an_object_is_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KLR_CHEM_XSUB", "tcp://192.0.2.1:5558")
        with pytest.raises(EndpointRefused, match="CURVE"):
            ChemPub()

    def test_without_variables_the_suite_of_this_machine(
        self, monkeypatch: pytest.MonkeyPatch, endpoints: Endpoints
    ) -> None:
        monkeypatch.delenv("KLR_CHEM_XSUB")
        monkeypatch.delenv("KLR_CHEM_XPUB")
        monkeypatch.setenv("KLOROS_RUNTIME_DIR", endpoints.publish.removeprefix("ipc://").removesuffix("/bus.pub"))
        with ChemPub() as pub:
            assert pub.emit("TEST_OLD", ecosystem="e")

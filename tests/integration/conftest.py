"""What the integration tests share: a real proxy on private sockets, and buses that are closed for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.optimisers import Office, Opened, opener

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.facts import TriggerFacts
from kloros.chembus.proxy import Forwarder
from kloros.chembus.sockets import SocketLimits
from kloros.chembus.vocabulary import Signal, Vocabulary, suite_vocabulary
from kloros.chembus.zmq_bus import ZmqBus


@pytest.fixture
def endpoints(runtime_dir: Path) -> Endpoints:
    """Where `proxy` is, or would be."""
    return Endpoints.for_runtime_dir(runtime_dir)


@pytest.fixture
def proxy(endpoints: Endpoints) -> Iterator[Forwarder]:
    """A real forwarder."""
    forwarder = Forwarder([endpoints])
    yield forwarder
    forwarder.close()


@pytest.fixture
def vocabulary() -> Vocabulary:
    """The suite's, and signals TEST and TEST_LONGER without a rate limit."""
    known = suite_vocabulary()
    for name in ("TEST", "TEST_LONGER", "OTHER"):
        known.declare(
            Signal(name=name, facts=TriggerFacts, ecosystem="tests", summary="For the tests.", rate_per_s=None)
        )
    return known


@pytest.fixture
def open_bus(endpoints: Endpoints, vocabulary: Vocabulary) -> Iterator[Callable[..., ZmqBus]]:
    """Makes ZmqBuses on `endpoints`; `hears` are subscribed, and it has joined unless told not to."""
    with ExitStack() as closing:

        def make(
            name: str = "tester", *, hears: tuple[str, ...] = (), join: bool = True, limits: SocketLimits | None = None
        ) -> ZmqBus:
            bus = ZmqBus(endpoints, name=name, vocabulary=vocabulary, limits=limits)
            closing.callback(bus.close)
            for topic in hears:
                bus.subscribe(topic)
            if join:
                bus.join(5.0)
            return bus

        yield make


_PROXY_SCRIPT = """
import signal, sys
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.proxy import Forwarder
forwarder = Forwarder([Endpoints(*sys.argv[1:])])
print("bound", flush=True)
signal.pause()
"""


@pytest.fixture
def start_proxy(endpoints: Endpoints) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the proxy as a process of its own, to be killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROXY_SCRIPT, endpoints.publish, endpoints.subscribe],
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"bound\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def open_office(tmp_path: Path) -> Opened:
    """Opens an optimiser's office, again and again on the same disk."""
    return opener(tmp_path)


@pytest.fixture
def office(open_office: Opened) -> Iterator[Office]:
    """An office with quick settings in which every kind of change may be made."""
    with open_office() as office:
        yield office

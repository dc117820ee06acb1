"""Across machines only with keys, and only with known ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import zmq

from kloros.chembus.curve import CurveKeys
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.proxy import Forwarder
from kloros.chembus.zmq_bus import ZmqBus
from kloros.errors import BusUnreachable

OpenBus = Callable[..., ZmqBus]
WaitFor = Callable[..., None]


def key_pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


SERVER, CLIENT, STRANGER = key_pair(), key_pair(), key_pair()
SERVER_KEYS = CurveKeys(*SERVER, clients=frozenset({CLIENT[0]}))


@pytest.fixture
def guarded(endpoints: Endpoints) -> Iterator[Endpoints]:
    """A proxy at home on ipc and open to other machines by key; gives the way in from there."""
    abroad = Endpoints("tcp://0.0.0.0:*", "tcp://0.0.0.0:*", SERVER_KEYS)
    forwarder = Forwarder([abroad, endpoints])
    publish, subscribe = (bound.replace("0.0.0.0", "127.0.0.1") for bound in forwarder.endpoints[:2])
    yield Endpoints(publish, subscribe)
    forwarder.close()


def test_a_known_client_comes_in_and_home_needs_no_key(
    guarded: Endpoints, open_bus: OpenBus, wait_for: WaitFor
) -> None:
    home = open_bus("home", hears=("STATUS_REQUEST",))
    abroad = ZmqBus(replace(guarded, keys=CurveKeys(*CLIENT, server=SERVER[0])), name="abroad")
    abroad.join(5.0)
    abroad.emit("STATUS_REQUEST")
    wait_for(lambda: len(home.receive()) == 1)
    abroad.close()


@pytest.mark.parametrize(
    "keys",
    [None, CurveKeys(*STRANGER, server=SERVER[0]), CurveKeys(*CLIENT, server=STRANGER[0])],
    ids=["no key", "an unknown key", "the wrong proxy"],
)
def test_everyone_else_stays_out(guarded: Endpoints, keys: CurveKeys | None) -> None:
    bus = ZmqBus(replace(guarded, keys=keys), name="stranger")
    with pytest.raises(BusUnreachable):
        bus.join(0.5)
    bus.close()


def test_a_secret_is_not_shown() -> None:
    assert SERVER[1] not in repr(SERVER_KEYS)


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="server key is not"):
        CurveKeys(*CLIENT, server="short")

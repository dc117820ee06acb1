"""The forwarder: who may bind, what it counts, and that it goes on."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kloros.chembus.endpoints import MAX_IPC_PATH_BYTES, Endpoints, is_remote
from kloros.chembus.proxy import Forwarder
from kloros.chembus.zmq_bus import ZmqBus
from kloros.errors import BusError, EndpointRefused

OpenBus = Callable[..., ZmqBus]
WaitFor = Callable[..., None]


def path_of(endpoint: str) -> Path:
    return Path(endpoint.removeprefix("ipc://"))


def test_it_tells_where_it_listens_and_that_it_lives(proxy: Forwarder, endpoints: Endpoints) -> None:
    assert proxy.endpoints == [endpoints.publish, endpoints.subscribe]
    assert proxy.alive()
    assert proxy.failure is None
    proxy.close()
    proxy.close()
    assert not proxy.alive()
    with pytest.raises(BusError, match="does not run"):
        proxy.statistics()


def test_it_counts_what_passes(proxy: Forwarder, open_bus: OpenBus, wait_for: WaitFor) -> None:
    hearers = [open_bus(f"hearer{number}", hears=("TEST",)) for number in range(2)]
    speaker = open_bus("speaker")
    before = proxy.statistics()
    for _ in range(100):
        speaker.emit("TEST")
        speaker.emit("OTHER")
    for hearer in hearers:
        wait_for(lambda hearer=hearer: (hearer.receive(), hearer.counters.received == 100)[1])
    after = proxy.statistics()
    assert after.messages_in - before.messages_in == 200
    assert after.messages_out - before.messages_out == 200
    assert after.bytes_in > before.bytes_in
    assert after.subscriptions_in >= 2


def test_a_second_proxy_is_refused_and_told_of_the_first(proxy: Forwarder, endpoints: Endpoints) -> None:
    with pytest.raises(EndpointRefused, match=rf"another proxy already serves it \(process {os.getpid()}\)"):
        Forwarder([endpoints])
    assert proxy.alive()


def test_a_port_that_is_taken_is_refused(runtime_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EndpointRefused, match=f"tcp://127.0.0.1:{port}: another program already listens there"):
            Forwarder([Endpoints("tcp://127.0.0.1:*", f"tcp://127.0.0.1:{port}")])


def test_a_file_left_behind_by_a_killed_proxy_is_no_obstacle(
    start_proxy: Callable[..., subprocess.Popen[bytes]], endpoints: Endpoints
) -> None:
    process = start_proxy()
    process.kill()
    process.wait()
    assert path_of(endpoints.publish).exists()
    Forwarder([endpoints]).close()


def test_a_directory_that_is_not_there_is_named(runtime_dir: Path) -> None:
    with pytest.raises(EndpointRefused, match=r"missing.*No such file or directory"):
        Forwarder([Endpoints.for_runtime_dir(runtime_dir / "missing")])


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_the_group_may_talk_whatever_the_umask(mask: int, endpoints: Endpoints) -> None:
    before = os.umask(mask)
    try:
        forwarder = Forwarder([endpoints])
    finally:
        os.umask(before)
    for endpoint in (endpoints.publish, endpoints.subscribe):
        assert stat.S_IMODE(path_of(endpoint).stat().st_mode) == 0o660
    forwarder.close()
    assert not path_of(endpoints.publish).exists()


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("tcp://0.0.0.0:5558", "leaves this machine"),
        ("tcp://*:5558", "leaves this machine"),
        ("tcp://192.0.2.7:5558", "leaves this machine"),
        ("tcp://bus.example.org:5558", "leaves this machine"),
        ("tcp://[2001:db8::1]:5558", "leaves this machine"),
        ("tcp://127.0.0.1", "names no port"),
        ("tcp://127.0.0.1:99999", "names no port"),
        ("pgm://127.0.0.1:5558", "only ipc:// and tcp:// are spoken"),
        ("nonsense", "only ipc:// and tcp:// are spoken"),
        ("ipc://", "names no path"),
        ("ipc:///" + "x" * MAX_IPC_PATH_BYTES, "a Unix socket takes 107"),
    ],
)
def test_an_endpoint_that_cannot_work_or_is_not_safe_is_refused(endpoint: str, reason: str) -> None:
    with pytest.raises(EndpointRefused, match=reason):
        Forwarder([Endpoints("tcp://127.0.0.1:*", endpoint)])
    with pytest.raises(EndpointRefused, match=reason):
        ZmqBus(Endpoints("tcp://127.0.0.1:1", endpoint), name="tester")


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:1", "tcp://127.8.8.8:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc:///x"]
)
def test_what_stays_on_this_machine(endpoint: str) -> None:
    assert not is_remote(endpoint)


def test_a_long_runtime_directory_is_refused_at_once() -> None:
    with pytest.raises(EndpointRefused, match="choose a shorter one"):
        Endpoints.for_runtime_dir(Path("/" + "d" * 120))


def test_it_says_nothing(
    start_proxy: Callable[..., subprocess.Popen[bytes]], open_bus: OpenBus, wait_for: WaitFor
) -> None:
    process = start_proxy()
    bus = open_bus("self", hears=("TEST",))
    for _ in range(100):
        bus.emit("TEST")
    wait_for(lambda: (bus.receive(), bus.counters.received == 100)[1])
    process.kill()
    assert process.stdout is not None
    assert process.stdout.read() == b""


def test_maintenance_does_not_stop_it(proxy: Forwarder, open_bus: OpenBus, wait_for: WaitFor) -> None:
    bus = open_bus("self", hears=("MAINTENANCE_SUSPEND", "TEST"))
    bus.emit("MAINTENANCE_SUSPEND", {"reason": "test"})
    bus.emit("TEST")
    heard: list[str] = []
    wait_for(lambda: (heard.extend(message.signal for message in bus.receive()), len(heard) == 2)[1])
    assert heard == ["MAINTENANCE_SUSPEND", "TEST"]

"""A burst over the real bus into the real historian: what is stored and what is a gap is what was sent, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.histories import LIMIT_S, accounted, burst, hasty_bus, running, told

from kloros.chembus.sockets import SocketLimits
from kloros.consumers.chembus_historian_daemon import ChembusHistorianDaemon
from kloros.daemon.suite_settings import BusSettings, SuiteSettings
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.place import Place

BURST = 50_000


@pytest.fixture
def place(runtime_dir: Path) -> Place:
    return Place(runtime_dir / "config", runtime_dir / "state", runtime_dir / "run")


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
            sent = burst(bus, BURST)
            emitted_s = time.perf_counter() - start_s
            # A farewell into a queue that is still full would be lost with the tail that it tells of.
            wait_for(lambda: accounted(path) >= sent or is_quiet(path), LIMIT_S, "the storm to pass")
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
            sent = burst(bus, BURST)
            wait_for(lambda: is_quiet(path), LIMIT_S, "the storm to pass")
        wait_for(lambda: accounted(path) >= sent, LIMIT_S, "the burst to be accounted for")
        stored, missing = told(path)
    print(f"\n{sent} sent: {stored} stored, gaps {missing}")
    assert stored + sum(missing.values()) == sent
    assert sum(missing.values()) > 0, "this was meant to be too much"

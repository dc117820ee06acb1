"""A daemon on a test bench: in-memory bus, virtual time, a real loop and real worker threads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from kloros.chembus.envelope import Message
from kloros.chembus.memory import MemoryBus, MemoryHub
from kloros.clock import VirtualClock
from kloros.daemon.daemon import Daemon, Kit
from kloros.daemon.notify import Notify
from kloros.daemon.suite_settings import SuiteSettings
from kloros.place import Place
from kloros.storage.state_store import StateStore
from kloros.telemetry.logs import get_logger
from kloros.telemetry.metrics import Metrics

DaemonT = TypeVar("DaemonT", bound=Daemon)

# Real seconds: how long a cycle that was started may take before the test calls it stuck, and one look whether it is.
_CYCLE_LIMIT_S = 15.0
_TURN_S = 0.05


class Bench(Generic[DaemonT]):
    """One daemon, and an outsider on the same bus who speaks and hears everything."""

    def __init__(self, daemon: DaemonT, clock: VirtualClock, hub: MemoryHub) -> None:
        self.daemon, self.clock, self.hub = daemon, clock, hub
        self.outsider = MemoryBus(hub, name="outsider", clock=clock)
        self.outsider.subscribe("*")
        self.outsider.join(1.0)
        self._heard: list[Message] = []

    def say(self, signal: str, facts: Mapping[str, Any] | None = None) -> None:
        """Emit from outside and let the daemon react."""
        self.outsider.emit(signal, facts)
        self.settle()

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, from one deadline of the daemon to the next."""
        left_s = seconds
        while left_s > 0:
            step_s = min(left_s, max(self.daemon.loop.next_wait_s(), 1e-6))
            self.clock.advance(step_s)
            left_s -= step_s
            self.settle()

    def settle(self) -> None:
        """Turn the loop until nothing is ready and no cycle runs."""
        self.daemon.loop.turn(0.0)
        self.daemon.loop.turn(0.0)
        end_s = time.monotonic() + _CYCLE_LIMIT_S
        while self.daemon.is_busy and self.hub.up:
            assert time.monotonic() < end_s, "it is stuck"
            self.daemon.loop.turn(_TURN_S)

    def heard(self, signal: str) -> list[Message]:
        """All messages of that signal since the bench was set up."""
        return [message for message in self.everything() if message.signal == signal]

    def everything(self) -> list[Message]:
        """All messages since the bench was set up."""
        self._heard += self.outsider.receive(100_000)
        return self._heard


@contextmanager
def bench(
    daemon_class: type[DaemonT],
    folder: Path,
    clock: VirtualClock | None = None,
    suite: SuiteSettings | None = None,
    hub: MemoryHub | None = None,
) -> Iterator[Bench[DaemonT]]:
    """`daemon_class` started on a bench; its state is kept under `folder`. Benches with one `hub` hear each other."""
    clock = clock or VirtualClock()
    hub = hub or MemoryHub()
    place = Place(folder / "config", folder / "state", folder / "run")
    store = StateStore(place.state / "state.db", daemon_class.tables)
    bus = MemoryBus(hub, name=daemon_class.zooid, clock=clock)
    kit = Kit(clock, bus, store, get_logger(), Metrics(), Notify({}), place, suite or SuiteSettings())
    daemon = daemon_class(kit)
    table = Bench(daemon, clock, hub)
    daemon.start()
    try:
        yield table
    finally:
        daemon.wind_down()
        bus.close()
        table.outsider.close()
        store.close()

"""The scheduler and all consumers together on one in-memory bus, in virtual time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kloros.chembus.envelope import Message
from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.daemon.consumer import Consumer
from kloros.orchestration.scheduler_daemon import SchedulerDaemon
from support.bench import Bench, bench

CONFIG = Path(__file__).parents[2] / "config"


class WholeSuite:
    """Benches that share a clock and a bus; the first one's outsider hears everything."""

    def __init__(self, benches: Sequence[Bench[Any]], clock: VirtualClock) -> None:
        self.benches, self.clock = benches, clock
        self._kept: list[Message] = []

    def advance(self, seconds: float) -> None:
        """Let virtual time pass for all, from one deadline of anybody to the next."""
        end_s = self.clock.monotonic_s() + seconds
        while (left_s := end_s - self.clock.monotonic_s()) > 1e-9:
            wait_s = min(each.daemon.loop.next_wait_s() for each in self.benches)
            self.clock.advance(min(left_s, max(wait_s, 1e-6)))
            self.settle()

    def settle(self) -> None:
        """Until nobody has anything more to say to anybody."""
        said = -1
        while said != (said := self._said()):
            for each in self.benches:
                each.settle()

    def heard(self, *signals: str) -> list[Message]:
        """All messages of these signals since the beginning."""
        self._kept += self.benches[0].outsider.receive(1_000_000)
        return [message for message in self._kept if message.signal in signals]

    def daemon(self, daemon_class: type[Any]) -> Any:
        """The daemon of that class."""
        return next(each.daemon for each in self.benches if isinstance(each.daemon, daemon_class))

    def _said(self) -> int:
        counters = [each.daemon.bus.counters for each in self.benches]
        return sum(each.emitted + each.received for each in counters) + len(self.heard_all())

    def heard_all(self) -> list[Message]:
        """Everything since the beginning."""
        self._kept += self.benches[0].outsider.receive(1_000_000)
        return self._kept


@contextmanager
def whole_suite(folder: Path, consumers: Sequence[type[Consumer]], clock: VirtualClock) -> Iterator[WholeSuite]:
    """Consumers first, as systemd starts them: what a starting scheduler emits is heard."""
    hub = MemoryHub()
    with ExitStack() as stack:
        benches = []
        for daemon_class in (*consumers, SchedulerDaemon):
            own = folder / daemon_class.zooid
            shutil.copytree(CONFIG, own / "config")
            benches.append(stack.enter_context(bench(daemon_class, own, clock, hub=hub)))  # type: ignore[type-var]
        for each in benches[1:]:
            each.outsider.close()  # one who listens is enough
        yield WholeSuite(benches, clock)

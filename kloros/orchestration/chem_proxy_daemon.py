"""The bus itself as a process: forwards in C, keeps the journal of durable signals, looks on in Python, and names what
should not be on the bus."""

from __future__ import annotations

import hashlib
import sys
from typing import ClassVar

from kloros.chembus.endpoints import Endpoints, compat_endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.journal.contract import Entry, without_offset
from kloros.chembus.journal.server import JournalServer
from kloros.chembus.proxy import Forwarder
from kloros.chembus.sockets import SocketLimits
from kloros.chembus.vocabulary import VOCABULARY, Delivery
from kloros.chembus.zmq_bus import ZmqBus
from kloros.daemon.daemon import RECEIVE_BATCH, Daemon, Kit
from kloros.daemon.runner import main
from kloros.errors import BusError
from kloros.storage.journal_store import JournalStore, Retention

# After a look the bus is left alone for so long: idle it costs nothing, and a flood is looked at in strides.
STRIDE_S = 0.02
MOST_BATCHES = 8  # before timers have their turn


class ChemProxyDaemon(Daemon):
    """Forwards for as long as it runs, maintenance or not. It hears everything, so that a message nobody else would
    look at (unknown signal, broken JSON) is still counted and named."""

    zooid: ClassVar[str] = "chem_proxy_daemon"
    niche: ClassVar[str] = "bus"
    hears: ClassVar[tuple[str, ...]] = ("*",)

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        home = Endpoints.for_runtime_dir(self.place.runtime)
        pairs = [home, *compat_endpoints()] if self.suite.bus.compat_tcp else [home]
        queue = self.suite.bus.queue_messages
        self._forwarder = Forwarder(
            pairs,
            limits=SocketLimits(send_queue=queue, receive_queue=queue, linger_ms=0),
        )
        kept = self.suite.journal
        retention = Retention(kept.max_mb << 20, kept.keep_s, kept.consumer_forgotten_after_s)
        self._store = JournalStore(self.place.state / "chem_proxy" / "journal.db", retention)
        self._journal = JournalServer(home, self._store, self.clock)
        self._durable = {signal.name for signal in VOCABULARY if signal.delivery is Delivery.DURABLE}
        self._heard = 0
        self._named_set_aside = False
        self.metrics.counters_from(
            "kloros_journal_entries", "Durable signals by what became of them.", lambda: self._journal.counters
        )
        lacking = self.metrics.gauge("kloros_journal_lacking", "1 while nothing can be kept.")
        lacking.set_function(lambda: float(self._journal.lack is not None))
        self._forwarded = 0
        self._refused = 0

    def on_start(self) -> None:
        self.log.info("bus_open", endpoints=self._forwarder.endpoints)

    def _listen(self) -> None:
        """Look on in strides, and not at what the journal publishes: that would hold up the journal itself, which
        shares the interpreter."""
        if isinstance(self.bus, ZmqBus):
            self.bus.overlook(self._journal.published.recognise)
        self._await_more()

    def _await_more(self) -> None:
        self.loop.add_source(self.bus, self._look_on)

    def _look_on(self) -> None:
        self.loop.remove_source(self.bus)
        self._receive()
        self.loop.at_monotonic("look on", self.clock.monotonic_s() + STRIDE_S, self._await_more)

    def _receive(self) -> None:
        for _ in range(MOST_BATCHES):
            heard = self.bus.receive_with_bodies(RECEIVE_BATCH)
            for message, body in heard:
                self._handle(message)
                if message.signal in self._durable and not self._is_journaled(message, body):
                    self._keep(message, body)
            if len(heard) < RECEIVE_BATCH:
                return
        self.loop.call_soon(self._receive)

    def _is_journaled(self, message: Message, body: bytes) -> bool:
        """Whether the journal has published it. One that came before we began to look on was not asked about yet."""
        return message.offset is not None and self._journal.published.recognise(body)

    def _keep(self, message: Message, body: bytes) -> None:
        """Journal a durable signal that came the volatile way, from a client that knows no journal: once. An offset in
        it is not its own: somebody passes on what was heard elsewhere, or earlier."""
        self._heard += 1
        if message.offset is not None:
            self.count("foreign_offset")
            body = without_offset(body)
        digest = hashlib.sha256(body).hexdigest()
        made_up = f"legacy:{message.pub or '-'}:{digest}:{self.bus.pub.rpartition('@')[2]}.{self._heard}"
        if self._journal.take(Entry(message.id or made_up, message.signal, body)):
            self.count("journaled_legacy")
        else:
            self.count("lost_legacy")
            self.log.error("legacy_signal_lost", signal=message.signal, reason=self._journal.lack or "too many wait")

    def on_housekeeping(self) -> None:
        try:
            forwarded = self._forwarder.statistics().messages_in
        except BusError as error:
            self.log.error("forwarder_failed", reason=str(self._forwarder.failure or error))
            self.stop(exit_code=1)
            return
        self.count("forwarded", forwarded - self._forwarded)
        self._forwarded = forwarded
        self._name_refusals()
        if not self._journal.alive():
            self.log.error("journal_failed", reason=repr(self._journal.failure))
            self.stop(exit_code=1)
        if self._store.set_aside and not self._named_set_aside:
            self._named_set_aside = True
            self.log.error("journal_set_aside", path=str(self._store.set_aside), salvaged=self._store.salvaged)

    def _name_refusals(self) -> None:
        """One line for what was refused since the last look, with the latest as the example."""
        refused = sum(self.bus.counters.refused.values())
        if refused > self._refused:
            latest = self.bus.recent_refusals[-1]
            self.log.warning(
                "messages_refused", count=refused - self._refused, reason=latest.reason.value, topic=latest.topic,
                detail=latest.detail,
            )  # fmt: skip
            self._refused = refused

    def feed_watchdog(self) -> None:
        if self.bus.joined and self._forwarder.alive() and self._journal.alive():
            super().feed_watchdog()

    def status(self) -> str:
        lack = f", journal lacks: {self._journal.lack}" if self._journal.lack else ""
        kept = self._journal.counters["appended"]
        return f"{self.mode()}, {self._forwarded} messages forwarded, {self._refused} refused, {kept} kept{lack}"

    def wind_down(self) -> None:
        super().wind_down()
        self._journal.close()
        self._store.close()
        self.bus.close()  # its farewell still has to pass
        self._forwarder.close()


if __name__ == "__main__":
    sys.exit(main(ChemProxyDaemon))

"""The bus itself as a process: forwards in C, looks on in Python, and names what should not be on the bus."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from kloros.chembus.endpoints import Endpoints, compat_endpoints
from kloros.chembus.proxy import Forwarder, systemd_listening
from kloros.chembus.sockets import SocketLimits
from kloros.daemon.daemon import Daemon, Kit
from kloros.daemon.runner import main
from kloros.errors import BusError


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
            listening=systemd_listening(os.environ, os.getpid()),
        )
        self._forwarded = 0
        self._refused = 0

    def on_start(self) -> None:
        self.log.info("bus_open", endpoints=self._forwarder.endpoints)

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
        if self.bus.joined and self._forwarder.alive():
            super().feed_watchdog()

    def status(self) -> str:
        return f"{self.mode()}, {self._forwarded} messages forwarded, {self._refused} refused"

    def wind_down(self) -> None:
        super().wind_down()
        self.bus.close()  # its farewell still has to pass
        self._forwarder.close()


if __name__ == "__main__":
    sys.exit(main(ChemProxyDaemon))

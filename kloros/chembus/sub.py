"""Hearing from any program: `ChemSub("Q_TRIGGER_INTROSPECTION", on_json=print)`."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

from kloros.chembus.bus import BusCounters
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.hubs import HUBS
from kloros.chembus.inbox import Inbox, OnJson
from kloros.clock import Clock, SystemClock

_JOIN_WAITS_S = 1.0


class ChemSub:
    """Calls `on_json` with each message of a signal, as a dict, on a thread of its own.

    At most `queue_limit` messages wait for a slow handler; what comes beyond is dropped, counted and announced as
    BUS_DROP. A process with ChemSubs has one connection to the bus, whose figures are `counters`; it says HEARTBEAT
    each 10 s and heeds governance.kill.
    It hears in the process that made it: after a fork the child hears nothing by it, and makes one of its own.
    """

    counters: BusCounters

    def __init__(
        self,
        topic: str,
        on_json: OnJson,
        zooid_name: str | None = None,
        niche: str | None = None,
        *,
        endpoints: Endpoints | None = None,
        queue_limit: int = 10_000,
        clock: Clock | None = None,
        open_facts: bool = False,
    ) -> None:
        """Hear `topic`: an exact name, or a prefix with a trailing `*`.

        Waits at most a second for the subscription to be confirmed (see `joined`); it goes on trying after that.

        Raises:
            EndpointRefused: An endpoint cannot work or is not safe.
        """
        endpoints = endpoints or Endpoints.discover()
        endpoints.check()
        self.topic = topic
        self.zooid_name = zooid_name or f"zooid_{os.getpid()}"
        self.niche = niche or "unknown"
        self.inbox = Inbox(on_json, queue_limit, self.zooid_name)
        self._joined = threading.Event()
        self._killed = False
        self._closed = False
        self._pid = os.getpid()
        try:
            HUBS.attach(endpoints, open_facts, self, clock or SystemClock())
        except BaseException:
            self.inbox.stop()
            raise
        self._joined.wait(_JOIN_WAITS_S)

    @property
    def joined(self) -> bool:
        """Whether the subscription was confirmed by a round trip."""
        return self._joined.is_set()

    @property
    def dropped(self) -> int:
        """Messages that found the queue full."""
        return self.inbox.dropped

    @property
    def handled(self) -> int:
        """Messages that the handler was given."""
        return self.inbox.handled

    def is_killed(self) -> bool:
        """Whether governance.kill, or `close`, ended the handling of messages."""
        return self._killed or self._closed

    def close(self) -> None:
        """Stop. Safe from any thread and from the handler itself; may be called twice."""
        if self._closed or self._pid != os.getpid():  # another process's is left to it
            return
        self._closed = True
        self.inbox.stop()
        HUBS.detach(self)
        self.inbox.join()

    def on_joined(self) -> None:
        """The hub's word that the subscription works."""
        self._joined.set()

    def kill(self) -> None:
        """Handle nothing more, but stay: what governance.kill asks for."""
        self._killed = True
        self.inbox.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

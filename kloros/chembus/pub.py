"""Emitting from any program: `ChemPub().emit("Q_TRIGGER_INTROSPECTION", ecosystem="introspection")`."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import zmq

from kloros.chembus.bus import BusCounters
from kloros.chembus.declaration import Vocabulary
from kloros.chembus.emitter import Emitter
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.facts import Facts
from kloros.chembus.journal.blocking import BlockingJournal
from kloros.chembus.link import PublisherLink
from kloros.chembus.sockets import SocketLimits
from kloros.chembus.vocabulary import VOCABULARY
from kloros.clock import Clock, SystemClock
from kloros.errors import BusError

_FIRST_EMIT_WAITS_S = 1.0


class ChemPub:
    """A publisher that may be used from any thread.

    The first emit waits for the proxy, at most a second, so that a script's only message arrives, once. While the
    proxy is away messages are counted as lost (`counters.lost_unjoined`) and `emit` returns None.
    The emit of a durable signal returns once the journal has it on disk, and raises when that takes too long.
    It works in the process that made it: after a fork the child makes one of its own.
    """

    def __init__(
        self,
        endpoints: Endpoints | None = None,
        zooid_name: str | None = None,
        *,
        vocabulary: Vocabulary = VOCABULARY,
        limits: SocketLimits | None = None,
        clock: Clock | None = None,
        open_facts: bool = False,
    ) -> None:
        """Without `endpoints`, the proxy of the suite on this machine. `open_facts` admits undeclared signals.

        Raises:
            EndpointRefused: An endpoint cannot work or is not safe.
        """
        endpoints = endpoints or Endpoints.discover()
        endpoints.check()
        clock = clock or SystemClock()
        self.counters = BusCounters()
        self._lock = threading.Lock()
        self._waited = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._link = PublisherLink(self._context, endpoints, limits or SocketLimits(), clock)
        self._clock = clock
        self._journal_endpoint = endpoints.journal
        self._journal_lock = threading.Lock()
        self._journal: BlockingJournal | None = None
        self._emitter = Emitter(
            self._link.send,
            name=zooid_name or "chem_pub",
            niche="unknown",
            clock=clock,
            vocabulary=vocabulary,
            counters=self.counters,
            open_facts=open_facts,
        )
        self._closed = False
        self._pid = os.getpid()
        _open_pubs.add(self)

    def emit(
        self,
        signal: str,
        *,
        ecosystem: str | None = None,
        intensity: float = 1.0,
        facts: Facts | Mapping[str, Any] | None = None,
        incident_id: str | None = None,
        trace: str | None = None,
    ) -> str | None:
        """Send a message; returns its id, or None when it could not go out (counted).

        Raises:
            UnknownSignal, BadFacts, Oversize, RateLimited, NotJournaled: See Bus.emit.
            BusError: It is closed, or was made before a fork.
        """
        self._require_own()
        with self._lock:
            self._require_open()
            is_journaled = self._journal_endpoint is not None and self._emitter.is_durable(signal)
        if is_journaled:
            return self._emit_durable(
                signal, facts, ecosystem=ecosystem, intensity=intensity, incident_id=incident_id, trace=trace
            )
        with self._lock:
            self._require_open()
            if not self._waited:
                self._waited = True
                self._link.wait_up(_FIRST_EMIT_WAITS_S)
            return self._emitter.emit(
                signal, facts, ecosystem=ecosystem, intensity=intensity, incident_id=incident_id, trace=trace
            )

    def _emit_durable(self, signal: str, facts: Facts | Mapping[str, Any] | None, **envelope: Any) -> str | None:
        with self._journal_lock:  # one at a time: the journal has them in the order of their numbers
            with self._lock:
                self._require_open()
                entry = self._emitter.encode(signal, facts, **envelope)
                if self._journal is None:
                    assert self._journal_endpoint is not None
                    self._journal = BlockingJournal(self._context, self._journal_endpoint, self._clock)
            if entry is None:
                return None
            self._journal.append(entry)
            return entry.id

    def _require_own(self) -> None:
        """Before any lock is taken: another thread of the parent may have held it when the fork came."""
        if self._pid != os.getpid():
            raise BusError(detail="this ChemPub was made before a fork; make one in the child")

    def _require_open(self) -> None:
        if self._closed:
            raise BusError(detail="this ChemPub is closed")

    @property
    def joined(self) -> bool:
        """Whether the link to the proxy is up. Raises BusError after a fork."""
        self._require_own()
        with self._lock:
            if not self._closed:
                self._link.drain()
            return self._link.up and not self._closed

    def sent_seqs(self) -> dict[str, int]:
        """The last sequence number sent per signal. Raises BusError after a fork."""
        self._require_own()
        with self._lock:
            return self._emitter.sent_seqs()

    def close(self) -> None:
        """Say what was sent last and let it leave, which takes half a second at most. May be called twice; in a forked
        child it leaves everything to the parent."""
        if self._pid != os.getpid():
            return
        with self._journal_lock, self._lock:
            if self._closed:
                return
            self._emitter.farewell()
            self._closed = True
            if self._journal:
                self._journal.close()
            self._link.close()
            self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_pid"):  # else its making failed
            self.close()


_open_pubs: weakref.WeakSet[ChemPub] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for pub in list(_open_pubs):
        pub.close()

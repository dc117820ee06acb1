"""The forwarder at the heart of the bus: every message passes through it, in C, and none through Python."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import zmq

from kloros.chembus.binding import bind_alone, open_to_group
from kloros.chembus.curve import Doorkeeper, secure_server
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.sockets import SocketLimits, tune
from kloros.errors import BusError

_ANSWER_WITHIN_MS = 1_000
_FRAMES_PER_MESSAGE = 2
_SUBSCRIBE_ALL = b"\x01"
_UINT64 = struct.Struct("=Q")


class ProxyStatistics(NamedTuple):
    """Counted by the forwarder since its start. What was heard and went to nobody is in `messages_in` only."""

    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    subscriptions_in: int


class Forwarder:
    """Binds one or more pairs of endpoints and forwards between all of them until closed."""

    def __init__(
        self,
        pairs: Sequence[Endpoints],
        *,
        limits: SocketLimits | None = None,
    ) -> None:
        """Binds and starts.

        Args:
            pairs: Where to listen; a pair per kind of client. One with keys lets in only the clients they name.
            limits: Bounds of all four queues.

        Raises:
            EndpointRefused: An endpoint is taken (says by whom, where that can be told), not safe, or cannot be bound.
        """
        for pair in pairs:
            pair.check()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frontend = self._context.socket(zmq.XSUB)
        self._backend = self._context.socket(zmq.XPUB)
        self._inner = self._context.socket(zmq.PAIR)
        self._control = self._context.socket(zmq.PAIR)
        self._thread: threading.Thread | None = None
        self._asking = threading.Lock()
        self._bound: list[str] = []
        self._files: list[Path] = []
        self._doorkeeper: Doorkeeper | None = None
        self._failure: Exception | None = None
        try:
            self._bind(pairs, limits or SocketLimits(linger_ms=0))
        except BaseException:
            self._release()
            raise
        self._thread = threading.Thread(target=self._forward, name="chem-forwarder", daemon=True)
        self._thread.start()

    @property
    def endpoints(self) -> list[str]:
        """The addresses as bound: with their real ports."""
        return list(self._bound)

    @property
    def failure(self) -> Exception | None:
        """What stopped the forwarding, if anything did."""
        return self._failure

    def alive(self) -> bool:
        """Whether messages are being forwarded: the thread runs and answers."""
        if self._thread is None or not self._thread.is_alive():
            return False
        try:
            self.statistics()
        except BusError:
            return False
        return True

    def statistics(self) -> ProxyStatistics:
        """What passed so far.

        Raises:
            BusError: The forwarder is closed, or did not answer.
        """
        with self._asking:
            if self._thread is None or not self._thread.is_alive():
                raise BusError(detail="the forwarder does not run")
            with suppress(zmq.Again):
                while True:  # an answer that came too late for whoever asked
                    self._control.recv_multipart(zmq.NOBLOCK)
            self._control.send(b"STATISTICS")
            if not self._control.poll(_ANSWER_WITHIN_MS):
                raise BusError(detail="the forwarder did not answer")
            figures = [_UINT64.unpack(frame)[0] for frame in self._control.recv_multipart()]
        frames_in, bytes_in, _, _, subscriptions, _, frames_out, bytes_out = figures
        return ProxyStatistics(
            messages_in=frames_in // _FRAMES_PER_MESSAGE,
            bytes_in=bytes_in,
            messages_out=frames_out // _FRAMES_PER_MESSAGE,
            bytes_out=bytes_out,
            subscriptions_in=subscriptions,
        )

    def close(self) -> None:
        """Stop forwarding and release everything. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._asking:
            if thread.is_alive():
                self._control.send(b"TERMINATE")
            thread.join()
        self._release()

    def _bind(self, pairs: Sequence[Endpoints], limits: SocketLimits) -> None:
        for side in (self._frontend, self._backend):
            tune(side, limits)
        self._inner.bind("inproc://control")
        self._control.connect("inproc://control")
        known = frozenset(key for pair in pairs if pair.keys for key in pair.keys.clients)
        if any(pair.keys for pair in pairs):
            self._doorkeeper = Doorkeeper(self._context, known)
        for pair in pairs:
            secure_server(self._frontend, pair.keys)
            secure_server(self._backend, pair.keys)
            for side, endpoint in ((self._frontend, pair.publish), (self._backend, pair.subscribe)):
                self._bound.append(bind_alone(side, endpoint))
                if endpoint.startswith("ipc://"):
                    self._files.append(open_to_group(endpoint))
        self._frontend.send(_SUBSCRIBE_ALL)  # each publisher is told when its link comes up: that is its confirmation

    def _forward(self) -> None:
        try:
            zmq.proxy_steerable(self._frontend, self._backend, None, self._inner)
        except zmq.ZMQError as error:
            self._failure = error

    def _release(self) -> None:
        for path in self._files:  # libzmq leaves them behind
            path.unlink(missing_ok=True)
        for each in (self._control, self._inner, self._frontend, self._backend):
            each.close(0)
        if self._doorkeeper:
            self._doorkeeper.close()
        self._context.term()

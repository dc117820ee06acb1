"""A publisher's link to the proxy, which knows whether it is up.

The proxy subscribes to everything. A client's XPUB socket is told so when the link comes up (b"\\x01"), and is told
the opposite (b"\\x00") when it goes: that is the confirmation, without sleeping and without sending anything twice.
"""

from __future__ import annotations

import zmq

from kloros.chembus.curve import secure_client
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.sockets import SocketLimits, tune
from kloros.clock import Clock

_UP = b"\x01"
_DOWN = b"\x00"
_DRAIN_EVERY_US = 1_000
_POLL_STEP_MS = 20  # libzmq finishes taking down a link over several rounds of its own


class PublisherLink:
    """One XPUB socket, connected to the proxy."""

    _send = staticmethod(zmq.backend.Socket.send)  # the friendlier zmq.Socket.send over it takes three times as long

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoints: Endpoints, limits: SocketLimits, clock: Clock
    ) -> None:
        self.up = False
        self.outages = 0
        self.socket = context.socket(zmq.XPUB)
        self._readable = [(self.socket, zmq.POLLIN)]
        self._clock = clock
        self._drained_us = 0
        tune(self.socket, limits)
        self.socket.set(zmq.IMMEDIATE, 1)  # the link ends with the connection, so that its end is noticed
        secure_client(self.socket, endpoints.keys)
        self.socket.connect(endpoints.publish)

    def send(self, topic: bytes, body: bytes) -> bool:
        """Send two frames; False when the link is down. Never waits."""
        now_us = self._clock.wall_us()
        if not self.up or not 0 <= now_us - self._drained_us < _DRAIN_EVERY_US:
            self._drained_us = now_us
            self.drain()
            if not self.up:
                return False
        self._send(self.socket, topic, zmq.SNDMORE)
        self._send(self.socket, body)
        return True

    def drain(self) -> None:
        """Take in what the proxy says: the state of the link, and others' subscriptions, which do not matter here."""
        while zmq.zmq_poll(self._readable, 0):  # nearly always there is nothing, and this says so most cheaply
            said = self.socket.recv(zmq.NOBLOCK)
            if said == _UP:
                self.up = True
            elif said == _DOWN:
                self.outages += self.up
                self.up = False

    def wait_up(self, timeout_s: float) -> bool:
        """Wait until the link is up, at most so long; whether it is."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        self.drain()
        while not self.up:
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                return False
            self.socket.poll(min(_POLL_STEP_MS, max(1, int(left_s * 1000))))
            self.drain()
        return True

    def close(self, linger_ms: int | None = None) -> None:
        """Release the socket; what is on its way may leave for the linger time."""
        self.socket.close(linger_ms)

"""The journal from afar: asks until it is answered, over a DEALER socket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq

from kloros.chembus.journal import wire
from kloros.chembus.journal.contract import Appended, Entry, NotKept, Page, Told
from kloros.chembus.sockets import SocketLimits, tune
from kloros.clock import Clock

_RESEND_S = 1.0  # without an answer: the proxy may have died, or it may be slow
_UNSENT_FIRST_S = 0.002
_UNSENT_LONGEST_S = 0.1  # without a connection


@dataclass
class _Pending:
    verb: bytes
    payload: bytes
    done: Callable[[Any], None]
    due_s: float
    unsent_wait_s: float = _UNSENT_FIRST_S


class JournalClient:
    """A Journal (see there) over ZeroMQ. The socket holds nothing back while the proxy is away: what is pending is
    sent again by `turn`, so that nothing piles up."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, clock: Clock, limits: SocketLimits | None = None
    ) -> None:
        self._clock = clock
        self._pending: dict[int, _Pending] = {}
        self._requests = 0
        self._socket = context.socket(zmq.DEALER)
        tune(self._socket, limits or SocketLimits())
        self._socket.set(zmq.IMMEDIATE, 1)
        self._socket.set(zmq.LINGER, 0)
        self._socket.connect(endpoint)

    def append(self, entries: Sequence[Entry], done: Callable[[Appended | NotKept], None]) -> None:
        number = self._number()
        self._ask(number, wire.APPEND, wire.Append(number, list(entries)), done)

    def fetch(
        self, consumer: str, signals: Sequence[str], journal: str, after: int, limit: int, done: Callable[[Page], None]
    ) -> None:
        number = self._number()
        self._ask(number, wire.FETCH, wire.Fetch(number, consumer, list(signals), journal, after, limit), done)

    def committed(self, consumer: str, signals: Sequence[str], journal: str, offset: int) -> None:
        self._send(wire.COMMITTED, wire.encode(wire.Committed(consumer, list(signals), journal, offset)))

    def status(self, done: Callable[[Told], None]) -> None:
        """Ask for the journal's figures."""
        number = self._number()
        self._ask(number, wire.STATUS, wire.StatusAsked(number), done)

    def turn(self) -> None:
        with suppress(zmq.Again):
            while True:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                if len(frames) == 2:
                    self._take(*frames)
        now_s = self._clock.monotonic_s()
        for pending in list(self._pending.values()):
            if pending.due_s <= now_s:
                self._try(pending, now_s)

    def next_due_s(self) -> float | None:
        return min((pending.due_s for pending in self._pending.values()), default=None)

    def pollables(self) -> Sequence[Any]:
        return (self._socket,)

    def wait(self, is_done: Callable[[], bool], timeout_s: float) -> bool:
        """Turn until `is_done`, at most so long; whether it is. For those who have no loop."""
        end_s = self._clock.monotonic_s() + timeout_s
        while not is_done():
            now_s = self._clock.monotonic_s()
            if now_s >= end_s:
                return False
            due_s = self.next_due_s()
            wait_s = min(end_s, end_s if due_s is None else due_s) - now_s
            # A blocking receive wakes up sooner than a poll and a receive after it: an emit waits for this.
            self._socket.set(zmq.RCVTIMEO, max(1, int(wait_s * 1000)))
            try:
                frames = self._socket.recv_multipart()
            except zmq.Again:
                self.turn()
            else:
                if len(frames) == 2:
                    self._take(*frames)
        return True

    def forget(self) -> None:
        """Ask for nothing that is pending any more."""
        self._pending.clear()

    def close(self) -> None:
        self.forget()
        self._socket.close(0)

    def _number(self) -> int:
        self._requests += 1
        return self._requests

    def _ask(self, number: int, verb: bytes, question: Any, done: Callable[[Any], None]) -> None:
        now_s = self._clock.monotonic_s()
        pending = self._pending[number] = _Pending(verb, wire.encode(question), done, now_s)
        self._try(pending, now_s)

    def _try(self, pending: _Pending, now_s: float) -> None:
        if self._send(pending.verb, pending.payload):
            pending.due_s = now_s + _RESEND_S
        else:
            pending.due_s = now_s + pending.unsent_wait_s
            pending.unsent_wait_s = min(_UNSENT_LONGEST_S, 2 * pending.unsent_wait_s)

    def _send(self, verb: bytes, payload: bytes) -> bool:
        try:
            self._socket.send_multipart((verb, payload), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _take(self, verb: bytes, payload: bytes) -> None:
        try:
            answer: Appended | Page | NotKept | Told = wire.decode(verb, payload)
        except msgspec.MsgspecError:
            return
        pending = self._pending.get(answer.request)
        if pending is None:
            return  # the answer to what was asked twice
        if isinstance(answer, NotKept) and pending.verb != wire.APPEND:
            pending.due_s = self._clock.monotonic_s() + _RESEND_S
            return
        del self._pending[answer.request]
        pending.done(answer)

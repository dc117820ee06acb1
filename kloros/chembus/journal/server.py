"""The journal's side of the socket: one thread that commits what has gathered, whoever sent it, all at once."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from contextlib import suppress

import msgspec
import zmq

from kloros.chembus.binding import bind_alone, open_to_group
from kloros.chembus.bus import BusCounters
from kloros.chembus.emitter import Emitter
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import MAX_MESSAGE_BYTES
from kloros.chembus.journal import wire
from kloros.chembus.journal.contract import Answer, Entry, JournalStore, objection
from kloros.chembus.journal.keeper import JournalKeeper
from kloros.chembus.journal.published import Published
from kloros.chembus.link import PublisherLink
from kloros.chembus.sockets import SocketLimits, tune
from kloros.chembus.vocabulary import VOCABULARY
from kloros.clock import Clock
from kloros.errors import EndpointRefused
from kloros.telemetry.logs import get_logger

DOORBELL = "Q_JOURNAL_ADVANCED"
_NAME = "chem_journal"
_LINK_WAITS_S = 5.0
_ROUND_REQUESTS = 1_024  # what one commit may hold: bounds how long the first of them waits
_ROUND_BYTES = 8 << 20
_RING_EVERY_S = 0.005
_TURN_S = 0.25
_MAX_LEGACY = 10_000
_MAX_LEGACY_BYTES = 64 << 20
_TIDY_EVERY_S = 1.0


class JournalServer:
    """Serves `store` at the journal's endpoint until closed. Its methods are safe from any thread."""

    def __init__(
        self, endpoints: Endpoints, store: JournalStore, clock: Clock, limits: SocketLimits | None = None
    ) -> None:
        """Binds and starts; the proxy at `endpoints` must be bound already.

        Raises:
            EndpointRefused: There is no endpoint for a journal, or it cannot be bound.
        """
        if endpoints.journal is None:
            raise EndpointRefused(endpoint=endpoints.publish, reason="it has no journal beside it")
        limits = limits or SocketLimits(linger_ms=0)
        self._clock = clock
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._link = PublisherLink(self._context, endpoints, limits, clock)
        self.published = Published()
        self._keeper = JournalKeeper(store, clock, self._publish)
        self._emitter = Emitter(
            self._link.send, name=_NAME, niche="bus", clock=clock, vocabulary=VOCABULARY, counters=BusCounters()
        )
        self._legacy: deque[Entry] = deque()
        self._legacy_bytes = 0
        self._legacy_lock = threading.Lock()
        self._wake_read_fd, self._wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._rung_s = 0.0
        self._tidy_s = 0.0
        self._log = get_logger(zooid=_NAME)
        self._named_lack: str | None = None
        self.failure: Exception | None = None
        try:
            tune(self._socket, limits)
            bind_alone(self._socket, endpoints.journal)
            self._file = open_to_group(endpoints.journal)
        except BaseException:
            self._release()
            raise
        self._thread = threading.Thread(target=self._run, name="chem-journal", daemon=True)
        self._thread.start()

    @property
    def lack(self) -> str | None:
        """Why nothing can be kept at present; None when all is well."""
        return self._keeper.lack

    @property
    def counters(self) -> dict[str, int]:
        """What it did so far."""
        return dict(self._keeper.counters)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def take(self, entry: Entry) -> bool:
        """Keep a durable signal that came over the volatile path; False when it cannot be (too many wait)."""
        if objection(entry, MAX_MESSAGE_BYTES):
            return False
        with self._legacy_lock:
            if len(self._legacy) >= _MAX_LEGACY or self._legacy_bytes + len(entry.body) > _MAX_LEGACY_BYTES:
                return False
            self._legacy.append(entry)
            self._legacy_bytes += len(entry.body)
        self._wake()
        return True

    def close(self) -> None:
        """Keep what has arrived, answer it, and stop. May be called twice."""
        if self._stopping:
            return
        self._stopping = True
        self._wake()
        self._thread.join()
        self._file.unlink(missing_ok=True)
        self._release()

    def _publish(self, topic: bytes, body: bytes) -> bool:
        self.published.note(body)  # before it is sent: it may be heard at once
        if self._link.send(topic, body):
            return True
        self.published.recognise(body)
        return False

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_fd, b"\0")

    def _run(self) -> None:
        try:
            self._link.wait_up(_LINK_WAITS_S)
            poller = zmq.Poller()
            poller.register(self._socket, zmq.POLLIN)
            poller.register(self._wake_read_fd, zmq.POLLIN)
            while not self._stopping:
                poller.poll(self._wait_ms())
                with suppress(BlockingIOError):
                    os.read(self._wake_read_fd, 4096)
                self._round()
                self._tidy()
            self._round()
            while self._has_legacy_to_keep:
                self._round()
        except Exception as error:  # noqa: BLE001 - whoever asks `alive` finds it
            self.failure = error
            self._log.exception("journal_failed")

    def _tidy(self) -> None:
        """Let go of what need not be kept, a little at a time, and say so when someone would have wanted it."""
        now_s = self._clock.monotonic_s()
        if now_s < self._tidy_s:
            return
        done = self._keeper.tidy()
        self._tidy_s = now_s + (0.0 if done.read + done.unread else _TIDY_EVERY_S)
        if done.unread:
            self._log.warning("journal_pruned_unread", count=done.unread, reason="it has reached its size limit")
        for name in done.forgotten:
            self._log.warning("journal_consumer_forgotten", consumer=name, reason="it stayed away for too long")
        lack = self._keeper.lack
        if lack != self._named_lack:
            self._named_lack = lack
            self._log.error("journal_lacks", reason=lack) if lack else self._log.info("journal_works_again")

    @property
    def _has_legacy_to_keep(self) -> bool:
        return bool(self._legacy) and self._keeper.lack is None

    def _wait_ms(self) -> int:
        if self._has_legacy_to_keep:
            return 0
        if self._keeper.has_news:
            return max(0, math.ceil((self._rung_s + _RING_EVERY_S - self._clock.monotonic_s()) * 1000))
        return int(_TURN_S * 1000)

    def _round(self) -> None:
        """Take what has arrived, commit it, answer, and ring."""
        appends: list[tuple[bytes, wire.Append]] = []
        legacy, size_bytes = self._first_legacy()
        for _ in range(_ROUND_REQUESTS):
            try:
                peer, *said = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            asked = self._decode(said)
            if isinstance(asked, wire.Append):
                appends.append((peer, asked))
                size_bytes += len(said[1])
                if size_bytes >= _ROUND_BYTES:
                    break
            elif isinstance(asked, wire.Fetch):
                self._answer(peer, self._keeper.fetch(asked))
            elif isinstance(asked, wire.Committed):
                self._keeper.committed(asked)
            elif isinstance(asked, wire.StatusAsked):
                self._answer(peer, self._keeper.status(asked))
        if appends or legacy:
            answers = self._keeper.append([asked for _, asked in appends], legacy)
            for (peer, _), answer in zip(appends, answers, strict=True):
                self._answer(peer, answer)
            if self._keeper.lack is None:
                self._drop_legacy(legacy)
            self._keeper.forward()
        self._ring()

    def _first_legacy(self) -> tuple[list[Entry], int]:
        """Those that have waited longest, as many as one commit takes, and their size."""
        first: list[Entry] = []
        size_bytes = 0
        with self._legacy_lock:
            for entry in self._legacy:
                size_bytes += len(entry.body)
                first.append(entry)
                if size_bytes >= _ROUND_BYTES:
                    break
        return first, size_bytes

    def _drop_legacy(self, kept: list[Entry]) -> None:
        with self._legacy_lock:
            for entry in kept:
                self._legacy.popleft()
                self._legacy_bytes -= len(entry.body)

    def _ring(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._keeper.has_news and now_s - self._rung_s >= _RING_EVERY_S:
            self._rung_s = now_s
            self._emitter.emit(DOORBELL, self._keeper.take_news())

    def _decode(self, said: list[bytes]) -> object:
        try:
            verb, payload = said
            return wire.decode(verb, payload)
        except (ValueError, msgspec.MsgspecError):
            self._keeper.counters["refused_bad"] += 1
            return None

    def _answer(self, peer: bytes, answer: Answer) -> None:
        with suppress(zmq.Again):  # whoever does not take answers asks again
            self._socket.send_multipart((peer, wire.verb_of(answer), wire.encode(answer)), zmq.NOBLOCK)

    def _release(self) -> None:
        self._socket.close(0)
        self._link.close(0)
        self._context.term()
        os.close(self._wake_read_fd)
        os.close(self._wake_fd)

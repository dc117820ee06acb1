"""Durable signals on their way to the journal: kept with the work that emitted them, sent until acknowledged.

Entries leave in the order in which they were committed, one append at a time. One that was sent and not yet deleted
when the process died is sent again, under the same id: the journal knows it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence

from structlog.typing import FilteringBoundLogger

from kloros.chembus.bus import BusCounters
from kloros.chembus.emitter import Emitter
from kloros.chembus.journal.contract import Appended, Entry, NotKept
from kloros.chembus.vocabulary import VOCABULARY
from kloros.clock import Clock
from kloros.daemon.cycle import Outgoing
from kloros.daemon.journal_port import JournalPort
from kloros.daemon.loop import Loop
from kloros.errors import OutboxFull, StoreUnusable
from kloros.storage.database import Database
from kloros.storage.state_store import StateStore

MOST_UNWRITTEN = 10_000  # entries that are kept in memory while the daemon's own disk cannot be written
_WINDOW = 2_000  # entries of the file that are in memory too
_APPEND_ENTRIES = 500
_APPEND_BYTES = 4 << 20
_AGAIN_S = 1.0  # after the journal refused for its disk's sake
_INSERT = "INSERT INTO outbox (id, signal, body) VALUES (?, ?, ?)"
_SELECT = "SELECT id, signal, body FROM outbox ORDER BY seq LIMIT ?"
_PUT_ASIDE = "INSERT INTO dead_letters (ts_us, signal, reason, body) VALUES (?, ?, ?, ?)"
_TIMER = "outbox"


class Outbox:
    """The outbox of one daemon. `encode` and `write` may be used in any thread, the rest in the loop's."""

    def __init__(
        self, store: StateStore, journal: JournalPort, loop: Loop, clock: Clock, zooid: str, niche: str,
        counters: BusCounters, log: FilteringBoundLogger,
    ) -> None:  # fmt: skip
        self._store, self._journal, self._loop, self._clock, self._log = store, journal, loop, clock, log
        self._emitter = Emitter(
            lambda _topic, _body: False, name=zooid, niche=niche, clock=clock, vocabulary=VOCABULARY, counters=counters
        )
        self._encoding = threading.Lock()
        self._ready: deque[Entry] = deque()
        self._unwritten: dict[str, Entry] = {}
        self._delivered: set[str] = set()
        self._has_more_on_disk = True  # until it was looked at
        self._in_flight: list[Entry] = []
        self._singly = 0
        self.sent = 0
        self.refused_bad = 0
        self.lack: str | None = None

    @property
    def waiting(self) -> int:
        """Entries not acknowledged, as far as they are in memory."""
        return len(self._ready) + len(self._in_flight)

    @property
    def is_sending(self) -> bool:
        """Whether an answer of the journal is due."""
        return bool(self._in_flight)

    def is_durable(self, signal: str) -> bool:
        """Whether that signal goes through here. Raises UnknownSignal."""
        with self._encoding:
            return self._emitter.is_durable(signal)

    def encode(self, outgoing: Iterable[Outgoing]) -> list[Entry]:
        """The durable ones among these signals, numbered, for `write` or `hold`.

        Raises:
            BadFacts, Oversize, RateLimited: See Bus.emit; none of them is to be sent then.
        """
        entries = []
        with self._encoding:
            try:
                for out in outgoing:
                    if self._emitter.is_durable(out.signal):
                        entry = self._emitter.encode(
                            out.signal, out.facts, intensity=out.intensity, incident_id=out.incident_id
                        )
                        if entry:
                            entries.append(entry)
            except BaseException:
                self._emitter.start_anew()
                raise
        return entries

    def discard(self) -> None:
        """What was encoded last was not committed: its numbers must not be missed by anyone."""
        with self._encoding:
            self._emitter.start_anew()

    @staticmethod
    def write(database: Database, entries: Sequence[Entry]) -> None:
        """Keep entries, as part of the transaction around this."""
        database.execute_many(_INSERT, entries)

    def written(self, entries: Iterable[Entry]) -> None:
        """The transaction with these is committed: send them."""
        for entry in entries:
            if self._has_more_on_disk or len(self._ready) >= _WINDOW:
                self._has_more_on_disk = True
            else:
                self._ready.append(entry)
        self.pump()

    def hold(self, entries: Sequence[Entry]) -> None:
        """Keep entries in memory, for as long as the disk cannot be written, and send them.

        Raises:
            OutboxFull: There are too many of them already.
        """
        if len(self._unwritten) + len(entries) > MOST_UNWRITTEN:
            reason = self._store.lack or "the disk is busy"
            raise OutboxFull(signal=entries[0].signal, limit=MOST_UNWRITTEN, reason=reason)
        self._unwritten.update((entry.id, entry) for entry in entries)
        self._ready.extend(entries)
        self.pump()

    def pump(self) -> None:
        """Do what can be done now: delete what was delivered, write what was held, send what is next."""
        self._settle()
        if self._in_flight or not self._ready:
            return
        size_bytes = 0
        most = 1 if self._singly else _APPEND_ENTRIES
        self._singly = max(0, self._singly - 1)
        while self._ready and len(self._in_flight) < most and size_bytes < _APPEND_BYTES:
            entry = self._ready.popleft()
            size_bytes += len(entry.body)
            self._in_flight.append(entry)
        self._journal.append(self._in_flight, self._on_answer)

    def _on_answer(self, answer: Appended | NotKept) -> None:
        entries, self._in_flight = self._in_flight, []
        if isinstance(answer, NotKept) and answer.reason == "disk":
            self.lack = answer.detail
            self._ready.extendleft(reversed(entries))
            self._loop.at_monotonic(_TIMER, self._clock.monotonic_s() + _AGAIN_S, self.pump)
            return
        self.lack = None
        if isinstance(answer, NotKept):
            self._refuse(entries, answer)
        else:
            self.sent += len(entries)
            self._let_go(entries)
        self.pump()

    def _refuse(self, entries: list[Entry], answer: NotKept) -> None:
        """One of these is nothing the journal ever takes: find it by sending them singly, and put it aside."""
        if len(entries) > 1:
            self._singly = len(entries)
            self._ready.extendleft(reversed(entries))
            return
        self.refused_bad += 1
        entry = entries[0]
        self._log.error("outbox_entry_refused", signal=entry.signal, message_id=entry.id, reason=answer.detail)
        self._let_go(entries)
        try:
            values = (self._clock.wall_us(), entry.signal, f"refused by the journal: {answer.detail}", entry.body)
            self._store.database.execute(_PUT_ASIDE, values)
        except StoreUnusable as error:
            self._log.error("dead_letter_not_kept", signal=entry.signal, reason=str(error))

    def _let_go(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if self._unwritten.pop(entry.id, None) is None:
                self._delivered.add(entry.id)

    def _settle(self) -> None:
        """Bring the file up to date, unless somebody else is writing just now."""
        if not (self._delivered or self._unwritten or (self._has_more_on_disk and not self._ready)):
            return
        try:
            database = self._store.database
            with database.claimed() as is_free:
                if is_free:
                    self._settle_in(database)
        except StoreUnusable:
            return  # the store names the lack

    def _settle_in(self, database: Database) -> None:
        with database.transaction():
            database.execute_many("DELETE FROM outbox WHERE id = ?", [(each,) for each in self._delivered])
            database.execute_many(_INSERT, self._unwritten.values())
        self._delivered.clear()
        self._unwritten.clear()
        if self._has_more_on_disk and not self._ready and not self._in_flight:
            self._ready.extend(Entry(*row) for row in database.query(_SELECT, (_WINDOW,)))
            self._has_more_on_disk = len(self._ready) == _WINDOW

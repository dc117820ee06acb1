"""Durable signals from the journal to a daemon's `work`: in order, each with its effect exactly once.

The daemon's place in the journal is kept in its own database and moves in the same transaction as the effects of what
was read. There is no other path: what is heard live only rings (Q_JOURNAL_ADVANCED), and so does the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, partial

from msgspec.structs import force_setattr
from structlog.typing import FilteringBoundLogger

from kloros.chembus.declaration import Vocabulary
from kloros.chembus.envelope import Message, Refused, decode
from kloros.chembus.facts import Facts, JournalFacts
from kloros.chembus.journal.contract import Entry, Page, Row
from kloros.chembus.vocabulary import VOCABULARY
from kloros.clock import Clock
from kloros.daemon.batch import Batch
from kloros.daemon.cycle import Outgoing, Worker
from kloros.daemon.journal_port import JournalPort
from kloros.daemon.loop import Loop
from kloros.daemon.outbox import Outbox
from kloros.errors import StoreUnusable, UnknownSignal
from kloros.storage.database import Database
from kloros.storage.state_store import StateStore

ATTEMPTS = 3  # to work off one signal, before it is put aside
_RETRY_S = (0.2, 2.0)  # before the second attempt, and before the third
_LOOK_EVERY_S = 1.0
_DISK_RETRY_S = 1.0
_CURSOR = "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET offset = excluded.offset"
_PUT_ASIDE = "INSERT INTO dead_letters (ts_us, journal_offset, signal, reason, body) VALUES (?, ?, ?, ?, ?)"


class Phase(Enum):
    """What an intake is waiting for."""

    IDLE = "idle"
    FETCHING = "fetching"
    WORKING = "working"
    WAITING = "waiting"


@dataclass
class Desk:
    """What an intake is given by its daemon. `may_work` says whether work can be taken up now; `on_done` is called
    with what was worked off, `on_missing` with how many entries are gone that were not read."""

    name: str
    signals: tuple[str, ...]
    most: int
    journal: JournalPort
    outbox: Outbox
    store: StateStore
    loop: Loop
    clock: Clock
    worker: Worker
    log: FilteringBoundLogger
    patience_s: float
    work: Callable[[Batch], None]
    may_work: Callable[[], bool]
    count: Callable[[str, int], None]
    on_done: Callable[[int, Sequence[Outgoing]], None]
    on_missing: Callable[[int], None]
    on_hung: Callable[[], None]


@dataclass
class _Job:
    """Rows on their way through the worker."""

    rows: Sequence[Row]
    through: int
    batch: Batch | None = None
    entries: list[Entry] = field(default_factory=list)
    refused: list[tuple[Row, str]] = field(default_factory=list)
    error: Exception | None = None


class Intake:
    """Reads the journal for one daemon. In the loop's thread, except for the work itself."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._phase = Phase.IDLE
        self._journal = ""
        self.offset = 0
        self._is_new = True
        self._end = 0
        self._singly_through = 0
        self._attempts = 0
        self._job: _Job | None = None

    @property
    def is_working(self) -> bool:
        """Whether the worker has a batch."""
        return self._phase is Phase.WORKING

    @property
    def is_busy(self) -> bool:
        """Whether something is fetched or worked off just now."""
        return self._phase in (Phase.WORKING, Phase.FETCHING)

    @property
    def behind(self) -> int:
        """Offsets between this daemon's place and the end of the journal, as far as it is known."""
        return max(0, self._end - self.offset)

    def start(self) -> None:
        """Begin to read."""
        self._desk.loop.every("intake", _LOOK_EVERY_S, self.turn)
        self.turn()

    def on_doorbell(self, message: Message) -> None:
        """The journal has grown."""
        facts: JournalFacts = message.facts
        if facts.journal == self._journal and not any(map(self._is_wanted, facts.signals)):
            return
        self._end = max(self._end, facts.offset) if facts.journal == self._journal else self._end
        self.turn()

    def turn(self) -> None:
        """Ask for the next page, unless one is on its way or must wait."""
        desk = self._desk
        if self._phase is Phase.IDLE and desk.may_work():
            self._phase = Phase.FETCHING
            limit = 1 if self.offset < self._singly_through else desk.most
            desk.journal.fetch(desk.name, desk.signals, self._journal, self.offset, limit, self._on_page)

    def cancel(self) -> None:
        """Ask the batch that is being worked off to end early, and take up nothing more."""
        if self._job and self._job.batch:
            self._job.batch.cancelled.set()
        if self._phase is not Phase.WORKING:
            self._phase = Phase.WAITING

    # Reading

    def _on_page(self, page: Page) -> None:
        self._phase = Phase.IDLE
        if page.journal != self._journal:
            self._open_journal(page.journal)
            return
        self._end = page.end
        if page.missing and not self._is_new and page.next_after > self.offset:
            self._desk.log.error("journal_missing", count=page.missing, after=self.offset)
            self._desk.on_missing(page.missing)
        if page.rows:
            if self._desk.may_work():
                self._start(page)
        elif page.next_after > self.offset:
            self._move(page.next_after)
            if self.offset < self._end:
                self.turn()

    def _open_journal(self, journal: str) -> None:
        """Find this daemon's place in that journal."""
        try:
            rows = dict(self._desk.store.database.query("SELECT name, offset FROM cursors"))
        except StoreUnusable as error:
            self._wait_for_disk(error)
            return
        self._journal, self._end, self._singly_through = journal, 0, 0
        offset: int | None = rows.get(self._cursor_name())
        if offset is None and any(name.startswith("journal/") for name in rows):
            self._desk.log.warning("journal_is_another", journal=journal, reason="its file was lost; reading it anew")
        self._is_new, self.offset = offset is None, offset or 0
        self.turn()

    def _move(self, offset: int) -> None:
        """Nothing for this daemon up to there: note it, so that the journal need not be asked for that again."""
        desk = self._desk
        self.offset, self._is_new = offset, False
        try:
            desk.store.database.execute(_CURSOR, (self._cursor_name(), offset))
        except StoreUnusable:
            return  # it is only a shortcut
        desk.journal.committed(desk.name, desk.signals, self._journal, offset)

    # Working

    def _start(self, page: Page) -> None:
        desk = self._desk
        self._phase = Phase.WORKING
        self._job = _Job(page.rows, page.next_after)
        desk.loop.at_monotonic("batch hang", desk.clock.monotonic_s() + desk.patience_s, desk.on_hung)
        desk.worker.run(partial(self._run_in_worker, self._job))

    def _run_in_worker(self, job: _Job) -> None:
        try:
            self._work(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this batch
            job.error = error
        self._desk.loop.call_soon(partial(self._done, job))

    def _work(self, job: _Job) -> None:
        desk, documents = self._desk, dict[str, object]()
        messages, bodies = _decoded(job)
        with desk.store.exact(documents) as database:
            job.batch = Batch(messages, bodies, database, desk.store, desk.log, documents=documents)
            if messages:
                desk.work(job.batch)
            job.entries = desk.outbox.encode(job.batch.outgoing)
            desk.outbox.write(database, job.entries)
            for row, reason in job.refused:
                self._put_aside(database, row, reason)
            database.execute(_CURSOR, (self._cursor_name(), job.through))

    def _done(self, job: _Job) -> None:
        desk = self._desk
        self._job, self._phase = None, Phase.IDLE
        desk.loop.at_monotonic("batch hang", None)
        if job.error is None:
            self._finish(job)
        elif isinstance(job.error, StoreUnusable):
            desk.outbox.discard()
            self._wait_for_disk(job.error)
        else:
            desk.outbox.discard()
            self._fail(job, job.error)
        desk.store.flush()
        desk.on_done(*self._result(job))
        self.turn()

    def _finish(self, job: _Job) -> None:
        desk = self._desk
        self.offset, self._is_new, self._attempts = job.through, False, 0
        desk.outbox.written(job.entries)
        desk.journal.committed(desk.name, desk.signals, self._journal, self.offset)
        for (offset, signal, _), reason in job.refused:
            desk.count("dead_letters", 1)
            desk.log.error("dead_letter", signal=signal, offset=offset, reason=reason)

    def _fail(self, job: _Job, error: Exception) -> None:
        """Work that raised: find the signal it raises for, try that a few times, then put it aside."""
        desk = self._desk
        reason = f"{type(error).__name__}: {error}"
        desk.count("batch_failed", 1)
        if len(job.rows) > 1:
            desk.log.warning("batch_failed", reason=reason, signals=len(job.rows), exc_info=error)
            self._singly_through = job.rows[-1][0]
            return
        offset, signal, _ = row = job.rows[0]
        self._attempts += 1
        desk.log.warning("batch_failed", signal=signal, offset=offset, attempt=self._attempts, reason=reason)
        if self._attempts < ATTEMPTS:
            self._wait(_RETRY_S[self._attempts - 1])
            return
        # The same way as work, so that it moves this daemon's place in one transaction with what is put aside.
        self._phase = Phase.WORKING
        self._job = _Job([], job.through, refused=[(row, reason)])
        desk.worker.run(partial(self._run_in_worker, self._job))

    @staticmethod
    def _result(job: _Job) -> tuple[int, Sequence[Outgoing]]:
        if job.error is not None or job.batch is None:
            return 0, ()
        return job.batch.processed or len(job.batch.messages), job.batch.outgoing

    def _put_aside(self, database: Database, row: Row, reason: str) -> None:
        offset, signal, body = row
        database.execute(_PUT_ASIDE, (self._desk.clock.wall_us(), offset, signal, reason[:1000], body))

    def _wait_for_disk(self, error: StoreUnusable) -> None:
        self._desk.count("disk_refused", 1)
        self._desk.log.warning("work_waits_for_disk", reason=str(error))
        self._wait(_DISK_RETRY_S)

    def _wait(self, seconds: float) -> None:
        self._phase = Phase.WAITING
        self._desk.loop.at_monotonic("intake retry", self._desk.clock.monotonic_s() + seconds, self._retry)

    def _retry(self) -> None:
        if self._phase is Phase.WAITING:
            self._phase = Phase.IDLE
            self.turn()

    def _cursor_name(self) -> str:
        return f"journal/{self._journal}"

    def _is_wanted(self, signal: str) -> bool:
        return signal == "*" or any(
            signal == name or (name.endswith("*") and signal.startswith(name[:-1])) for name in self._desk.signals
        )


def _decoded(job: _Job) -> tuple[list[Message], list[bytes]]:
    """The messages of a job with the JSON they came as; what cannot be read is among its `refused` afterwards."""
    messages, bodies = [], []
    for row in job.rows:
        offset, signal, body = row
        try:
            message = decode(signal.encode(), body, _facts_of(signal, VOCABULARY))
        except Refused as error:
            job.refused.append((row, str(error)))
            continue
        force_setattr(message, "offset", offset)
        messages.append(message)
        bodies.append(body)
    return messages, bodies


@lru_cache(maxsize=4096)
def _facts_of(signal: str, vocabulary: Vocabulary) -> type[Facts] | None:
    try:
        return vocabulary.lookup(signal).facts
    except UnknownSignal:
        return None

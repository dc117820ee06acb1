"""The part of a daemon that loses nothing: its outbox, its place in the journal, and the thread that works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Protocol

from kloros.chembus.facts import GapFacts
from kloros.daemon.batch import Batch
from kloros.daemon.cycle import Cycle, Outgoing, Statement, Worker
from kloros.daemon.intake import Desk, Intake
from kloros.daemon.journal_port import JournalPort
from kloros.daemon.kit import Kit
from kloros.daemon.loop import Loop
from kloros.daemon.outbox import Outbox
from kloros.errors import StoreUnusable
from kloros.units import us_to_seconds

# How long a stopping daemon waits for what its worker is doing.
STOP_GRACE_S = 1.5
# How often, and how long each time, it then waits for the journal to acknowledge what is on its way.
_LAST_TURNS = 10
_LAST_TURN_S = 0.03


class Host(Protocol):
    """A daemon, as far as it matters here."""

    zooid: ClassVar[str]
    niche: ClassVar[str]
    consumes: ClassVar[tuple[str, ...]]
    batch_limit: ClassVar[int]
    loop: Loop
    processed_count: int

    def work(self, batch: Batch) -> None: ...
    def may_take_work(self) -> bool: ...
    def on_work_done(self) -> None: ...
    def count(self, event: str, by: int = 1) -> None: ...
    def stop(self, exit_code: int = 0) -> None: ...


class Durables:
    """See above. Belongs to the loop's thread."""

    def __init__(self, host: Host, kit: Kit) -> None:
        self._host, self._kit = host, kit
        self._bus, self._store, self._loop = kit.bus, kit.store, host.loop
        self._worker: Worker | None = None
        self.port = JournalPort(kit.bus.open_journal, host.loop)
        self.outbox = Outbox(
            kit.store, self.port, host.loop, kit.clock, host.zooid, host.niche, kit.bus.counters, kit.log
        )
        self.intake: Intake | None = None

    @property
    def worker(self) -> Worker:
        """The one thread for cycles and batches; made when it is first needed."""
        if self._worker is None:
            self._worker = Worker(f"{self._host.zooid}-worker")
        return self._worker

    def consume(self) -> Intake:
        """Be ready to read the journal."""
        host, kit, limits = self._host, self._kit, self._kit.suite.cycles
        self.intake = Intake(
            Desk(
                name=host.zooid, signals=host.consumes, most=host.batch_limit, journal=self.port, outbox=self.outbox,
                store=kit.store, loop=host.loop, clock=kit.clock, worker=self.worker, log=kit.log,
                patience_s=limits.hang_factor * limits.hang_at_least_s, work=host.work, may_work=host.may_take_work,
                count=host.count, on_done=self._on_done, on_missing=self._on_missing, on_hung=self._on_hung,
            )
        )  # fmt: skip
        return self.intake

    def _on_done(self, processed: int, outgoing: Sequence[Outgoing]) -> None:
        self._host.processed_count += processed
        self.emit_live(outgoing)
        self._host.on_work_done()

    def _on_missing(self, count: int) -> None:
        self._host.count("journal_missing", count)
        since_ts = us_to_seconds(self._kit.clock.wall_us())
        gap = GapFacts(observer=self._host.zooid, signal="*", pub="journal", missing=count, since_ts=since_ts)
        self._bus.emit("BUS_GAP", gap)

    def _on_hung(self) -> None:
        self._kit.log.error("batch_hung")
        self._host.stop(exit_code=1)

    @property
    def is_busy(self) -> bool:
        """Whether a batch is fetched or worked off, or an answer of the journal is due."""
        return self.outbox.is_sending or (self.intake is not None and self.intake.is_busy)

    def keep(
        self, documents: Mapping[str, object], outgoing: Sequence[Outgoing], statements: Sequence[Statement] = ()
    ) -> None:
        """Documents, statements and durable signals in one transaction; then the other signals go out.

        When the disk cannot be written and there are no statements, the rest is kept in memory.

        Raises:
            StoreUnusable: The disk cannot be written, and there are statements. Nothing is kept.
            OutboxFull: There, too, is no more room. Nothing is kept.
            BadFacts, Oversize, RateLimited: See Bus.emit. Nothing is kept.
        """
        entries = self.outbox.encode(outgoing)
        try:
            with self._store.exact(documents) as database:
                for sql, values in statements:
                    database.execute(sql, values)
                self.outbox.write(database, entries)
        except StoreUnusable:
            if statements:
                self.outbox.discard()
                raise
            if entries:
                self.outbox.hold(entries)
            with self._store.batch():
                for name, document in documents.items():
                    self._store.put(name, document)
        except BaseException:
            self.outbox.discard()
            raise
        else:
            self.outbox.written(entries)
        self.emit_live(outgoing)

    def keep_in_worker(self, cycle: Cycle) -> None:
        """What a running cycle has given so far, in one transaction; then it is sent. In the worker's thread.

        Raises:
            StoreUnusable: The disk cannot be written. Nothing is kept.
            BadFacts, Oversize, RateLimited: See Bus.emit. Nothing is kept.
        """
        outgoing = cycle.outgoing
        entries = self.outbox.encode(outgoing)
        try:
            with self._store.exact(cycle.documents) as database:
                for sql, values in cycle.statements:
                    database.execute(sql, values)
                self.outbox.write(database, entries)
        except BaseException:
            self.outbox.discard()
            raise
        self._loop.call_soon(partial(self.outbox.written, entries))
        self._loop.call_soon(partial(self.emit_live, outgoing))

    def emit(self, out: Outgoing) -> None:
        """Send one signal, a durable one through the outbox. Never waits for a batch. Raises as `keep` does."""
        entries = self.outbox.encode([out])
        if not entries:
            self.emit_live([out])
            return
        try:
            with self._store.database.claimed() as is_free:
                if is_free:
                    with self._store.exact({}) as database:
                        self.outbox.write(database, entries)
                    self.outbox.written(entries)
                    return
        except StoreUnusable:
            pass
        self.outbox.hold(entries)

    def emit_live(self, outgoing: Sequence[Outgoing]) -> None:
        """Send the signals among these that are not durable."""
        for out in outgoing:
            if not self.outbox.is_durable(out.signal):
                self._bus.emit(out.signal, out.facts, intensity=out.intensity, incident_id=out.incident_id)

    def start(self) -> None:
        """Send what an earlier life left behind, and begin to read."""
        self.outbox.pump()
        if self.intake:
            self.intake.start()

    def stop(self) -> None:
        """End the work, let it tell its outcome if it ends in time, and let go."""
        if self.intake:
            self.intake.cancel()
        if self._worker is not None and self._worker.close(STOP_GRACE_S):
            self._loop.turn(0.0)
        self.outbox.pump()
        for _ in range(_LAST_TURNS):
            if not self.outbox.is_sending:
                break
            self._loop.turn(_LAST_TURN_S)
        self.port.close()

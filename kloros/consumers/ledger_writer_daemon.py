"""ledger_writer: writes what was observed and done into a ledger that shows every later change."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kloros.config import load_or_default
from kloros.consumers.ledger.keys import LEDGER_KEY, OBSERVATION_KEY, make_key, read_key
from kloros.consumers.ledger.recorder import LedgerSettings, Outcome, Recorder
from kloros.consumers.ledger.rows import Head
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import ConfigError, KeyUnusable, LedgerBroken
from kloros.storage.ledger_store import LEDGER_TABLES, LedgerStore

# Names of unknown zooids that are logged, so that a stream of invented ones does not fill the log.
MAX_STRANGERS_NAMED = 100


class LedgerWriterDaemon(Consumer):
    """Writes as signals come; on its beat it seals and releases segments and logs where the ledger ends."""

    zooid = "ledger_writer_daemon"
    niche = "observability"
    ecosystem = "observability"
    schedule = "ledger_flush"
    signal = "Q_TRIGGER_LEDGER_FLUSH"
    interval_s = 60.0
    consumes = ("OBSERVATION", "Q_ACTION_SPAWNED", "Q_ACTION_COMPLETE", "Q_ENACTMENT", "Q_REFLECTION_REPORT")
    tables = LEDGER_TABLES

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._strangers: set[str] = set()
        self._new_settings: LedgerSettings | None = None
        settings = self._load_settings()
        self._recorder = self._make_recorder(settings)
        self._head = self._begin()
        self._rows = self.metrics.counter("kloros_ledger_rows_total", "Rows written.", ("signal",))
        self._rejected = self.metrics.counter("kloros_ledger_rejected_total", "Signals rejected.", ("reason",))
        last_row = self.metrics.gauge("kloros_ledger_last_row", "The number of the last row.")
        last_row.set_function(lambda: float(self._head.seq))

    # Writing

    def work(self, batch: Batch) -> None:
        with self._stopping_when_broken():
            given = zip(batch.messages, batch.bodies, strict=True)
            outcome = self._recorder.record(LedgerStore(batch.database), given, self.clock.wall_us())
        batch.processed = len(batch.messages)
        self._tell_outcome(outcome)

    def cycle(self, cycle: Cycle) -> None:
        if self._new_settings is not None:
            self._recorder.settings, self._new_settings = self._new_settings, None
        database = self.store.database
        with self._stopping_when_broken(), database.transaction(forced=True):
            flushed = self._recorder.flush(LedgerStore(database), self.clock.wall_us())
        database.query("PRAGMA wal_checkpoint(PASSIVE)")
        self._head = flushed.head
        if flushed.sealed is not None:
            cycle.log.info("segment_sealed", segment=flushed.sealed.number, last_row=flushed.sealed.last_seq)
        for released in flushed.released:
            self.count("segments_released")
            cycle.log.warning(
                "segment_released", segment=released.number, first_row=released.first_seq, last_row=released.last_seq
            )
        if flushed.forgotten:
            self.count("rejections_forgotten", flushed.forgotten)
        # The log lies elsewhere: with this line, `kloros ledger verify --end` notices a ledger set back as a whole.
        cycle.log.info("ledger_ends", row=flushed.head.seq, hash=flushed.head.hash)
        cycle.processed = 1

    def _tell_outcome(self, outcome: Outcome) -> None:
        self._head = outcome.head
        for signal, count in outcome.written.items():
            self._rows.labels(signal).inc(count)
        for reason, count in outcome.rejected.items():
            self._rejected.labels(reason).inc(count)
            self.count(f"rejected_{reason}", count)
            self.log.warning("rejected", reason=reason, count=count)
        if outcome.duplicates:
            self.count("duplicates", outcome.duplicates)
        if outcome.figures_refused:
            self.count("figures_refused", outcome.figures_refused)
        self._name_strangers(outcome.unknown_zooids)

    def _name_strangers(self, unknown: Mapping[str, int]) -> None:
        for zooid, count in unknown.items():
            self.count("unknown_zooid", count)
            if zooid not in self._strangers and len(self._strangers) < MAX_STRANGERS_NAMED:
                self._strangers.add(zooid)
                self.log.info("unknown_zooid", zooid=zooid)

    # Telling

    def status(self) -> str:
        return f"{super().status()}, row {self._head.seq}"

    # Beginning

    def _make_recorder(self, settings: LedgerSettings) -> Recorder:
        home = self.store.path.parent
        ledger_key = Path(settings.keys.ledger_file) if settings.keys.ledger_file else home / LEDGER_KEY
        observation_key = Path(settings.keys.observation_file or home / OBSERVATION_KEY)
        if not ledger_key.exists() and LedgerStore(self.store.database).head() is not None:
            reason = f"it is gone, and the ledger in {self.store.path} was signed with it; put it back"
            raise KeyUnusable(path=ledger_key, reason=reason)
        for path in (ledger_key, observation_key):
            if not path.exists():
                make_key(path)
                self.log.info("key_made", path=str(path))
        return Recorder(self.store.path, read_key(ledger_key), read_key(observation_key), settings)

    def _begin(self) -> Head:
        database = self.store.database
        with database.transaction(forced=True):
            return self._recorder.begin(LedgerStore(database), self.clock.wall_us())

    @contextmanager
    def _stopping_when_broken(self) -> Iterator[None]:
        """Writing on would cover up what was done to the ledger: what waits in the journal is safe there."""
        try:
            yield
        except LedgerBroken as error:
            self.log.error("ledger_broken", reason=error.reason)
            self.loop.call_soon(partial(self.stop, error.exit_code))
            raise

    # Settings

    def on_reload(self) -> None:
        try:
            self._new_settings = self._load_settings()
        except ConfigError as error:
            self.log.error("settings_refused", reason=str(error))
        else:
            self.log.info("settings_reloaded", when="with the next beat; keys with the next start")

    def _load_settings(self) -> LedgerSettings:
        return load_or_default(settings_file(self.place, stem_of(type(self))), LedgerSettings)


if __name__ == "__main__":
    sys.exit(main(LedgerWriterDaemon))

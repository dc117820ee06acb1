"""chembus_historian: keeps everything that passed, and says where something is missing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from kloros.chembus.bus import Loss
from kloros.chembus.declaration import Delivery
from kloros.chembus.envelope import Message
from kloros.chembus.facts import DropFacts, GapFacts, HeartbeatFacts
from kloros.chembus.facts_work import PruneFacts
from kloros.chembus.journal.contract import with_offset
from kloros.chembus.vocabulary import VOCABULARY
from kloros.config import load_or_default
from kloros.consumers.history.absence import Absence
from kloros.consumers.history.buffer import HistoryBuffer
from kloros.consumers.history.settings import HistorianSettings, PruneOrder
from kloros.consumers.history.thinning import Thinner
from kloros.consumers.history.writer import HistoryWriter
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import RECEIVE_BATCH
from kloros.daemon.kit import Kit
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import ConfigError, StoreUnusable, UnknownSignal
from kloros.storage.history_rows import Gap, Mark, Row, zooid_of
from kloros.storage.history_store import HISTORY_TABLES, HistoryStore
from kloros.units import seconds_to_us, us_to_seconds

JOURNAL = "journal"  # how a daemon names it when it says what it never got from there
PRUNE = "prune"
BYTES_PER_MB = 1_000_000
MAX_LINES = 65_536  # (publisher, signal) pairs of which the last number is known


class ChembusHistorianDaemon(Consumer):
    """Durable signals come from the journal, each once; volatile ones are heard live, what is missing as a gap.

    Its beat is the retention; it records all the time, maintenance included.
    """

    zooid = "chembus_historian_daemon"
    niche = "observability"
    ecosystem = "observability"
    schedule = "history_rotate"
    signal = "Q_TRIGGER_HISTORY_ROTATE"
    interval_s = 3600.0
    hears = ("*",)
    consumes = ("*",)
    tables = HISTORY_TABLES

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        settings = self._settings = self._load_settings()
        self._thinner = Thinner(settings.fold_s)
        self._buffer = HistoryBuffer(settings.write.buffer_messages, settings.buffer_bytes)
        self._history = HistoryStore(lambda: self.store.database)
        self._writer = HistoryWriter(self._history, self._buffer, settings.bounds, self.log)
        self._absence = Absence(())
        self._reached: dict[tuple[str, str], int] = {}
        self._is_durable: dict[str, bool] = {}
        self._dropped: dict[str, int] = {}
        self._refused = 0
        self._is_to_prune = False
        self._body = b""  # of the message that is being handled
        self.metrics.counters_from("kloros_history_messages", "Messages by what became of them.", self._figures)
        size = self.metrics.gauge("kloros_history_size_bytes", "The file that holds the history.")
        size.set_function(lambda: float(self._writer.file_bytes()))

    # Durable signals

    def work(self, batch: Batch) -> None:
        now_us = self.clock.wall_us()
        self._writer.keep(
            [
                _row(message, body if message.offset is None else with_offset(body, message.offset), now_us)
                for message, body in zip(batch.messages, batch.bodies, strict=True)
            ]
        )
        for message in batch.messages:
            if isinstance(message.facts, PruneFacts):
                batch.save(PRUNE, PruneOrder(message.facts.keep_mb * BYTES_PER_MB, message.offset or 0))
                self._is_to_prune = True

    def _carry_out_order(self) -> None:
        """It is on disk until it is carried out: no kill loses it, and twice does no harm. From any thread."""
        if order := self.store.get(PRUNE, PruneOrder):
            self._writer.prune_soon(order.max_bytes, lambda: self.loop.call_soon(lambda: self._pruned(order)))

    def _pruned(self, order: PruneOrder) -> None:
        if self.store.get(PRUNE, PruneOrder) == order:
            self.store.put(PRUNE, None)

    # Volatile signals

    def _receive(self) -> None:
        for message, body in self.bus.receive_with_bodies(RECEIVE_BATCH):
            self._body = body
            self._handle(message)

    def on_signal(self, message: Message) -> None:
        if self._comes_from_the_journal(message.signal):
            return
        now_us = self.clock.wall_us()
        row = _row(message, self._body, now_us)
        self._account(message, now_us)
        stand_in = self._thinner.stand_in(message, row.ts_us) if self._thinner.thins(message.signal) else None
        if stand_in is not None:
            self._buffer.repeat(stand_in, message.seq, row.ts_us)
        elif not self._buffer.offer(row):
            self._dropped[message.signal] = self._dropped.get(message.signal, 0) + 1
        elif self._thinner.thins(message.signal):
            self._thinner.kept(message, row)
        if len(self._buffer) >= self._settings.write.at_messages:
            self._writer.write_soon()
        else:
            self._write_in_time()

    def _comes_from_the_journal(self, signal: str) -> bool:
        known = self._is_durable.get(signal)
        if known is None:
            try:
                known = VOCABULARY.lookup(signal).delivery is Delivery.DURABLE
            except UnknownSignal:
                known = False
            if len(self._is_durable) < MAX_LINES:
                self._is_durable[signal] = known
        return known

    # What is missing

    def _account(self, message: Message, now_us: int) -> None:
        """See to it that whatever is missing before this message is a gap before the message itself is accounted for.

        The two are then written together, so that a kill between them loses no count.
        """
        pub, seq = message.pub, message.seq
        if pub is None or seq is None:
            return
        key = (pub, message.signal)
        if seq != self._reached.get(key, 0) + 1:
            self._announce_losses()
            self._note_refusals(now_us)
            if self._absence and (found := self._absence.heard(pub, message.signal, seq)):
                self._miss_absent(*found, now_us)
        self._reach(key, seq)
        facts = message.facts
        if isinstance(facts, HeartbeatFacts):
            self._account_for_sent(pub, facts, now_us)
        elif isinstance(facts, GapFacts) and facts.observer == self.zooid and facts.pub == JOURNAL:
            self._buffer.miss(Gap("overrun", "*", "*", JOURNAL, now_us, now_us, facts.missing))

    def _account_for_sent(self, pub: str, facts: HeartbeatFacts, now_us: int) -> None:
        """A heartbeat tells of last messages that never came."""
        if self._absence:
            for found in self._absence.told(pub, facts.sent):
                self._miss_absent(*found, now_us)
        late = {
            (pub, signal): sent for signal, sent in facts.sent.items() if sent > self._reached.get((pub, signal), sent)
        }
        if late:
            self._announce_losses()
            self._note_refusals(now_us)
            for key, sent in late.items():
                self._reach(key, sent)
                self._buffer.mark(*key, sent, now_us)

    def _reach(self, key: tuple[str, str], seq: int) -> None:
        if len(self._reached) >= MAX_LINES and key not in self._reached:
            self._reached.clear()
        self._reached[key] = seq

    def _miss_absent(self, mark: Mark, missing: int, now_us: int) -> None:
        zooid = zooid_of(mark.pub)
        self._buffer.miss(Gap("away", mark.signal, zooid, mark.pub, mark.ts_us, now_us, missing))

    def on_losses(self, losses: Sequence[Loss]) -> None:
        now_us = self.clock.wall_us()
        for loss in losses:
            if not self._comes_from_the_journal(loss.signal):
                zooid = zooid_of(loss.pub)
                self._buffer.miss(Gap("lost", loss.signal, zooid, loss.pub, loss.since_us, now_us, loss.missing))

    def _note_refusals(self, now_us: int) -> None:
        """What came and was refused (stale, broken) did pass: it is missing here, by name where that is known."""
        refused = sum(self.bus.counters.refused.values())
        new, self._refused = refused - self._refused, refused
        if not new:
            return
        named = [refusal.topic.strip("'") for refusal in self.bus.recent_refusals][-new:]
        topics = [topic if VOCABULARY.knows(topic) else "*" for topic in named] + ["*"] * (new - len(named))
        for signal, count in Counter(topics).items():
            self._buffer.miss(Gap("refused", signal, "", "", now_us, now_us, count))

    def _announce_drops(self) -> None:
        """Say what our own buffer had no room for."""
        dropped, self._dropped = self._dropped, {}
        for signal, count in dropped.items():
            self.count("history_dropped", count)
            self.log.warning("history_dropped", signal=signal, dropped=count)
            since_ts = us_to_seconds(self.clock.wall_us())
            self.bus.emit("BUS_DROP", DropFacts(observer=self.zooid, signal=signal, dropped=count, since_ts=since_ts))

    # Keeping within limits

    def cycle(self, cycle: Cycle) -> None:
        self._carry_out_order()  # once more, should the disk have refused
        now_us = self.clock.wall_us()
        cycle.processed = self._writer.rotate(now_us, cycle.cancelled.is_set)

    # Life

    def on_start(self) -> None:
        super().on_start()
        try:
            self._history.prepare()
            self._absence = Absence(self._history.marks(MAX_LINES))
            self._tell_of_the_time_away(self._history.last_us())
        except StoreUnusable as error:
            self.log.warning("history_not_read", reason=str(error.reason))
        self._carry_out_order()

    def _tell_of_the_time_away(self, ended_us: int | None) -> None:
        """Publishers that came and went meanwhile are known to nobody: a gap without a number."""
        if ended_us is not None:
            now_us = self.clock.wall_us()
            self._buffer.miss(Gap("away", "*", "*", "*", min(ended_us, now_us), now_us, 0))

    def on_housekeeping(self) -> None:
        super().on_housekeeping()
        self._note_refusals(self.clock.wall_us())
        self._announce_drops()
        if self._buffer.is_holding:  # also what the disk would not take
            self._write_in_time()

    def on_work_done(self) -> None:
        super().on_work_done()
        self._write_in_time()
        if self._is_to_prune:
            self._is_to_prune = False
            self._carry_out_order()

    def on_flush(self) -> None:
        self._writer.write_soon()

    def _write_in_time(self) -> None:
        self.held_back.flush_within(self._settings.write.every_s)

    def on_stop(self) -> None:
        super().on_stop()
        if not self._writer.close():
            self.log.warning("history_cut_off", waiting=len(self._buffer))

    def on_reload(self) -> None:
        try:
            settings = self._load_settings()
        except ConfigError as error:
            self.log.error("settings_refused", reason=str(error))
            return
        self._settings = settings
        self._thinner = Thinner(settings.fold_s)
        self._writer.bounds = settings.bounds
        self._buffer.resize(settings.write.buffer_messages, settings.buffer_bytes)
        self.log.info("settings_reloaded")

    def _load_settings(self) -> HistorianSettings:
        return load_or_default(settings_file(self.place, stem_of(type(self))), HistorianSettings)

    # Telling

    def _figures(self) -> dict[str, int]:
        writer = self._writer
        return {
            "stored": writer.stored,
            "folded": writer.folded,
            "missing": writer.missing,
            "let_go": writer.let_go,
            "waiting": len(self._buffer),
        }

    def heartbeat_facts(self) -> HeartbeatFacts:
        facts = super().heartbeat_facts()
        facts.detail = facts.detail or self._writer.lack
        facts.counters |= {f"history_{name}": count for name, count in self._figures().items() if count}
        return facts

    def status(self) -> str:
        writer = self._writer
        return f"{super().status()}, {writer.stored} stored, {writer.folded} folded, {writer.missing} missing"


def _row(message: Message, body: bytes, now_us: int) -> Row:
    """The message as it is kept. A moment that has not come yet is told as now: nothing may outstay its time."""
    ts_us = min(seconds_to_us(message.ts), now_us)
    zooid = zooid_of(message.pub) or _speaker(message)
    return Row(ts_us, message.signal, zooid, message.pub, message.incident_id, body, message.seq)


def _speaker(message: Message) -> str:
    """Who speaks in the message of an old client, as far as it tells."""
    facts = message.facts
    named = getattr(facts, "zooid", None) or getattr(facts, "daemon", None)
    return named if isinstance(named, str) else ""


if __name__ == "__main__":
    sys.exit(main(ChembusHistorianDaemon))

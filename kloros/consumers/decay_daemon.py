"""decay: owns the memory, and lets what matters little fade."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable

from kloros.chembus.envelope import Message
from kloros.chembus.facts_work import FadedFacts
from kloros.consumers.memory.beat import OVER, Beat, Tally, has_begun
from kloros.consumers.memory.fading import Fading
from kloros.consumers.memory.recorder import Recorder
from kloros.consumers.memory.settings import MemorySettings
from kloros.consumers.memory.store import MEMORY_TABLES, MemoryStore
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.fallback import Run, Source
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import StoreUnusable

# Turns of the mood that wait to be written; they are news, not work, and the oldest go.
MOST_FELT = 1_000
# Between two turns of a beat what waits in the journal is fetched and worked off, whoever else asks for the next turn.
TURNS_APART_S = 0.25


class DecayDaemon(Consumer):
    """Remembers what the others tell of; on its beat forgets what has faded.

    A beat is done in turns of a fraction of a second. Between them waiting signals and triggers go first; each turn is
    a cycle of its own, whose report says how many still wait.
    """

    zooid = "decay_daemon"
    niche = "memory"
    ecosystem = "memory"
    schedule = "memory_decay"
    signal = "Q_TRIGGER_DECAY"
    interval_s = 3600.0
    hears = ("AFFECT_*",)
    consumes = (
        "CAPABILITY_GAP",
        "CAPABILITY_RESTORED",
        "Q_CURIOSITY_*",
        "Q_QUESTION_FOLDED",
        "Q_INVESTIGATION_COMPLETE",
        "Q_ACTION_SPAWNED",
        "Q_ACTION_COMPLETE",
        "Q_ACTION_DECIDED",
        "FLAG_FOR_REVIEW",
        "FLAG_CLOSED",
        "Q_ENACTMENT",
        "Q_REFLECTION_REPORT",
        "Q_SHADOW_VERDICT",
        "Q_TOURNAMENT_COMPLETE",
        "Q_MEMORY_ACCESSED",
    )
    tables = MEMORY_TABLES

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), MemorySettings, self.log)
        self._fading = self._make_fading()
        self._felt: deque[Message] = deque(maxlen=MOST_FELT)
        self._is_unfinished = False
        self._rests_until_s = 0.0
        self._backlog = 0
        self._kept = 0
        self._events = self.metrics.counter("kloros_memory_events_total", "Signals by what they did.", ("what",))
        self._faded = self.metrics.counter("kloros_memories_faded_total", "Memories that faded away.", ("sector",))
        kept = self.metrics.gauge("kloros_memories_kept", "Memories, as the last beat counted them.")
        kept.set_function(lambda: float(self._kept))

    def on_start(self) -> None:
        super().on_start()
        self._is_unfinished = self._has_begun_beat()  # by an earlier life

    # Remembering

    def work(self, batch: Batch) -> None:
        self._remember(MemoryStore(batch.database), batch.messages)

    def on_signal(self, message: Message) -> None:
        if len(self._felt) == MOST_FELT:
            self.count("moods_forgotten")
        self._felt.append(message)

    def on_housekeeping(self) -> None:
        if self._felt:
            self._write_what_was_felt()
        if self._is_unfinished and self.is_working and not self._cycles.is_busy:
            self._is_unfinished = False
            self._request(Run(Source.INJECTED))

    def _write_what_was_felt(self) -> None:
        """Few rows, and only while the database is free: the loop must not wait."""
        try:
            database = self.store.database
            with database.claimed() as is_free:
                if is_free:
                    with database.transaction():
                        self._remember(MemoryStore(database), self._felt)
                    self._felt.clear()
        except StoreUnusable:
            self.count("disk_refused")

    def _remember(self, store: MemoryStore, messages: Iterable[Message]) -> None:
        recorder = Recorder(store, self._fading, self._own.current.limits.text_characters)
        for what, count in recorder.remember(messages, self.clock.wall_us()).items():
            self._events.labels(what).inc(count)

    # Forgetting

    def cycle(self, cycle: Cycle) -> None:
        if self._own.take():
            self._fading = self._make_fading()
        if self.clock.monotonic_s() >= self._rests_until_s:
            self._take_turn(cycle)
        else:  # asked for between two turns: the beat goes on anyway
            cycle.backlog, self._is_unfinished = self._backlog, True

    def _take_turn(self, cycle: Cycle) -> None:
        started_s = self.clock.monotonic_s()
        store, settings = MemoryStore(self.store.database), self._own.current
        beat = Beat(store, settings, self._fading, self.clock.wall_us())
        before = beat.tally.forgotten
        end_s = started_s + settings.pace.turn_s

        def may_go_on() -> bool:
            return not cycle.cancelled.is_set() and self.clock.monotonic_s() < end_s

        is_over = beat.go_on(may_go_on)
        cycle.processed = beat.tally.forgotten - before
        busy_s = self.clock.monotonic_s() - started_s
        if is_over:
            self._tell_what_faded(cycle, beat.tally, store.count(), busy_s)
        else:
            beat.note(busy_s)
            cycle.backlog = self._backlog = beat.left()
            self._rests_until_s = self.clock.monotonic_s() + TURNS_APART_S
            self._is_unfinished = True

    def _tell_what_faded(self, cycle: Cycle, tally: Tally, kept: int, last_turn_s: float) -> None:
        self._kept = kept
        facts = FadedFacts(
            examined=tally.examined,
            faded=tally.forgotten,
            kept=kept,
            by_sector=tally.by_sector,
            examples=[text for _, text in tally.examples],
            duration_s=round(tally.busy_s + last_turn_s, 6),
            crowded_out=tally.crowded_out,
        )
        cycle.execute(*OVER)
        cycle.emit("Q_MEMORY_FADED", facts)
        for sector, count in tally.by_sector.items():
            self._faded.labels(sector).inc(count)
        cycle.log.info("memory_faded", faded=tally.forgotten, kept=kept, crowded_out=tally.crowded_out or None)

    def _has_begun_beat(self) -> bool:
        try:
            return has_begun(MemoryStore(self.store.database))
        except StoreUnusable:
            return False

    def _make_fading(self) -> Fading:
        settings = self._own.current
        return Fading(settings.half_life_h, settings.fading)

    def on_reload(self) -> None:
        self._own.reload()


class OneBeat(DecayDaemon):
    """`--once`: one beat, and the end. Needs no bus; what it has to tell waits in the outbox where there is none."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._asked_to_stop = threading.Event()

    def run(self) -> int:
        try:
            self._run_turns()
        finally:
            self.wind_down()
        return self.exit_code

    def stop(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code
        self._asked_to_stop.set()

    def _run_turns(self) -> None:
        is_over = False
        while not is_over and not self._asked_to_stop.is_set():
            self._rests_until_s = 0.0
            cycle = Cycle(Run(Source.INJECTED), self.budget_s, self.log, self.clock, self.store)
            cycle.cancelled = self._asked_to_stop
            self.cycle(cycle)
            self.durables.keep(cycle.documents, cycle.outgoing, cycle.statements)
            is_over = not cycle.backlog


if __name__ == "__main__":
    sys.exit(main(OneBeat if "--once" in sys.argv[1:] else DecayDaemon))

"""action_consumer: acts within strict limits, checks what came of it, and flags what needs a person."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable

from kloros.chembus.envelope import Message
from kloros.chembus.facts import ChangedFacts, TickEntry, TickFacts
from kloros.chembus.facts_work import DecisionFacts, GapFoundFacts, InvestigationFacts
from kloros.consumers.action import store
from kloros.consumers.action.action import UNVERIFIED
from kloros.consumers.action.desk import Desk
from kloros.consumers.action.kinds.base import Kind, Tools
from kloros.consumers.action.kinds.registry import all_kinds
from kloros.consumers.action.round import Round
from kloros.consumers.action.settings import ActionSettings
from kloros.consumers.action.store import ACTION_TABLES
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.fallback import Run, Source
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.pen import BatchPen
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import StoreUnusable
from kloros.machine.privileged_client import PrivilegedClient
from kloros.machine.systemd_bus import SystemdBus
from kloros.storage.reads import Reads

MOST_ANSWERS = 100


class ActionConsumerDaemon(Consumer):
    """Acts within strict limits, checks what came of it, and flags what needs a person."""

    zooid = "action_consumer_daemon"
    niche = "action"
    ecosystem = "queue_management"
    schedule = "action_processing"
    signal = "Q_TRIGGER_ACTION_PROCESSING"
    interval_s = 300.0
    hears = ("Q_SCHEDULE_CHANGED",)
    consumes = ("Q_INVESTIGATION_COMPLETE", "CAPABILITY_GAP", "CAPABILITY_RESTORED", "Q_ACTION_DECISION")
    tables = ACTION_TABLES

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), ActionSettings, self.log)
        self._pages: dict[int, dict[str, TickEntry]] = {}
        self._entries: dict[str, TickEntry] = {}
        self._answers: OrderedDict[str, ChangedFacts] = OrderedDict()
        self._systemd = SystemdBus()
        self._open_actions = self._open_flags = 0
        self._first_run: Run | None = None
        self._actions_total = self.metrics.counter("kloros_actions_total", "Actions ended.", ("kind", "outcome"))
        actions = self.metrics.gauge("kloros_actions_open", "Actions that wait, or are under way.")
        actions.set_function(lambda: float(self._open_actions))
        flags = self.metrics.gauge("kloros_flags_open", "Flags that need a person.")
        flags.set_function(lambda: float(self._open_flags))

    # What comes in

    def work(self, batch: Batch) -> None:
        self._own.take()
        pen = BatchPen(batch)
        desk = Desk(pen, self._own.current, batch.log, self.clock.wall_us())
        for message in batch.messages:
            self._hear(desk, message)
        batch.processed = len(batch.messages)
        self._count_up(desk.outcomes.ended, desk.counts)
        self._look(pen)

    def _hear(self, desk: Desk, message: Message) -> None:
        facts = message.facts
        if isinstance(facts, InvestigationFacts):
            desk.investigated(facts)
        elif isinstance(facts, DecisionFacts):
            desk.decided(facts, message.id)
        elif isinstance(facts, GapFoundFacts) and message.signal == "CAPABILITY_RESTORED":
            desk.restored(facts)
        elif isinstance(facts, GapFoundFacts):
            desk.found(facts)

    # The beat

    def cycle(self, cycle: Cycle) -> None:
        self._own.take()
        settings = self._own.current
        beat = Round(cycle, settings, self.kinds(settings), self.wait)
        try:
            if cycle.run is self._first_run:
                beat.finish_what_is_under_way()
            else:
                beat.run()
        finally:
            self._systemd.close()
        self._count_up(beat.doer.ended, beat.doer.counts)
        self._look(cycle)

    def kinds(self, settings: ActionSettings) -> dict[str, Kind]:
        """What may be done here."""
        history = self.place.state / "chembus_historian" / "state.db"
        helper = PrivilegedClient(self.place.runtime)
        tools = Tools(self._systemd, helper, lambda: self._entries, self._answers, history, self.schedule)
        return all_kinds(tools, settings.kinds)

    def wait(self, cycle: Cycle, seconds: float) -> bool:
        """Let time pass within a cycle; False when the cycle has to end."""
        return not cycle.cancelled.wait(seconds)

    def on_start(self) -> None:
        """What was under way when an earlier life ended is looked at before anything else is done."""
        super().on_start()
        try:
            if store.actions(self.store.database, UNVERIFIED):
                self._first_run = Run(Source.INJECTED)
                self._request(self._first_run)
        except StoreUnusable as error:
            self.log.warning("actions_not_read", reason=str(error))

    # What is heard live

    def on_tick(self, message: Message, tick: TickFacts) -> None:
        super().on_tick(message, tick)
        self._pages = {page: entries for page, entries in self._pages.items() if page < tick.pages}
        self._pages[tick.page] = tick.entries
        self._entries = {name: entry for entries in self._pages.values() for name, entry in entries.items()}

    def on_signal(self, message: Message) -> None:
        facts = message.facts
        if isinstance(facts, ChangedFacts) and facts.requester:
            self._answers[facts.requester] = facts
            while len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)

    # Telling

    def _count_up(self, ended: Iterable[tuple[str, str]], counts: Counter[str]) -> None:
        for kind, outcome in ended:
            known = kind if self._own.current.kinds.of(kind) else "other"
            self._actions_total.labels(known, outcome).inc()
        for event, count in counts.items():
            self.count(event, count)

    def _look(self, source: Reads) -> None:
        self._open_actions, self._open_flags = store.open_count(source), len(store.open_flags(source))

    def status(self) -> str:
        return f"{super().status()}, {self._open_actions} actions open, {self._open_flags} flags"

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(ActionConsumerDaemon))

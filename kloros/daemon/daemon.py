"""The base of every process: hears the bus, beats its heart, obeys maintenance and governance, tells systemd."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import kloros
from kloros.chembus.bus import Loss
from kloros.chembus.envelope import Message
from kloros.chembus.facts import (
    Facts,
    HeartbeatFacts,
    KillFacts,
    StatusRequestFacts,
    TickFacts,
)
from kloros.daemon import news
from kloros.daemon.batch import Batch
from kloros.daemon.cycle import Outgoing
from kloros.daemon.durables import Durables
from kloros.daemon.held_back import HeldBack
from kloros.daemon.intake import Intake
from kloros.daemon.kit import Kit as Kit  # where subclasses look for it
from kloros.daemon.lacks import Lacks
from kloros.daemon.loop import Loop
from kloros.daemon.losses import announce_losses
from kloros.daemon.maintenance import Maintenance, Register
from kloros.storage.database import Tables
from kloros.units import seconds_to_us, us_to_seconds

HEARTBEAT_INTERVAL_S = 10.0
HOUSEKEEPING_INTERVAL_S = 1.0
# Messages handled before the loop looks at its timers again.
RECEIVE_BATCH = 256
JOIN_TIMEOUT_S = 5.0


class Daemon:
    """One process on the bus. Subclasses name themselves and fill the hooks; all hooks but `work` run in the loop's
    thread.

    `hears` are signals heard live (`on_signal`). `consumes` are durable signals, read from the journal in order, each
    with its effect exactly once (`work`, which is given at most `batch_limit` at a time). `tables` are the daemon's own
    in its database, see storage.database.
    """

    zooid: ClassVar[str]
    niche: ClassVar[str]
    hears: ClassVar[tuple[str, ...]] = ()
    consumes: ClassVar[tuple[str, ...]] = ()
    batch_limit: ClassVar[int] = 500
    tables: ClassVar[Tables] = {}

    def __init__(self, kit: Kit) -> None:
        self.clock, self.bus, self.store, self.log = kit.clock, kit.bus, kit.store, kit.log
        self.metrics, self.notify, self.place, self.suite = kit.metrics, kit.notify, kit.place, kit.suite
        self.artifact = kit.artifact
        self.loop = Loop(kit.clock)
        self.exit_code = 0
        self.killed = False
        self.processed_count = 0
        self.clock_steps = 0
        self.last_step_s = 0.0
        self.counters: dict[str, int] = {}
        self.durables = Durables(self, kit)
        self._register = Register(self.store.get("maintenance", Maintenance), self.clock.wall_us())
        self._started_s = self.clock.monotonic_s()
        self._wall_offset_s = self._wall_minus_monotonic_s()
        self._lacks = Lacks(self.bus, self.store, self.log)
        self._was_in_maintenance = self.in_maintenance
        self.held_back = HeldBack(self.loop, self.clock, self.on_flush)
        self._common: dict[str, Callable[[Message], None]] = {
            "Q_SCHEDULE_TICK": self._on_tick,
            "governance.kill": self._on_kill,
            "MAINTENANCE_SUSPEND": self._on_maintenance_signal,
            "MAINTENANCE_RESUME": self._on_maintenance_signal,
            "STATUS_REQUEST": self._on_status_request,
            "HEARTBEAT": lambda _message: None,  # heard so that a publisher's lost last messages are noticed
        }
        if self.consumes:
            self._common["Q_JOURNAL_ADVANCED"] = self.durables.consume().on_doorbell
        self.metrics.counters_from(
            "kloros_bus_messages", "Messages of this process by what became of them.", self.bus.counters.as_dict
        )
        self.metrics.counters_from(
            "kloros_daemon_events", "Counted events of this daemon.", lambda: dict(self.counters)
        )

    # Hooks

    def on_start(self) -> None:
        """Before the first message is handled; the bus is joined and the store open."""

    def on_signal(self, message: Message) -> None:
        """A signal of `hears` arrived. Must be quick: the loop waits."""

    def work(self, batch: Batch) -> None:
        """Durable signals of `consumes` are to be worked off. Runs in the worker thread, as cycles do; may block.

        Must be overridden where there is something to consume.
        """
        raise NotImplementedError

    def on_reload(self) -> None:
        """SIGHUP: read the settings again."""

    def on_maintenance(self, is_on: bool) -> None:
        """Maintenance began or ended."""

    def on_clock_step(self, step_s: float) -> None:
        """The wall clock was stepped by `step_s` seconds."""

    def on_tick(self, message: Message, tick: TickFacts) -> None:
        """The scheduler's tick arrived."""

    def on_losses(self, losses: Sequence[Loss]) -> None:
        """Messages were lost on the way to us, or from our own full queue. They are counted and announced anyway."""

    def on_housekeeping(self) -> None:
        """Once a second."""

    def on_flush(self) -> None:
        """What was held back has waited for as long as it may: let it go. See `HeldBack.flush_within`."""

    def on_stop(self) -> None:
        """The loop has ended; the bus is still open."""

    def mode(self) -> str:
        """One word for what this daemon is doing."""
        if self.killed:
            return "killed"
        return "maintenance" if self.in_maintenance else "normal"

    def heartbeat_facts(self) -> HeartbeatFacts:
        """What the heartbeat says; subclasses add to it."""
        counters = {**self.bus.counters.as_dict(), **self.counters}
        return HeartbeatFacts(
            zooid=self.zooid,
            niche=self.niche,
            uptime_s=round(self.clock.monotonic_s() - self._started_s, 3),
            processed_count=self.processed_count,
            pid=os.getpid(),
            version=kloros.__version__,
            mode=self.mode(),
            detail=self.store.lack,
            counters={name: count for name, count in counters.items() if count},
            sent=self.bus.sent_seqs(),
            artifact=self.artifact,
        )

    def status(self) -> str:
        """One line for systemd."""
        return self.mode()

    # Running

    def emit(self, signal: str, facts: Facts | Mapping[str, object] | None = None, **envelope: Any) -> None:
        """Send a signal (`intensity` and `incident_id` too, if given); a durable one through the outbox, without
        waiting for the journal. In the loop's thread.

        Raises:
            OutboxFull: The disk cannot be written, and there is no room in memory either.
            BadFacts, Oversize, RateLimited: See Bus.emit.
        """
        self.durables.emit(Outgoing(signal, facts, **envelope))

    @property
    def intake(self) -> Intake | None:
        """What reads the journal for this daemon, if it consumes anything."""
        return self.durables.intake

    @property
    def is_busy(self) -> bool:
        """Whether it is at work, or waits for an answer of the journal."""
        return self.durables.is_busy

    def may_take_work(self) -> bool:
        """Whether a batch may be worked off now."""
        return self.is_working

    def on_work_done(self) -> None:
        """The worker has ended a batch."""

    @property
    def maintenance(self) -> Maintenance:
        """The latest change that this daemon knows of."""
        return self._register.known

    @property
    def in_maintenance(self) -> bool:
        """Whether nobody is to work now."""
        return self.maintenance.is_on(self.clock.wall_us())

    @property
    def is_working(self) -> bool:
        """Whether this daemon may work now."""
        return not self.killed and not self.in_maintenance

    def count(self, event: str, by: int = 1) -> None:
        """Count an event that `kloros status` and the metrics show."""
        self.counters[event] = self.counters.get(event, 0) + by

    def run(self) -> int:
        """Join the bus and serve until stopped; returns the exit code. Raises BusUnreachable when there is no bus."""
        try:
            self.start()
            self.loop.run()
        finally:
            self.wind_down()
        return self.exit_code

    def start(self) -> None:
        """Join the bus, set the timers, and say READY."""
        for topic in (*self._common, *self.hears):
            self.bus.subscribe(topic)
        self.bus.join(JOIN_TIMEOUT_S)
        self._listen()
        self.loop.on_clock_step = self._on_clock_step
        self.loop.every("heartbeat", HEARTBEAT_INTERVAL_S, self.beat_heart)
        self.loop.every("housekeeping", HOUSEKEEPING_INTERVAL_S, self._housekeeping)
        if self.notify.watchdog_interval_s:
            self.loop.every("watchdog", self.notify.watchdog_interval_s, self.feed_watchdog)
        self._arm_maintenance()
        self.on_start()
        self.durables.start()
        self.log.info("started", zooid=self.zooid, version=kloros.__version__)
        self._housekeeping()
        self.notify.ready()
        self.beat_heart()

    def wind_down(self) -> None:
        """Let go of what `start` took; closing the bus says farewell."""
        self.notify.stopping()
        self.on_stop()
        self.durables.stop()
        self.log.info("stopped", zooid=self.zooid, exit_code=self.exit_code)
        self.loop.close()

    def stop(self, exit_code: int = 0) -> None:
        """End `run` soon. Safe from any thread."""
        self.exit_code = exit_code
        self.loop.stop()

    def reload(self) -> None:
        """Handle SIGHUP."""
        self.on_reload()

    def beat_heart(self) -> None:
        """Emit a HEARTBEAT now."""
        self.bus.emit("HEARTBEAT", self.heartbeat_facts(), ecosystem="colony")

    def feed_watchdog(self) -> None:
        """The loop turns; called at half the watchdog's interval."""
        self.notify.watchdog()

    # Hearing

    def _listen(self) -> None:
        self.loop.add_source(self.bus, self._receive)

    def _receive(self) -> None:
        for message in self.bus.receive(RECEIVE_BATCH):
            self._handle(message)

    def _handle(self, message: Message) -> None:
        try:
            if common := self._common.get(message.signal):
                common(message)
            if not self.killed and self._is_heard(message.signal):
                self.on_signal(message)
                self.processed_count += 1
        except Exception:  # one message that a handler cannot take must not silence the daemon
            self.count("handler_failed")
            self.log.exception("handler_failed", signal=message.signal, message_id=message.id)

    def _is_heard(self, signal: str) -> bool:
        return any(signal == topic or (topic.endswith("*") and signal.startswith(topic[:-1])) for topic in self.hears)

    def _on_status_request(self, message: Message) -> None:
        facts: StatusRequestFacts = message.facts
        if facts.zooid in (None, self.zooid):
            self.beat_heart()

    def _on_kill(self, message: Message) -> None:
        facts: KillFacts = message.facts
        if facts.zooid == self.zooid and not self.killed:
            self.killed = True
            self.log.warning("killed_by_governance", requester=facts.requester, reason=facts.reason)
            self._housekeeping()
            self.beat_heart()

    def _on_tick(self, message: Message) -> None:
        tick: TickFacts = message.facts
        self._take_maintenance(news.of_tick(tick))
        self.on_tick(message, tick)

    def _on_maintenance_signal(self, message: Message) -> None:
        self._take_maintenance(news.of_signal(message))

    def _take_maintenance(self, latest: Maintenance) -> None:
        unseen_step_us = seconds_to_us(self._wall_minus_monotonic_s() - self._wall_offset_s)
        if self._register.take(latest, self.clock.wall_us(), unseen_step_us):
            self.store.put("maintenance", self.maintenance)
            self._arm_maintenance()
            self._note_maintenance()

    def _arm_maintenance(self) -> None:
        self.loop.at_wall("maintenance", self.maintenance.expires_us(), self._note_maintenance)

    def _note_maintenance(self) -> None:
        if self.in_maintenance != self._was_in_maintenance:
            self._was_in_maintenance = self.in_maintenance
            event = "maintenance_entered" if self.in_maintenance else "maintenance_left"
            self.log.info(event, reason=self.maintenance.reason or None)
            self.on_maintenance(self.in_maintenance)
            self.notify.status(self.status())

    # Housekeeping

    def _housekeeping(self) -> None:
        self._receive()  # also lets a bus that lost its link go on joining
        self._announce_losses()
        self.durables.outbox.pump()
        self._lacks.look()
        self._note_maintenance()
        self.on_housekeeping()
        self.notify.status(self.status())

    def _announce_losses(self) -> None:
        losses = self.bus.take_losses()
        if losses:
            self.on_losses(losses)
        announce_losses(losses, self.bus, self.log, self.zooid)

    def _wall_minus_monotonic_s(self) -> float:
        return us_to_seconds(self.clock.wall_us()) - self.clock.monotonic_s()

    def _on_clock_step(self) -> None:
        before_s, self._wall_offset_s = self._wall_offset_s, self._wall_minus_monotonic_s()
        self.last_step_s = round(self._wall_offset_s - before_s, 6)
        self._register.rewind(self.clock.wall_us(), seconds_to_us(self.last_step_s))
        self.store.put("maintenance", self.maintenance)
        self.clock_steps += 1
        self.count("clock_steps")
        self.log.warning("clock_stepped", step_s=self.last_step_s)
        self.on_clock_step(self.last_step_s)

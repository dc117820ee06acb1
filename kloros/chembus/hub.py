"""The one I/O thread behind all ChemSubs of a process: one bus, whatever the number of subscriptions."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from kloros.chembus.bus import BusCounters
from kloros.chembus.envelope import Message
from kloros.chembus.facts import DropFacts, Facts, GapFacts, HeartbeatFacts
from kloros.chembus.inbox import Inbox
from kloros.chembus.poller import Poller
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import Clock
from kloros.errors import KlorosError
from kloros.telemetry.logs import get_logger

HEARTBEAT_EVERY_S = 10.0
ANNOUNCE_EVERY_S = 1.0
_JOIN_STEP_S = 0.005
_STOP_WAITS_S = 5.0
_SHOWN_CHARS = 200
_KILL = "governance.kill"
_STATUS = "STATUS_REQUEST"
_ABOUT_LOSSES = ("BUS_GAP", "BUS_DROP")  # a lost announcement is counted, not announced


class Member(Protocol):
    """A subscription as the hub sees it."""

    topic: str
    zooid_name: str
    niche: str
    inbox: Inbox
    counters: BusCounters

    def on_joined(self) -> None: ...
    def kill(self) -> None: ...


class Hub:
    """Owns a bus and the thread that serves it. Its methods are safe from any thread."""

    def __init__(self, bus: ZmqBus, clock: Clock, first: Member) -> None:
        self._bus = bus
        self._clock = clock
        self._name, self._niche = first.zooid_name, first.niche
        self._members: list[Member] = []
        self._topics: Counter[str] = Counter()
        self._commands: deque[Callable[[], None]] = deque()
        self._waiting: list[Member] = []
        self._stopping = False
        self._handled_before = 0
        self._started_s = clock.monotonic_s()
        self._next_heartbeat_s = self._next_announcement_s = self._started_s
        self._wake_read_fd, self._wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for topic in (_KILL, _STATUS):
            self._bus.subscribe(topic)
            self._topics[topic] += 1
        self._thread = threading.Thread(target=self._run, name="chem-hub", daemon=True)
        self._thread.start()

    @property
    def counters(self) -> BusCounters:
        """What the bus did."""
        return self._bus.counters

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def attach(self, member: Member) -> None:
        """Serve a subscription; it is told when it is certain to hear. Its figures are the bus's."""
        member.counters = self.counters
        self._command(lambda: self._attach(member))

    def detach(self, member: Member) -> None:
        """Serve it no longer."""
        self._command(lambda: self._detach(member))

    def stop(self) -> None:
        """End the thread and close the bus."""
        self._stopping = True
        self._command(lambda: None)
        self._thread.join(_STOP_WAITS_S)
        os.close(self._wake_read_fd)
        os.close(self._wake_fd)

    def _command(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        with suppress(BlockingIOError):  # it is awake already
            os.write(self._wake_fd, b"\0")

    def _run(self) -> None:
        poller = Poller()
        poller.register(self._bus)
        poller.register(self._wake_read_fd)
        try:
            while not self._stopping:
                if self._wake_read_fd in poller.wait(self._wait_s()):
                    os.read(self._wake_read_fd, 4096)
                while self._commands:
                    self._commands.popleft()()
                self._deliver()
                self._keep_times()
        except Exception as error:
            get_logger(zooid=self._name).error("hub_failed", error=repr(error))
            raise
        finally:
            self._bus.close()

    def _wait_s(self) -> float:
        if self._waiting and self._bus.link_up:
            return _JOIN_STEP_S
        return max(0.0, self._next_announcement_s - self._clock.monotonic_s())

    def _deliver(self) -> None:
        batch = self._bus.receive_with_bodies(1024)
        if self._bus.joined and self._waiting:
            waiting, self._waiting = self._waiting, []
            for member in waiting:
                member.on_joined()
        if not batch:
            return
        for message, _ in batch:
            if message.signal == _KILL:
                self._kill(message.facts.zooid)
            elif message.signal == _STATUS:
                self._next_heartbeat_s = self._clock.monotonic_s()
        for member in self._members:
            wanted = [(message.signal, body) for message, body in batch if _hears(member.topic, message)]
            if wanted:
                member.inbox.offer(wanted)

    def _keep_times(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_announcement_s:
            self._next_announcement_s = now_s + ANNOUNCE_EVERY_S
            self._announce_losses()
        if now_s >= self._next_heartbeat_s and self._bus.joined:
            self._next_heartbeat_s = now_s + HEARTBEAT_EVERY_S
            self._beat(now_s)

    def _announce_losses(self) -> None:
        now_ts = self._clock.wall_us() / 1e6
        for loss in self._bus.take_losses():
            if loss.signal not in _ABOUT_LOSSES:
                gap = GapFacts(
                    observer=self._name,
                    signal=loss.signal,
                    pub=loss.pub,
                    missing=loss.missing,
                    since_ts=loss.since_us / 1e6,
                )
                self._announce("BUS_GAP", gap)
        for member in self._members:
            for signal, dropped in member.inbox.take_drops().items():
                self._bus.counters.drop += dropped
                drop = DropFacts(observer=member.zooid_name, signal=signal, dropped=dropped, since_ts=now_ts)
                self._announce("BUS_DROP", drop)

    def _announce(self, signal: str, facts: Facts) -> None:
        try:
            self._bus.emit(signal, facts)
        except KlorosError as error:  # what it is about comes from a stranger: nobody must go deaf for that
            self._bus.counters.unannounced += 1
            get_logger(zooid=self._name).error("loss_unannounced", about=signal, reason=str(error)[:_SHOWN_CHARS])

    def _beat(self, now_s: float) -> None:
        facts = HeartbeatFacts(
            zooid=self._name,
            niche=self._niche,
            uptime_s=now_s - self._started_s,
            processed_count=self._handled_before + sum(member.inbox.handled for member in self._members),
            pid=os.getpid(),
            counters=self._bus.counters.as_dict(),
            sent=self._bus.sent_seqs(),
        )
        self._bus.emit("HEARTBEAT", facts)

    def _attach(self, member: Member) -> None:
        self._members.append(member)
        self._waiting.append(member)
        self._topics[member.topic] += 1
        if self._topics[member.topic] == 1:
            self._bus.subscribe(member.topic)
        self._bus.begin_join()

    def _detach(self, member: Member) -> None:
        if member not in self._members:
            return
        self._members.remove(member)
        self._handled_before += member.inbox.handled
        self._topics[member.topic] -= 1
        if not self._topics[member.topic]:
            self._bus.unsubscribe(member.topic)

    def _kill(self, zooid: str) -> None:
        for member in self._members:
            if member.zooid_name == zooid:
                member.kill()


def _hears(topic: str, message: Message) -> bool:
    return message.signal.startswith(topic[:-1]) if topic.endswith("*") else message.signal == topic

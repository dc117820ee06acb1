"""What was heard of the suite's daemons: their last cycles and heartbeats. Fed by the loop, read by investigators."""

from __future__ import annotations

import threading
from collections import deque

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, HeartbeatFacts

HEARD = ("Q_CYCLE_REPORT", "HEARTBEAT")
MAX_DAEMONS = 200
_CYCLES_KEPT = 30


class Heard(msgspec.Struct):
    """Of one daemon; cycles the oldest first."""

    cycles: deque[CycleReportFacts]
    mode: str = ""
    detail: str = ""
    pid: int = 0
    heard_us: int = 0


class CycleBook:
    """Bounded in daemons and in cycles of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._daemons: dict[str, Heard] = {}

    def hear(self, message: Message, now_us: int) -> None:
        """Take one of the signals in HEARD."""
        facts = message.facts
        with self._lock:
            if isinstance(facts, CycleReportFacts):
                heard = self._of(facts.daemon, now_us)
                heard.cycles.append(facts)
            elif isinstance(facts, HeartbeatFacts):
                heard = self._of(facts.zooid, now_us)
                heard.mode, heard.detail, heard.pid = facts.mode or "", facts.detail or "", facts.pid or 0

    def of(self, zooid: str) -> Heard | None:
        """What was heard of a daemon, as a copy; None when nothing was."""
        with self._lock:
            heard = self._daemons.get(zooid)
            return None if heard is None else msgspec.structs.replace(heard, cycles=deque(heard.cycles))

    def entries(self) -> dict[str, str]:
        """Which entry each daemon works for."""
        with self._lock:
            return {zooid: heard.cycles[-1].schedule for zooid, heard in self._daemons.items() if heard.cycles}

    def _of(self, zooid: str, now_us: int) -> Heard:
        heard = self._daemons.get(zooid)
        if heard is None:
            if len(self._daemons) >= MAX_DAEMONS:  # whoever has been silent longest makes room
                self._daemons.pop(min(self._daemons, key=lambda name: self._daemons[name].heard_us))
            heard = self._daemons[zooid] = Heard(deque(maxlen=_CYCLES_KEPT))
        heard.heard_us = now_us
        return heard

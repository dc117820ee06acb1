"""The suite's own vital signs, from what passes on the bus: late ticks, losses, failing cycles, restarts, queues. Pure.

Moments are monotonic seconds. Everything is bounded, and what is older than the window is forgotten.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

from kloros.affect.signs import CYCLES
from kloros.affect.state import Reading
from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, DropFacts, GapFacts, HeartbeatFacts

HEARD = ("Q_CYCLE_REPORT", "HEARTBEAT", "BUS_GAP", "BUS_DROP")
MAX_DAEMONS = 1_000
CYCLES_JUDGED = 10  # of each daemon, the latest
FEWEST_FAILURES = 3  # fewer are chance
DELAYS_JUDGED = 100
MAX_LOSSES = 1_000
PUBS_KNOWN = 8  # runs of one name; two at once (a command in two terminals) take turns and are no restarts
_FAILED = ("failed", "hung")
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass
class Seen:
    """What is known of one daemon."""

    heard_s: float
    pubs: deque[str] = field(default_factory=lambda: deque(maxlen=PUBS_KNOWN))
    outcomes: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=CYCLES_JUDGED))
    starts_s: deque[float] = field(default_factory=lambda: deque(maxlen=CYCLES_JUDGED))
    error: str = ""
    shown_error: str = ""
    repeats: int = 0
    backlog: int = 0


class SuiteWatch:
    """Hear every message of HEARD and every tick; ask for the readings."""

    def __init__(self, window_s: float, now_s: float) -> None:
        self.window_s = window_s
        self._daemons: dict[str, Seen] = {}
        self._delays_ms: deque[tuple[float, float]] = deque(maxlen=DELAYS_JUDGED)
        self._losses: deque[tuple[float, int]] = deque(maxlen=MAX_LOSSES)
        self._good: deque[tuple[float, str]] = deque(maxlen=MAX_LOSSES)
        self._tick_s = now_s

    # Hearing

    def hear(self, message: Message, now_s: float) -> None:
        """Take one of the signals in HEARD."""
        facts = message.facts
        if isinstance(facts, CycleReportFacts):
            self._on_report(facts, now_s)
        elif isinstance(facts, HeartbeatFacts):
            self._on_heartbeat(facts, message.pub or "", now_s)
        elif isinstance(facts, GapFacts):
            self.lose(facts.missing, now_s)
        elif isinstance(facts, DropFacts):
            self.lose(facts.dropped, now_s)

    def tick(self, delay_s: float, now_s: float) -> None:
        """The scheduler's tick came, `delay_s` after it was emitted."""
        self._tick_s = now_s
        self.delay(delay_s, now_s)

    def delay(self, delay_s: float, now_s: float) -> None:
        """Something came so much after it was emitted, or due."""
        self._delays_ms.append((now_s, max(0.0, delay_s) * 1e3))

    def lose(self, count: int, now_s: float) -> None:
        """So many messages were lost."""
        if count:
            self._losses.append((now_s, count))

    def begin_anew(self, now_s: float) -> None:
        """Time was cut in two (the clock was stepped, work was suspended): what was late or silent does not count."""
        self._delays_ms.clear()
        self._tick_s = now_s

    def _on_report(self, facts: CycleReportFacts, now_s: float) -> None:
        seen = self._seen(facts.daemon, now_s)
        if seen is None:
            return
        seen.outcomes.append((now_s, facts.outcome))
        seen.backlog = facts.backlog
        if facts.outcome not in _FAILED:
            seen.repeats, seen.error = 0, ""
            self._good.append((now_s, facts.daemon))
            return
        shown = facts.error or facts.outcome
        error = _NUMBER.sub("#", shown)[:200]
        seen.repeats = seen.repeats + 1 if error == seen.error else 1
        seen.error, seen.shown_error = error, shown[:120]

    def _on_heartbeat(self, facts: HeartbeatFacts, pub: str, now_s: float) -> None:
        seen = self._seen(facts.zooid, now_s)
        if seen is None:
            return
        if facts.mode == "stopped":  # it was told to go, and will begin anew without fault
            seen.pubs.clear()
            return
        if pub not in seen.pubs:
            if seen.pubs:
                seen.starts_s.append(now_s)
            seen.pubs.append(pub)
        if facts.backlog is not None:
            seen.backlog = facts.backlog

    def _seen(self, zooid: str, now_s: float) -> Seen | None:
        seen = self._daemons.get(zooid)
        if seen is None:
            if len(self._daemons) >= MAX_DAEMONS:
                return None
            seen = self._daemons[zooid] = Seen(now_s)
        seen.heard_s = now_s
        return seen

    # Asking

    def readings(self, now_s: float) -> dict[str, Reading]:
        """The suite's vital signs now; what there is none of is left out."""
        self._forget(now_s)
        found = {
            "delay_ms": self._delay(),
            "lost_per_min": self._lost_per_min(now_s),
            "tick_silent_s": Reading(now_s - self._tick_s),
            CYCLES: Reading(float(len(self._good))),
            "failed": self._worst_share(_FAILED, FEWEST_FAILURES),
            "over_budget": self._worst_share(("over_budget",), FEWEST_FAILURES),
            "repeated_error": self._worst({
                zooid: (seen.repeats, f"{zooid}: {seen.shown_error}") for zooid, seen in self._daemons.items()
            }),
            "restarts": self._worst({
                zooid: (len(seen.starts_s), zooid) for zooid, seen in self._daemons.items()
            }),
            "backlog": self._worst({zooid: (seen.backlog, zooid) for zooid, seen in self._daemons.items()}),
        }  # fmt: skip
        return {name: reading for name, reading in found.items() if reading is not None}

    def _forget(self, now_s: float) -> None:
        oldest_s = now_s - self.window_s
        self._daemons = {zooid: seen for zooid, seen in self._daemons.items() if seen.heard_s >= oldest_s}
        for seen in self._daemons.values():
            while seen.starts_s and seen.starts_s[0] < oldest_s:
                seen.starts_s.popleft()
        for dated in (self._delays_ms, self._losses, self._good):
            while dated and dated[0][0] < oldest_s:
                dated.popleft()

    def _delay(self) -> Reading | None:
        ranked = sorted(delay_ms for _, delay_ms in self._delays_ms)
        return Reading(ranked[-(-99 * len(ranked) // 100) - 1]) if ranked else None

    def _lost_per_min(self, now_s: float) -> Reading:
        return Reading(float(sum(count for moment_s, count in self._losses if moment_s >= now_s - 60.0)))

    def _worst_share(self, outcomes: tuple[str, ...], fewest: int) -> Reading | None:
        shares: dict[str, tuple[float, str]] = {}
        for zooid, seen in self._daemons.items():
            such = sum(outcome in outcomes for _, outcome in seen.outcomes)
            if seen.outcomes:
                share = 100 * such / len(seen.outcomes) if such >= fewest else 0.0
                shares[zooid] = (share, f"{zooid}: {such} of {len(seen.outcomes)}")
        return self._worst(shares)

    @staticmethod
    def _worst(values: dict[str, tuple[float, str]]) -> Reading | None:
        if not values:
            return None
        value, where = max(values.values())
        return Reading(float(value), where if value else "")

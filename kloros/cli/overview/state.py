"""What is known of the suite, put together from the messages that pass. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from kloros.chembus.envelope import Message
from kloros.chembus.facts import (
    AffectFacts,
    ChangedFacts,
    CycleReportFacts,
    DropFacts,
    FallbackFacts,
    GapFacts,
    HeartbeatFacts,
    KillFacts,
    ResumeFacts,
    SuspendFacts,
    TickFacts,
)
from kloros.cli.overview.bus_rates import BusFigures
from kloros.cli.overview.open_work import OpenWork
from kloros.cli.roll_call import EXPECTED
from kloros.cli.story.narrate import SEVERITY_STYLES, Line, narrate
from kloros.cli.story.ticks import TickBook

TOPICS = (
    "HEARTBEAT",
    "Q_SCHEDULE_TICK",
    "Q_SCHEDULE_CHANGED",
    "Q_CYCLE_REPORT",
    "AFFECT_*",
    "CAPABILITY_*",
    "FLAG_*",
    "Q_ACTION_*",
    "Q_CURIOSITY_*",
    "Q_QUESTION_FOLDED",
    "Q_INVESTIGATION_COMPLETE",
    "FALLBACK_*",
    "MAINTENANCE_*",
    "BUS_GAP",
    "BUS_DROP",
    "governance.kill",
)
"""What is listened to: not everything, so that watching a busy bus costs as little as watching a quiet one."""

# A heart beats every 10 s; two that were missed, and a little, are silence.
SILENT_AFTER_S = 25.0
# The tick comes each second.
TICK_SILENT_AFTER_S = 3.5
# Affect tells each 10 s.
MOOD_OLD_AFTER_S = 35.0
NEWS_KEPT = 100
_ALWAYS_NEWS = (ChangedFacts, FallbackFacts, SuspendFacts, ResumeFacts, KillFacts, GapFacts, DropFacts)


@dataclass
class Overview:
    """The suite as last heard. Feed it every message, in order; moments are wall seconds."""

    hearts: dict[str, HeartbeatFacts] = field(default_factory=dict)
    heard_ts: dict[str, float] = field(default_factory=dict)
    cycles: dict[str, CycleReportFacts] = field(default_factory=dict)
    ran: dict[str, CycleReportFacts] = field(default_factory=dict)
    affect: AffectFacts | None = None
    affect_ts: float = 0.0
    work: OpenWork = field(default_factory=OpenWork)
    bus: BusFigures = field(default_factory=BusFigures)
    news: deque[Line] = field(default_factory=lambda: deque(maxlen=NEWS_KEPT))
    tick_ts: float | None = None
    _book: TickBook = field(default_factory=TickBook)
    _felt_until_ts: dict[str, float] = field(default_factory=dict)

    @property
    def tick(self) -> TickFacts | None:
        """The latest tick, with every entry seen."""
        return self._book.whole

    @property
    def is_whole(self) -> bool:
        """Whether all of the schedule, every daemon of the suite and affect have been heard."""
        return self._book.is_whole and self.affect is not None and self.hearts.keys() >= set(EXPECTED)

    @property
    def mood(self) -> dict[str, Any]:
        """What affect said last."""
        state = self.affect.state if self.affect else None
        return state if isinstance(state, dict) else {}

    @property
    def entries(self) -> list[str]:
        """The schedule's entries, the most frequent first: an order that stays as it is while one looks at it."""
        tick = self.tick
        named = tick.entries.items() if tick else ()
        ranks = {name: (entry.nominal_s or entry.interval_s, entry.offset_s, name) for name, entry in named}
        return sorted(ranks, key=ranks.__getitem__)

    @property
    def daemons(self) -> list[str]:
        """The suite's daemons, and strangers that were heard."""
        return [*EXPECTED, *sorted(zooid for zooid in self.hearts if zooid not in EXPECTED)]

    def mode(self, zooid: str, now_ts: float) -> str:
        """How a daemon is: as its heart last said, or `silent`."""
        heart = self.hearts.get(zooid)
        if heart is None or (now_ts - self.heard_ts[zooid] > SILENT_AFTER_S and heart.mode != "stopped"):
            return "silent"
        return heart.mode or "alive"

    def add(self, message: Message) -> None:
        """Take a message in."""
        facts = message.facts
        if isinstance(facts, TickFacts):
            self._book.add(facts)
            self.tick_ts = message.ts
        elif isinstance(facts, CycleReportFacts):
            self._add_cycle(message, facts)
        elif isinstance(facts, HeartbeatFacts):
            if facts.niche != "cli":
                self._add_heart(message, facts)
        elif isinstance(facts, AffectFacts):
            self._add_feeling(message, facts)
        elif isinstance(facts, _ALWAYS_NEWS):
            self.news.append(narrate(message)._replace(is_reaction=False))
        else:
            self._add_work(message)

    def remember(self, message: Message) -> None:
        """Take in what happened before one began to look: no news."""
        if isinstance(facts := message.facts, CycleReportFacts):
            self.cycles[facts.daemon] = self.ran[facts.schedule] = facts
        else:
            self.work.add(message)

    def _add_cycle(self, message: Message, facts: CycleReportFacts) -> None:
        self.cycles[facts.daemon] = self.ran[facts.schedule] = facts
        if facts.outcome != "ok" or facts.missed:
            self.news.append(narrate(message)._replace(is_reaction=False))

    def _add_heart(self, message: Message, facts: HeartbeatFacts) -> None:
        before = self.hearts.get(facts.zooid)
        if before is not None and before.mode != facts.mode:
            self.news.append(narrate(message)._replace(style=""))
        self.hearts[facts.zooid], self.heard_ts[facts.zooid] = facts, message.ts
        self.bus.add(facts, message.ts)

    def _add_feeling(self, message: Message, facts: AffectFacts) -> None:
        if message.signal == "AFFECT_STATE":
            self.affect, self.affect_ts = facts, message.ts
            return
        # A feeling is said again and again while it lasts: news only when it begins.
        if message.ts > self._felt_until_ts.get(message.signal, 0.0):
            self.news.append(narrate(message))
        self._felt_until_ts[message.signal] = message.ts + (facts.ttl_s or 0.0)

    def _add_work(self, message: Message) -> None:
        opened = self.work.add(message)
        if opened is not None:
            style = SEVERITY_STYLES.get(opened.severity, "")
            self.news.append(Line(message.ts, f"{opened.kind}: {opened.text}", style))
        elif message.signal == "CAPABILITY_RESTORED":
            self.news.append(narrate(message)._replace(is_reaction=False))

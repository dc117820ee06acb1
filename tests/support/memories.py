"""Very many memories on a real disk, and how long everybody else waits while they fade."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from kloros.chembus.facts_work import FadedFacts
from kloros.clock import SystemClock, VirtualClock
from kloros.consumers.decay_daemon import DecayDaemon
from kloros.consumers.memory.fading import Fading, Sector
from kloros.consumers.memory.settings import MemorySettings
from kloros.consumers.memory.store import MEMORY_TABLES, Memory, MemoryStore
from kloros.daemon.batch import Batch
from kloros.daemon.cycle import Cycle
from kloros.storage.state_store import StateStore
from support.bench import Bench, bench
from support.chain import FOUND

FADING = Fading(MemorySettings().half_life_h, MemorySettings().fading)
SECTORS = list(Sector)
ASK_EVERY_S = 0.1


def fill(path: Path, count: int, due_share: float, now_us: int, seed: int = 4) -> int:
    """So many memories, of which about that share is due; returns how many are."""
    chance = random.Random(seed)
    state = StateStore(path, MEMORY_TABLES)
    store, due = MemoryStore(state.database), 0
    for first in range(0, count, 20_000):
        page = [_memory(number, chance, due_share, now_us) for number in range(first, min(count, first + 20_000))]
        due += sum(FADING.score(m.sector, m.importance, now_us - m.born_us) < 0.1 for m in page)
        with state.database.transaction():
            store.add(page)
    state.close()
    return due


def _memory(number: int, chance: random.Random, due_share: float, now_us: int) -> Memory:
    sector, importance = chance.choice(SECTORS), chance.random()
    lasting_us = FADING.fades_us(sector, importance, 0)
    lived = chance.uniform(1.001, 3.0) if chance.random() < due_share else chance.uniform(0.0, 0.999)
    born_us = now_us - round(lasting_us * lived)
    return Memory(
        key=f"finding:{chance.getrandbits(64):016x}", sector=sector, importance=importance, born_us=born_us,
        created_us=born_us, accessed_us=born_us,
        gap_id=f"{chance.getrandbits(64):016x}", severity="high",
        text=f"thing {number} failed: main process exited, code=exited, status=203/EXEC", note="over after 5 min",
        related="q-1a2b3c4d",
    )  # fmt: skip


class WatchedDecay(DecayDaemon):
    """Says when it takes up what."""

    def __init__(self, kit: Any) -> None:
        super().__init__(kit)
        self.cycles: list[tuple[float, float]] = []
        self.worked: dict[str, float] = {}

    def cycle(self, cycle: Cycle) -> None:
        started_s = time.perf_counter()
        super().cycle(cycle)
        self.cycles.append((started_s, time.perf_counter() - started_s))

    def work(self, batch: Batch) -> None:
        super().work(batch)
        for message in batch.messages:
            self.worked.setdefault(message.facts.gap_id, time.perf_counter())


@dataclass
class Waits:
    """Seconds that each asked for something and waited."""

    beat_s: float = 0.0
    told: FadedFacts | None = None
    triggers: list[float] = field(default_factory=list)
    signals: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)

    def figures(self) -> str:
        """In a line."""
        longest = {name: max(getattr(self, name), default=0.0) for name in ("triggers", "signals", "answers", "turns")}
        waited = ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in longest.items())
        return f"{self.beat_s:.1f} s in {len(self.turns)} turns; longest: {waited} ({len(self.triggers)} asked)"


@contextmanager
def decaying(folder: Path) -> Iterator[Bench[WatchedDecay]]:
    """The daemon on a bench with the machine's own time."""
    with bench(WatchedDecay, folder, clock=cast(VirtualClock, SystemClock())) as table:
        yield table


def one_beat(table: Bench[WatchedDecay], limit_s: float) -> Waits:
    """A beat, and meanwhile every tenth of a second a trigger, a signal and a question to the loop."""
    daemon, loop, waits = table.daemon, table.daemon.loop, Waits()
    started_s = asked_s = time.perf_counter()
    asked: list[tuple[str, float]] = []
    table.outsider.emit("Q_TRIGGER_DECAY")
    while waits.told is None and time.perf_counter() - started_s < limit_s:
        loop.turn(0.005)
        if time.perf_counter() - asked_s >= ASK_EVERY_S:
            waits.answers.append(_answer_s(table))
            asked_s = time.perf_counter()
            asked.append((f"new{len(asked)}", asked_s))
            table.outsider.emit("Q_TRIGGER_DECAY")
            table.outsider.emit("CAPABILITY_GAP", FOUND | {"gap_id": asked[-1][0]})
        if told := table.heard("Q_MEMORY_FADED"):
            waits.told, waits.beat_s = told[0].facts, time.perf_counter() - started_s
    table.settle()
    table.settle()
    for name, since_s in asked:
        waits.triggers.append(next(begun_s for begun_s, _ in daemon.cycles if begun_s >= since_s) - since_s)
        waits.signals.append(daemon.worked[name] - since_s)
    waits.turns = [took_s for _, took_s in daemon.cycles if took_s > 0.01]
    return waits


def _answer_s(table: Bench[WatchedDecay]) -> float:
    """How long the loop takes to answer."""
    started_s = time.perf_counter()
    before = len(table.heard("HEARTBEAT"))
    table.outsider.emit("STATUS_REQUEST")
    while len(table.heard("HEARTBEAT")) == before:
        table.daemon.loop.turn(0.0)
    return time.perf_counter() - started_s

"""decay on a bench: what it remembers, what its beat forgets, in turns, exactly, and once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench, bench
from support.chain import FOUND, GAP, whole_life

from kloros.chembus.facts_work import FadedFacts
from kloros.clock import VirtualClock
from kloros.consumers.decay_daemon import DecayDaemon
from kloros.consumers.memory.fading import US_PER_H, Fading, Sector
from kloros.consumers.memory.settings import MemorySettings
from kloros.consumers.memory.store import Memory, MemoryStore
from kloros.errors import StoreUnusable
from kloros.storage.state_store import StateStore

HOUR_S = 3600.0
FADING = Fading(MemorySettings().half_life_h, MemorySettings().fading)
Table = Bench[DecayDaemon]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with bench(DecayDaemon, tmp_path) as opened:
        yield opened


def store(table: Table) -> MemoryStore:
    return MemoryStore(table.daemon.store.database)


def memory(number: int, born_us: int, sector: Sector = Sector.EPISODIC, importance: float = 0.0) -> Memory:
    return Memory(
        key=f"finding:{number:07}", sector=sector, importance=importance, born_us=born_us,
        created_us=born_us, accessed_us=born_us, gap_id=f"{number:07}", text=f"thing {number}",
    )  # fmt: skip


def fill(table: Table, ages_h: list[float], first: int = 0) -> None:
    now_us = table.clock.wall_us()
    memories = [memory(first + n, now_us - round(age_h * US_PER_H)) for n, age_h in enumerate(ages_h)]
    with table.daemon.store.database.transaction():
        store(table).add(memories)


def configure(table: Table, text: str) -> None:
    config = table.daemon.place.config
    config.mkdir(exist_ok=True)
    (config / "decay_config.toml").write_text(text)
    table.daemon.reload()


def faded(table: Table) -> list[FadedFacts]:
    return [message.facts for message in table.heard("Q_MEMORY_FADED")]


def beat(table: Table) -> FadedFacts:
    """One beat, with all its turns."""
    before = len(faded(table))
    table.say("Q_TRIGGER_DECAY")
    for _ in range(1000):
        if len(faded(table)) > before:
            return faded(table)[-1]
        table.advance(1.0)
    raise AssertionError("the beat does not end")


def say_all(table: Table) -> None:
    for message in whole_life():
        table.outsider.emit(message.signal, message.facts, incident_id=message.incident_id)
    table.settle()
    table.settle()


# Remembering


def test_the_chain_is_remembered_each_thing_once(table: Table) -> None:
    say_all(table)
    assert [each.kind for each in store(table).about_gap(GAP)] == [
        "finding", "question", "conclusion", "action", "flag",
    ]  # fmt: skip
    assert store(table).count() == 6


def test_a_turn_of_the_mood_is_heard_live_and_remembered(table: Table) -> None:
    table.say("AFFECT_EMERGENCY_BRAKE", {"cause": "no memory left"})
    table.say("AFFECT_STATE", {"state": "calm"})
    table.advance(1.0)
    (felt,) = store(table).latest(10)
    assert (felt.sector, felt.text, felt.note) == (Sector.EMOTIONAL, "emergency brake", "no memory left")


def test_looking_is_an_access_and_happens_once_however_often_it_is_told(table: Table) -> None:
    fill(table, [300.0])
    (old,) = store(table).latest(1)
    table.say("Q_MEMORY_ACCESSED", {"memory": old.number})
    (seen,) = store(table).latest(1)
    assert seen.born_us > old.born_us
    table.daemon.store.database.execute("DELETE FROM cursors")
    assert beat(table).faded == 0


# Forgetting


def test_exactly_what_is_due_is_forgotten_whatever_the_page(table: Table) -> None:
    """The reference deleted 2,000 of 3,000: it walked by OFFSET through what it was deleting."""
    configure(table, "[pace]\npage_memories = 1000\n")
    ages_h = [168 * 3.3220 for _ in range(2000)] + [168 * 3.3219 for _ in range(2000)] + [9999.0 for _ in range(1000)]
    random.Random(1).shuffle(ages_h)
    fill(table, ages_h)
    due = {
        f"finding:{n:07}" for n, age_h in enumerate(ages_h) if FADING.score(Sector.EPISODIC, 0, age_h * US_PER_H) < 0.1
    }
    assert len(due) == 3000
    told = beat(table)
    assert (told.examined, told.faded, told.kept) == (5000, 3000, 2000)
    left = {each.key for each in store(table).latest(9999)}
    assert left == {f"finding:{n:07}" for n in range(5000)} - due


def test_a_beat_tells_what_faded_most_important_first(table: Table) -> None:
    now_us = table.clock.wall_us()
    with table.daemon.store.database.transaction():
        store(table).add(
            [memory(n, now_us - 99_999 * US_PER_H, sector, n / 10) for n, sector in enumerate(list(Sector) * 2)]
        )
    told = beat(table)
    assert told.by_sector == {sector.value: 2 for sector in Sector}
    assert told.examples == [f"thing {n}" for n in (9, 8, 7, 6, 5)]


def test_the_same_beat_twice_changes_nothing(table: Table) -> None:
    fill(table, [n * 10.0 for n in range(100)])
    first = beat(table)
    left = store(table).latest(1000)
    second = beat(table)
    assert 0 < first.faded < 100
    assert (second.examined, second.faded, second.kept) == (first.kept, 0, first.kept)
    assert store(table).latest(1000) == left


def test_what_was_just_forgotten_can_be_found_again(table: Table) -> None:
    table.say("CAPABILITY_GAP", FOUND)
    table.clock.step_wall(5000 * HOUR_S)
    assert beat(table).faded == 1
    table.say("CAPABILITY_GAP", FOUND)
    assert store(table).count() == 1


def test_a_clock_set_back_forgets_and_refreshes_nothing(table: Table) -> None:
    fill(table, [0.0, 100.0, 500.0])
    before = store(table).latest(9)
    table.clock.step_wall(-1000 * HOUR_S)
    assert beat(table).faded == 0
    for each in before:
        table.say("Q_MEMORY_ACCESSED", {"memory": each.number})
    assert [(m.key, m.born_us, m.accessed_us) for m in store(table).latest(9)] == [
        (m.key, m.born_us, m.accessed_us) for m in before
    ]
    table.clock.step_wall(1000 * HOUR_S)
    assert beat(table).faded == 0
    assert store(table).count() == 3


def test_more_than_there_is_room_for_crowds_out_what_would_fade_first(table: Table) -> None:
    configure(table, "[limits]\nmemories = 10\n[pace]\npage_memories = 3\n")
    fill(table, [float(n) for n in range(25)])
    told = beat(table)
    assert (told.faded, told.crowded_out, told.kept) == (15, 15, 10)
    assert {each.text for each in store(table).latest(99)} == {f"thing {n}" for n in range(10)}


def test_other_half_lives_hold_for_what_is_remembered_already(table: Table) -> None:
    fill(table, [n * 10.0 for n in range(100)])
    assert beat(table).faded == 44
    configure(table, "[half_life_h]\nepisodic = 50.0\n[pace]\npage_memories = 7\n")
    told = beat(table)
    assert told.kept == 17  # those younger than 50 h * log2(10) = 166.1 h
    configure(table, "[half_life_h]\nepisodic = 168.0\n")
    assert beat(table).faded == 0
    table.clock.step_wall(390 * HOUR_S)
    assert beat(table).faded == 0  # by the first settings again, the eldest is 550 h old
    table.clock.step_wall(10 * HOUR_S)
    assert beat(table).faded == 1


def test_a_disk_that_refuses_half_way_costs_neither_memories_nor_their_count(table: Table, monkeypatch: Any) -> None:
    configure(table, "[pace]\npage_memories = 10\n")
    fill(table, [9999.0] * 100 + [1.0] * 100)
    forget, pages = MemoryStore.forget, list[int]()

    def refusing(self: MemoryStore, numbers: Any) -> None:
        forget(self, numbers)
        pages.append(1)
        if len(pages) == 4:
            raise StoreUnusable(path="x", reason="pulled out")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "forget", refusing)
        table.say("Q_TRIGGER_DECAY")
    assert [message.facts.outcome for message in table.heard("Q_CYCLE_REPORT")] == ["failed"]
    assert store(table).count() == 170
    told = beat(table)
    assert (told.examined, told.faded, told.kept) == (200, 100, 100)


# Turns


class TickingClock(VirtualClock):
    """A clock that goes on while it is looked at."""

    def monotonic_s(self) -> float:
        self._monotonic_s += 0.01
        return self._monotonic_s


@pytest.fixture
def ticking(tmp_path: Path) -> Iterator[Table]:
    with bench(DecayDaemon, tmp_path, clock=TickingClock()) as opened:
        configure(opened, "[pace]\npage_memories = 10\n")
        yield opened


def test_a_long_beat_is_done_in_turns_and_told_once(ticking: Table) -> None:
    fill(ticking, [9999.0] * 3000)
    told = beat(ticking)
    assert (told.examined, told.faded, told.kept) == (3000, 3000, 0)
    reports = [message.facts for message in ticking.heard("Q_CYCLE_REPORT")]
    assert len(reports) > 3
    assert sum(report.processed for report in reports) == 3000
    backlogs = [report.backlog for report in reports]
    assert backlogs == sorted(backlogs, reverse=True)
    assert backlogs[-1] == 0
    assert len(faded(ticking)) == 1
    ticking.advance(5.0)
    assert len(ticking.heard("Q_CYCLE_REPORT")) == len(reports)


def test_between_turns_signals_are_worked_off_and_what_comes_new_stays(ticking: Table) -> None:
    fill(ticking, [9999.0] * 3000)
    ticking.say("Q_TRIGGER_DECAY")
    assert faded(ticking) == []
    for number in range(100):
        ticking.say("CAPABILITY_GAP", FOUND | {"gap_id": f"new{number}"})
    assert faded(ticking) == []
    assert len(store(ticking).by_id_beginning("new", 999)) == 100
    while not faded(ticking):
        ticking.advance(1.0)
    (told,) = faded(ticking)
    assert (told.faded, told.kept) == (3000, 100)


def test_what_is_looked_at_before_its_page_comes_is_not_forgotten(ticking: Table) -> None:
    fill(ticking, [9999.0] * 1000)
    fill(ticking, [1000.0], first=5000)
    (last,) = store(ticking).by_id_beginning("0005", 1)
    ticking.say("Q_TRIGGER_DECAY")
    assert faded(ticking) == []
    ticking.say("Q_MEMORY_ACCESSED", {"memory": last.number})
    while not faded(ticking):
        ticking.advance(1.0)
    assert [each.key for each in store(ticking).latest(9)] == [last.key]


def test_a_beat_that_died_half_way_is_ended_by_the_next_life_and_told_as_one(tmp_path: Path) -> None:
    clock = TickingClock()
    with bench(DecayDaemon, tmp_path, clock=clock) as first:
        configure(first, "[pace]\npage_memories = 10\n")
        fill(first, [9999.0] * 1000)
        first.say("Q_TRIGGER_DECAY")
        while store(first).count() == 1000:
            first.advance(1.0)
        assert faded(first) == []
        assert store(first).count() > 0
        hub = first.hub
    with bench(DecayDaemon, tmp_path, clock=clock, hub=hub) as second:
        while not faded(second):
            second.advance(1.0)
        (told,) = faded(second)
        assert (told.examined, told.faded, told.kept) == (1000, 1000, 0)


def test_a_clock_set_back_in_the_middle_of_a_beat_ends_it_by_the_earlier_moment(ticking: Table) -> None:
    fill(ticking, [700.0] * 1000)
    ticking.say("Q_TRIGGER_DECAY")
    while (left := store(ticking).count()) == 1000:
        ticking.advance(1.0)
    assert left > 0
    ticking.clock.step_wall(-500 * HOUR_S)
    while not faded(ticking):
        ticking.advance(1.0)
    assert store(ticking).count() == left


# Without a bus


def once(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        f"KLOROS_{name.upper()}_DIR": str(folder / name) for name in ("config", "state", "runtime")
    }
    arguments = [sys.executable, "-m", "kloros.consumers.decay_daemon", "--once"]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_one_beat_needs_no_bus_and_what_it_tells_waits(tmp_path: Path, runtime_dir: Path) -> None:
    path = runtime_dir / "state/decay/state.db"
    state = StateStore(path, DecayDaemon.tables)
    with state.database.transaction():
        MemoryStore(state.database).add([memory(n, 1_000_000) for n in range(2500)])
    state.close()
    done = once(runtime_dir)
    assert done.returncode == 0, done.stderr
    state = StateStore(path, DecayDaemon.tables)
    try:
        assert MemoryStore(state.database).count() == 0
        told = [json.loads(body) for (body,) in state.database.query("SELECT body FROM outbox ORDER BY seq")]
        assert [(each["signal"], each["facts"]["faded"]) for each in told] == [("Q_MEMORY_FADED", 2500)]
    finally:
        state.close()

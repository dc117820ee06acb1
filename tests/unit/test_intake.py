"""A daemon that consumes durable signals: in order, each with its effect once, whatever raises and whoever is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from support.bench import Bench, bench

from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Daemon
from kloros.storage.database import Tables


class Last(msgspec.Struct):
    gap_id: str


class Eater(Daemon):
    """Writes down each gap it is told of; refuses the indigestible."""

    zooid: ClassVar[str] = "eater"
    niche: ClassVar[str] = "tests"
    consumes: ClassVar[tuple[str, ...]] = ("CAPABILITY_*",)
    tables: ClassVar[Tables] = {"eater": ("CREATE TABLE eaten (offset INTEGER, gap_id TEXT)",)}
    poison: ClassVar[str] = ""

    def work(self, batch: Batch) -> None:
        for message in batch.messages:
            gap_id = message.facts.gap_id
            batch.database.execute("INSERT INTO eaten VALUES (?, ?)", (message.offset, gap_id))
            if gap_id == self.poison:
                raise ValueError("it tastes bad")
            batch.save("last", Last(gap_id))
            batch.emit("FLAG_FOR_REVIEW", {"flag_id": f"eaten {gap_id}", "module_name": "m", "rationale": "r"})
            batch.emit("FALLBACK_RELEASED", {"daemon": "eater", "schedule": gap_id})

    def eaten(self) -> list[str]:
        return [gap_id for (gap_id,) in self.store.database.query("SELECT gap_id FROM eaten ORDER BY offset")]


def gap(name: str) -> dict[str, object]:
    return {"gap_id": name, "gap_type": "unit", "gap_name": name, "severity": "high"}


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Bench[Eater]]:
    with bench(Eater, tmp_path) as table:
        yield table


def flags(table: Bench[Eater]) -> list[str]:
    return [message.facts.flag_id for message in table.heard("FLAG_FOR_REVIEW")]


def test_effects_documents_and_signals_come_together_in_the_order_of_the_journal(table: Bench[Eater]) -> None:
    for name in "abc":
        table.say("CAPABILITY_GAP", gap(name))
    assert table.daemon.eaten() == ["a", "b", "c"]
    assert table.daemon.store.get("last", Last) == Last("c")
    assert flags(table) == ["eaten a", "eaten b", "eaten c"]
    assert [message.facts.schedule for message in table.heard("FALLBACK_RELEASED")] == ["a", "b", "c"]
    assert [message.offset for message in table.heard("FLAG_FOR_REVIEW")] == [2, 4, 6]


def test_what_was_said_before_it_came_is_worked_off_and_a_restart_repeats_nothing(tmp_path: Path) -> None:
    with bench(Eater, tmp_path) as first:
        first.say("CAPABILITY_GAP", gap("a"))
        hub = first.hub
    with bench(Eater, tmp_path, hub=hub) as second:
        second.settle()
        second.say("CAPABILITY_RESTORED", gap("b"))
        assert second.daemon.eaten() == ["a", "b"]
        assert second.daemon.counters.get("journal_missing") is None


def test_one_that_raises_three_times_is_put_aside_and_the_rest_goes_on(
    table: Bench[Eater], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Eater, "poison", "b")
    for name in "abc":
        table.outsider.emit("CAPABILITY_GAP", gap(name))
    table.settle()
    table.advance(5.0)
    assert table.daemon.eaten() == ["a", "c"]
    assert flags(table) == ["eaten a", "eaten c"]
    rows = table.daemon.store.database.query("SELECT signal, reason FROM dead_letters")
    assert rows == [("CAPABILITY_GAP", "ValueError: it tastes bad")]
    assert table.daemon.counters["dead_letters"] == 1


def test_what_cannot_be_read_is_put_aside(table: Bench[Eater]) -> None:
    keeper = table.hub.keep(table.clock)
    from kloros.chembus.journal.contract import Entry
    from kloros.chembus.journal.wire import Append

    keeper.append([Append(0, [Entry("x.1", "CAPABILITY_GAP", b'{"signal":"CAPABILITY_GAP"}')])])
    table.hub.tell()
    table.say("CAPABILITY_GAP", gap("a"))
    assert table.daemon.eaten() == ["a"]
    assert table.daemon.counters["dead_letters"] == 1


def test_an_outage_of_the_journal_costs_nothing(table: Bench[Eater]) -> None:
    table.say("CAPABILITY_GAP", gap("a"))
    table.hub.up = False
    table.daemon.emit("FLAG_FOR_REVIEW", {"flag_id": "by hand", "module_name": "m", "rationale": "r"})
    table.advance(3.0)
    table.hub.up = True
    table.advance(1.0)
    table.say("CAPABILITY_GAP", gap("b"))
    assert table.daemon.eaten() == ["a", "b"]
    assert flags(table) == ["eaten a", "by hand", "eaten b"]


def test_a_journal_whose_disk_is_full_is_asked_again(table: Bench[Eater]) -> None:
    table.hub.store.lack = "the disk is full"
    table.daemon.emit("FLAG_FOR_REVIEW", {"flag_id": "kept", "module_name": "m", "rationale": "r"})
    table.advance(3.0)
    assert flags(table) == []
    assert table.daemon.durables.outbox.waiting == 1
    table.hub.store.lack = None
    table.advance(2.0)
    assert flags(table) == ["kept"]
    assert table.daemon.store.database.query("SELECT count(*) FROM outbox") == [(0,)]


def test_what_was_not_acknowledged_leaves_in_the_next_life(tmp_path: Path) -> None:
    with bench(Eater, tmp_path) as first:
        first.hub.up = False
        first.daemon.emit("FLAG_FOR_REVIEW", {"flag_id": "late", "module_name": "m", "rationale": "r"})
    with bench(Eater, tmp_path) as second:
        second.settle()
        assert flags(second) == ["late"]


def test_nothing_is_worked_off_in_maintenance(table: Bench[Eater]) -> None:
    table.say("MAINTENANCE_SUSPEND", {"reason": "upgrade"})
    table.say("CAPABILITY_GAP", gap("a"))
    table.advance(3.0)
    assert table.daemon.eaten() == []
    table.say("MAINTENANCE_RESUME")
    table.advance(1.1)
    assert table.daemon.eaten() == ["a"]


class Both(Consumer):
    """Has a beat, and consumes: one thing at a time."""

    schedule: ClassVar[str] = "both"
    signal: ClassVar[str] = "Q_TRIGGER_BOTH"
    interval_s: ClassVar[float] = 5.0
    consumes: ClassVar[tuple[str, ...]] = ("CAPABILITY_GAP",)
    batch_limit: ClassVar[int] = 1
    log_of_work: ClassVar[list[str]] = []

    def cycle(self, cycle: Cycle) -> None:
        self.log_of_work.append("cycle")
        cycle.emit("CAPABILITY_RESTORED", gap("done"))

    def work(self, batch: Batch) -> None:
        self.log_of_work.append(batch.messages[0].facts.gap_id)


def test_cycles_and_batches_share_one_thread_and_both_get_their_turn(tmp_path: Path) -> None:
    Both.log_of_work.clear()
    with bench(Both, tmp_path) as table:
        for name in "abc":
            table.outsider.emit("CAPABILITY_GAP", gap(name))
        table.outsider.emit("Q_TRIGGER_BOTH")
        table.settle()
        assert sorted(Both.log_of_work) == ["a", "b", "c", "cycle"]
        assert len(table.heard("Q_CYCLE_REPORT")) == 1
        assert len(table.heard("CAPABILITY_RESTORED")) == 1


def test_a_cycles_signals_and_report_survive_an_end_right_after_it(tmp_path: Path) -> None:
    with bench(Both, tmp_path) as first:
        first.outsider.emit("Q_TRIGGER_BOTH")
        first.daemon.loop.turn(0.0)
        first.hub.up = False
        first.settle()
        for _ in range(20):
            first.daemon.loop.turn(0.05)
        assert first.daemon.store.database.query("SELECT signal FROM outbox ORDER BY seq") == [
            ("CAPABILITY_RESTORED",),
            ("Q_CYCLE_REPORT",),
        ]
    with bench(Both, tmp_path) as second:
        second.settle()
        assert len(second.heard("CAPABILITY_RESTORED")) == 1
        assert len(second.heard("Q_CYCLE_REPORT")) == 1

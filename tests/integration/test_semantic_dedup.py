"""Semantic dedup on an in-memory bus, in virtual time: what is asked twice is sent once, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench, bench

from kloros.chembus.envelope import Message
from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.config import load
from kloros.consumers.dedup.desk import Tally
from kloros.consumers.dedup.settings import DedupSettings
from kloros.consumers.semantic_dedup_consumer_daemon import TALLY, SemanticDedupConsumerDaemon
from kloros.errors import StoreUnusable

CONFIG = Path(__file__).parents[2] / "config/semantic_dedup_consumer_config.toml"
BEAT_S = 5.0
Table = Bench[SemanticDedupConsumerDaemon]

NGINX = "Why does nginx.service fail?"
NGINX_SAID_OTHERWISE = "What makes nginx.service crash?"
NGINX_AGAIN = "Why is nginx.service failing again and again?"
REDIS = "Why does redis.service fail?"
VAR = "What fills the disk at /var?"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def table(tmp_path: Path, clock: VirtualClock) -> Iterator[Table]:
    with bench(SemanticDedupConsumerDaemon, tmp_path, clock) as ready:
        yield ready


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], None]:
    """Writes the settings file."""

    def write(text: str) -> None:
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config" / CONFIG.name).write_text(text)

    return write


def ask(
    table: Table, question_id: str, question: str, level: str = "MEDIUM", gap: str | None = None, **more: Any
) -> None:
    facts = {"question_id": question_id, "question": question, "gap_id": gap or f"gap-{question_id}", **more}
    table.say(f"Q_CURIOSITY_{level}", facts)


def restore(table: Table, gap: str) -> None:
    table.say("CAPABILITY_RESTORED", {"gap_id": gap, "gap_type": "t", "gap_name": "n", "change": "restored"})


def answer(table: Table, question_id: str, status: str = "concluded") -> None:
    table.say("Q_INVESTIGATION_COMPLETE", {"question_id": question_id, "status": status})


def beat(table: Table, times: int = 1) -> None:
    for _ in range(times):
        table.clock.advance(BEAT_S)
        number = int(table.clock.wall_us() // (BEAT_S * 1e6))
        told = {"schedule": "semantic_dedup", "beat": number, "due_ts": number * BEAT_S, "interval_s": BEAT_S}
        table.say("Q_TRIGGER_SEMANTIC_DEDUP", {**told, "epoch": 1})


def fold(table: Table) -> None:
    """As a person asks for it: what waits is folded now."""
    table.say("Q_TRIGGER_SEMANTIC_DEDUP", {"schedule": "semantic_dedup"})


def sent(table: Table) -> list[tuple[str, int]]:
    return [(each.facts.question_id, each.facts.folded) for each in table.heard("Q_CURIOSITY_INVESTIGATE")]


def folded(table: Table) -> list[tuple[str, str]]:
    return [(each.facts.question_id, each.facts.folded_into) for each in table.heard("Q_QUESTION_FOLDED")]


def refused(table: Table) -> list[str]:
    told: list[Message] = table.heard("Q_INVESTIGATION_COMPLETE")
    return [each.facts.question_id for each in told if each.facts.status == "refused"]


def rows(table: Table, name: str) -> set[str]:
    return {row[0] for row in table.daemon.store.database.query(f"SELECT question_id FROM {name}")}


def ended(table: Table) -> dict[str, str]:
    return dict(table.daemon.store.database.query("SELECT question_id, how FROM ended"))


def stands_for(table: Table) -> dict[str, int]:
    return dict(table.daemon.store.database.query("SELECT question_id, folded FROM open"))


def assert_nothing_is_lost(table: Table) -> None:
    """Each question that was taken is in one place, and each open one knows for how many it stands."""
    database = table.daemon.store.database
    tally = table.daemon.store.get(TALLY, Tally) or Tally()
    places = [row for name in ("waiting", "open", "folded") for row in rows(table, name)]
    assert len(places) == len(set(places))
    assert not set(places) & set(ended(table))
    assert tally.taken == len(places) + sum(tally.ended.values())
    counted = dict(database.query("SELECT folded_into, count(*) FROM folded GROUP BY folded_into"))
    assert stands_for(table) == {each: 1 + counted.pop(each, 0) for each in stands_for(table)}
    assert not counted, "folded into nothing"


def test_the_file_shipped_holds_the_defaults() -> None:
    assert load(CONFIG, DedupSettings) == DedupSettings()


# When it is folded


def test_one_question_waits_for_others_then_leaves(table: Table) -> None:
    ask(table, "q-1", NGINX, gap="g1", value_estimate=2.0, hypothesis="it crashed", severity="high")
    beat(table, 5)
    assert sent(table) == []
    beat(table, 2)
    assert sent(table) == [("q-1", 1)]
    told = table.heard("Q_CURIOSITY_INVESTIGATE")[0]
    assert (told.incident_id, told.facts.gap_id, told.facts.hypothesis) == ("g1", "g1", "it crashed")
    assert (told.facts.question, told.facts.priority, told.facts.severity) == (NGINX, "medium", "high")
    assert_nothing_is_lost(table)


def test_ten_questions_wait_no_longer(table: Table) -> None:
    for number in range(9):
        ask(table, f"q-{number}", f"Why does unit{number}.service fail?")
    beat(table)
    assert sent(table) == []
    ask(table, "q-9", "Why does unit9.service fail?")
    beat(table)
    assert len(sent(table)) == 10


def test_a_critical_question_is_folded_on_the_next_beat_with_all_that_wait(table: Table) -> None:
    ask(table, "q-1", NGINX)
    ask(table, "q-2", VAR, level="CRITICAL")
    beat(table)
    assert sent(table) == [("q-2", 1), ("q-1", 1)]


def test_an_injected_trigger_folds_at_once(table: Table) -> None:
    ask(table, "q-1", NGINX)
    fold(table)
    assert sent(table) == [("q-1", 1)]
    fold(table)
    assert sent(table) == [("q-1", 1)]


# What is folded


def test_likes_are_folded_and_told_with_how_many(table: Table) -> None:
    ask(table, "q-1", NGINX, gap="g1", value_estimate=2.0)
    ask(table, "q-2", NGINX_SAID_OTHERWISE, gap="g2")
    ask(table, "q-3", REDIS)
    fold(table)
    assert sent(table) == [("q-1", 2), ("q-3", 1)]
    told = table.heard("Q_QUESTION_FOLDED")[0]
    assert (told.facts.question_id, told.facts.folded_into, told.facts.gap_id) == ("q-2", "q-1", "g2")
    assert told.incident_id == "g2"
    assert 0.85 <= told.facts.similarity <= 1.0
    assert_nothing_is_lost(table)


def test_a_later_like_is_folded_into_the_open_one_which_is_not_sent_again(table: Table) -> None:
    ask(table, "q-1", NGINX)
    fold(table)
    ask(table, "q-2", NGINX_SAID_OTHERWISE)
    ask(table, "q-3", NGINX_AGAIN, level="LOW")
    fold(table)
    assert sent(table) == [("q-1", 1)]
    assert folded(table) == [("q-2", "q-1"), ("q-3", "q-1")]
    assert stands_for(table) == {"q-1": 3}


def test_one_that_became_more_urgent_is_sent_again_once_a_level(table: Table) -> None:
    ask(table, "q-1", NGINX, level="LOW", value_estimate=1.0, severity="low")
    fold(table)
    ask(table, "q-2", NGINX_SAID_OTHERWISE, level="CRITICAL", value_estimate=9.0, severity="critical")
    fold(table)
    ask(table, "q-3", NGINX_AGAIN, level="CRITICAL", value_estimate=9.5, severity="critical")
    fold(table)
    assert sent(table) == [("q-1", 1), ("q-1", 2)]
    again = table.heard("Q_CURIOSITY_INVESTIGATE")[1].facts
    assert (again.question, again.priority, again.severity, again.value_estimate) == (
        NGINX,
        "critical",
        "critical",
        9.0,
    )
    assert stands_for(table) == {"q-1": 3}


def test_the_most_valuable_stands_for_its_likes_whatever_the_order(table: Table) -> None:
    ask(table, "q-1", NGINX, level="LOW")
    ask(table, "q-2", NGINX_SAID_OTHERWISE, level="HIGH", value_estimate=1.0)
    ask(table, "q-3", NGINX_AGAIN, level="HIGH", value_estimate=3.0)
    fold(table)
    assert sent(table) == [("q-3", 3)]


def test_what_a_question_is_about_counts_where_it_does_not_say_so(table: Table) -> None:
    ask(table, "q-1", "Why is it full?", gap_name="/var", gap_type="disk_full")
    ask(table, "q-2", "Why is it full?", gap_name="/home", gap_type="disk_full")
    fold(table)
    assert folded(table) == []


def test_each_text_is_embedded_once(table: Table) -> None:
    for number in range(3):
        ask(table, f"q-{number}", NGINX)
    fold(table)
    assert table.daemon.store.database.query("SELECT count(*) FROM vectors") == [(1,)]
    embedded = table.daemon.metrics.registry.get_sample_value("kloros_dedup_total", {"kind": "embedded"})
    assert embedded == 1.0
    answer(table, "q-0")
    ask(table, "q-9", NGINX)
    fold(table)
    assert table.daemon.metrics.registry.get_sample_value("kloros_dedup_total", {"kind": "embedded"}) == 1.0


def test_the_same_question_given_again_changes_nothing(table: Table) -> None:
    ask(table, "q-1", NGINX)
    ask(table, "q-1", NGINX)
    fold(table)
    ask(table, "q-1", NGINX)
    fold(table)
    answer(table, "q-1")
    ask(table, "q-1", NGINX)
    fold(table)
    assert sent(table) == [("q-1", 1)]
    assert (table.daemon.store.get(TALLY, Tally) or Tally()).duplicates == 3
    assert_nothing_is_lost(table)


# How it ends


def test_an_answer_ends_the_question_and_all_that_were_folded_into_it(table: Table) -> None:
    ask(table, "q-1", NGINX)
    ask(table, "q-2", NGINX_SAID_OTHERWISE, level="LOW")
    fold(table)
    answer(table, "q-1", "inconclusive")
    assert (rows(table, "open"), rows(table, "folded")) == (set(), set())
    assert ended(table) == {"q-1": "inconclusive", "q-2": "inconclusive"}
    ask(table, "q-3", NGINX)
    fold(table)
    assert sent(table) == [("q-1", 2), ("q-3", 1)]
    assert_nothing_is_lost(table)


def test_a_restored_finding_ends_what_was_asked_about_it_wherever_it_is(table: Table) -> None:
    ask(table, "q-1", NGINX, gap="open")
    ask(table, "q-2", NGINX_SAID_OTHERWISE, gap="folded", level="LOW")
    fold(table)
    ask(table, "q-3", REDIS, gap="waiting")
    for gap in ("folded", "waiting"):
        restore(table, gap)
    assert stands_for(table) == {"q-1": 1}
    restore(table, "open")
    assert ended(table) == {"q-1": "restored", "q-2": "restored", "q-3": "restored"}
    fold(table)
    assert sent(table) == [("q-1", 2)]
    assert_nothing_is_lost(table)


@pytest.mark.parametrize("how", ["restored", "withdrawn", "both", "both, the other way round"])
def test_when_the_representatives_finding_ends_another_takes_its_place(table: Table, how: str) -> None:
    ask(table, "q-1", NGINX, gap="g1", level="HIGH")
    ask(table, "q-2", NGINX_SAID_OTHERWISE, gap="g2")
    ask(table, "q-3", NGINX_AGAIN, gap="g3", level="LOW")
    ask(table, "q-4", NGINX, gap="g1", level="LOW")
    fold(table)
    ends = [lambda: restore(table, "g1"), lambda: answer(table, "q-1", "withdrawn")]
    for end in {"restored": ends[:1], "withdrawn": ends[1:], "both": ends}.get(how, ends[::-1]):
        end()
    beat(table, 7)
    assert sent(table) == [("q-1", 4), ("q-2", 2)]
    assert table.heard("Q_CURIOSITY_INVESTIGATE")[1].incident_id == "g2"
    assert folded(table)[-1] == ("q-3", "q-2")
    assert set(ended(table)) == {"q-1", "q-4"}
    assert_nothing_is_lost(table)


def test_an_answer_to_a_folded_question_ends_that_one(table: Table) -> None:
    ask(table, "q-1", NGINX)
    ask(table, "q-2", NGINX_SAID_OTHERWISE, level="LOW")
    fold(table)
    answer(table, "q-2")
    assert (stands_for(table), ended(table)) == ({"q-1": 1}, {"q-2": "concluded"})


def test_an_answer_to_what_nobody_asked_is_passed_over(table: Table) -> None:
    answer(table, "q-unknown")
    restore(table, "gap-unknown")
    assert ended(table) == {}


# Limits


def test_beyond_the_limit_the_least_valuable_that_wait_are_refused_with_a_record(
    tmp_path: Path, settings: Callable[[str], None]
) -> None:
    settings("[limits]\nwaiting = 2\n")
    with bench(SemanticDedupConsumerDaemon, tmp_path) as table:
        for number, level in enumerate(("MEDIUM", "LOW", "HIGH", "CRITICAL")):
            ask(table, f"q-{number}", f"Why does unit{number}.service fail?", level=level)
        assert refused(table) == ["q-1", "q-0"]
        told = next(each for each in table.heard("Q_INVESTIGATION_COMPLETE") if each.facts.question_id == "q-1")
        assert told.facts.evidence == ["reason=more than 2 questions wait"]
        assert (told.incident_id, told.facts.gap_id) == ("gap-q-1", "gap-q-1")
        fold(table)
        assert sent(table) == [("q-3", 1), ("q-2", 1)]
        assert table.daemon.counters["questions_refused"] == 2
        assert table.daemon.store.database.query("SELECT reason FROM ended WHERE question_id = 'q-1'") == [
            ("more than 2 questions wait",)
        ]
        assert_nothing_is_lost(table)


def test_beyond_the_limit_the_least_valuable_open_ones_give_way(
    tmp_path: Path, settings: Callable[[str], None]
) -> None:
    settings("[limits]\nopen = 2\n")
    with bench(SemanticDedupConsumerDaemon, tmp_path) as table:
        ask(table, "q-low", NGINX, level="LOW", value_estimate=2.0)
        ask(table, "q-low-like", NGINX_SAID_OTHERWISE, level="LOW")
        ask(table, "q-high", VAR, level="HIGH")
        fold(table)
        ask(table, "q-least", REDIS, level="LOW")
        ask(table, "q-critical", "What uses up the memory?", level="CRITICAL")
        fold(table)
        assert rows(table, "open") == {"q-high", "q-critical"}
        assert sorted(refused(table)) == ["q-least", "q-low", "q-low-like"]
        assert [question for question, _ in sent(table)] == ["q-high", "q-low", "q-critical"]
        assert_nothing_is_lost(table)


def test_beyond_the_limit_the_least_valuable_folded_ones_are_refused(
    tmp_path: Path, settings: Callable[[str], None]
) -> None:
    settings("[limits]\nfolded = 2\n")
    with bench(SemanticDedupConsumerDaemon, tmp_path) as table:
        for number, level in enumerate(("CRITICAL", "MEDIUM", "LOW", "HIGH", "LOW")):
            ask(table, f"q-{number}", NGINX, level=level, value_estimate=float(number))
        fold(table)
        beat(table)
        assert stands_for(table) == {"q-0": 3}
        assert refused(table) == ["q-4", "q-2"]
        assert rows(table, "folded") == {"q-1", "q-3"}
        assert_nothing_is_lost(table)


def test_a_lowered_limit_is_reached_step_by_step(
    tmp_path: Path, settings: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kloros.consumers.dedup.desk.MOST_GIVEN_UP", 4)
    with bench(SemanticDedupConsumerDaemon, tmp_path) as table:
        for number in range(20):
            ask(table, f"q-{number:02}", f"Why does unit{number}.service fail?", value_estimate=float(number))
        fold(table)
        settings("[limits]\nopen = 5\n")
        table.daemon.reload()
        for number in range(20, 25):
            ask(table, f"q-{number}", f"Why does unit{number}.service fail?", value_estimate=float(number))
            fold(table)
        assert stands_for(table) == {f"q-{number}": 1 for number in range(20, 25)}
        assert refused(table)[:4] == ["q-00", "q-01", "q-02", "q-03"]
        assert_nothing_is_lost(table)


def test_an_open_question_that_nobody_answers_is_given_up(table: Table) -> None:
    ask(table, "q-1", NGINX)
    ask(table, "q-2", NGINX_SAID_OTHERWISE, level="LOW")
    fold(table)
    table.clock.advance(8 * 86_400.0)
    ask(table, "q-3", NGINX)
    beat(table, 8)
    assert sorted(refused(table)) == ["q-1", "q-2"]
    assert ended(table) == {"q-1": "unanswered", "q-2": "unanswered"}
    assert sent(table)[-1] == ("q-3", 1)
    assert_nothing_is_lost(table)


def test_records_and_vectors_are_bounded(tmp_path: Path, settings: Callable[[str], None]) -> None:
    settings("[limits]\nended = 5\nvectors = 3\n")
    with bench(SemanticDedupConsumerDaemon, tmp_path) as table:
        for number in range(20):
            ask(table, f"q-{number:02}", f"Why does unit{number}.service fail?")
            fold(table)
            if number % 2:
                answer(table, f"q-{number:02}")
        fold(table)
        ask(table, "q-last", VAR)
        fold(table)
        database = table.daemon.store.database
        assert sorted(ended(table)) == ["q-11", "q-13", "q-15", "q-17", "q-19"]
        assert database.query("SELECT count(*) FROM vectors") == [(11 + 3,)]
        lost = "SELECT count(*) FROM open WHERE text_id NOT IN (SELECT text_id FROM vectors)"
        assert database.query(lost) == [(0,)]


# Restarts and faults


def test_a_restart_forgets_nothing(tmp_path: Path, clock: VirtualClock) -> None:
    hub = MemoryHub()
    with bench(SemanticDedupConsumerDaemon, tmp_path, clock, hub=hub) as table:
        ask(table, "q-1", NGINX)
        fold(table)
        ask(table, "q-2", NGINX_SAID_OTHERWISE)
    with bench(SemanticDedupConsumerDaemon, tmp_path, clock, hub=hub) as table:
        fold(table)
        assert folded(table) == [("q-2", "q-1")]
        assert sent(table) == []
        assert_nothing_is_lost(table)


def test_a_cycle_that_cannot_be_kept_folds_nothing_and_the_next_one_does(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(table, "q-1", NGINX)
    ask(table, "q-2", NGINX_SAID_OTHERWISE, level="LOW")
    database = table.daemon.store.database
    execute, path = database.execute, table.daemon.store.path

    def refuse(sql: str, values: Any = ()) -> int:
        if "INTO folded" in sql:
            raise StoreUnusable(path=path, reason="the disk is full")
        return execute(sql, values)

    monkeypatch.setattr(database, "execute", refuse)
    fold(table)
    assert (sent(table), rows(table, "waiting")) == ([], {"q-1", "q-2"})
    monkeypatch.undo()
    fold(table)
    assert sent(table) == [("q-1", 2)]
    assert_nothing_is_lost(table)


def test_a_journal_read_anew_opens_nothing_twice(tmp_path: Path, clock: VirtualClock) -> None:
    hub = MemoryHub()
    with bench(SemanticDedupConsumerDaemon, tmp_path, clock, hub=hub) as table:
        ask(table, "q-1", NGINX)
        ask(table, "q-2", NGINX_SAID_OTHERWISE, level="LOW")
        ask(table, "q-3", REDIS)
        fold(table)
        answer(table, "q-3")
        ask(table, "q-4", VAR)
        table.daemon.store.database.execute("DELETE FROM cursors")
    with bench(SemanticDedupConsumerDaemon, tmp_path, clock, hub=hub) as table:
        table.advance(2.0)
        fold(table)
        assert sent(table) == [("q-4", 1)]
        assert folded(table) == []
        assert_nothing_is_lost(table)


def test_what_it_shows(table: Table) -> None:
    ask(table, "q-1", NGINX)
    ask(table, "q-2", NGINX_SAID_OTHERWISE, level="LOW")
    fold(table)
    beat(table)
    assert table.daemon.status().endswith("1 questions open, 1 folded into them")
    sample = table.daemon.metrics.registry.get_sample_value
    assert sample("kloros_dedup_questions", {"state": "open"}) == 1.0
    assert sample("kloros_dedup_total", {"kind": "folded"}) == 1.0
    assert (sample("kloros_dedup_vectors_bytes") or 0) >= 0
    readable = table.daemon.store.database.query(
        "SELECT question, level, folded, told_level FROM open UNION ALL"
        " SELECT question, level, similarity > 0.85, folded_into FROM folded"
    )
    assert readable == [(NGINX, "MEDIUM", 2, "MEDIUM"), (NGINX_SAID_OTHERWISE, "LOW", 1, "q-1")]

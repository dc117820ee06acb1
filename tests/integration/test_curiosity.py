"""Curiosity on an in-memory bus, in virtual time: what is found is asked about once, the most valuable first."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.bench import Bench, bench

from kloros.chembus.envelope import Message
from kloros.chembus.journal.contract import Entry
from kloros.chembus.journal.wire import Append
from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.config import load
from kloros.consumers.curiosity.question import Question, Status, Tally
from kloros.consumers.curiosity.settings import CuriositySettings
from kloros.consumers.curiosity.store import CuriosityStore
from kloros.consumers.curiosity_core_consumer_daemon import CuriosityCoreConsumerDaemon
from kloros.consumers.introspection.findings import gap_id

CONFIG = Path(__file__).parents[2] / "config/curiosity_core_consumer_config.toml"
LEVELS = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
BEAT_S = 60.0
DAY_S = 86_400.0
Table = Bench[CuriosityCoreConsumerDaemon]

NGINX = ["unit=nginx.service", "problem=failed", "result=exit-code", "exit=exit-code, status 203/EXEC"]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def table(tmp_path: Path, clock: VirtualClock) -> Iterator[Table]:
    with bench(CuriosityCoreConsumerDaemon, tmp_path, clock) as ready:
        yield ready


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], None]:
    """Writes the settings file."""

    def write(text: str) -> None:
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config" / CONFIG.name).write_text(text)

    return write


def facts(gap_type: str, name: str, severity: str = "high", evidence: list[str] | None = None, **more: Any) -> Any:
    told = {"gap_id": gap_id(gap_type, name), "gap_type": gap_type, "gap_name": name, "severity": severity}
    return {**told, "evidence": evidence or [], "change": "opened", **more}


def open_(table: Table, gap_type: str, name: str, severity: str = "high", evidence: list[str] | None = None) -> None:
    table.say("CAPABILITY_GAP", facts(gap_type, name, severity, evidence))


def close(table: Table, gap_type: str, name: str) -> None:
    table.say("CAPABILITY_RESTORED", facts(gap_type, name, change="restored", duration_s=1.0))


def beat(table: Table, times: int = 1, apart_s: float = BEAT_S) -> None:
    for _ in range(times):
        table.clock.advance(apart_s)
        number = int(table.clock.wall_us() // (BEAT_S * 1e6))
        told = {"schedule": "curiosity_generation", "beat": number, "due_ts": number * BEAT_S, "interval_s": BEAT_S}
        table.say("Q_TRIGGER_CURIOSITY", {**told, "epoch": 1})


def asked(table: Table) -> list[Message]:
    return sorted((each for level in LEVELS for each in table.heard(f"Q_CURIOSITY_{level}")), key=lambda m: m.offset)


def questions(table: Table, status: Status) -> list[Question]:
    rows = table.daemon.store.database.query("SELECT body FROM questions WHERE status = ?", (status,))
    return [msgspec.json.decode(body, type=Question) for (body,) in rows]


def tally(table: Table) -> Tally:
    return table.daemon.store.get("tally", Tally) or Tally()


def test_a_finding_becomes_a_question_as_a_person_would_ask_it(table: Table) -> None:
    detail = "nginx.service failed: exit-code, status 203/EXEC"
    table.say("CAPABILITY_GAP", facts("unit_unhealthy", "nginx.service", "high", [*NGINX, "restarts=5"], detail=detail))
    assert asked(table) == []
    beat(table)
    (message,) = asked(table)
    told = message.facts
    assert message.signal == "Q_CURIOSITY_HIGH"
    assert told.question == "Why does nginx.service fail with exit status 203/EXEC?"
    assert "cannot be run" in told.hypothesis
    assert "restarts=5" in told.hypothesis
    assert told.capability_key == "unit_unhealthy:nginx.service"
    assert (told.category, told.severity, told.gap_name) == ("gap", "high", "nginx.service")
    assert message.incident_id == told.gap_id == gap_id("unit_unhealthy", "nginx.service")
    assert told.evidence_hash == hashlib.sha256("|".join(sorted(told.evidence)).encode()).hexdigest()[:16]
    assert told.question_id.startswith("q-")
    assert len(told.question_id) == 10
    assert not any("restarts" in each for each in told.evidence)
    assert told.value_estimate / told.cost_estimate > 2.0
    assert table.heard("Q_CYCLE_REPORT")[-1].facts.processed == 1


def test_what_only_wavers_does_not_ask_again(table: Table) -> None:
    for restarts in range(20):
        open_(table, "unit_unhealthy", "nginx.service", "high", [*NGINX, f"restarts={restarts}", f"state=s{restarts}"])
        beat(table)
    beat(table, 40, DAY_S)
    assert len(asked(table)) == 1
    assert tally(table).archived == {"asked_before": 19}


def test_mended_closes_the_candidate_and_the_open_question(table: Table) -> None:
    open_(table, "unit_unhealthy", "a.service")
    beat(table)
    open_(table, "unit_unhealthy", "b.service")
    close(table, "unit_unhealthy", "a.service")
    close(table, "unit_unhealthy", "b.service")
    beat(table, 3)
    assert [message.facts.gap_name for message in asked(table)] == ["a.service"]
    archived = {question.gap_name: question.reason for question in questions(table, Status.ARCHIVED)}
    assert archived == {"a.service": "restored", "b.service": "restored"}
    assert questions(table, Status.OPEN) == []
    assert table.daemon.status().endswith("0 questions open, 0 findings wait")


def test_worse_asks_again_after_the_cool_down_and_critical_at_once(table: Table) -> None:
    open_(table, "disk_full", "/var", "medium")
    beat(table)
    open_(table, "disk_full", "/var", "high")
    beat(table, 5)
    assert len(asked(table)) == 1
    open_(table, "disk_full", "/var", "critical")
    beat(table)
    assert [message.signal for message in asked(table)][1:] == ["Q_CURIOSITY_CRITICAL"]
    assert {message.facts.gap_id for message in asked(table)} == {gap_id("disk_full", "/var")}
    beat(table, 10, DAY_S)
    assert len(asked(table)) == 2, "what was only high on its way to critical is not asked about any more"


def test_other_evidence_waits_for_the_cool_down(table: Table) -> None:
    open_(table, "unit_unhealthy", "x.service", "high", ["problem=failed", "exit=exit-code, status 1"])
    beat(table)
    close(table, "unit_unhealthy", "x.service")
    open_(table, "unit_unhealthy", "x.service", "high", ["problem=failed", "exit=oom-kill, signal 9"])
    beat(table, 23, 3600.0)
    assert len(asked(table)) == 1
    beat(table, 2, 3600.0)
    assert [message.facts.question for message in asked(table)] == [
        "Why does x.service fail with exit status 1?",
        "Why does x.service fail with an out-of-memory kill?",
    ]


@pytest.mark.parametrize(
    ("gap_type", "days"), [("unit_unhealthy", 1), ("pressure_cpu", 3), ("journal_errors", 7), ("scanner_blind", 30)]
)
def test_a_repeat_asks_nothing_before_its_cool_down_and_once_after_it(table: Table, gap_type: str, days: int) -> None:
    def come_and_go() -> None:
        open_(table, gap_type, "it", "medium")
        beat(table)
        close(table, gap_type, "it")

    come_and_go()
    for _ in range(days * 4 - 1):
        come_and_go()
        table.clock.advance(DAY_S / 4 - BEAT_S)
    assert len(asked(table)) == 1
    table.clock.advance(DAY_S)
    come_and_go()
    assert len(asked(table)) == 2
    hashes = [message.facts.evidence_hash for message in asked(table)]
    assert len(set(hashes)) == 2
    assert any(item.startswith("returned=") for item in asked(table)[1].facts.evidence)


def test_the_same_evidence_is_never_asked_twice_whatever_comes(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, clock = random.Random(seed), VirtualClock()
    with bench(CuriosityCoreConsumerDaemon, tmp_path, clock) as table:
        for _ in range(400):
            name, severity = chance.choice("abcd"), chance.choice(("low", "medium", "high", "critical"))
            exit_ = f"exit=exit-code, status {chance.randrange(3)}"
            change = chance.random()
            if change < 0.6:
                open_(table, "unit_unhealthy", name, severity, [exit_, f"restarts={chance.randrange(99)}"])
            elif change < 0.8:
                close(table, "unit_unhealthy", name)
            else:
                beat(table, 1, chance.choice((60.0, 3600.0, DAY_S)))
        hashes = [message.facts.evidence_hash for message in asked(table)]
        assert len(hashes) == len(set(hashes)) > 4, f"seed {seed}"
        ids = [message.facts.question_id for message in asked(table)]
        assert len(ids) == len(set(ids))
        told = tally(table)
        assert told.heard == told.accounted + CuriosityStore(table.daemon.store.database).waiting_count()


def test_a_storm_is_bounded_asks_the_most_valuable_and_loses_nothing_in_silence(table: Table) -> None:
    chance = random.Random(4)
    severities = {f"unit{n}.service": chance.choice(("info", "low", "medium", "high")) for n in range(4_990)}
    severities |= {f"vital{n}.service": "critical" for n in range(10)}
    names = list(severities)
    chance.shuffle(names)
    for start in range(0, 5_000, 100):
        for name in names[start : start + 100]:
            table.outsider.emit("CAPABILITY_GAP", facts("unit_unhealthy", name, severities[name]))
        table.clock.advance(0.5)
        table.settle()
        waiting = table.daemon.store.database.query("SELECT count(*) FROM candidates")[0][0]
        assert waiting <= 1_000
    store = CuriosityStore(table.daemon.store.database)
    told = tally(table)
    assert (told.heard, told.archived) == (5_000, {"queue_full": 4_000})
    assert store.waiting_count() == 1_000
    kept = Counter(each.candidate.severity for each in store.waiting())
    assert kept["critical"] == 10
    assert kept["high"] == 990, "what is worth less was archived"
    assert {question.reason for question in questions(table, Status.ARCHIVED)} == {"queue_full"}
    assert len(questions(table, Status.ARCHIVED)) == 4_000
    beat(table, 3)
    assert [message.facts.severity for message in asked(table)] == ["critical"] * 10 + ["high"] * 20
    told = tally(table)
    assert told.heard == told.accounted + store.waiting_count() == 5_000
    assert table.heard("Q_CYCLE_REPORT")[-1].facts.backlog == 970
    assert table.daemon.counters.get("dead_letters", 0) == 0


def test_archived_questions_are_bounded_and_what_is_forgotten_is_counted(tmp_path: Path, settings: Any) -> None:
    settings("[limits]\nkept_questions = 50\ncandidates = 5\n")
    with bench(CuriosityCoreConsumerDaemon, tmp_path) as table:
        for number in range(200):
            table.outsider.emit("CAPABILITY_GAP", facts("unit_unhealthy", f"u{number}.service"))
        table.settle()
        assert len(questions(table, Status.ARCHIVED)) == 50
        assert tally(table).forgotten == 145


def test_while_nobody_answers_no_more_is_asked(tmp_path: Path, settings: Any) -> None:
    settings("[limits]\nopen_questions = 3\n")
    with bench(CuriosityCoreConsumerDaemon, tmp_path) as table:
        for number in range(8):
            open_(table, "unit_unhealthy", f"u{number}.service", "critical")
        beat(table, 3)
        assert len(asked(table)) == 3
        answer(table, asked(table)[0], "concluded", 1_000.0)
        beat(table)
        assert len(asked(table)) == 4
        beat(table, 1, 8 * DAY_S)
        assert tally(table).closed["unanswered"] == 3
        beat(table)
        assert len(asked(table)) == 7


def answer(table: Table, message: Message, status: str, duration_ms: float) -> None:
    told = message.facts
    table.say(
        "Q_INVESTIGATION_COMPLETE",
        {
            "question_id": told.question_id, "status": status, "gap_id": told.gap_id, "gap_type": told.gap_type,
            "duration_ms": duration_ms, "conclusion": "the program is missing", "confidence": 0.9,
        },
    )  # fmt: skip


def test_an_answer_closes_the_question_and_what_was_folded_into_it(table: Table) -> None:
    for name in ("a", "b", "c"):
        open_(table, "unit_unhealthy", f"{name}.service")
    beat(table)
    first, second, third = asked(table)
    fold = {"question_id": second.facts.question_id, "folded_into": first.facts.question_id, "similarity": 0.9}
    table.say("Q_QUESTION_FOLDED", fold)
    assert [question.question_id for question in questions(table, Status.FOLDED)] == [second.facts.question_id]
    answer(table, first, "concluded", 1_000.0)
    answered = questions(table, Status.ANSWERED)
    assert {question.gap_name for question in answered} == {first.facts.gap_name, second.facts.gap_name}
    assert {question.conclusion for question in answered} == {"the program is missing"}
    answer(table, third, "failed", 1_000.0)
    assert [question.reason for question in questions(table, Status.ARCHIVED)] == ["failed"]
    answer(table, third, "failed", 1_000.0)
    assert tally(table).closed == {"concluded": 2, "failed": 1}, "told twice, it is closed once"


def test_what_was_folded_into_a_question_whose_finding_ended_is_open_again(table: Table) -> None:
    for name in ("a", "b", "c"):
        open_(table, "unit_unhealthy", f"{name}.service")
    beat(table)
    ids = {message.facts.gap_name[0]: message.facts.question_id for message in asked(table)}
    for other in "bc":
        told = {"question_id": ids[other], "folded_into": ids["a"], "similarity": 0.9}
        table.say("Q_QUESTION_FOLDED", told)
    close(table, "unit_unhealthy", "a.service")
    assert {question.gap_name for question in questions(table, Status.OPEN)} == {"b.service", "c.service"}
    table.say("Q_QUESTION_FOLDED", {"question_id": ids["c"], "folded_into": ids["b"], "similarity": 0.9})
    table.say("Q_INVESTIGATION_COMPLETE", {"question_id": ids["b"], "status": "withdrawn"})
    assert {question.gap_name for question in questions(table, Status.OPEN)} == {"c.service"}
    table.say("Q_INVESTIGATION_COMPLETE", {"question_id": "q-of-others", "status": "concluded"})
    assert table.daemon.counters["answered_unknown"] == 1


def test_what_takes_long_to_answer_is_asked_less_urgently(table: Table) -> None:
    open_(table, "unit_unhealthy", "a.service", "medium")
    beat(table)
    for _ in range(20):
        answer(table, asked(table)[0], "concluded", 120_000.0)
    open_(table, "unit_unhealthy", "b.service", "medium")
    open_(table, "cycles_failing", "c_daemon", "medium")
    beat(table)
    assert [message.signal for message in asked(table)][1:] == ["Q_CURIOSITY_LOW"]
    (archived,) = questions(table, Status.ARCHIVED)
    assert (archived.gap_name, archived.reason) == ("b.service", "worth_too_little")
    assert archived.cost == pytest.approx(1.35, abs=0.02)


def test_a_redelivered_finding_is_asked_about_once(tmp_path: Path, clock: VirtualClock) -> None:
    hub = MemoryHub()
    with bench(CuriosityCoreConsumerDaemon, tmp_path, clock, hub=hub) as table:
        open_(table, "unit_unhealthy", "nginx.service", "high", NGINX)
        beat(table)
        assert len(asked(table)) == 1
        table.daemon.store.database.execute("DELETE FROM cursors")
    with bench(CuriosityCoreConsumerDaemon, tmp_path, clock, hub=hub) as table:
        beat(table, 40, DAY_S)
        assert asked(table) == []
        assert tally(table).heard == 2, "it was read again"


def test_nothing_is_asked_about_questions(table: Table) -> None:
    for gap_type, name, evidence in (
        ("question_backlog", "investigation_consumer_daemon", []),
        ("investigations_failing", "x", []),
        ("journal_errors", "kloros-investigation-consumer.service: question_timed_out q-<hex>", []),
        ("journal_errors", "kloros-semantic-dedup-consumer.service: cannot fold question", []),
        ("journal_errors", "kloros-action-consumer.service: refused", ["message=refused for q-1a2b3c4d"]),
        ("anything", "q-1a2b3c4d", []),
    ):
        open_(table, gap_type, name, "critical", evidence)
    beat(table, 3)
    assert asked(table) == []
    assert tally(table).archived == {"about_questions": 6}


def test_a_part_of_the_chain_that_crashes_is_asked_about_like_any_other(table: Table) -> None:
    failed = ["problem=failed", "exit=signal, signal 11"]
    for gap_type, name, evidence in (
        ("unit_unhealthy", "kloros-investigation-consumer.service", failed),
        ("unit_unhealthy", "kloros-curiosity-core-consumer.service", failed),
        ("daemon_silent", "semantic_dedup_consumer_daemon", []),
        ("cycles_failing", "investigation_consumer_daemon", ["error=KeyError: 'question_id'"]),
        ("journal_errors", "kloros-investigation-consumer.service: cycle_failed", ["message=cycle_failed"]),
        ("journal_errors", "my-quiz.service: no such question", []),
    ):
        open_(table, gap_type, name, "high", evidence)
    beat(table, 3)
    assert len(asked(table)) == 6


def hour_of_scans(table: Table, findings: Callable[[int], list[Any]]) -> None:
    """An hour as introspection tells it: what changes, when it changes; and a beat each minute."""
    for minute in range(60):
        for signal, told in findings(minute):
            table.say(signal, told)
        beat(table)


def test_a_healthy_machine_stays_quiet(table: Table) -> None:
    hour_of_scans(table, lambda minute: [])
    assert asked(table) == []
    assert all(report.facts.processed == 0 for report in table.heard("Q_CYCLE_REPORT"))


def test_an_hour_of_a_real_machine_asks_only_about_what_is_wrong_and_once(table: Table) -> None:
    def findings(minute: int) -> list[Any]:
        told: list[Any] = []
        if minute == 5:
            told.append(("CAPABILITY_GAP", facts("unit_unhealthy", "nginx.service", "high", NGINX)))
        if minute in (20, 40):  # a blip that mends itself before anybody asks
            told.append(("CAPABILITY_GAP", facts("pressure_cpu", "cpu", "medium", [f"avg10_percent={minute}.5"])))
            told.append(("CAPABILITY_RESTORED", facts("pressure_cpu", "cpu", change="restored")))
        if minute % 10 == 7:  # the same error, each time quiet for long enough to be over in between
            message = f"message=connection {minute} refused"
            told.append(("CAPABILITY_GAP", facts("journal_errors", "app.service: connection <n> refused", "medium",
                                                 [f"count={minute}", message])))  # fmt: skip
        if minute % 10 == 9:
            told.append(("CAPABILITY_RESTORED", facts("journal_errors", "app.service: connection <n> refused")))
        return told

    hour_of_scans(table, findings)
    assert [(message.facts.gap_type, message.facts.gap_name) for message in asked(table)] == [
        ("unit_unhealthy", "nginx.service"),
        ("journal_errors", "app.service: connection <n> refused"),
    ]


def test_hostile_findings_are_archived_or_clipped_and_the_next_good_one_is_asked(table: Table) -> None:
    huge = "x" * 900_000
    hostile = [
        facts("unit_unhealthy", "ok.service", "low") | {"gap_id": ""},
        facts("unit_unhealthy", "ok.service", "low") | {"gap_id": "g" * 256},
        facts("", "nameless", "low"),
        facts("t", huge, "high"),
        facts(huge, "n", "high"),
        facts("t2", "n", "high", [huge]),
        facts("t3", "n", "high", ["="] * 50_000),
        facts("t4", "{name} {0} %s \0 \u202e", "high", ["\0=\0", "nan=nan", "inf=1e999"]),
        facts("unit_unhealthy", "", "high", ["exit=", "problem="], first_seen_ts=253_402_300_799.0, detail=huge),
        facts("t5", "n", "high", first_seen_ts=0.0),
    ]
    for told in hostile:
        table.say("CAPABILITY_GAP", told)
    beat(table)
    open_(table, "unit_unhealthy", "good.service", "critical")
    beat(table)
    assert table.daemon.counters.get("dead_letters", 0) == 0
    assert {report.facts.outcome for report in table.heard("Q_CYCLE_REPORT")} == {"ok"}
    assert asked(table)[-1].facts.gap_name == "good.service"
    assert tally(table).archived["malformed"] == 2
    assert all(len(json.dumps(message.facts.evidence)) < 8_000 for message in asked(table))


def test_bodies_that_are_not_findings_are_put_aside(table: Table) -> None:
    keeper = table.hub.keep(table.clock)
    for number, body in enumerate(
        (b'{"signal":"CAPABILITY_GAP","facts":{"gap_id":3},"ts":1,"ecosystem":"x"}', b'{":}')
    ):
        keeper.append([Append(0, [Entry(f"bad{number}", "CAPABILITY_GAP", body)])])
    table.hub.tell()
    table.settle()
    open_(table, "unit_unhealthy", "good.service")
    beat(table)
    assert table.daemon.counters["dead_letters"] == 2
    assert len(asked(table)) == 1


def test_a_bad_settings_file_changes_nothing_a_good_one_holds_from_the_next_beat(table: Table, settings: Any) -> None:
    settings("[limits]\nquestions_per_beat = 0\n")
    table.daemon.reload()
    for number in range(4):
        open_(table, "unit_unhealthy", f"u{number}.service")
    settings("[limits]\nquestions_per_beat = 1\n")
    table.daemon.reload()
    beat(table)
    assert len(asked(table)) == 1
    settings("[limits]\nquestions_per_beatt = 3\n")
    table.daemon.reload()
    beat(table)
    assert len(asked(table)) == 2


def test_the_settings_file_says_the_defaults() -> None:
    assert load(CONFIG, CuriositySettings) == CuriositySettings()

"""The investigation consumer on an in-memory bus, in virtual time, with investigators that do what the test says."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.bench import Bench, bench

from kloros.chembus.facts_work import QuestionFacts, RecommendedAction
from kloros.clock import VirtualClock
from kloros.config import load, read_toml
from kloros.consumers.investigation.base import Investigator
from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.rule import Rule
from kloros.consumers.investigation.settings import InvestigationSettings
from kloros.consumers.investigation_consumer_daemon import InvestigationConsumerDaemon
from kloros.machine.deadline import Deadline
from kloros.machine.whole import Machine

CONFIG = Path(__file__).parents[2] / "config/investigation_consumer_config.toml"
RESTART = RecommendedAction(action_type="restart_unit", target="x.service")


class Detective:
    """Answers at once, unless it is to fail, to hang, or to take its time."""

    name = "detective"
    rules = (Rule("seen", lambda e: e.holds("seen"), "{what} was seen.", 0.9, lambda _: RESTART, "look at {what}"),)

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.failing: set[str] = set()
        self.hanging: set[str] = set()
        self.hang_s = 700.0
        self.slow_s: dict[str, float] = {}
        self.seeing: dict[str, Any] = {}
        self.let_go = threading.Event()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def handles(self, question: QuestionFacts) -> float:
        return 2.0

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        name = question.question_id
        with self._lock:
            self.asked.append(name)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self._look(question, deadline)
        finally:
            with self._lock:
                self.at_once -= 1

    def _look(self, question: QuestionFacts, deadline: Deadline) -> Evidence:
        name = question.question_id
        if name in self.failing:
            raise RuntimeError("it does not open")
        if name in self.slow_s:
            self.clock.advance(self.slow_s[name])
        if name in self.hanging:
            self.clock.advance(self.hang_s)
            self.let_go.wait(30.0)
        evidence = Evidence(playbook=self.name, subject=name)
        evidence.note(f"{name} is broken")
        evidence.saw(seen=not name.startswith("odd"), what=question.gap_name or "nothing")
        evidence.lines += self.seeing.get(name, [])
        return evidence


class Staged(InvestigationConsumerDaemon):
    """With one investigator, the test's."""

    detective: Detective

    def make_investigators(self, settings: InvestigationSettings) -> list[Investigator]:
        if not hasattr(self, "detective"):
            assert isinstance(self.clock, VirtualClock)
            self.detective = Detective(self.clock)
        return [self.detective]


Table = Bench[Staged]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with bench(Staged, tmp_path) as ready:
        yield ready
        ready.daemon.detective.let_go.set()


def question(name: str, value: float = 1.0, **facts: Any) -> dict[str, Any]:
    told = {"question_id": name, "question": f"Why {name}?", "value_estimate": value, "cost_estimate": 1.0}
    about = {"gap_id": f"g-{name}", "gap_type": "unit_unhealthy", "gap_name": name, "capability_key": f"c-{name}"}
    return {**told, **about, **facts}


def ask(table: Table, *names: str, **facts: Any) -> None:
    for name in names:
        table.outsider.emit("Q_CURIOSITY_INVESTIGATE", question(name, **facts))
    table.settle()


def trigger(table: Table) -> None:
    table.say("Q_TRIGGER_INVESTIGATION")


def ended(table: Table) -> list[tuple[str, str]]:
    return [(each.facts.question_id, each.facts.status) for each in table.heard("Q_INVESTIGATION_COMPLETE")]


def last_report(table: Table) -> Any:
    return [each.facts for each in table.heard("Q_CYCLE_REPORT") if each.facts.daemon == Staged.zooid][-1]


# What is told


def test_a_question_is_looked_into_with_the_beat_and_all_is_told(table: Table) -> None:
    ask(table, "pump", severity="high", evidence=["old"])
    assert ended(table) == []
    trigger(table)
    (message,) = table.heard("Q_INVESTIGATION_COMPLETE")
    told = message.facts
    assert message.incident_id == told.gap_id == "g-pump"
    assert (told.status, told.rule, told.playbook, told.confidence) == ("concluded", "seen", "detective", 0.9)
    assert told.conclusion == "pump was seen."
    assert told.evidence == ["pump is broken"]
    assert len(told.evidence_hash) == 16
    assert (told.recommended_action, told.cure) == (RESTART, "look at pump")
    assert (told.question, told.severity, told.gap_type, told.gap_name) == (
        "Why pump?",
        "high",
        "unit_unhealthy",
        "pump",
    )
    assert (told.capability_key, told.value_estimate) == ("c-pump", 1.0)
    assert told.duration_ms >= 0
    assert (last_report(table).processed, last_report(table).backlog) == (1, 0)


def test_what_fits_no_rule_is_inconclusive_and_says_what_was_seen(table: Table) -> None:
    ask(table, "odd")
    trigger(table)
    told = table.heard("Q_INVESTIGATION_COMPLETE")[0].facts
    assert (told.status, told.rule, told.recommended_action) == ("inconclusive", "inconclusive", None)
    assert "odd is broken" in told.conclusion


def test_the_same_question_again_is_counted_and_ends_once(table: Table) -> None:
    ask(table, "pump", "pump")
    trigger(table)
    ask(table, "pump")
    trigger(table)
    assert ended(table) == [("pump", "concluded")]
    assert table.daemon.counters["question_renewed"] == 1
    assert table.daemon.counters["question_ended_before"] == 1


def test_one_that_became_more_urgent_while_it_waits_goes_first(table: Table) -> None:
    """Folding tells a question again when it has come to stand for a more urgent one."""
    others = [f"other{number}" for number in range(8)]
    ask(table, "calm", value=1.0)
    ask(table, *others, value=5.0)
    ask(table, "calm", value=9.0, severity="critical", folded=3)
    trigger(table)
    assert "calm" in table.daemon.detective.asked[:4]
    told = {each.facts.question_id: each.facts for each in table.heard("Q_INVESTIGATION_COMPLETE")}
    assert told["calm"].severity == "critical"
    assert sorted(ended(table)) == [(name, "concluded") for name in ("calm", *others)]


def test_the_most_valuable_first_and_never_more_than_four_at_once(table: Table) -> None:
    for number in range(12):
        ask(table, f"q{number:02}", value=float(number))
    trigger(table)
    assert set(table.daemon.detective.asked[:4]) == {"q11", "q10", "q09", "q08"}
    assert sorted(table.daemon.detective.asked) == [f"q{number:02}" for number in range(12)]
    assert table.daemon.detective.most_at_once <= 4


# Bounds of the queue


def test_beyond_the_limit_the_least_valuable_is_refused_with_a_record_whatever_its_priority(table: Table) -> None:
    for number in range(100):
        ask(table, f"q{number:03}", value=10.0 + number / 1_000)
    ask(table, "urgent", value=0.1, severity="critical", priority="EMERGENCY")
    ask(table, "better", value=50.0)
    assert ended(table) == [("urgent", "refused"), ("q000", "refused")]
    refused = table.heard("Q_INVESTIGATION_COMPLETE")[0].facts
    assert "100 questions wait already" in refused.conclusion
    assert refused.gap_id == "g-urgent"
    trigger(table)
    assert len(ended(table)) == 102
    assert len(dict(ended(table))) == 102


def test_a_bottleneck_is_announced_once_and_once_more_when_it_comes_again(table: Table) -> None:
    with capture_logs() as logs:
        for number in range(60):
            ask(table, f"q{number}")
        assert [each["log_level"] for each in logs if each["event"] == "investigation_bottleneck"] == ["warning"]
        (flag,) = table.heard("FLAG_FOR_REVIEW")
        assert "51 questions wait" in flag.facts.rationale
        assert flag.facts.cure
        trigger(table)
        (closed,) = table.heard("FLAG_CLOSED")
        assert (closed.facts.flag_id, closed.facts.fingerprint) == (flag.facts.flag_id, flag.facts.fingerprint)
        for number in range(60):
            ask(table, f"again{number}")
    flags = table.heard("FLAG_FOR_REVIEW")
    assert len(flags) == 2
    assert flags[0].facts.flag_id != flags[1].facts.flag_id
    assert flags[0].facts.fingerprint == flags[1].facts.fingerprint


def test_a_storm_of_five_thousand_is_bounded_and_each_question_ends_once(table: Table) -> None:
    for number in range(5_000):
        table.outsider.emit("Q_CURIOSITY_INVESTIGATE", question(f"q{number:04}", value=(number * 37 % 5_000) / 500))
        if number % 500 == 499:
            table.settle()
    for _ in range(20):
        table.clock.advance(1.0)
        table.settle()
    refused = ended(table)
    assert {status for _, status in refused} == {"refused"}
    assert len(refused) == 4_900
    trigger(table)
    assert len(ended(table)) == len(dict(ended(table))) == 5_000
    kept = [name for name, status in ended(table) if status == "concluded"]
    worth = sorted((number * 37 % 5_000) / 500 for number in range(5_000))[-100]
    assert min((int(name[1:]) * 37 % 5_000) / 500 for name in kept) >= worth


# Time


def test_a_time_out_of_one_does_not_stop_the_others_and_its_place_stays_taken(table: Table) -> None:
    table.daemon.detective.hanging = {"stuck"}
    ask(table, "stuck", value=9.0)
    ask(table, "a", "b", "c")
    with capture_logs():
        trigger(table)
    assert ("stuck", "timed_out") in ended(table)
    told = next(each.facts for each in table.heard("Q_INVESTIGATION_COMPLETE") if each.facts.question_id == "stuck")
    assert told.rule is None
    assert "Nothing was found out within" in told.conclusion
    assert table.daemon.metrics.registry.get_sample_value("kloros_investigations_hanging") == 1.0
    ask(table, "d")
    trigger(table)
    assert len(ended(table)) == 5
    table.daemon.detective.let_go.set()


def test_when_nobody_comes_back_a_new_process_has_to_go_on(table: Table) -> None:
    detective = table.daemon.detective
    detective.hanging = {f"q{number}" for number in range(4)}
    detective.hang_s = 500.0  # together less than it takes for the cycle to be called hung
    ask(table, *(f"q{number}" for number in range(6)))
    with capture_logs() as logs:
        for _ in range(3):
            trigger(table)
    assert any(each["event"] == "investigators_hung" for each in logs)
    assert not any(each["event"] == "cycle_hung" for each in logs)
    assert table.daemon.exit_code == 1
    assert {status for _, status in ended(table)} <= {"timed_out"}


def test_what_does_not_fit_into_the_beat_waits_for_the_next_one(table: Table) -> None:
    table.daemon.detective.slow_s = {f"q{number}": 100.0 for number in range(8)}
    ask(table, *(f"q{number}" for number in range(8)))
    trigger(table)
    left = last_report(table).backlog
    assert 0 < left < 8
    for _ in range(8):
        trigger(table)
    assert last_report(table).backlog == 0
    assert len(ended(table)) == len(dict(ended(table))) == 8


def test_time_of_several_beats_adds_up_to_the_time_out(table: Table) -> None:
    """Its beat's budget (240 s) is shorter than its time-out (600 s): three beats, then it has timed out."""
    detective = table.daemon.detective
    detective.slow_s, detective.hanging = {}, set()
    release = [threading.Event() for _ in range(4)]

    def look(question: QuestionFacts, deadline: Deadline) -> Evidence:
        table.clock.advance(235.0)
        release[len(detective.asked) - 1].wait(30.0)
        return Evidence(playbook="p", subject="late")

    detective._look = look  # type: ignore[method-assign]
    ask(table, "long")
    statuses = []
    for _ in range(3):
        trigger(table)
        statuses.append([status for _, status in ended(table)])
        release[len(detective.asked) - 1].set()
    assert statuses == [[], [], ["timed_out"]]
    assert detective.asked == ["long"] * 3


def test_an_urgent_one_has_half_the_time(table: Table) -> None:
    detective = table.daemon.detective

    def look(question: QuestionFacts, deadline: Deadline) -> Evidence:
        evidence = Evidence(playbook="p", subject="s")
        evidence.saw(seen=True, what=f"{deadline.remaining_s:.0f}")
        return evidence

    detective._look = look  # type: ignore[method-assign]
    table.daemon.beats.pacing = type(table.daemon.beats.pacing)(interval_us=10**10, nominal_us=10**10)
    ask(table, "calm")
    ask(table, "urgent", severity="critical")
    trigger(table)
    told = {each.facts.question_id: each.facts.conclusion for each in table.heard("Q_INVESTIGATION_COMPLETE")}
    assert told == {"calm": "600 was seen.", "urgent": "300 was seen."}


# Failures


def test_failures_count_by_capability_and_after_five_it_is_suppressed(table: Table) -> None:
    names = [f"q{number}" for number in range(8)]
    table.daemon.detective.failing = set(names)
    for name in names[:5]:
        ask(table, name, capability_key="pump")
        trigger(table)
    ask(table, names[5], capability_key="pump")
    ask(table, "other")
    trigger(table)
    assert ended(table) == [*((name, "failed") for name in names[:5]), (names[5], "suppressed"), ("other", "concluded")]
    told = next(each.facts for each in table.heard("Q_INVESTIGATION_COMPLETE") if each.facts.question_id == names[5])
    assert "the last 5 investigations of this failed" in told.conclusion
    assert "it does not open" in told.conclusion
    table.clock.advance(86_401.0)
    ask(table, names[6], capability_key="pump")
    trigger(table)
    assert ended(table)[-1] == (names[6], "failed")


@pytest.mark.parametrize(
    "seen", ["gro\udcdf.bin", "\ud800", 7, "x" * 2_000_000], ids=["name", "half", "number", "long"]
)
def test_what_cannot_be_told_fails_for_itself_alone(table: Table, seen: object) -> None:
    table.daemon.detective.seeing["odd"] = [seen]
    ask(table, "first", "odd", "last")
    trigger(table)
    assert sorted(ended(table)) == [("first", "concluded"), ("last", "concluded"), ("odd", "failed")]
    assert last_report(table).outcome == "ok"
    trigger(table)
    assert len(ended(table)) == 3


def test_an_error_whose_words_are_no_text_is_told_all_the_same(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object) -> Evidence:
        raise RuntimeError("cannot read gro\udcdf.bin")

    monkeypatch.setattr(table.daemon.detective, "gather", stumble)
    ask(table, "pump")
    trigger(table)
    (told,) = [each.facts for each in table.heard("Q_INVESTIGATION_COMPLETE")]
    assert told.conclusion == "The investigation failed: RuntimeError: cannot read gro\\xdf.bin"


def test_those_that_wait_while_the_fifth_one_fails_are_suppressed_too(table: Table) -> None:
    table.daemon.detective.failing = {f"q{number:02}" for number in range(20)}
    ask(table, *(f"q{number:02}" for number in range(20)), capability_key="pump")
    for _ in range(20):
        trigger(table)
    statuses = [status for _, status in ended(table)]
    assert len(statuses) == 20
    assert statuses.count("failed") + statuses.count("suppressed") == 20
    ask(table, "later", capability_key="pump")
    assert ended(table)[-1] == ("later", "suppressed")


@pytest.mark.parametrize("change", ["success", "restored", "reload"])
def test_something_that_changed_lifts_the_suppression(table: Table, change: str) -> None:
    table.daemon.detective.failing = {f"q{number}" for number in range(5)}
    for number in range(4 if change == "success" else 5):
        ask(table, f"q{number}", capability_key="pump", gap_id="g-pump")
        trigger(table)
    if change == "success":
        ask(table, "well", capability_key="pump", gap_id="g-pump")
    elif change == "restored":
        table.say("CAPABILITY_RESTORED", {"gap_id": "g-pump", "gap_type": "t", "gap_name": "pump"})
    else:
        table.daemon.on_reload()
    trigger(table)
    table.daemon.detective.failing.add("q4")
    for name in ("q4", "after"):
        ask(table, f"{name}-{change}", capability_key="pump", gap_id="g-pump")
    trigger(table)
    assert [status for name, status in ended(table) if change in name] == ["concluded", "concluded"]


# Withdrawing


def test_a_finding_that_ended_withdraws_its_questions(table: Table) -> None:
    ask(table, "pump", "fan")
    table.say("CAPABILITY_RESTORED", {"gap_id": "g-pump", "gap_type": "unit_unhealthy", "gap_name": "pump"})
    trigger(table)
    assert ended(table) == [("pump", "withdrawn"), ("fan", "concluded")]
    assert table.daemon.detective.asked == ["fan"]


# Exactly once


def test_a_beat_that_fails_in_its_midst_ends_each_question_once(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(table, *(f"q{number}" for number in range(6)))
    broken = threading.Event()

    def announce(facts: Any) -> None:
        if not broken.is_set() and len(table.daemon.detective.asked) >= 3:
            broken.set()
            raise RuntimeError("in the midst")

    monkeypatch.setattr(table.daemon, "_announce", announce)
    with capture_logs():
        trigger(table)
    assert last_report(table).outcome == "failed"
    trigger(table)
    assert sorted(ended(table)) == [(f"q{number}", "concluded") for number in range(6)]


def test_after_a_restart_the_queue_goes_on_as_it_was(tmp_path: Path) -> None:
    with bench(Staged, tmp_path) as before:
        for number in range(60):
            ask(before, f"q{number}")
        assert len(before.heard("FLAG_FOR_REVIEW")) == 1
    with bench(Staged, tmp_path) as after:
        assert after.daemon.metrics.registry.get_sample_value("kloros_investigation_queue_items") == 60.0
        assert after.daemon.metrics.registry.get_sample_value("kloros_investigation_bottleneck") == 1.0
        trigger(after)
        assert len(ended(after)) == 60
        assert len(after.heard("FLAG_FOR_REVIEW")) == 0
        assert len(after.heard("FLAG_CLOSED")) == 1


# Those of other packages


DIST_INFO = "Metadata-Version: 2.1\nName: kloros-oracle\nVersion: 1.0\n"
ORACLE = """
from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.rule import Rule


class Oracle:
    name = "oracle"
    rules = (Rule("oracle_says", lambda e: e.playbook == "oracle", "{subject} was foretold.", 0.8),)

    def handles(self, question):
        return 5.0 if question.gap_type == "omen" else 0.0

    def gather(self, question, machine, deadline):
        evidence = Evidence(playbook=self.name, subject=question.gap_name)
        evidence.saw(subject=question.gap_name)
        return evidence


class Nameless:
    def handles(self, question):
        return 9.0
"""


def test_an_investigator_of_another_package_is_asked_and_brings_its_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages"
    info = package / "kloros_oracle-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "kloros_oracle.py").write_text(ORACLE)
    (info / "METADATA").write_text(DIST_INFO)
    (info / "entry_points.txt").write_text(
        "[kloros.investigators]\noracle = kloros_oracle:Oracle\nnameless = kloros_oracle:Nameless\n"
        "absent = kloros_oracle:Absent\n"
    )
    monkeypatch.syspath_prepend(str(package))
    with capture_logs() as logs, bench(InvestigationConsumerDaemon, tmp_path) as table:
        refused = {each["investigator"]: each["reason"] for each in logs if each["event"] == "investigator_refused"}
        table.say("Q_CURIOSITY_INVESTIGATE", question("bird", gap_type="omen"))
        table.say("Q_TRIGGER_INVESTIGATION")
        (told,) = [each.facts for each in table.heard("Q_INVESTIGATION_COMPLETE")]
    sys.modules.pop("kloros_oracle", None)
    assert set(refused) == {"nameless", "absent"}
    assert "gather" in refused["nameless"]
    assert (told.rule, told.playbook, told.conclusion) == ("oracle_says", "oracle", "bird was foretold.")


# Settings


def test_the_settings_file_says_the_defaults_and_explains_each_key() -> None:
    assert load(CONFIG, InvestigationSettings) == InvestigationSettings()
    tables = read_toml(CONFIG)
    assert set(tables) == set(InvestigationSettings.__struct_fields__)
    for name, section in tables.items():
        assert set(section) == set(getattr(InvestigationSettings(), name).__struct_fields__)
    lines = [line for line in CONFIG.read_text(encoding="utf-8").splitlines() if line]
    keys = [number for number, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    assert [lines[number] for number in keys if not lines[number - 1].startswith("#")] == []


def test_settings_are_taken_over_with_the_next_beat(table: Table) -> None:
    folder = table.daemon.place.config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "investigation_consumer_config.toml").write_text(
        "[queue]\nlimit = 3\nbottleneck_above = 3\nbottleneck_over_at = 1\n"
    )
    table.daemon.on_reload()
    trigger(table)
    ask(table, "a", "b", "c", "d")
    assert ended(table) == [("d", "refused")]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["ask", "beat", "fail", "restore", "again"]), min_size=1, max_size=25), st.data())
def test_whatever_comes_each_question_ends_at_most_once(course: list[str], data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, bench(Staged, Path(folder)) as table:
        asked = 0
        for step in course:
            name = f"q{data.draw(st.integers(0, max(0, asked)))}"
            if step == "ask":
                ask(table, f"q{asked}", capability_key=f"c{asked % 3}")
                asked += 1
            elif step == "again" and asked:
                ask(table, name)
            elif step == "fail":
                table.daemon.detective.failing.add(name)
            elif step == "restore":
                table.say("CAPABILITY_RESTORED", {"gap_id": f"g-{name}", "gap_type": "t", "gap_name": "n"})
            else:
                trigger(table)
        trigger(table)
        names = [name for name, _ in ended(table)]
        assert len(names) == len(set(names))
        assert {f"q{number}" for number in range(asked)} <= set(names)

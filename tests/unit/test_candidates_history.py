"""The recorded history, what reality said, and the built-in subjects' view of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.questions import heard, history_database, history_of, incidents, record

from kloros.consumers.candidates.confined import confined
from kloros.consumers.candidates.history import History, Limits
from kloros.consumers.candidates.subject import Asked
from kloros.consumers.candidates.subjects.conclusions import Conclusions
from kloros.consumers.candidates.subjects.curiosity import CuriositySubject
from kloros.consumers.candidates.subjects.semantic_dedup import STANDS, SemanticDedupSubject
from kloros.storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = history_database(tmp_path / "state.db")
    yield opened
    opened.close()


class Story:
    """Signals, told in the order in which they are added."""

    def __init__(self) -> None:
        self.given: list[tuple[str, dict[str, Any]]] = []

    def ask(self, question_id: str, text: str = "Why?", gap: str = "g", **facts: Any) -> Story:
        self.given.append(
            ("Q_CURIOSITY_HIGH", {"question_id": question_id, "question": text, "gap_id": gap, "value_estimate": 1.2,
                                  "cost_estimate": 1.0, "category": "gap", **facts})
        )  # fmt: skip
        return self

    def fold(self, question_id: str, into: str) -> Story:
        self.given.append(("Q_QUESTION_FOLDED", {"question_id": question_id, "folded_into": into, "similarity": 0.9}))
        return self

    def answer(self, question_id: str, rule: str | None = "r", target: str = "t", **facts: Any) -> Story:
        action = {"action_type": "restart_unit", "target": target}
        told = {"status": "concluded", "confidence": 0.9, "rule": rule, "recommended_action": action, **facts}
        self.given.append(("Q_INVESTIGATION_COMPLETE", {"question_id": question_id, **told}))
        return self

    def restore(self, gap: str) -> Story:
        self.given.append(("CAPABILITY_RESTORED", {"gap_id": gap, "gap_type": "t", "gap_name": "n"}))
        return self


def told(story: Story, database: Database) -> dict[str, Asked]:
    return {each.question.question_id: each for each in history_of(story.given, database)}


# Recording


def test_an_answer_closes_its_question_and_those_that_it_stands_for(database: Database) -> None:
    found = told(Story().ask("a").ask("b").fold("b", "a").ask("open").answer("a"), database)
    assert sorted(found) == ["a", "b"]
    assert found["a"].is_concluded
    assert found["b"].folded_into == "a"
    assert found["b"].answer is None
    assert found["a"].asked < found["b"].asked < (found["a"].closed or 0) < (found["b"].closed or 0)


def test_one_folded_into_a_closed_one_is_closed_at_once(database: Database) -> None:
    assert sorted(told(Story().ask("a").answer("a").ask("b").fold("b", "a"), database)) == ["a", "b"]


def test_what_mends_itself_closes_without_an_answer(database: Database) -> None:
    found = told(Story().ask("a", gap="g").ask("b", gap="other").restore("g"), database)
    assert sorted(found) == ["a"]
    assert found["a"].answer is None


def test_the_first_telling_counts(database: Database) -> None:
    story = Story().ask("a", "first").ask("a", "second").answer("a", "one").answer("a", "two").fold("a", "a")
    found = told(story, database)["a"]
    assert (found.question.question, found.answer.rule if found.answer else "", found.folded_into) == (
        "first", "one", None,
    )  # fmt: skip


def test_what_is_told_of_unknown_questions_is_said_to_be_unknown(database: Database) -> None:
    history = History(database)
    assert not history.record(heard(1, *Story().fold("a", "b").given[0]), 0)
    assert not history.record(heard(2, *Story().answer("a").given[0]), 0)


def test_texts_without_end_are_cut(database: Database) -> None:
    found = told(
        Story().ask("a", "x" * 100_000, evidence=["e" * 3_000] * 40).answer("a", conclusion="c" * 9_999), database
    )
    asked = found["a"]
    assert len(asked.question.question) == 2_000
    assert len(asked.question.evidence) == 32
    assert max(map(len, asked.question.evidence)) == 2_000
    assert asked.answer
    assert len(asked.answer.conclusion or "") == 2_000


def test_patience_ends_and_the_limits_hold(database: Database) -> None:
    story = Story()
    for number in range(100):
        story.ask(f"q{number:03}", gap=f"g{number}")
    record(story.given, database)
    history = History(database)
    assert history.give_up(before_us=31, most=10) == 10  # asked at 1 to 100 µs
    assert history.give_up(before_us=31, most=100) == 20
    history.trim(Limits(closed=25, open=50))
    assert history.counts() == (50, 25)
    assert [each.question.question_id for each in history.read(history.number, 3)] == ["q047", "q048", "q049"]


def test_numbers_go_on_after_a_restart(database: Database) -> None:
    record(Story().ask("a").answer("a").given, database)
    before = History(database).number
    record(Story().ask("b").answer("b").given, database, 10)
    assert History(database).closed_after(before) == 1
    assert History(database).last_closed() == History(database).number > before


# What reality said


SAME = {
    "the same found about the same target": (("g1", "r", "t"), ("g2", "r", "t"), True),
    "another rule": (("g1", "r", "t"), ("g2", "other", "t"), False),
    "another target": (("g1", "r", "t"), ("g2", "r", "other"), False),
    "one finding, one answer": (("g1", "r", "t"), ("g1", None, "t"), True),
    "one finding, none": (("g1", None, "t"), ("g1", None, "t"), True),
    "one finding, two answers": (("g1", "r", "t"), ("g1", "other", "t"), False),
    "nobody knows of one": (("g1", "r", "t"), ("g2", None, "t"), None),
}


@pytest.mark.parametrize(("one", "other", "expected"), SAME.values(), ids=SAME)
def test_questions_are_the_same_when_the_same_was_found(
    database: Database, one: tuple[str, str | None, str], other: tuple[str, str | None, str], expected: bool | None
) -> None:
    story = Story().ask("a", gap=one[0]).ask("b", gap=other[0]).answer("a", *one[1:]).answer("b", *other[1:])
    found = told(story, database)
    conclusions = Conclusions(list(found.values()))
    assert conclusions.are_same(found["a"], found["b"]) is expected
    assert conclusions.are_same(found["b"], found["a"]) is expected


def test_of_a_folded_one_the_answer_to_its_finding_counts_when_it_is_asked_again(database: Database) -> None:
    story = Story().ask("a", gap="g1").ask("b", gap="g2").fold("b", "a").answer("a", "r", "t1")
    story.ask("b again", gap="g2").answer("b again", "r", "t2")
    found = told(story, database)
    assert Conclusions(list(found.values())).are_same(found["a"], found["b"]) is False


# The subjects


@settings(deadline=None, max_examples=15)
@given(st.integers())
def test_the_subjects_are_pure_and_reproducible(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    database = history_database(tmp_path_factory.mktemp("history") / "state.db")
    history = history_of(incidents(Random(seed), 15), database)
    database.close()
    with confined():
        for subject in (SemanticDedupSubject(), CuriositySubject()):
            examples = subject.examples(history)
            assert examples == type(subject)().examples(history)
            parameters = {each.path: each.default for each in subject.space}
            outputs = subject.replay(parameters, examples)
            assert outputs == subject.replay(parameters, examples)
            assert outputs.keys() == {each.key for each in examples}
            for each in examples:
                if each.is_labelled:
                    assert 0.0 <= subject.loss(each, outputs[each.key]) <= 1.0
                    assert subject.cost(each, outputs[each.key]) >= 0.0


def test_dedup_is_right_to_fold_the_same_and_wrong_to_fold_another(database: Database) -> None:
    text = "Why does nginx.service fail with exit status 98/BIND?"
    story = Story().ask("a", text, "g1").ask("same", text, "g2").ask("other", text, "g3")
    story.answer("a", "r", "t").answer("same", "r", "t").answer("other", "else", "t")
    subject = SemanticDedupSubject()
    examples = {each.key: each for each in subject.examples(list(told(story, database).values()))}
    outputs = subject.replay({"threshold": 0.85}, list(examples.values()))
    assert outputs == {"a": STANDS, "same": "a", "other": outputs["other"]}
    assert outputs["other"] in ("a", "same")
    assert [subject.loss(examples[key], outputs[key]) for key in ("a", "same", "other")] == [0.0, 0.0, 1.0]
    assert subject.loss(examples["same"], STANDS) == 0.5
    assert subject.loss(examples["other"], STANDS) == 0.0


def test_what_closed_before_is_no_open_question_to_fold_into(database: Database) -> None:
    text = "Why does nginx.service fail with exit status 98/BIND?"
    story = Story().ask("a", text, "g1").answer("a").ask("b", text, "g2").answer("b")
    subject = SemanticDedupSubject()
    examples = subject.examples(list(told(story, database).values()))
    assert subject.replay({"threshold": 0.5}, examples) == {"a": STANDS, "b": STANDS}


def test_curiosity_looks_at_questions_that_its_thresholds_decide_and_that_stood(database: Database) -> None:
    story = Story().ask("a").ask("critical", severity="critical").ask("worth much", value_estimate=2.5)
    story.ask("folded").fold("folded", "a").ask("withdrawn").ask("nothing found")
    story.answer("withdrawn", status="withdrawn", confidence=None)
    story.answer("nothing found", status="inconclusive", confidence=None, duration_ms=4_000)
    for each in ("a", "critical", "worth much"):
        story.answer(each)
    subject = CuriositySubject()
    examples = {each.key: each for each in subject.examples(list(told(story, database).values()))}
    assert {key: each.is_labelled for key, each in examples.items()} == {
        "a": True, "withdrawn": False, "nothing found": True,
    }  # fmt: skip
    outputs = subject.replay({each.path: each.default for each in subject.space}, list(examples.values()))
    assert set(outputs.values()) == {True}
    assert subject.loss(examples["a"], True) == subject.loss(examples["nothing found"], False) == 0.0
    assert subject.loss(examples["a"], False) == subject.loss(examples["nothing found"], True) == 1.0
    assert subject.cost(examples["nothing found"], True) == 4.0

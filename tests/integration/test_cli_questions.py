"""`kloros questions` against what curiosity has stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bench import bench
from support.consumer_examples import example
from support.verb import Verb, link_state

from kloros.cli.app import call
from kloros.consumers.curiosity_core_consumer_daemon import CuriosityCoreConsumerDaemon


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Verb]:
    """The verb, beside a curiosity that runs: one question open, one folded into it, one answered, others not asked."""
    state = tmp_path / "state"
    monkeypatch.setenv("KLOROS_STATE_DIR", str(state))
    with bench(CuriosityCoreConsumerDaemon, tmp_path) as table:
        link_state(state, "curiosity_core_consumer")
        for number in range(3):
            table.say("CAPABILITY_GAP", example("CAPABILITY_GAP", number))
        table.say("CAPABILITY_GAP", example("CAPABILITY_GAP", 0))
        table.clock.advance(1.0)
        table.say("Q_TRIGGER_CURIOSITY")
        table.say("CAPABILITY_GAP", example("CAPABILITY_GAP", 1))
        table.say("CAPABILITY_GAP", example("CAPABILITY_GAP", 9))
        asked = {message.facts.gap_name: message.facts.question_id for message in table.heard("Q_CURIOSITY_HIGH")}
        first, second, third = (asked[f"example{number}.service"] for number in range(3))
        table.say("Q_QUESTION_FOLDED", {"question_id": second, "folded_into": first, "similarity": 0.9})
        answer = {"question_id": third, "status": "concluded", "conclusion": "it is missing", "confidence": 0.9}
        table.say("Q_INVESTIGATION_COMPLETE", answer)
        capsys.readouterr()
        yield Verb(capsys, "questions")


def test_without_a_word_it_lists_what_is_open(questions: Verb) -> None:
    assert questions() == 0
    lines = questions.out.splitlines()
    assert "Why does example0.service fail with exit status 203/EXEC?" in lines[1]
    assert len(lines) == 3
    assert lines[-1] == "6 findings heard; 1 wait; 3 asked; 1 not asked (1 asked_before)"
    assert questions.json()["questions"] == questions.json("list", "--open")["questions"]


def test_archived_ones_are_listed_with_their_reason(questions: Verb) -> None:
    (archived,) = questions.json("list", "--archived")["questions"]
    assert (archived["gap_name"], archived["reason"]) == ("example1.service", "asked_before")
    questions("--archived")
    assert "archived (asked_before)" in questions.out


def test_all_are_those_that_wait_too(questions: Verb) -> None:
    told = questions.json("--all")
    assert sorted(question["status"] for question in told["questions"]) == ["answered", "archived", "folded", "open"]
    assert [each["gap_name"] for each in told["waiting"]] == ["example9.service"]
    questions("list", "--all")
    assert "waiting" in questions.out
    assert "folded into q-" in questions.out


def test_one_is_shown_by_the_beginning_of_its_id(questions: Verb) -> None:
    by_status = {question["status"]: question for question in questions.json("--all")["questions"]}
    assert questions("show", by_status["answered"]["question_id"][:6]) == 0
    for part in ("it is missing (90% sure)", "HIGH: worth", "problem=failed", by_status["answered"]["evidence_hash"]):
        assert part in questions.out
    questions("show", by_status["open"]["question_id"])
    assert f"stands for  {by_status['folded']['question_id']}" in questions.out
    assert questions.json("show", by_status["open"]["question_id"]) == by_status["open"]


def test_an_id_that_is_none_or_several_is_refused(questions: Verb) -> None:
    assert questions("show", "q-") == 2
    assert "is the beginning of" in questions.err
    assert questions("show", "nonsense") == 2


def test_where_nothing_is_stored_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLOROS_STATE_DIR", str(tmp_path))
    assert call(["questions"]) == 4
    assert "is kloros-curiosity-core-consumer running?" in capsys.readouterr().err

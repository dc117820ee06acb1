"""`kloros investigations` against what the investigation consumer has stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bench import bench
from support.verb import Verb, link_state

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.base import Investigator
from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.playbooks.general import GeneralInvestigator
from kloros.consumers.investigation.settings import InvestigationSettings
from kloros.consumers.investigation_consumer_daemon import InvestigationConsumerDaemon
from kloros.errors import StoreUnusable
from kloros.machine.deadline import Deadline
from kloros.machine.whole import Machine


class Remembering(GeneralInvestigator):
    """Tells of a unit as it was once recorded: killed, and it ran well before."""

    def gather(self, question: QuestionFacts, machine: Machine, deadline: Deadline) -> Evidence:
        evidence = Evidence(playbook="unit", subject="pump.service", lacks=["the journal (it is away)"])
        evidence.note("its process was ended by signal 9 (KILL)")
        evidence.saw(unit="pump.service", is_unwell=True, active_state="failed", result="signal", signal="KILL")
        return evidence


class Recorded(InvestigationConsumerDaemon):
    def make_investigators(self, settings: InvestigationSettings) -> list[Investigator]:
        return [Remembering()]


@pytest.fixture
def investigations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Verb]:
    """The verb, beside a consumer that runs: one concluded, one withdrawn, one waiting."""
    state = tmp_path / "state"
    monkeypatch.setenv("KLOROS_STATE_DIR", str(state))
    with bench(Recorded, tmp_path) as table:
        link_state(state, "investigation_consumer")
        asked = {"gap_type": "unit_unhealthy", "severity": "high", "evidence": ["problem=failed"], "folded": 3}
        table.say(
            "Q_CURIOSITY_INVESTIGATE",
            asked
            | {"question_id": "q-aaaa1111", "question": "Why does pump.service fail?", "gap_name": "pump.service"},
        )
        table.say(
            "Q_CURIOSITY_INVESTIGATE",
            asked | {"question_id": "q-bbbb2222", "question": "Why fan?", "gap_name": "fan.service", "gap_id": "g-fan"},
        )
        table.say("CAPABILITY_RESTORED", {"gap_id": "g-fan", "gap_type": "unit_unhealthy", "gap_name": "fan.service"})
        table.say("Q_TRIGGER_INVESTIGATION")
        table.say(
            "Q_CURIOSITY_INVESTIGATE",
            asked | {"question_id": "q-bbcc3333", "question": "Why does the lamp fail?", "gap_name": "lamp.service"},
        )
        capsys.readouterr()
        yield Verb(capsys, "investigations")  # fmt: skip


def test_the_list_shows_what_waits_and_what_was_found_out(investigations: Verb) -> None:
    assert investigations() == 0
    lines = investigations.out.splitlines()
    assert "q-bbcc3333" in lines[1]
    assert "waiting" in lines[1]
    assert "q-aaaa1111" in lines[2]
    assert "concluded" in lines[2]
    assert "killed" in lines[2]
    assert "q-bbbb2222" not in investigations.out
    assert lines[-1] == "1 wait; 1 concluded; 1 withdrawn"


def test_all_shows_what_was_not_looked_into_too_and_open_only_what_waits(investigations: Verb) -> None:
    investigations("--all")
    assert "q-bbbb2222" in investigations.out
    investigations("--open")
    assert "q-aaaa1111" not in investigations.out
    assert "q-bbcc3333" in investigations.out


def test_json_for_programs(investigations: Verb) -> None:
    told = investigations.json("--all")
    assert [each["question_id"] for each in told["waiting"]] == ["q-bbcc3333"]
    assert {each["question_id"]: each["status"] for each in told["ended"]} == {
        "q-aaaa1111": "concluded", "q-bbbb2222": "withdrawn",
    }  # fmt: skip
    assert told["ended"][0]["recommended_action"]["action_type"] == "restart_unit"


def test_the_story_of_one(investigations: Verb) -> None:
    assert investigations("show", "q-a") == 0
    for told in (
        "Why does pump.service fail?", "finding unit_unhealthy: pump.service", "severity high", "playbook unit",
        "  - its process was ended by signal 9 (KILL)", "  - could not look at the journal (it is away)",
        "concluded by rule killed", "pump.service was killed by SIGKILL", "it recommends restart_unit pump.service",
        "a person could: Find out who sent it",
    ):  # fmt: skip
        assert told in investigations.out


def test_the_story_of_one_that_waits(investigations: Verb) -> None:
    assert investigations("show", "q-bbcc3333") == 0
    assert "Why does the lamp fail?" in investigations.out
    assert "waits since" in investigations.out
    assert "folded with it: 2" in investigations.out


def test_ids_that_mean_none_or_several(investigations: Verb) -> None:
    assert investigations("show", "q-zz") == 2
    assert "there is no investigation 'q-zz'" in investigations.err
    assert investigations("show", "q-bb") == 2
    assert "is the beginning of 2 investigations" in investigations.err


def test_where_nothing_is_stored_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLOROS_STATE_DIR", str(tmp_path))
    verb = Verb(capsys, "investigations")
    assert verb() == StoreUnusable.exit_code
    assert "kloros-investigation-consumer" in verb.err

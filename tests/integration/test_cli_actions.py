"""`kloros actions`, `approve` and `reject` against what the action consumer has stored, and against a running suite."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.actions import Desk, StrawConsumer
from support.bench import bench
from support.command import Home, home, running
from support.verb import Verb, link_state

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.pub import ChemPub
from kloros.cli.app import call
from kloros.config import load
from kloros.consumers.action.settings import ActionSettings

LIMIT_S = 20.0
MODES = '[kinds.restart_unit]\nmode = "auto"\n[kinds.reset_failed]\nmode = "approve"\n'


@pytest.fixture
def kloros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Verb]:
    """The command, beside a consumer that has done one action, observed one, and has one that waits for approval."""
    state = tmp_path / "state"
    monkeypatch.setenv("KLOROS_STATE_DIR", str(state))
    monkeypatch.setenv("KLOROS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(StrawConsumer, "straw", {})
    (tmp_path / "config").mkdir()
    (tmp_path / "config/action_consumer_config.toml").write_text(MODES)
    with bench(StrawConsumer, tmp_path) as table:
        link_state(state, "action_consumer")
        desk = Desk(table)
        desk.recommend("restart_unit", "web.service")
        desk.recommend("raise_limit", "db.service", parameters={"property": "MemoryMax"})
        desk.beat()
        desk.recommend("reset_failed", "mail.service")
        desk.recommend(None, gap="/var", cure="free some space")
        capsys.readouterr()
        yield Verb(capsys)


def test_without_a_word_it_lists_what_is_open_and_says_what_needs_a_person(kloros: Verb) -> None:
    assert kloros("actions") == 0
    assert "mail.service" in kloros.out
    assert "web.service" not in kloros.out
    assert "1 open, 1 of them wait for approval" in kloros.out
    assert "2 flags need a person" in kloros.out
    assert kloros.json("actions")["flags_open"] == 2
    assert kloros("actions", "--open") == 0


def test_all_of_them_with_what_came_of_each(kloros: Verb) -> None:
    assert kloros("actions", "list", "--all") == 0
    for word in ("mail.service", "waiting", "web.service", "helped", "db.service", "observed"):
        assert word in kloros.out
    assert {each["outcome"] for each in kloros.json("actions", "--all")["actions"]} == {None, "helped", "observed"}


def test_one_of_them_by_the_beginning_of_its_id(kloros: Verb) -> None:
    (waiting,) = kloros.json("actions")["actions"]
    assert kloros("actions", "show", waiting["action_id"][:6]) == 0
    for word in (
        waiting["action_id"],
        "let mail.service start again",
        "waiting",
        "expires:",
        "it hangs",
        "state=active",
    ):
        assert word in kloros.out
    assert kloros.json("actions", "show", waiting["action_id"])["question_id"] == waiting["question_id"]
    assert kloros("actions", "show", "a-nothing") != 0
    assert "there is no action" in kloros.err


def test_flags_say_what_is_wrong_and_what_could_be_done(kloros: Verb) -> None:
    assert kloros("actions", "flags") == 0
    assert "free some space" in kloros.out
    assert "kloros actions mode raise_limit approve" in kloros.out
    assert len(kloros.json("actions", "flags", "--all")) == 2


def test_modes_are_shown_and_switched_in_the_file(kloros: Verb, tmp_path: Path) -> None:
    assert kloros("actions", "mode") == 0
    assert "restart_unit" in kloros.out
    assert kloros.json("actions", "mode", "reset_failed")["reset_failed"]["mode"] == "approve"
    assert kloros("actions", "mode", "reset_failed", "off") == 0
    path = tmp_path / "config/action_consumer_config.toml"
    assert load(path, ActionSettings).kinds.reset_failed.mode == "off"
    assert load(path, ActionSettings).kinds.restart_unit.mode == "auto"
    assert "it holds once" in kloros.out
    for wrong in (("reset_failed", "sometimes"), ("reboot", "auto")):
        assert kloros("actions", "mode", *wrong) == 2
    path.write_text('kinds = {reset_failed = {mode = "off"}}\n')
    assert kloros("actions", "mode", "reset_failed", "auto") == 2
    assert "by hand" in kloros.err


def test_without_a_consumer_the_cure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLOROS_STATE_DIR", str(tmp_path))
    assert call(["actions"]) == 4
    assert "is kloros-action-consumer running?" in capsys.readouterr().err


# A running suite


@pytest.fixture(scope="module")
def suite() -> Iterator[Home]:
    with home() as place:
        place.change("action_consumer_config.toml", 'mode = "observe"', 'mode = "approve"')
        with running(place):
            yield place


def recommend(suite: Home, question: str, target: str) -> str:
    """A recommendation; returns the id of its action, once it waits."""
    facts = {
        "question_id": question, "status": "concluded", "conclusion": "it hangs", "confidence": 0.9,
        "recommended_action": {"action_type": "restart_unit", "target": target}, "gap_id": target,
    }  # fmt: skip
    with ChemPub(Endpoints.for_runtime_dir(suite.folder / "runtime"), zooid_name="tester") as pub:
        pub.emit("Q_INVESTIGATION_COMPLETE", facts=facts)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        told = suite.run("actions", "--json")
        waiting = json.loads(told.stdout)["actions"] if told.returncode == 0 else []
        found = [each["action_id"] for each in waiting if each["target"] == target]
        if found:
            return str(found[0])
    raise AssertionError("it was not taken up")


def test_an_action_is_approved_done_now_and_refused_where_there_is_no_helper(suite: Home) -> None:
    action = recommend(suite, "q-00000001", "web.service")
    done = suite.run("approve", action[:5], "--reason", "I know why", "--now")
    assert done.returncode == 0, done.stderr
    assert f"{action} is approved" in done.stdout
    assert "refused" in done.stdout
    again = suite.run("approve", action)
    assert again.returncode == 1
    assert "ended already: refused" in again.stderr
    shown = suite.run("actions", "show", action)
    assert "I know why" in shown.stdout
    assert "kloros command, " in shown.stdout


def test_an_action_is_rejected(suite: Home) -> None:
    action = recommend(suite, "q-00000002", "mail.service")
    done = suite.run("reject", action, "--json")
    assert json.loads(done.stdout)["decision"]["accepted"] is True
    assert suite.run("reject", action).returncode == 1

"""A finding's life, told from its messages."""

from __future__ import annotations

from typing import Any

import pytest
from support.chain import ACTED, ACTION, CONCLUDED, FLAGGED, FOUND, GAP, QUESTION, TS, message, whole_life

from kloros.cli.story.lives import Life, lives

DAY_S = 86_400.0


def words(life: Life) -> list[str]:
    return [step.word for step in life.steps]


def told(signal: str, **facts: Any) -> list[tuple[str, str]]:
    (life,) = lives([message(signal, facts)])
    return [(step.word, step.text) for step in life.steps]


def of_the_finding(since_ts: float = TS) -> list[Any]:
    return [each for each in whole_life(since_ts) if each.incident_id == GAP]


def test_a_whole_life_in_its_order_with_how_long_each_step_took() -> None:
    (life,) = lives(of_the_finding())
    assert words(life) == [
        "found", "asked", "handed on", "investigated", "recommended", "taken up", "flagged", "approved", "acted",
        "verified", "restored", "unflagged",
    ]  # fmt: skip
    assert life.about == "web.service (unit_unhealthy)"
    assert (life.since_ts, life.until_ts, life.lasted_s) == (TS, TS + 415, 415.0)
    steps = {step.word: step for step in life.steps}
    assert (steps["found"].after_s, steps["asked"].after_s, steps["recommended"].after_s) == (None, 50.0, 0.0)
    assert (steps["investigated"].took_s, steps["acted"].took_s, steps["restored"].took_s) == (1.2, 2.5, 415.0)
    assert steps["asked"].text == f"Why does web.service fail? [HIGH, value 3 / cost 1.2] [{QUESTION}]"
    assert steps["handed on"].text == f"it stands for 2 questions [{QUESTION}]"
    assert steps["investigated"].text == "its program /opt/web is missing (exec_missing, 95 %)"
    assert steps["investigated"].details == ["ExecStart=/opt/web", "203/EXEC"]
    assert steps["recommended"].text == "restart_unit web.service: it is back now"
    assert steps["approved"].text == f"{ACTION} by Zoë"
    assert steps["flagged"].details == ["cure: approve it, or restart it yourself"]
    assert steps["verified"].text == "the check afterwards says that it helped"
    assert steps["acted"].by == "action_consumer_daemon"
    assert steps["acted"].signal == "Q_ACTION_COMPLETE"


def test_each_opening_begins_a_life_and_what_comes_late_belongs_to_the_one_before() -> None:
    first, second = lives([*of_the_finding(), *of_the_finding(TS + DAY_S)[:3]])
    assert words(first)[-1] == "unflagged"
    assert words(second) == ["found", "asked", "handed on"]
    assert (second.since_ts, second.until_ts, second.lasted_s) == (TS + DAY_S, None, None)
    assert second.steps[0].after_s is None


def test_what_becomes_worse_goes_on_and_an_old_introspection_says_less() -> None:
    worse = message("CAPABILITY_GAP", FOUND | {"change": "worsened", "severity": "critical"}, TS + 9)
    (life,) = lives([of_the_finding()[0], worse])
    assert words(life) == ["found", "worsened"]
    plain = FOUND | {"change": None}
    signals = ("CAPABILITY_GAP", "CAPABILITY_GAP", "CAPABILITY_RESTORED", "CAPABILITY_GAP")
    old = [message(signal, plain, TS + n) for n, signal in enumerate(signals)]
    assert [words(life) for life in lives(old)] == [["found", "found", "restored"], ["found"]]


def test_a_life_whose_beginning_the_history_let_go_of_is_told_from_where_it_is_known() -> None:
    lost, whole = lives([*of_the_finding()[3:], *of_the_finding(TS + DAY_S)])
    assert (lost.since_ts, lost.lasted_s, lost.until_ts) == (None, None, TS + 415)
    assert words(lost)[0] == "investigated"
    assert whole.lasted_s == 415.0


@pytest.mark.parametrize(
    ("signal", "facts", "step"),
    [
        ("Q_INVESTIGATION_COMPLETE", CONCLUDED | {"status": "timed_out", "conclusion": None, "question": "Why?"},
         ("investigated", "timed out: Why?")),
        ("Q_INVESTIGATION_COMPLETE", {"question_id": QUESTION, "status": "withdrawn"}, ("withdrawn", QUESTION)),
        ("Q_ACTION_COMPLETE", ACTED | {"outcome": "observed", "mode": "observe"},
         ("acted", f"restart_unit web.service: observed, mode observe [{ACTION}]")),
        ("Q_ACTION_DECIDED", {"action_id": ACTION, "decision": "approve", "accepted": False, "detail": "too late"},
         ("not decided", f"{ACTION} by a person: approved, which was not accepted (too late)")),
        ("Q_QUESTION_FOLDED", {"question_id": QUESTION, "folded_into": "q-2", "similarity": 1.0},
         ("folded", f"{QUESTION} into q-2, 100 % alike")),
        ("Q_SHADOW_VERDICT", {"candidate": "c", "verdict": "promote", "module_name": "dedup"},
         ("told", "tester tried a candidate beside dedup: promote")),
    ],
)  # fmt: skip
def test_steps_that_end_otherwise(signal: str, facts: dict[str, Any], step: tuple[str, str]) -> None:
    assert told(signal, **facts) == [step]


def test_evidence_is_bounded() -> None:
    (life,) = lives([message("CAPABILITY_GAP", FOUND | {"evidence": [f"e{n}\n=1" for n in range(20)]})])
    assert life.steps[0].details == [*(f"e{n} =1" for n in range(6)), "and 14 more"]


def test_what_was_told_before_is_not_told_again() -> None:
    cure = "approve it, or restart it yourself"
    flag = message("FLAG_FOR_REVIEW", FLAGGED | {"evidence": [*CONCLUDED["evidence"], "seen since"]}, TS + 500)
    (life,) = lives([*of_the_finding()[:4], flag])
    assert life.steps[-1].details == [f"cure: {cure}", "seen since"]

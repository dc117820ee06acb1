"""`kloros affect` against a running suite, and its parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.command import Home, home, running

from kloros.chembus.envelope import Message
from kloros.chembus.facts import AffectFacts
from kloros.cli.affect import bar, dimension_rows, hold_rows
from kloros.cli.app import call
from kloros.cli.output import bare
from kloros.cli.story.narrate import narrate

WaitFor = Callable[..., None]


@pytest.fixture(scope="module")
def suite() -> Iterator[Home]:
    with home() as place, running(place):
        yield place


@pytest.fixture
def kloros(suite: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Call a verb; its exit code and what it printed. Affect has felt at least once."""
    for name, value in suite.places.items():
        monkeypatch.setenv(name, value)

    def verb(*arguments: str) -> tuple[int, str]:
        code = call(list(arguments))
        out, err = capsys.readouterr()
        return code, out + err

    assert verb("bus", "emit", "Q_TRIGGER_AFFECT", "--wait")[0] == 0
    return verb


def test_the_mood_is_shown_with_bars_and_causes(kloros: Callable[..., Any]) -> None:
    code, out = kloros("affect", "show")
    assert code == 0
    for dimension in ("wellbeing", "strain", "memory", "fatigue", "frustration", "friction"):
        assert dimension in out
    assert "█" in out
    state = json.loads(kloros("affect", "show", "--json")[1])
    assert state["mood"]
    assert 0 <= state["dimensions"]["strain"]["value"] <= 1
    assert state["signs"]["load"] >= 0
    assert isinstance(state["paced"], dict)


def test_an_injected_feeling_slows_what_is_adaptive_and_is_shown_as_injected(
    kloros: Callable[..., Any], wait_for: WaitFor
) -> None:
    code, out = kloros("affect", "emit", "critical_fatigue", "--cause", "only a test", "--ttl", "20s")
    assert code == 0
    assert out.startswith("AFFECT_CRITICAL_FATIGUE emitted; it ends at ")

    def state() -> Any:
        return json.loads(kloros("affect", "show", "--json")[1])

    wait_for(lambda: "AFFECT_CRITICAL_FATIGUE" in state()["by_hand"], 10.0, "the feeling to be heard")
    wait_for(lambda: "curiosity_generation" in state()["paced"], 10.0, "the schedule to follow")
    shown = state()
    assert shown["by_hand"]["AFFECT_CRITICAL_FATIGUE"]["cause"] == "only a test"
    assert shown["paced"]["curiosity_generation"]["pace"] == 0.5
    assert "introspection_scan" not in shown["paced"]
    out = kloros("affect", "show")[1]
    assert "injected by kloros command" in out
    assert "AFFECT_CRITICAL_FATIGUE (only a test)" in out


def test_a_feeling_is_said_again_for_as_long_as_was_asked(suite: Home, kloros: Callable[..., Any]) -> None:
    arguments = ("bus", "watch", "AFFECT_HIGH_RAGE", "--json", "--seconds", "6")
    watcher = suite.begin(*arguments)
    said = 0
    for _ in range(3):  # until the watcher listens
        assert kloros("affect", "emit", "HIGH_RAGE", "--ttl", "0.6s", "--for", "1.2s", "--json")[0] == 0
        said += 4
    stdout, _ = watcher.communicate(timeout=20)
    heard = [json.loads(line)["facts"] for line in stdout.splitlines()]
    assert said >= len(heard) >= 3
    assert {facts["ttl_s"] for facts in heard} == {0.6}


def test_what_is_no_feeling_is_refused_with_a_hint(kloros: Callable[..., Any]) -> None:
    code, out = kloros("affect", "emit", "CRITICAL_FATIGE")
    assert (code, "did you mean CRITICAL_FATIGUE" in out) == (2, True)
    assert kloros("affect", "emit", "STATE")[0] == 2


def test_without_affect_the_question_is_answered_with_a_cure(
    runtime_dir: Any, proxy: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLOROS_RUNTIME_DIR", str(runtime_dir))
    assert call(["affect", "show"]) == 3
    assert "Is affect running" in capsys.readouterr().err


# Parts


@pytest.mark.parametrize(("value", "filled"), [(0, 0), (0.5, 10), (1, 20), (7, 20), (-1, 0)])
def test_a_bar_has_always_the_same_length(value: float, filled: int) -> None:
    assert (bar(value).count("█"), len(bar(value))) == (filled, 20)


def test_rows_begin_with_what_a_person_asks_first() -> None:
    dimensions = {name: {"value": 0.5, "cause": "c"} for name in ("peril", "strain", "wellbeing")}
    assert [row[0] for row in dimension_rows(dimensions)] == ["wellbeing", "strain", "peril"]
    rows = hold_rows(
        {"AFFECT_STUCK_LOOP": {"since_ts": 0.0, "until_ts": None, "cause": "c"}},
        {"AFFECT_HIGH_RAGE": {"until_ts": 5.0, "cause": "d", "requester": "me"}},
    )
    assert [(row[0], bare(row[3])) for row in rows] == [("STUCK_LOOP", "c"), ("HIGH_RAGE", "d (injected by me)")]


@pytest.mark.parametrize(
    ("signal", "facts", "words"),
    [
        ("AFFECT_STATE", AffectFacts(state={"mood": "calm"}, cause="all is well"), "AFFECT_STATE: calm (all is well)"),
        ("AFFECT_STATE_CHANGE", AffectFacts(state="strained", cause="load"), "now strained (load)"),
        ("AFFECT_RESOURCE_STRAIN", AffectFacts(cause="load", ttl_s=45), "AFFECT_RESOURCE_STRAIN for 45 s (load)"),
        ("AFFECT_HIGH_RAGE", AffectFacts(requester="me"), "AFFECT_HIGH_RAGE, injected by me"),
    ],
)
def test_feelings_are_told_in_a_sentence(signal: str, facts: AffectFacts, words: str) -> None:
    told = Message(signal=signal, ecosystem="affect", facts=facts, ts=0.0, id="1", pub="affect@1", seq=1)
    assert words in narrate(told).text

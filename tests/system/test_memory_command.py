"""`kloros memory` and `kloros story` on a suite that runs: what passes is remembered, and a look keeps it alive."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.chain import ACTION, CHAIN, GAP, QUESTION
from support.command import LIMIT_S, Home, home, running

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.pub import ChemPub

WaitFor = Callable[..., None]


@pytest.fixture(scope="module")
def lived() -> Iterator[Home]:
    """A home whose suite runs and has heard one finding's whole life, told by somebody else."""
    with home() as place, running(place, "--seconds", "120"):
        with ChemPub(Endpoints.for_runtime_dir(place.folder / "runtime"), zooid_name="teller") as pub:
            for _, signal, _, facts in CHAIN:
                pub.emit(signal, facts=facts, incident_id=facts.get("gap_id", GAP))
        yield place


def told(place: Home, *arguments: str) -> Any:
    done = place.run(*arguments, "--json")
    return json.loads(done.stdout) if done.returncode == 0 else {}


def memories(place: Home) -> dict[str, Any]:
    return {each["id"]: each for each in told(place, "memory", "--last", "1000").get("memories", [])}


def test_what_passes_is_remembered_and_a_look_keeps_it_alive(lived: Home, wait_for: WaitFor) -> None:
    wait_for(lambda: memories(lived).get(ACTION, {}).get("sector") == "procedural", LIMIT_S, "the action's memory")
    before = memories(lived)[QUESTION]
    shown = lived.run("memory", "show", QUESTION, "--json")
    assert json.loads(shown.stdout)["access_noted"] is True, shown.stderr
    wait_for(lambda: memories(lived)[QUESTION]["accessed_ts"] > before["accessed_ts"], LIMIT_S, "the access")
    assert memories(lived)[QUESTION]["times"] == before["times"]


def test_the_story_of_a_finding_is_told_while_it_goes_on(lived: Home, wait_for: WaitFor) -> None:
    wait_for(lambda: told(lived, "story", GAP).get("source") == "history", LIMIT_S, "its story")
    words = [step["word"] for step in told(lived, "story", GAP)["lives"][-1]["steps"]]
    assert words[0] == "found"
    assert "restored" in words


def test_one_beat_by_hand_is_refused_while_the_daemon_runs(lived: Home) -> None:
    arguments = [sys.executable, "-m", "kloros.consumers.decay_daemon", "--once"]
    done = subprocess.run(
        arguments, env=lived.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 2
    assert "decay" in done.stderr
    assert lived.run("schedule", "trigger", "memory_decay").returncode == 0

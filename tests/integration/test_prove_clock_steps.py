"""`kloros prove` over a wall clock that is stepped by an hour, forwards and back: the daemons as they are, in virtual
time, and what they left on disk. On a real clock: tests/systemd/test_clock_steps.py.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.whole_suite import whole_suite

from kloros.cli.app import call
from kloros.cli.units import moment
from kloros.clock import VirtualClock
from kloros.consumers.chembus_historian_daemon import ChembusHistorianDaemon
from kloros.consumers.introspection_daemon import IntrospectionDaemon
from kloros.orchestration.scheduler_daemon import SchedulerDaemon

S = 1_000_000
START_US = 1_700_000_040 * S
SCAN = "introspection_scan"
HOUR_S, BETWEEN_S = 3600.0, 300.0
# Of every five seconds one; what was worked before the clock went back is not given up when it goes forwards again.
STEPPED_OVER = {"forwards": 720, "back": 0, "forwards and back": 720, "back and forwards": 60}
Verb = Callable[..., tuple[int, str]]


class Stepped(NamedTuple):
    """Where the daemons left their databases, and when it ended."""

    state: Path
    since: str
    until: str


def live(folder: Path, steps_s: tuple[float, ...], start_us: int = START_US) -> Stepped:
    """Five minutes, and after each step of the clock five more."""
    clock = VirtualClock(wall_us=start_us)
    latest_us = start_us
    with whole_suite(folder, (ChembusHistorianDaemon, IntrospectionDaemon), clock) as suite:
        suite.advance(BETWEEN_S)
        for step_s in steps_s:
            latest_us = max(latest_us, clock.wall_us())
            clock.step_wall(step_s)
            suite.settle()
            suite.advance(BETWEEN_S)
    for stem, daemon in (("scheduler", SchedulerDaemon), ("chembus_historian", ChembusHistorianDaemon)):
        shutil.copytree(folder / daemon.zooid / "state", folder / "state" / stem)
    until_us = max(latest_us, clock.wall_us())
    return Stepped(folder / "state", f"{start_us / 1e6:.6f}", f"{until_us / 1e6 + 10:.6f}")


@pytest.fixture(
    scope="module", params=[(HOUR_S,), (-HOUR_S,), (HOUR_S, -HOUR_S), (-HOUR_S, HOUR_S)], ids=list(STEPPED_OVER)
)
def stepped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stepped:
    return live(tmp_path_factory.mktemp("stepped"), request.param)


@pytest.fixture
def kloros(stepped: Stepped, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    monkeypatch.setenv("KLOROS_STATE_DIR", str(stepped.state))

    def verb(*arguments: str) -> tuple[int, str]:
        return call(list(arguments)), capsys.readouterr().out

    return verb


def scans(kloros: Verb, stepped: Stepped) -> tuple[int, dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Exit code, what was counted of the scheduler and of the consumer, and the counterexamples."""
    code, out = kloros("prove", SCAN, "--since", stepped.since, "--until", stepped.until, "--json")
    shown = json.loads(out)
    return code, shown["schedule"][0], shown["consumers"][0], shown["counterexamples"]


def test_an_hour_that_was_skipped_or_repeated_is_proven(
    kloros: Verb, stepped: Stepped, request: pytest.FixtureRequest
) -> None:
    code, scheduled, ran, wrong = scans(kloros, stepped)
    assert (code, wrong) == (0, [])
    assert scheduled["due"] == scheduled["emitted"] + sum(scheduled["skipped"].values()) + scheduled["open"]
    assert (ran["run"], ran["fallback"], ran["lost"]) == (scheduled["emitted"], 0, 0), "each beat once"
    case = request.node.callspec.id
    skipped = scheduled["skipped"].get("late", 0)
    assert STEPPED_OVER[case] - 2 <= skipped <= STEPPED_OVER[case] + 1
    assert "green: " in kloros("prove", "--since", stepped.since, "--until", stepped.until)[1]


def test_why_of_a_moment_that_was_stepped_over(kloros: Verb, stepped: Stepped, request: pytest.FixtureRequest) -> None:
    with closing(sqlite3.connect(stepped.state / "scheduler" / "state.db")) as connection:
        found = connection.execute(
            "SELECT first_us FROM skips WHERE entry = ? AND reason = 'late' ORDER BY count DESC LIMIT 1", (SCAN,)
        ).fetchall()
    if request.node.callspec.id == "back":
        assert found == []
        return
    due_us = found[0][0]
    out = kloros("why", f"{SCAN}@{due_us / 1e6:.6f}")[1]
    assert out.startswith(f"{SCAN}, due {moment(due_us / 1e6)}")
    assert "the scheduler came too late for it" in out


def test_a_lie_does_not_hide_behind_a_step(kloros: Verb, stepped: Stepped) -> None:
    with closing(sqlite3.connect(stepped.state / "scheduler" / "state.db")) as connection:
        beats = connection.execute("SELECT * FROM beats WHERE entry = ? ORDER BY due_us", (SCAN,)).fetchall()
        for gone in (beats[10], beats[-3]):
            connection.execute("DELETE FROM beats WHERE entry = ? AND due_us = ?", gone[:2])
        connection.commit()
        try:
            code, _, _, wrong = scans(kloros, stepped)
        finally:
            connection.executemany("INSERT INTO beats VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [beats[10], beats[-3]])
            connection.commit()
    assert code == 1
    assert {each["due_us"] for each in wrong if each["kind"] == "vanished"} == {beats[10][1], beats[-3][1]}


def test_what_was_run_in_a_future_from_which_the_clock_was_set_back_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stepped = live(tmp_path, (), start_us=START_US + round(100 * 365.25 * 86_400) * S)
    monkeypatch.setenv("KLOROS_STATE_DIR", str(stepped.state))
    capsys.readouterr()  # what the daemons said
    assert call(["prove", SCAN, "--since", stepped.since, "--until", stepped.until, "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)
    emitted = proof["schedule"][0]["emitted"]
    assert emitted == pytest.approx(BETWEEN_S / 5, abs=1)
    assert proof["consumers"][0]["run"] == emitted

"""Drift and the verdicts that follow from it; whose turn it is; what is out of a subject's reach."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.coins import Coins, coins

from kloros.consumers.candidates.confined import SideEffect, confined
from kloros.consumers.candidates.drift import (
    Limits,
    Progress,
    Run,
    add,
    add_error,
    drift,
    is_look_due,
    judge,
    run_beside,
)
from kloros.consumers.candidates.subject import Example
from kloros.consumers.candidates.tournament import Tournament
from kloros.consumers.candidates.turns import (
    Pauses,
    Turns,
    is_broken,
    is_on_trial,
    join,
    may_begin,
    note_failure,
)
from kloros.units import US_PER_S

LIMITS = Limits()
IN_FORCE, BETTER, WORSE = ({"at": at, "idle": 0.5} for at in (0.7, 0.5, 0.95))
outcomes = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60)


def beside(examples: list[Example], incumbent: dict[str, float], candidate: dict[str, float]) -> Run:
    subject = Coins()
    return run_beside(subject, examples, subject.replay(incumbent, examples), subject.replay(candidate, examples))


# One run


@given(st.integers(), st.floats(0, 1))
def test_identical_decisions_do_not_drift(seed: int, noise: float) -> None:
    run = beside(coins(40, Random(seed), noise), IN_FORCE, IN_FORCE)
    assert (run.drift, run.worse, run.better, run.gains) == (0.0, 0.0, 0.0, {})


@given(outcomes)
def test_drift_is_the_share_of_critical_keys_that_are_mismatched(dealt: list[tuple[bool, bool, bool]]) -> None:
    """Of each key: what was right, what the incumbent and what the candidate decided."""
    examples = [
        Example(key=str(n), group=str(n), closed=n, is_labelled=True, data=(0.0, right))
        for n, (right, _, _) in enumerate(dealt)
    ]
    incumbent = {str(n): ours for n, (_, ours, _) in enumerate(dealt)}
    candidate = {str(n): theirs for n, (_, _, theirs) in enumerate(dealt)}
    run = run_beside(Coins(), examples, incumbent, candidate)
    worse = sum(theirs != right == ours for right, ours, theirs in dealt)
    better = sum(ours != right == theirs for right, ours, theirs in dealt)
    assert (run.worse, run.better, run.keys) == (worse, better, len(dealt))
    assert run.drift == pytest.approx(worse / len(dealt))
    assert sum(run.gains.values()) == pytest.approx(better - worse)


@given(outcomes)
def test_where_nothing_is_known_whatever_differs_is_mismatched(dealt: list[tuple[bool, bool, bool]]) -> None:
    examples = [Example(key=str(n), group="g", closed=n, is_labelled=False) for n in range(len(dealt))]
    incumbent = {str(n): ours for n, (_, ours, _) in enumerate(dealt)}
    candidate = {str(n): theirs for n, (_, _, theirs) in enumerate(dealt)}
    run = run_beside(Coins(), examples, incumbent, candidate)
    assert run.drift == pytest.approx(sum(ours != theirs for _, ours, theirs in dealt) / len(dealt))
    assert run.better == 0.0


@given(st.integers(), st.data())
def test_a_missing_critical_key_is_a_drift_of_one(seed: int, data: st.DataObject) -> None:
    subject, examples = Coins(), coins(30, Random(seed))
    outputs = subject.replay(IN_FORCE, examples)
    lost = data.draw(st.sampled_from(sorted(outputs)))
    less = {key: output for key, output in outputs.items() if key != lost}
    assert run_beside(subject, examples, outputs, less).drift == 1.0
    assert run_beside(subject, examples, less, outputs).drift == 0.0, "what the incumbent lacks is nobody's fault"


@given(st.integers(0, 3), st.lists(st.floats(0, 1), max_size=30))
def test_drift_is_a_share(missing: int, worse: list[float]) -> None:
    assert 0.0 <= drift(missing, worse) <= 1.0
    assert drift(0, [0.0] * len(worse)) == 0.0


# A trial


def watched(examples: list[Example], candidate: dict[str, float], days: float = 1.0, runs: int = 5) -> Progress:
    progress = Progress(observed_s=days * 86_400)
    size = len(examples) // runs
    for start in range(0, size * runs, size):
        add(progress, beside(examples[start : start + size], IN_FORCE, candidate), 20)
    return progress


def test_a_better_one_is_promoted_after_a_day_and_not_before() -> None:
    examples = coins(200, Random(1))
    assert judge(watched(examples, BETTER, days=0.999), LIMITS, Random(1)) is None
    found = judge(watched(examples, BETTER), LIMITS, Random(1))
    assert found
    assert found[0] == "promote"


def test_a_worse_one_is_rolled_back_at_once_and_a_little_worse_one_after_a_day() -> None:
    assert (judge(watched(coins(200, Random(1)), WORSE, days=0.01), LIMITS, Random(1)) or "")[0] == "rolled_back"
    a_little = {"at": 0.73, "idle": 0.5}
    progress = watched(coins(200, Random(1)), a_little, days=0.5)
    assert judge(progress, LIMITS, Random(1)) is None
    progress.observed_s = 86_400
    assert (judge(progress, LIMITS, Random(1)) or "")[0] == "rolled_back"


@pytest.mark.parametrize(("worse", "verdict"), [(3, None), (4, "rolled_back"), (20, "rolled_back")])
def test_a_fifth_in_one_run_is_too_much(worse: int, verdict: str | None) -> None:
    progress = Progress(observed_s=60.0)
    add(progress, Run(20, 0, drift(0, [1.0] * worse + [0.0] * (20 - worse)), worse, 0.0, {}), 20)
    assert (judge(progress, LIMITS, Random(1)) or [None])[0] == verdict


def test_a_run_of_too_few_does_not_end_it_but_a_missing_key_does() -> None:
    progress = Progress(observed_s=60.0)
    add(progress, Run(3, 0, drift(0, [1.0, 0.0, 0.0]), 1.0, 0.0, {}), 20)
    assert judge(progress, LIMITS, Random(1)) is None
    add(progress, Run(3, 1, drift(1, [0.0]), 1.0, 0.0, {}), 20)
    assert (judge(progress, LIMITS, Random(1)) or [None])[0] == "rolled_back"


@pytest.mark.parametrize(("errors", "verdict"), [(4, "promote"), (5, "rolled_back")])
def test_one_run_in_twenty_that_fails_is_too_much(errors: int, verdict: str) -> None:
    progress = watched(coins(2_000, Random(1)), BETTER, runs=100 - errors)
    for _ in range(errors):
        add_error(progress, "ValueError: no")
    assert progress.error_rate == errors / 100
    assert (judge(progress, LIMITS, Random(1)) or [None])[0] == verdict


@pytest.mark.parametrize(("worse", "verdict"), [(1.0, "promote"), (1.01, "rolled_back")])
def test_the_mean_may_be_one_in_ten_thousand(worse: float, verdict: str) -> None:
    gains = dict.fromkeys(range(10), 1.0)  # all of them groups that gained: only the mean is looked at here
    progress = Progress(observed_s=86_400, keys=10_000, runs=1, worse=10 + worse, better=10, gains=gains)
    assert (judge(progress, LIMITS, Random(1)) or [None])[0] == verdict


def test_promotion_is_considered_once_a_day_and_given_up_after_seven() -> None:
    progress = Progress()
    found = []
    for hour in range(1, 24 * 8):
        progress.observed_s = hour * 3600.0
        before, due = progress.looks, is_look_due(progress, LIMITS)
        verdict = judge(progress, LIMITS, Random(1))
        assert (progress.looks > before) == due == (hour % 24 == 0)
        if verdict:
            found.append((hour, verdict[0]))
            break
    assert found == [(168, "expired")]


@given(st.integers(1, 3_000), st.integers())
def test_a_long_trial_does_not_grow(count: int, seed: int) -> None:
    progress = Progress()
    for run in range(5):
        add(progress, beside(coins(count // 5 + 1, Random(seed), 1.0, first=run * count), IN_FORCE, BETTER))
    assert len(progress.gains) <= 1024
    assert len(progress.recent) <= 20
    assert sum(progress.gains.values()) == pytest.approx(progress.better - progress.worse)


# Whose turn it is

NOW = 1_763_000_000 * US_PER_S
PAUSES = Pauses()


def test_the_waiting_list_has_a_bound_and_its_refusals_are_counted() -> None:
    turns = Turns()
    assert all(join(turns, f"m{n}", PAUSES) for n in range(100))
    assert not join(turns, "one too many", PAUSES)
    assert join(turns, "m7", PAUSES), "who waits already is not refused"
    assert (len(turns.waiting), turns.refused) == (100, 1)


def test_three_failures_in_two_minutes_open_the_breaker_for_ten() -> None:
    turns = Turns()
    opened = [note_failure(turns, NOW + second * US_PER_S, PAUSES) for second in (0, 130, 200, 240)]
    assert opened == [False, False, False, True]
    at = NOW + 240 * US_PER_S
    assert is_broken(turns, at + 599 * US_PER_S, PAUSES)
    assert not is_broken(turns, at + 600 * US_PER_S, PAUSES)
    assert not is_broken(turns, at - 3600 * US_PER_S, PAUSES), "a clock set back does not prolong it"


def test_a_minute_lies_between_two_tournaments() -> None:
    turns = Turns(ended_us=NOW)
    assert not may_begin(turns, NOW + 59 * US_PER_S, PAUSES)
    assert may_begin(turns, NOW + 60 * US_PER_S, PAUSES)
    turns.current = Tournament(tournament_id="t", module="m", started_us=0, incumbent={}, cut=0, up_to=0)
    assert not may_begin(turns, NOW + 90 * US_PER_S, PAUSES)
    assert is_on_trial(Turns(on_trial={"m": NOW}), "m", NOW - 1)
    assert not is_on_trial(Turns(on_trial={"m": NOW}), "m", NOW)


# Out of reach

REACHING: dict[str, Callable[[], object]] = {
    "write a file": lambda: Path("/tmp/reached").write_text("x"),
    "read a file": lambda: Path("/etc/hostname").read_text(),
    "list a directory": lambda: list(Path("/").iterdir()),
    "delete a file": lambda: os.unlink("/tmp/reached"),  # noqa: PTH108
    "make a socket": lambda: socket.socket().close(),
    "run a program": lambda: subprocess.run(["/bin/true"], check=False),
    "run a shell": lambda: os.system("true"),
    "fork": os.fork,
    "import something new": lambda: __import__("this_module_is_nowhere"),
}


if sys.version_info >= (3, 13):  # before, Python does not tell of these
    REACHING["sleep"] = lambda: time.sleep(0.001)
    REACHING["start a thread"] = lambda: threading.Thread(target=print).start()


@pytest.mark.parametrize("reach", REACHING.values(), ids=REACHING)
def test_a_subject_cannot_reach_out(reach: Callable[[], object]) -> None:
    with confined(), pytest.raises(SideEffect):
        reach()


def test_only_this_thread_is_confined_and_only_meanwhile(tmp_path: Path) -> None:
    seen: list[str] = []
    inside = threading.Event()

    def look() -> None:
        inside.wait(5)
        (tmp_path / "from another thread").touch()
        seen.append("looked")

    other = threading.Thread(target=look)
    other.start()
    with confined():
        with confined():
            inside.set()
        while not seen and other.is_alive():
            pass
        with pytest.raises(SideEffect):
            (tmp_path / "from this one").touch()
    other.join()
    (tmp_path / "afterwards").touch()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["afterwards", "from another thread"]
